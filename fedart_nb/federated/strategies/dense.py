"""The dense product, for small models: every artist sends its change of B A, whole; the host cuts the mean to rank r.

    W* = B A + mean_i (B_i A_i - B A),    B̂ Â = the nearest matrix of rank r (Eckart & Young 1936), split as in FedSVD

What FlexLoRA (Bai et al. 2402.11505) does with single products, done with their sum. The mean is exact, the cut is not,
and the upload is that of a layer's whole weight, in x out numbers.
"""

from __future__ import annotations

import numpy as np

from ..tensors import Tensors
from .strategy import Rule, Sums, matrices, pairs

__all__ = ["RULE"]


def _aggregate(shared: Tensors, total: Sums, weight: float) -> Tensors:
    new = dict(shared)
    for module, (a, b) in pairs(shared).items():
        A, B = matrices(shared, module)
        U, S, Vt = np.linalg.svd(B @ A + total[module] / weight, full_matrices=False)
        rank = min(A.shape[0], len(S))
        rows = Vt[:rank]
        signs = np.where(np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1) < 0, -1.0, 1.0)
        A_new, B_new = np.zeros_like(A), np.zeros_like(B)
        A_new[:rank], B_new[:, :rank] = rows * signs, U[:, :rank] * S[:rank] * signs.T
        new[a] = A_new.astype(np.float32).reshape(shared[a].shape)
        new[b] = B_new.astype(np.float32).reshape(shared[b].shape)
    return new


RULE = Rule(
    name="dense",
    meaning="Whole products B A are sent and averaged exactly, then cut to the adapter's rank: a very large upload.",
    factors=lambda _number: "both",
    aggregate=_aggregate,
    sends_products=True,
    refactors=True,
    no_artist_noise="it sends a layer's whole weight, and noise would have to cover every number of it",
)
