"""FedSVD (Lee et al. 2505.12805): B alone is trained; afterwards the host turns the factors by a singular value
decomposition of the product, so that A follows what was learnt.

    B̂ = U S,  Â = V^T,  with U S V^T = (B + mean dB_i) A

The product stays what it was, so the average is exact under sums; Â has orthonormal rows, which bounds the gradient of
B. The SVD is taken of an r x r core between two QR factors. Signs are fixed (the largest entry of each row of Â is
positive) and everybody gets the host's bytes, because floating-point SVDs differ between machines.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..tensors import Tensors
from .strategy import Rule, Sums, matrices, pairs, stepped

__all__ = ["RULE", "turned"]


def turned(A: NDArray[np.float64], B: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Â (r, in) with orthonormal rows and B̂ (out, r) with the product of A (r, in) and B (out, r), r at most in.

    >>> A, B = turned(np.array([[3.0, 4.0]]), np.array([[1.0], [2.0]]))
    >>> A.round(6).tolist(), B.round(6).ravel().tolist()
    ([[0.6, 0.8]], [5.0, 10.0])
    """
    Q_a, R_a = np.linalg.qr(A.T)
    Q_b, R_b = np.linalg.qr(B)
    U, S, Vt = np.linalg.svd(R_b @ R_a.T, full_matrices=True)
    core = U[:, : len(S)] * S
    A_new, B_new = Vt @ Q_a.T, np.zeros((B.shape[0], A.shape[0]))
    B_new[:, : len(S)] = Q_b @ core
    largest = np.take_along_axis(A_new, np.abs(A_new).argmax(axis=1, keepdims=True), axis=1)
    signs = np.where(largest < 0, -1.0, 1.0)
    return A_new * signs, B_new * signs.T


def _aggregate(shared: Tensors, total: Sums, weight: float) -> Tensors:
    new = stepped(shared, total, weight)
    for module, (a, b) in pairs(shared).items():
        A, B = turned(*matrices(new, module))
        new[a] = A.astype(np.float32).reshape(shared[a].shape)
        new[b] = B.astype(np.float32).reshape(shared[b].shape)
    return new


RULE = Rule(
    name="fedsvd",
    meaning="B alone is trained and sent; the host turns A after what was learnt; the product stays the exact mean.",
    factors=lambda _number: "B",
    aggregate=_aggregate,
    refactors=True,
)
