"""Exact timesteps from the gradient of the time embedding's first layer, by a span check.

For a linear layer y = W v + b every row of dL/d[W, b] is a combination of the inputs [v(t_i); 1] of the pictures i. So
the rows' span has as many dimensions as there are pictures (below the layer's width), and a timestep was used exactly
when its embedding lies in that span. The same idea finds words in DAGER (2405.15586). An adapter on that layer shows
the same in A's gradient, dA = B^T G, once B is not zero, for as many pictures as its rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion.backbone import Backbone
from ..errors import AttackError
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["timesteps"]

_LAYER = "time_embedding.linear_1"
_CUT = 1e-5  # of the largest singular value: below it is rounding
_INSIDE = 1e-3
_FINE = 40
_CLOSE = 400  # points of the second scan, over four steps of the first


def timesteps(
    view: ServerView, backbone: Backbone, *, evaluations: int = 1000, budget_s: float = 30.0
) -> Iterator[Frame | Outcome]:
    """Read the timesteps of one step's batch, all pictures together; of a sum, those of all artists.

    Continuous schedules (rectified flow) are scanned coarsely, each valley again finely, and each minimum refined.

    Args:
        evaluations: how many timesteps the first scan tries.

    Raises:
        AttackError: the update does not contain the time embedding's layer.

    Example:
        >>> *_, outcome = timesteps(view, backbone)  # doctest: +SKIP
        >>> outcome.frame.timesteps  # doctest: +SKIP
        (212.4, 655.0)
    """
    clock = Clock("timesteps", evaluations=evaluations, budget_s=budget_s)
    rows, biased = _rows(view, backbone)
    if not rows.any():
        yield Outcome(
            clock.frame(), False, "this layer's gradient is exactly zero (rank 0), as A's is while B is zero."
        )
        return
    rows = rows / np.linalg.norm(rows)
    _, sizes, right = np.linalg.svd(rows, full_matrices=False)
    rank = int((sizes > _CUT * sizes[0]).sum())
    span = right[:rank]
    top = float(backbone.process.stratified_t(2, 0.0)[1]) * 2
    whole = not backbone.process.stratified_t(2, 0.0).is_floating_point()

    def outside(t: NDArray[np.float64]) -> NDArray[np.float64]:
        inputs = _inputs(backbone, t, biased=biased)
        inputs /= np.linalg.norm(inputs, axis=1, keepdims=True)
        left = inputs - (inputs @ span.T) @ span
        return np.asarray(np.linalg.norm(left, axis=1))

    grid = np.arange(top) if whole else (np.arange(evaluations) + 0.5) / evaluations * top
    distances = outside(grid)
    clock.done = len(grid)
    found = _valleys(distances, rank)
    yield clock.frame(float(distances[found].max(initial=0)), timesteps=tuple(sorted(grid[found])))
    values = grid[found]
    if not whole:
        values = _close_up(outside, values, top / evaluations)
    values = values[np.argsort(outside(values))][:rank]
    worst = float(outside(values).max()) if len(values) else 1.0
    frame = clock.frame(worst, timesteps=tuple(float(t) for t in np.sort(values)))
    width = rows.shape[1]
    if rank >= min(width, rows.shape[0]):
        yield Outcome(
            frame, False, f"the layer's {rank} dimensions are all used: there are more pictures than it holds."
        )
        return
    why = f"rank {rank} says {rank} pictures; the furthest of their timesteps lies {worst:.1e} outside the span."
    yield Outcome(frame, worst < _INSIDE and len(values) == rank, why)


def _rows(view: ServerView, backbone: Backbone) -> tuple[NDArray[np.float64], bool]:
    """The layer's gradient as rows over its inputs, and whether the bias is the last column."""
    tensors, layer = view.tensors, f"{backbone.family.denoiser}.{_LAYER}"
    if f"{layer}.weight" in tensors:
        weight = tensors[f"{layer}.weight"].astype(np.float64)
        return np.concatenate([weight, tensors[f"{layer}.bias"].astype(np.float64)[:, None]], axis=1), True
    if f"{layer}.lora_A.weight" in tensors:
        return tensors[f"{layer}.lora_A.weight"].astype(np.float64), False
    raise AttackError(
        f"The update does not contain {layer!r}: the adapter leaves the time embedding alone, and no timestep can be "
        "read from it. Give timesteps or a seed to the other attacks."
    )


@torch.no_grad()
def _inputs(backbone: Backbone, t: NDArray[np.float64], *, biased: bool) -> NDArray[np.float64]:
    network: Any = backbone.denoiser
    inputs = network.time_proj(torch.from_numpy(np.asarray(t, np.float32))).double().numpy()
    return np.concatenate([inputs, np.ones((len(t), 1))], axis=1) if biased else inputs


def _valleys(distances: NDArray[np.float64], rank: int) -> NDArray[np.intp]:
    """Local minima, the deepest first, no more than a few beyond the rank (neighbours share a valley)."""
    padded = np.concatenate([[np.inf], distances, [np.inf]])
    low = np.flatnonzero((distances <= padded[:-2]) & (distances <= padded[2:]))
    return low[np.argsort(distances[low])][: 2 * rank]


def _close_up(outside: Any, values: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Two timesteps nearer than the first scan's step share a valley: each valley is scanned again, and refined."""
    fine = step * 4 / _CLOSE
    minima = []
    for value in values:
        near = value + (np.arange(_CLOSE) - _CLOSE / 2) * fine
        near = near[near > 0]
        minima += [_refined(outside, float(t), fine) for t in near[_valleys(outside(near), _CLOSE)]]
    apart: list[float] = []
    for t in sorted(minima, key=lambda t: float(outside(np.array([t]))[0])):
        if all(abs(t - other) > fine for other in apart):
            apart.append(t)
    return np.array(apart)


def _refined(outside: Any, middle: float, width: float) -> float:
    """Golden-section search around a coarse minimum."""
    golden = (5**0.5 - 1) / 2
    low, high = middle - width, middle + width
    for _ in range(_FINE):
        a, b = high - golden * (high - low), low + golden * (high - low)
        left, right = outside(np.array([a, b]))
        low, high = (low, b) if left < right else (a, high)
    return (low + high) / 2
