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
Rule = Callable[[Tensors, Sums, float], Tensors]


def aggregate(shared: Tensors, total: Sums, weight: float) -> Tensors:
    """The shared tensors plus the weighted mean update: `total` is sum_i w_i Delta_i, `weight` is sum_i w_i."""
    out: dict[str, NDArray[np.float32]] = {}
    for name in shared:
        mean = total[name] / weight
        mean += shared[name]
        out[name] = mean.astype(np.float32)
    return out
