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

_BLOCK = 2**16
Sums = Mapping[str, NDArray[np.float64]]
Rule = Callable[[Tensors, Sums, float], Tensors]


def aggregate(shared: Tensors, total: Sums, weight: float) -> Tensors:
    """The shared tensors plus the weighted mean update: `total` is sum_i w_i Delta_i, `weight` is sum_i w_i."""
    return {name: _stepped(shared[name], total[name], weight) for name in shared}


def _stepped(shared: NDArray[np.float32], total: NDArray[np.float64], weight: float) -> NDArray[np.float32]:
    """One tensor, block by block: beside the result no second array is taken."""
    out = np.empty(shared.size, np.float32)
    old, added = shared.reshape(-1), total.reshape(-1)
    for at in range(0, shared.size, _BLOCK):
        part = slice(at, at + _BLOCK)
        out[part] = old[part] + added[part] / weight
    return out.reshape(shared.shape)
