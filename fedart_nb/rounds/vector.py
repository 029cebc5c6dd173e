"""An update and what goes with it as one vector for the secure sum, and the sum back to tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..secagg.encoding import Encoded, Field, FixedPoint
from .plan import MAX_WEIGHT_PICTURES, RoundPlan
from .tensors import Tensors

__all__ = ["Summed", "encode", "layout", "open_sum", "words_of"]

_MAX_PICTURES = 100_000


@dataclass(frozen=True)
class Summed:
    """What a secure sum says: sums over all artists in it, nothing of a single one.

    Attributes:
        update: sum of weight * update, by tensor name, float64.
        weight: sum of weights; pictures: how many pictures were trained on, all together.
        clipped: how many values were clipped, all together.
    """

    update: dict[str, NDArray[np.float64]]
    weight: float
    pictures: int
    clipped: int


def layout(plan: RoundPlan, shared: Tensors, artists: int) -> FixedPoint:
    """The encoding of a round: the update's values, then weight, pictures and clipped values, for `artists` artists."""
    size = sum(array.size for array in shared.values())
    fields = (
        Field("update", size, plan.clip),
        Field("weight", 1, 1.0),
        Field("pictures", 1, _MAX_PICTURES),
        Field("clipped", 1, float(size)),
    )
    return FixedPoint(fields, artists)


def encode(code: FixedPoint, plan: RoundPlan, update: Tensors, *, pictures: int) -> tuple[Encoded, int]:
    """One artist's words, and how many values of the update were outside the plan's clip."""
    weight = min(pictures, MAX_WEIGHT_PICTURES) / MAX_WEIGHT_PICTURES if plan.weighting == "pictures" else 1.0
    flat = np.concatenate([update[name].reshape(-1) for name in sorted(update)])
    clipped = int(np.count_nonzero(np.abs(flat) > plan.clip))
    values = {
        "update": weight * np.clip(flat, -plan.clip, plan.clip) if clipped or weight != 1.0 else flat,
        "weight": np.array([weight]),
        "pictures": np.array([min(pictures, _MAX_PICTURES)], np.float64),
        "clipped": np.array([clipped], np.float64),
    }
    return code.encode(values), clipped


def words_of(message: bytes) -> NDArray[np.uint32]:
    """The masked words in an update's attachment: all that a relay holds of it, besides who signed it and when."""
    return np.frombuffer(message[33:-64], "<u4")


def open_sum(code: FixedPoint, shared: Tensors, words: NDArray[np.uint32], count: int) -> Summed:
    """Read the sum of `count` vectors; raises SecAggError when it does not open."""
    sums = code.decode(words, count)
    update: dict[str, NDArray[np.float64]] = {}
    start = 0
    for name in sorted(shared):
        size = math.prod(shared[name].shape)
        update[name] = sums["update"][start : start + size].reshape(shared[name].shape)
        start += size
    whole = {name: float(sums[name][0]) for name in ("weight", "pictures", "clipped")}
    return Summed(update, whole["weight"], round(whole["pictures"]), round(whole["clipped"]))
