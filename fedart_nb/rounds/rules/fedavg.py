"""Federated averaging (McMahan et al. 1602.05629, algorithm 1) of LoRA factors: w + (1/n) sum_i Delta_i.

Averaging A and B each on their own is not the average of the products B A (the error is the covariance of the two);
artists who start from one seed and take few local steps stay close. Other rules measure and remove that error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from ..tensors import Tensors

__all__ = ["Rule", "Sums", "aggregate"]

Sums = Mapping[str, NDArray[np.float64]]
Rule = Callable[[Tensors, Sums, int], Tensors]


def aggregate(shared: Tensors, total: Sums, count: int) -> Tensors:
    """The shared tensors plus the mean update; equal weights: an artist with 20 drawings counts as one artist."""
    return {name: (shared[name] + total[name] / np.float64(count)).astype(np.float32) for name in shared}
