from __future__ import annotations

import builtins
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tiny import build

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import MeasureError, MissingExtra
from fedart_nb.metrics import (
    FeatureExtractor,
    StyleJudge,
    colour_histogram,
    introstyle_accuracy,
    introstyle_distance,
    style_report,
)
from fedart_nb.metrics.whitening import Whitening

RNG = np.random.default_rng(0)


def noise(n: int, level: int, seed: int = 0, size: int = 16) -> np.ndarray:
    """Pictures with a ground of one grey and a little noise."""
    values = np.random.default_rng(seed).integers(level, level + 40, (n, size, size, 3))
    return values.astype(np.uint8)


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    return FeatureExtractor.load()


@pytest.fixture(scope="module")
def drawings() -> dict[str, dict[str, np.ndarray]]:
    """Few drawings of three artists whose hands differ: {"train" or "test": {artist: pictures}}."""
    art = {name: ArtSet.sample(name) for name in ("gerald_ink", "lorelei", "pixel_art")}
    return {
        split: {name: a.pixels(a.included(split)[:count]) for name, a in art.items()}
        for split, count in (("train", 14), ("test", 8))
    }


@pytest.fixture(scope="module")
def judges(drawings: Any) -> tuple[StyleJudge, StyleJudge]:
    return StyleJudge.fit(drawings["train"]), StyleJudge.fit(drawings["train"], features="histogram")


def test_the_extractor_is_one_instance_for_all_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: FeatureExtractor.load(), range(4)))
    assert len({id(one) for one in loaded}) == 1


def test_style_and_head_have_their_widths_and_take_any_size(extractor: FeatureExtractor) -> None:
    pictures = noise(2, 100, size=40)
    assert extractor.style(pictures).shape == (2, 576)
    assert extractor.head(pictures).shape == (2, 1280)
    assert extractor.style(pictures).dtype == np.float32


def test_the_style_vector_is_mean_and_deviation_of_the_network_s_own_channels(extractor: FeatureExtractor) -> None:
    pictures = noise(1, 50, size=128)
    found: dict[int, torch.Tensor] = {}
    network = extractor._network
    handles = [
        network._blocks[i].register_forward_hook(lambda _m, _a, out, i=i: found.__setitem__(i, out)) for i in (1, 9)
    ]
    try:
        with torch.no_grad():
            network((torch.from_numpy(pictures).permute(0, 3, 1, 2).float() - 127) / 128)
    finally:
        for handle in handles:
            handle.remove()
    style = extractor.style(pictures)[0]
    np.testing.assert_allclose(style[64:88], found[1].mean((2, 3))[0], atol=1e-4)
    np.testing.assert_allclose(style[-112:], found[9].std((2, 3))[0], atol=1e-4)


def test_a_picture_s_vectors_do_not_depend_on_its_company(extractor: FeatureExtractor) -> None:
    pictures = np.concatenate([noise(35, 0), noise(1, 200)])
    np.testing.assert_allclose(extractor.style(pictures)[-1:], extractor.style(pictures[-1:]), atol=1e-4)


def test_a_missing_extra_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(FeatureExtractor, "_loaded", None)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r'pip install "fedart-nb\[measures\]"'):
        FeatureExtractor.load()


def test_whitened_features_are_uncorrelated_with_unit_variance() -> None:
    mixed = RNG.normal(size=(80, 5)) @ RNG.normal(size=(5, 5)) + 7
    white = Whitening.fit(mixed).apply(mixed)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(5), atol=1e-8)


def test_whitening_keeps_a_quarter_as_many_directions_as_pictures() -> None:
    assert Whitening.fit(RNG.normal(size=(40, 30))).axes.shape == (30, 10)


def test_a_feature_that_never_changed_says_nothing_later() -> None:
    seen = np.c_[RNG.normal(size=(20, 2)), np.ones(20)]
    white = Whitening.fit(seen)
    np.testing.assert_allclose(white.apply([[0, 0, 1]]), white.apply([[0, 0, 99]]))


@pytest.mark.parametrize(("rows", "said"), [(np.ones((8, 3)), "equal"), (np.ones((3, 3)), r"\(3, 3\)")])
def test_whitening_refuses_what_has_no_directions(rows: np.ndarray, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        Whitening.fit(rows)


def test_the_histogram_counts_colours_and_not_places() -> None:
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    picture[0, :2] = (255, 0, 0)
    counted = colour_histogram(picture)
    assert counted.shape == (1, 64)
    assert counted[0, [0, 48]].tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(counted, colour_histogram(picture[:, ::-1]))


def test_unseen_drawings_find_their_artist(judges: Any, drawings: Any) -> None:
    style, _ = judges
    found = style.accuracy(drawings["test"])
    assert found.mean > 0.9
    assert found.chance == pytest.approx(1 / 3)
    assert style.distances(drawings["test"]["lorelei"]).shape == (8, 3)
    assert style.judge(drawings["test"]["lorelei"]).count("lorelei") / 8 == found.per_artist["lorelei"]


def test_the_report_holds_style_baseline_chance_and_gap_together(judges: Any, drawings: Any) -> None:
    style, histogram = judges
    report = style_report(drawings["test"], style=style, histogram=histogram, rng=np.random.default_rng(0))
    assert report.style == style.accuracy(drawings["test"])
    assert report.histogram == histogram.accuracy(drawings["test"])
    assert report.interval.low <= report.interval.value == pytest.approx(report.style.mean)
    assert 0 < report.gap.low < report.gap.value < report.gap.high <= 2
    for part in ("style", "histogram", "chance", "gap"):
        assert part in str(report)


def test_drawings_under_the_wrong_name_have_a_negative_gap(judges: Any, drawings: Any) -> None:
    style, histogram = judges
    wrong = {"lorelei": drawings["test"]["pixel_art"]}
    report = style_report(wrong, style=style, histogram=histogram, rng=np.random.default_rng(0))
    assert report.gap.high < 0
    assert report.style.mean < report.chance


def test_judges_that_are_not_a_pair_are_refused(judges: Any, drawings: Any) -> None:
    style, _ = judges
    with pytest.raises(MeasureError, match="'style', 'style'"):
        style_report(drawings["test"], style=style, histogram=style, rng=np.random.default_rng(0))


def test_a_judge_names_the_artists_that_it_knows(judges: Any, drawings: Any) -> None:
    with pytest.raises(MeasureError, match=r"'nobody'; .* gerald_ink, lorelei, pixel_art"):
        judges[1].accuracy({"nobody": drawings["test"]["lorelei"]})
    with pytest.raises(MeasureError, match=r"\['lorelei'\] to tell apart"):
        StyleJudge.fit({"lorelei": drawings["train"]["lorelei"]})


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(build(), name="tiny")


def test_introstyle_is_zero_for_the_same_picture_and_symmetric(backbone: Backbone) -> None:
    pictures = np.concatenate([noise(2, 0), noise(2, 180)])
    found = introstyle_distance(backbone, pictures, pictures)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-3)
    np.testing.assert_allclose(found, found.T, atol=1e-6)
    assert found[0, 2] > found[0, 1]


def test_introstyle_is_wasserstein_between_the_channels_gaussians(backbone: Backbone) -> None:
    a, b = noise(1, 0, size=32), noise(1, 150, size=32)
    kept: list[torch.Tensor] = []
    handle = backbone.denoiser.up_blocks[0].register_forward_hook(lambda _m, _a, out: kept.append(out))
    try:
        found = introstyle_distance(backbone, a, b)[0, 0]
    finally:
        handle.remove()
    mean = [x.double().mean((2, 3)) for x in kept]
    std = [x.double().std((2, 3)) for x in kept]
    squared = (mean[0] - mean[1]).square().sum() + (std[0] - std[1]).square().sum()
    assert found == pytest.approx(float(squared.sqrt()), rel=1e-4)


def test_introstyle_tells_light_from_dark_and_leaves_no_hook(backbone: Backbone) -> None:
    known = {"dark": noise(6, 0), "light": noise(6, 200)}
    judged = {"dark": noise(4, 0, seed=1), "light": noise(4, 200, seed=1)}
    found = introstyle_accuracy(backbone, known, judged)
    assert found.per_artist == {"dark": 1.0, "light": 1.0}
    assert found.chance == 0.5
    assert not backbone.denoiser.up_blocks[0]._forward_hooks


@pytest.mark.parametrize(("options", "said"), [({"block": 7}, "has 2 up-blocks"), ({"noise": 1.5}, "noise is 1.5")])
def test_introstyle_refuses_places_that_do_not_exist(backbone: Backbone, options: Any, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        introstyle_distance(backbone, noise(1, 0), noise(1, 0), **options)


def test_introstyle_names_strangers(backbone: Backbone) -> None:
    with pytest.raises(MeasureError, match="'nobody'"):
        introstyle_accuracy(backbone, {"a": noise(2, 0), "b": noise(2, 99)}, {"nobody": noise(1, 0)})
