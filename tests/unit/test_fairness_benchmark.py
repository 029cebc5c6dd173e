"""The fairness benchmark's figures on a game whose answers are known: what each artist brings simply adds up."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

NAMES = ("a", "b", "c", "d")
BRINGS = dict(zip(NAMES, (0.08, 0.04, 0.02, 0.01), strict=True))  # to everybody's loss, wherever they take part


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, dict[str, Any]]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import fairness
    from _cells import Cells

    size = fairness.Size(2, 4, 3, (0.0, 1.0), fairness.QUICK.recipe, None)
    cells = Cells(tmp_path)
    bench = fairness.Bench(size, None, dict.fromkeys(NAMES), cells)

    def losses(names: tuple[str, ...], here: tuple[str, ...]) -> dict[str, float]:
        return {name: 1.0 - sum(BRINGS[one] for one in here) for name in names}

    def keep(name: str, value: Any) -> None:
        cells.values[name] = value

    keep("backbone", dict.fromkeys(NAMES, 1.0))
    keep("styles apart", dict(zip(NAMES, (1.0, 2.0, 9.0, 3.0), strict=True)))
    for seed in range(size.seeds):
        order = bench.order(seed)
        for names in (order, order[: size.few]):
            for n in range(1, len(names) + 1):
                for here in combinations(names, n):
                    label = "all" if n == len(names) else " ".join(sorted(here))
                    keep(f"q 0, {label} of {len(names)}, seed {seed}", losses(names, here))
            keep(f"q 1, all of {len(names)}, seed {seed}", losses(names, names))
            kernels = {
                name: {
                    "alone": losses(names, (name,)),
                    "without": losses(names, tuple(one for one in names if one != name)),
                }
                for name in names
            }
            keep(f"kernels of {len(names)}, seed {seed}", kernels)
    return {line["measure"]: line for line in fairness.figures(bench)}


def test_gains_are_told_by_q_with_the_least_and_the_spread(figures: dict[str, dict[str, Any]]) -> None:
    for q in (0, 1):
        line = figures[f"fairness.gain.q_{q}"]
        assert line["value"] == pytest.approx(0.15)
        assert line["baseline"]["least"] == pytest.approx(0.15)
        assert line["baseline"]["between_artists"] == 0
        assert line["baseline"]["gained"] == [4, 4]


def test_opting_out_costs_what_an_artist_brings(figures: dict[str, dict[str, Any]]) -> None:
    for end in ("oneself", "others"):
        line = figures[f"fairness.opting_out_costs_{end}"]
        assert line["value"] == pytest.approx(0.15 / 4, abs=1e-4)
        assert line["baseline"]["by_artist"] == pytest.approx(BRINGS)
    rare = figures["fairness.rare_style_opts_out.others"]
    assert rare["baseline"]["artist"] == "c", "the style farthest from its nearest neighbour"
    assert rare["value"] == pytest.approx(BRINGS["c"])
    assert figures["fairness.kernel_vs_replay"]["value"] == 1


def test_where_worths_add_up_scores_order_artists_as_shapley_does_and_gains_do_not(
    figures: dict[str, dict[str, Any]],
) -> None:
    for label in ("leave_one_out.replayed", "leave_one_out.kernel", "two_ends.kernel", "two_ends.own_pictures"):
        assert figures[f"fairness.score.{label}"]["value"] == 1
    shapley = figures["fairness.score.two_ends.kernel"]["baseline"]["scores"]["0"]["shapley"]
    assert shapley == pytest.approx({name: BRINGS[name] for name in shapley}, abs=1e-4)
    assert "fairness.score.own_gain" not in figures, "all gain the same: no order, so no correlation"
