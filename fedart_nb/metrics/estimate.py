"""A measured value never stands alone: an estimate with its 95 % interval, and the bootstrap that gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MeasureError

__all__ = ["Estimate", "bootstrap"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval, all in the same unit.

    >>> str(Estimate(0.5, 0.25, 0.75))
    '0.5 [0.25, 0.75]'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def bootstrap(
    table: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] = lambda rows: float(rows.mean()),
    *,
    rng: np.random.Generator,
    resamples: int = 2000,
) -> Estimate:
    """Percentile bootstrap over the rows of a table (Efron & Tibshirani 1993, §13.3).

    Args:
        table: (n, ...) one row for each unit that was drawn (a picture, a concept); columns stay together, so a ratio
            of two columns is resampled in pairs.
        statistic: rows to one number; the mean by default. Values that are not finite (a ratio over zero) are left out.
        rng: drawn from.
        resamples: how many.

    Raises:
        MeasureError: fewer than two rows.

    Example:
        >>> bootstrap([0, 1, 1, 1], rng=np.random.default_rng(0)).value
        0.75
    """
    rows = np.asarray(table, dtype=np.float64)
    if len(rows) < 2:
        raise MeasureError(f"{len(rows)} rows to resample; an interval needs 2 or more.")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = statistic(rows)
        draws = np.array([statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(resamples)])
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        raise MeasureError(
            f"No resample of the {len(rows)} rows gave a finite number; the statistic fits no such data."
        )
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high))
