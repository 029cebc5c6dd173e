"""The figures of personal adapters are what their definitions say; no weights are needed to check it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fedart_nb.art import ArtSet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _personal

    return _personal


@pytest.fixture
def personal(shared: ModuleType) -> ModuleType:
    import personal

    return personal


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, shared: ModuleType) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "personal"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import sweep

    return sweep


def verdict(shared: ModuleType, judged: str, ranks: list[int]) -> object:
    names = {"a": "ada", "b": "bob"}
    taken, everyone = tuple(names[x] for x in judged), len(judged)
    return shared.Verdict(taken, ("ada",) * everyone, ("bob",) * everyone, np.array(ranks, np.int64))


def outcome(personal: ModuleType, shared: ModuleType, bare_ranks: list[int]) -> object:
    def run(judged: str, ranks: list[int]) -> object:
        bare = verdict(shared, "bbbb", bare_ranks)
        unanchored = verdict(shared, "aaaa", [9 for _ in ranks])
        return personal.Run(verdict(shared, judged, ranks), unanchored, bare, 0.8, 0.6, adapter=None)

    runs = {"ada": [run("aaab", [1, 5, 6, 9]), run("aabb", [1, 1, 6, 9])], "bob": [run("bbbb", []), run("bbbb", [])]}
    for each in runs["bob"]:
        object.__setattr__(each, "backbone", verdict(shared, "aaaa", []))
    real = {"ada": verdict(shared, "aaaa", [1, 2, 3, 9]), "bob": verdict(shared, "bbbb", [])}
    decoded = {"ada": verdict(shared, "aaba", [1, 2, 3, 9]), "bob": verdict(shared, "bbbb", [])}
    return personal.Outcome(runs, real, decoded, 239, "a test")


@pytest.mark.parametrize("name", sorted(ArtSet.samples()))
def test_a_held_out_caption_is_no_caption_of_a_train_picture(shared: ModuleType, name: str) -> None:
    art = ArtSet.sample(name)
    captions = [picture.caption.lower() for picture in shared.held_out(art)]
    assert len(captions) > 10
    assert len(set(captions)) == len(captions)
    assert not set(captions) & {picture.caption.lower() for picture in art.included("train")}
    assert [picture.caption.lower() for picture in shared.held_out(art, 5)] == [
        captions[i] for i in np.linspace(0, len(captions) - 1, 5).round().astype(int)
    ]


def test_the_sheet_s_prompts_are_captions_that_no_artist_trains_on(personal: ModuleType) -> None:
    trained = {p.caption.lower() for name in ArtSet.samples() for p in ArtSet.sample(name).included("train")}
    assert not trained & set(personal.SHEET)


def test_style_accuracy_counts_every_artist_once_and_its_spread_is_over_seeds(
    personal: ModuleType, shared: ModuleType
) -> None:
    line = personal.style_figure(outcome(personal, shared, [1, 1, 1, 9]))
    assert line["value"] == pytest.approx((0.625 + 1) / 2, abs=1e-4)
    assert line["spread"] == [0.75, 0.875]
    assert line["baseline"]["backbone"] == 0
    assert line["baseline"]["chance"] == 0.5
    assert line["baseline"]["worst_artist"] == "ada"
    assert line["baseline"]["unanchored"] == 0.5


def test_beside_style_accuracy_stand_both_judges_verdicts_and_what_the_autoencoder_alone_costs(
    personal: ModuleType, shared: ModuleType
) -> None:
    beside = personal.style_figure(outcome(personal, shared, [1, 1, 1, 9]))["baseline"]
    assert beside["real_test_pictures"] == 1
    assert beside["decoded_test_pictures"] == (0.75 + 1) / 2
    assert beside["strict_judge"] == beside["strict_judge_decoded_test_pictures"] == 0.5


def test_captions_kept_is_the_adapter_s_hits_over_the_backbone_s(personal: ModuleType, shared: ModuleType) -> None:
    line = personal.caption_figure(outcome(personal, shared, [1, 1, 1, 9]))
    assert line["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert line["spread"][0] <= line["value"] <= line["spread"][1]
    assert line["baseline"]["real_test_pictures_top5"] == 0.75
    assert line["baseline"]["unanchored"] == 0
    json.dumps(line, allow_nan=False)


def test_nothing_is_claimed_of_captions_when_the_backbone_found_none(personal: ModuleType, shared: ModuleType) -> None:
    assert personal.caption_figure(outcome(personal, shared, [9, 9, 9, 9])) is None


def test_an_artist_s_line_says_whom_the_pictures_were_taken_for(personal: ModuleType, shared: ModuleType) -> None:
    line = personal.artist_figure(outcome(personal, shared, [1, 1, 1, 9]), "ada")
    assert line["baseline"]["mistaken_for"] == {"bob": 3}
    assert line["spread"] == [0.5, 0.75]


def test_a_picture_is_read_once_however_often_it_is_asked_for(shared: ModuleType) -> None:
    class Counting:
        seen = 0

        def style(self, pictures: np.ndarray) -> np.ndarray:
            self.seen += len(pictures)
            return pictures.reshape(len(pictures), -1).astype(np.float32)

    counting = Counting()
    remembering = shared.Remembering(counting)
    pictures = np.random.default_rng(0).integers(0, 255, (3, 2, 2, 3), np.uint8)
    first = remembering.style(pictures[[0, 1, 0]])
    again = remembering.style(pictures)
    assert counting.seen == 3
    assert np.array_equal(first[[0, 1]], again[[0, 1]])


def test_settings_that_differ_only_in_drawing_share_an_adapter(sweep: ModuleType) -> None:
    shared_by = {label: setting.training for label, setting in sweep.SETTINGS.items()}
    assert shared_by["all x4 shift3, guidance 3"] == shared_by["all x4 shift3"]
    assert shared_by["all x4 shift3, lr 2e-3"] != shared_by["all x4 shift3"]
    assert len({tuple(vars(setting).values()) for setting in sweep.SETTINGS.values()}) == len(sweep.SETTINGS)


def test_the_sweep_s_table_compares_with_the_bare_backbone_of_the_same_artists(sweep: ModuleType) -> None:
    common = {"backbone": "0a", "colour": 0.5, "parameters": 10, "sizes": {}}
    lines = [
        {**common, "label": "bare", "artist": "x", "setting": None, "style": 0, "found": 4, "loss": 1.0, "cpu_s": None},
        {**common, "label": "one", "artist": "x", "setting": {}, "style": 0.75, "found": 3, "loss": 0.5, "cpu_s": 20.0},
    ]
    assert "| one | 1 | 75% | x 75% | 50% | 3 : 4 | 0.500 | 10 | 20 |" in sweep.table(lines)
