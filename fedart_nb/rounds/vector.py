"""An update and what goes with it as one vector for the secure sum, and the sum back to tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import SecAggError
from ..secagg.encoding import Field, FixedPoint
from .plan import MAX_WEIGHT_PICTURES, METRICS, RoundPlan
from .tensors import Tensors

__all__ = ["Summed", "encode", "layout", "open_sum", "words_of"]

_MAX_PICTURES = 100_000
_SLACK = 1e-6


@dataclass(frozen=True)
class Summed:
    """What a secure sum says: sums over all artists in it, nothing of a single one.

    Attributes:
        update: sum of weight * update, by tensor name, float64.
        weight: sum of weights; pictures: how many pictures were trained on, all together.
        clipped: how many values were clipped, all together.
        metrics: sums of what the plan's `metrics` name.
    """

    update: dict[str, NDArray[np.float64]]
    weight: float
    pictures: int
    clipped: int
    metrics: dict[str, float]


def layout(plan: RoundPlan, shared: Tensors, artists: int) -> FixedPoint:
    """The encoding of a round for `artists` artists: the update's values, weight, pictures, clipped values, metrics."""
    size = sum(array.size for array in shared.values())
    fields = (
        Field("update", size, plan.clip),
        Field("weight", 1, 1.0),
        Field("pictures", 1, _MAX_PICTURES, whole=True),
        Field("clipped", 1, min(size, (2**32 - 1) // artists), whole=True),
        *(Field(name, 1, METRICS[name]) for name in plan.metrics),
    )
    return FixedPoint(fields, artists)


def encode(
    code: FixedPoint,
    plan: RoundPlan,
    update: Tensors,
    *,
    pictures: int,
    metrics: Mapping[str, float],
    out: NDArray[np.uint32],
) -> int:
    """Write one artist's words to `out`; returns how many values of the update were outside the plan's clip.

    `metrics`: every one that the plan asks for. No memory is taken that grows with the update.
    """
    weight = min(pictures, MAX_WEIGHT_PICTURES) / MAX_WEIGHT_PICTURES if plan.weighting == "pictures" else 1.0
    clipped = sum(_beyond(array, plan.clip) for array in update.values())
    values: dict[str, NDArray[np.floating] | list[NDArray[np.floating]]] = {
        "update": [update[name] for name in sorted(update)],
        "weight": np.array([weight]),
        "pictures": np.array([min(pictures, _MAX_PICTURES)], np.float64),
        "clipped": np.array([clipped], np.float64),
        **{name: np.array([metrics[name]], np.float64) for name in plan.metrics},
    }
    code.encode(values, weights={"update": weight}, out=out)
    return clipped


def words_of(message: bytes) -> NDArray[np.uint32]:
    """The masked words in an update's attachment: all that a relay holds of it, besides who signed it and when."""
    return np.frombuffer(message[33:-64], "<u4")


def open_sum(code: FixedPoint, shared: Tensors, words: NDArray[np.uint32], count: int) -> Summed:
    """Read the sum of `count` vectors; raises SecAggError when it does not open, or holds impossible weights."""
    sums = code.decode(words, count)
    update: dict[str, NDArray[np.float64]] = {}
    start = 0
    for name in sorted(shared):
        size = math.prod(shared[name].shape)
        update[name] = sums["update"][start : start + size].reshape(shared[name].shape)
        start += size
    whole = {field.name: float(sums[field.name][0]) for field in code.fields[1:]}
    weight, pictures, clipped = whole.pop("weight"), whole.pop("pictures"), whole.pop("clipped")
    if not _SLACK < weight <= count * (1 + _SLACK):
        raise SecAggError(
            f"The weights of {count} artists add up to {weight:.6g}; expected above 0, to {count}. At least one of "
            "them sent nonsense; no result is made of it."
        )
    return Summed(update, weight, round(pictures), round(clipped), whole)


def _beyond(array: NDArray[np.float32], limit: float) -> int:
    """How many values are outside [-limit, limit]; no second array where none are."""
    if not array.size or (array.max() <= limit and array.min() >= -limit):
        return 0
    return int(np.count_nonzero(np.abs(array) > limit))
