from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.errors import MeasureError
from fedart_nb.metrics import bootstrap, kid


def features(n: int, d: int = 6, *, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, d))


def test_kid_is_the_sum_over_pairs_written_in_the_paper() -> None:
    x, y = features(12, shift=0.5), features(15, seed=1)
    a, b = ((v - y.mean(0)) / y.std(0) for v in (x, y))

    def k(p: np.ndarray, q: np.ndarray) -> float:
        return (p @ q / 6 + 1) ** 3

    within_a = np.mean([k(p, q) for i, p in enumerate(a) for j, q in enumerate(a) if i != j])
    within_b = np.mean([k(p, q) for i, p in enumerate(b) for j, q in enumerate(b) if i != j])
    across = np.mean([k(p, q) for p in a for q in b])
    value = kid(x, y, rng=np.random.default_rng(0)).value
    assert value == pytest.approx(within_a + within_b - 2 * across)


def test_the_interval_holds_zero_for_one_distribution_and_not_for_two() -> None:
    rng = np.random.default_rng(0)
    same = kid(features(60), features(60, seed=1), rng=rng)
    other = kid(features(60, shift=1), features(60, seed=1), rng=rng)
    assert same.low < 0 < same.high
    assert 0 < other.low < other.value < other.high


def test_the_estimate_does_not_depend_on_the_number_of_pictures() -> None:
    values = {}
    for n in (20, 200):
        runs = range(40)
        pairs = [(features(n, shift=0.7, seed=s), features(200, seed=1000 + s)) for s in runs]
        values[n] = np.mean([kid(x, y, rng=np.random.default_rng(0), subsets=2).value for x, y in pairs])
    assert values[20] == pytest.approx(values[200], rel=0.12)


def test_the_interval_is_as_wide_as_repeated_draws_are_spread() -> None:
    runs = [
        kid(features(80, shift=0.7, seed=s), features(80, seed=1000 + s), rng=np.random.default_rng(s), subsets=40)
        for s in range(40)
    ]
    spread = 2 * 1.96 * np.std([run.value for run in runs])
    width = np.mean([run.high - run.low for run in runs])
    assert 0.6 < width / spread < 1.6


def test_the_size_of_subsets_changes_the_width_little() -> None:
    x, y = features(100, shift=0.7), features(150, seed=1)
    widths = []
    for size in (25, 50, 75):
        found = kid(x, y, rng=np.random.default_rng(0), subset_size=size)
        widths.append(found.high - found.low)
    assert max(widths) < 1.6 * min(widths)


def test_a_feature_that_is_constant_in_the_reference_does_not_explode() -> None:
    x, y = features(30), features(30, seed=1)
    y[:, 0] = 0
    assert np.isfinite(kid(x, y, rng=np.random.default_rng(0)).value)


@pytest.mark.parametrize(
    ("x", "y", "options", "said"),
    [
        (features(9), features(50), {}, "9 pictures against 50"),
        (features(20), features(20, d=5), {}, r"\(20, 6\) and \(20, 5\)"),
        (features(20) * np.nan, features(20), {}, "not finite"),
        (features(20), features(30), {"subset_size": 20}, "subset_size is 20 .* 2 to 19"),
        (features(20), features(30), {"subsets": 1}, "subsets 1"),
    ],
)
def test_what_kid_cannot_compare_is_refused_with_the_numbers(
    x: np.ndarray, y: np.ndarray, options: dict[str, int], said: str
) -> None:
    with pytest.raises(MeasureError, match=said):
        kid(x, y, rng=np.random.default_rng(0), **options)


def test_the_bootstrap_covers_the_true_mean_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        found = bootstrap(np.random.default_rng(seed).normal(3, 1, 40), rng=np.random.default_rng(seed), resamples=200)
        covered += found.low < 3 < found.high
    assert 0.9 < covered / 300 < 0.98


def test_a_ratio_is_resampled_with_its_rows_together() -> None:
    column = np.arange(1.0, 21.0)
    table = np.stack([column, 2 * column], 1)
    found = bootstrap(table, lambda rows: rows[:, 0].mean() / rows[:, 1].mean(), rng=np.random.default_rng(0))
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_one_row_is_too_few_for_an_interval() -> None:
    with pytest.raises(MeasureError, match="1 rows"):
        bootstrap([1.0], rng=np.random.default_rng(0))
