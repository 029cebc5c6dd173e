"""Federated averaging (McMahan et al. 1602.05629, algorithm 1) of both LoRA factors: A + mean dA_i, B + mean dB_i.

The product of two means is not the mean of the products: with weights p_i that add up to 1,

    B̄ Ā - sum_i p_i B_i A_i = - sum_i p_i (B_i - B̄)(A_i - Ā),

the covariance of the factors. `aggregation_error` measures it where single updates are visible, that is in simulations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tensors import Tensors
from .strategy import Rule, matrices, pairs, stepped

__all__ = ["RULE", "aggregation_error"]

RULE = Rule(
    name="fedavg",
    meaning="A and B are trained and averaged, each on its own; their product is not quite the mean of the products.",
    factors=lambda _number: "both",
    aggregate=stepped,
)


def aggregation_error(shared: Tensors, updates: Sequence[Tensors], weights: Sequence[float] | None = None) -> float:
    """||B̄ Ā - mean B_i A_i|| / ||mean B_i A_i - B A||, Frobenius norms over all layers; 0 for an exact rule.

    Args:
        shared: the shared adapter that the round started from; updates: everybody's, with the same names; what an
            update leaves out did not change.
        weights: how much each counts; equal by default.

    >>> zero = {"m.lora_A.weight": np.zeros((1, 1), "f4"), "m.lora_B.weight": np.zeros((1, 1), "f4")}
    >>> one = {name: np.ones((1, 1), "f4") for name in zero}
    >>> aggregation_error(zero, [one, zero])  # 1/2 * 1/2 in the place of 1/2
    0.5
    """
    p = np.asarray(weights if weights is not None else np.ones(len(updates)), np.float64)
    p = p / p.sum()
    error = moved = 0.0
    for module, names in pairs(shared).items():
        A, B = matrices(shared, module)
        afters = []
        for update in updates:
            after = {name: shared[name] + update[name] if name in update else shared[name] for name in names}
            afters.append(matrices(after, module))
        mean = sum(w * (B_i @ A_i) for w, (A_i, B_i) in zip(p, afters, strict=True))
        A_mean = sum(w * A_i for w, (A_i, _) in zip(p, afters, strict=True))
        B_mean = sum(w * B_i for w, (_, B_i) in zip(p, afters, strict=True))
        error += float(np.square(B_mean @ A_mean - mean).sum())
        moved += float(np.square(mean - B @ A).sum())
    return float(np.sqrt(error / moved)) if moved else 0.0
