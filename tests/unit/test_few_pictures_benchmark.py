"""The benchmark of few pictures: a handful is n of an artist's own, and its figures on losses that are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fedart_nb.diffusion import Conditioning, LatentSet

NAMES = ("a", "b", "c")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import few_pictures

    return few_pictures


def studio(name: str) -> SimpleNamespace:
    ids = tuple(f"{name}{i}" for i in range(20))
    told, empty = Conditioning(torch.zeros(20, 1, 1)), Conditioning(torch.zeros(1, 1, 1))
    own = LatentSet(torch.zeros(20, 1, 1, 1), told, empty, ids)
    return SimpleNamespace(own=own, held_out=own)


def bench_of(few: Any, tmp_path: Path) -> Any:
    from _cells import Cells

    size = few.Size(2, (4,), (0, 5), few.QUICK.recipe, 3)
    return few.Bench(size, None, {name: studio(name) for name in NAMES}, Cells(tmp_path))


def test_a_handful_is_n_of_each_artist_s_own_and_the_same_again(few: Any, tmp_path: Path) -> None:
    bench = bench_of(few, tmp_path)
    drawn = bench.handful(0, 4)
    assert all(len(set(one.own.ids)) == 4 and {i[0] for i in one.own.ids} == {name} for name, one in drawn.items())
    assert [one.own.ids for one in bench.handful(0, 4).values()] == [one.own.ids for one in drawn.values()]
    assert [one.own.ids for one in bench.handful(1, 4).values()] != [one.own.ids for one in drawn.values()]


def test_figures_count_who_is_better_off_joined_at_the_end_and_at_the_best(few: Any, tmp_path: Path) -> None:
    bench = bench_of(few, tmp_path)
    short, long = (str(steps) for steps in bench.size.steps)
    joined = {"a": {short: 0.5, long: 0.4}, "b": {short: 0.5, long: 0.6}, "c": {short: 0.9, long: 0.9}}
    alone = {"a": {short: 0.6, long: 0.5}, "b": {short: 0.4, long: 0.7}, "c": {short: 0.8, long: 0.8}}
    bench.cells.values["backbone"] = dict.fromkeys(NAMES, 1.0)
    for seed in range(2):
        bench.cells.values[f"joined with 4, seed {seed}"] = joined
        for name in NAMES:
            bench.cells.values[f"{name} alone with 4, seed {seed}"] = alone[name]
    found = {line["measure"]: line for line in few.figures(bench)}
    assert found["few.joining_beats_alone_4"]["value"] == 2  # a and b, after all steps
    assert found["few.joining_beats_alone_4.best"]["value"] == 1  # a; b alone was better stopped early
    assert found["few.gain_of_joining_4"]["value"] == pytest.approx((0.1 + 0.1 - 0.1) / 3, abs=1e-4)
    assert found["few.gain_of_joining_4"]["baseline"]["by_artist"] == {"a": 0.1, "b": 0.1, "c": -0.1}
    assert found["few.gain_of_joining_4.best"]["value"] == pytest.approx((0.1 - 0.1 - 0.1) / 3, abs=1e-4)
