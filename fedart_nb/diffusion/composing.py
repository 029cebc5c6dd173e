"""Several adapters as one file: their exact sum (`cat`), or the nearest one of a smaller rank (`svd`).

    W + sum_i w_i s_i B_i A_i,    s_i = alpha_i / r_i

`cat` puts the factors side by side, [w_1 s_1 B_1 | w_2 s_2 B_2] [A_1; A_2]: exact, and ranks add up. `svd` cuts that
sum to a rank (Eckart & Young 1936). What other tools call "linear" adds A to A and B to B, whose product has cross
terms B_1 A_2 that nobody trained: it is refused. Style tokens are added up; only this package reads them from the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .._system.arguments import number, whole
from ..errors import AdapterError
from .adapters import MAX_RANK, Adapter, AdapterConfig

__all__ = ["WAYS", "Way", "compose", "overlap", "span_of"]

Way = Literal["cat", "svd"]
WAYS: tuple[Way, ...] = ("cat", "svd")

_Array = NDArray[np.float32]


def compose(adapters: Sequence[tuple[Adapter, float]], how: Way = "cat", *, rank: int | None = None) -> Adapter:
    """One adapter that does what these do together at their weights; any tool that reads LoRA files can load it.

    Args:
        adapters: for one backbone; modules that one of them lacks count as unchanged by it.
        how: "cat" is exact; "svd" is the nearest of `rank`, the largest of theirs unless given.

    Raises:
        AdapterError: no adapters, other backbones, another way, or a rank that no adapter may have.

    Example:
        >>> both = compose([(session.shared, 1.0), (session.personal, 0.8)])
        >>> both.config.rank
        8
    """
    if how not in WAYS:
        raise AdapterError(
            f"how is {how!r}; expected 'cat' (exact) or 'svd' (of a smaller rank). Adding A to A and B to B, as "
            "'linear' does elsewhere, makes cross terms that nobody trained."
        )
    parts = [
        (adapter.expanded(), float(number("An adapter's weight", weight, -1e4, 1e4, AdapterError)))
        for adapter, weight in adapters
    ]
    if not parts:
        raise AdapterError("There is no adapter to compose. Train one, or join a room, first.")
    first = parts[0][0]
    for adapter, _ in parts:
        if (adapter.backbone_sha256, adapter.part) != (first.backbone_sha256, first.part):
            raise AdapterError(
                f"These adapters were made for the backbones {first.backbone_sha256[:12]}… and "
                f"{adapter.backbone_sha256[:12]}…. Only adapters of one backbone can be composed."
            )
    largest, total = max(adapter.config.rank for adapter, _ in parts), sum(adapter.config.rank for adapter, _ in parts)
    if how == "cat" and total > MAX_RANK:
        raise AdapterError(
            f"The ranks add up to {total}, and an adapter has at most {MAX_RANK}. Compose with how='svd': the nearest "
            f"one of a smaller rank, {largest} unless you say another (rank=...)."
        )
    wished = largest if rank is None else whole("rank", rank, 1, MAX_RANK, AdapterError)
    rank = total if how == "cat" else wished
    targets = list(dict.fromkeys(adapter.config.targets for adapter, _ in parts))
    joined = targets[0] if len(targets) == 1 else "|".join(f"(?:{one})" for one in targets)
    tensors: dict[str, _Array] = {}
    token = _token_of(parts)
    for module in sorted({name.split(".lora_")[0] for adapter, _ in parts for name in adapter.tensors}):
        A, B, shapes = _side_by_side(parts, module)
        if how == "svd":
            A, B = _nearest(A, B, rank)
        tensors[f"{module}.lora_A.weight"] = A.reshape(rank, *shapes[0][1:]).astype(np.float32)
        tensors[f"{module}.lora_B.weight"] = B.reshape(shapes[1][0], rank, *shapes[1][2:]).astype(np.float32)
    config = AdapterConfig(rank, float(rank), joined)
    return Adapter(tensors, config, first.backbone_sha256, first.part, token=token)


def span_of(adapter: Adapter) -> dict[str, _Array]:
    """Module to an orthonormal basis, (out, at most r), of what its B can write; modules with B = 0 are left out."""
    found = {}
    for name, value in adapter.expanded().tensors.items():
        if name.endswith(".lora_B.weight"):
            U, S, _ = np.linalg.svd(value.reshape(value.shape[0], -1), full_matrices=False)
            if S[0] > 0:
                found[name.removesuffix(".lora_B.weight")] = U[:, 1e-6 * S[0] < S]
    return found


def overlap(shared: Adapter, personal: Adapter) -> float:
    """Which share of the personal adapter's B, by energy, lies in what the shared one's already writes; 0 to 1."""
    inside = whole = 0.0
    basis: Mapping[str, _Array] = span_of(shared)
    for name, value in personal.expanded().tensors.items():
        if name.endswith(".lora_B.weight"):
            B, Q = value.reshape(value.shape[0], -1), basis.get(name.removesuffix(".lora_B.weight"))
            whole += float(np.square(B).sum())
            inside += float(np.square(Q.T @ B).sum()) if Q is not None else 0.0
    return inside / whole if whole else 0.0


def _side_by_side(
    parts: Sequence[tuple[Adapter, float]], module: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[tuple[int, ...], tuple[int, ...]]]:
    """A (sum of r, in) and B (out, sum of r) with weights in B; and the shapes that one adapter's tensors have."""
    a, b = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
    like = next(adapter for adapter, _ in parts if a in adapter.tensors).tensors
    rows, columns = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    for adapter, weight in parts:
        rank, scale = adapter.config.rank, weight * adapter.config.alpha / adapter.config.rank
        A, B = adapter.tensors.get(a), adapter.tensors.get(b)
        rows.append(np.zeros((rank, like[a][0].size)) if A is None else A.reshape(rank, -1).astype(np.float64))
        columns.append(np.zeros((len(like[b]), rank)) if B is None else scale * B.reshape(-1, rank).astype(np.float64))
    return np.concatenate(rows), np.concatenate(columns, axis=1), (like[a].shape, like[b].shape)


def _token_of(parts: Sequence[tuple[Adapter, float]]) -> _Array | None:
    """The weighted sum of style tokens, aligned at their ends as they are when they act; None where there is none."""
    told = [weight * adapter.token for adapter, weight in parts if adapter.token is not None]
    if not told:
        return None
    total = np.zeros(max(token.shape for token in told), np.float32)
    for token in told:
        total[len(total) - len(token) :] += token
    return total


def _nearest(
    A: NDArray[np.float64], B: NDArray[np.float64], rank: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors of rank r whose product is the nearest to B A; the singular values go to B."""
    Q_a, R_a = np.linalg.qr(A.T)
    Q_b, R_b = np.linalg.qr(B)
    U, S, Vt = np.linalg.svd(R_b @ R_a.T, full_matrices=False)
    kept = min(rank, len(S))
    A_new, B_new = np.zeros((rank, A.shape[1])), np.zeros((B.shape[0], rank))
    A_new[:kept], B_new[:, :kept] = Vt[:kept] @ Q_a.T, (Q_b @ U[:, :kept]) * S[:kept]
    return A_new, B_new
