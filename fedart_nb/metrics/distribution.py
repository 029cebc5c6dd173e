"""Are two sets of pictures alike as sets? The kernel inception distance on features that need no download."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._system.cancelling import checkpoint
from ..errors import MeasureError
from .estimate import Estimate

__all__ = ["kid"]

_FEWEST = 10


def kid(
    x: ArrayLike,
    y: ArrayLike,
    *,
    rng: np.random.Generator,
    subsets: int = 200,
    subset_size: int | None = None,
) -> Estimate:
    """Unbiased squared maximum mean discrepancy with the cubic kernel k(a, b) = (a·b / d + 1)³; lower is closer.

    Bińkowski et al. 1801.01401, §4, on features z-scored by the reference set `y`; so it compares with other values of
    the same features and reference only, never with published Inception figures. Being unbiased, it does not depend
    on the number of pictures and is slightly negative for two draws of one distribution: give that floor beside it.

    The interval is a subsampling bootstrap (Politis, Romano & Wolf 1999, §2.2): `subsets` times a part of each side is
    drawn without replacement, and deviations are scaled by sqrt(f / (1 - f)) for a drawn fraction f. Resampling with
    replacement would bias a U-statistic upwards, because copies of one picture pair with each other.

    Args:
        x: features of the pictures that are judged, (n, d).
        y: features of the reference pictures, (m, d).
        rng: drawn from.
        subsets: subsamples for the interval.
        subset_size: pictures of the smaller side in a subsample, the larger side's in proportion; half by default.

    Raises:
        MeasureError: fewer than 10 on a side, other shapes, values that are not finite, a subset that does not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> same = kid(rng.normal(size=(50, 8)), rng.normal(size=(50, 8)), rng=rng)
        >>> same.low < 0 < same.high
        True
    """
    a, b = _checked(x, y)
    fewest = min(len(a), len(b))
    size = fewest // 2 if subset_size is None else subset_size
    if not 2 <= size < fewest or subsets < 2:
        raise MeasureError(
            f"subset_size is {size} and subsets {subsets}; expected a size from 2 to {fewest - 1} (fewer than the "
            "smaller side has) and 2 subsets or more."
        )
    centre, spread = b.mean(0), b.std(0)
    spread = np.maximum(spread, 0.01 * max(spread.mean(), 1e-12))  # a feature that is constant in y must not explode
    a, b = (a - centre) / spread, (b - centre) / spread
    within_a, within_b, across = _kernel(a, a), _kernel(b, b), _kernel(a, b)
    value = _mmd2(within_a, within_b, across)
    fraction = size / fewest
    scale = np.sqrt(fraction / (1 - fraction))
    draws = []
    for _ in range(subsets):
        checkpoint()
        i = rng.choice(len(a), round(fraction * len(a)), replace=False)
        j = rng.choice(len(b), round(fraction * len(b)), replace=False)
        draws.append(_mmd2(within_a[np.ix_(i, i)], within_b[np.ix_(j, j)], across[np.ix_(i, j)]))
    low, high = value + scale * (np.quantile(draws, [0.025, 0.975]) - value)
    return Estimate(value, float(min(low, value)), float(max(high, value)))


def _checked(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise MeasureError(f"Features have shapes {a.shape} and {b.shape}; expected (n, d) and (m, d) with one d.")
    if min(len(a), len(b)) < _FEWEST:
        raise MeasureError(
            f"{len(a)} pictures against {len(b)}; KID needs {_FEWEST} or more on each side (50 to 200 tell something)."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise MeasureError("Features hold values that are not finite; compute them again from the pictures.")
    return a, b


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    product: NDArray[np.float64] = (a @ b.T / a.shape[1] + 1) ** 3
    return product


def _mmd2(aa: NDArray[np.float64], bb: NDArray[np.float64], ab: NDArray[np.float64]) -> float:
    """Eq. 4 of 1801.01401: sums over pairs of different pictures within a side, over all pairs across."""
    n, m = ab.shape
    within = (aa.sum() - np.trace(aa)) / (n * (n - 1)) + (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within - 2 * ab.mean())
