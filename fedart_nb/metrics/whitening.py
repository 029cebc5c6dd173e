"""Features made comparable: z-scored, projected on their main directions, each direction scaled to unit variance."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import MeasureError

__all__ = ["Whitening"]


@dataclass(frozen=True)
class Whitening:
    """PCA whitening with the statistics of the features that it was fitted on.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(40, 6))
        >>> Whitening.fit(features, components=4).apply(features).std(0).round(3).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    mean: NDArray[np.float64] = field(repr=False)
    scale: NDArray[np.float64] = field(repr=False)
    axes: NDArray[np.float64] = field(repr=False)

    @classmethod
    def fit(cls, features: ArrayLike, *, components: int = 64) -> Whitening:
        """Fit on features (n, d). Keeps at most `components`, d, and n / 4: more would be fitted to single pictures.

        Raises:
            MeasureError: not a table, fewer than four rows, or all rows equal.
        """
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or len(x) < 4:
            raise MeasureError(f"Features have shape {x.shape}; whitening is fitted on (n, d) with n of 4 or more.")
        mean, spread = x.mean(0), x.std(0)
        scale = np.where(spread > 1e-9, spread, np.inf)  # a feature that never changes says nothing
        _, singular, directions = np.linalg.svd((x - mean) / scale, full_matrices=False)
        count = min(components, x.shape[1], len(x) // 4, int((singular > 1e-6 * max(singular[0], 1e-12)).sum()))
        if singular[0] < 1e-9 or count < 1:
            raise MeasureError("All feature rows are equal; whitening needs pictures that differ.")
        axes = directions[:count].T * (np.sqrt(len(x)) / singular[:count])
        return cls(mean, scale, axes)

    def apply(self, features: ArrayLike) -> NDArray[np.float64]:
        """Whitened features, (n, components)."""
        out: NDArray[np.float64] = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale @ self.axes
        return out
