"""Lengths, directions and distances of feature rows: what several measures compare vectors by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["distances", "unit"]


def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (n, d) at length 1; a row of zeros stays.

    >>> unit(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    out: NDArray[np.float64] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return out


def distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distance of every row of `a` (n, d) from every row of `b` (m, d): (n, m).

    >>> distances(np.zeros((1, 2)), np.array([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    squared = np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None] - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squared, 0)))
