"""An update and what goes with it as one vector for the secure sum, and the sum back to tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..crypto.random_streams import SecureRandom
from ..errors import SecAggError
from ..secagg.encoding import Field, FixedPoint, values_of
from .noised_vector import NoisedWords
from .plan import LOSS_CAP, MAX_WEIGHT_PICTURES, METRICS, RoundPlan
from .strategies import rule_of
from .tensors import Tensors

__all__ = ["Summed", "encode", "encode_noised", "flat_of", "held_of", "layout", "open_sum", "sent_like", "words_of"]

_MAX_PICTURES = 100_000
_SLACK = 1e-6


@dataclass(frozen=True)
class Summed:
    """What a secure sum says: sums over all artists in it, nothing of a single one.

    Attributes:
        update: sum of weight * update, by tensor name, float64.
        weight: sum of weights; pictures: how many pictures were trained on, all together.
        clipped: how many values were clipped, all together. Both 0, for not told, under noise on whole artists.
        metrics: sums of what the plan's `metrics` name.
    """

    update: dict[str, NDArray[np.float64]]
    weight: float
    pictures: int
    clipped: int
    metrics: dict[str, float]


def layout(plan: RoundPlan, shared: Tensors, artists: int) -> FixedPoint | NoisedWords:
    """The encoding of a round for `artists` artists: the update's values, weight, pictures, clipped values, metrics.

    Under noise on whole artists: the noised update alone.
    """
    size = rule_of(plan.rule).size(plan.number, shared)
    if plan.protection == "artist":
        return NoisedWords(plan, size, artists)
    fields = (
        Field("update", size, plan.clip, bits=plan.bits),
        Field("weight", 1, 1.0),
        Field("pictures", 1, _MAX_PICTURES, whole=True),
        Field("clipped", 1, min(size, (2**32 - 1) // artists), whole=True),
        *(Field(name, 1, METRICS[name]) for name in plan.metrics),
    )
    return FixedPoint(fields, artists)


def sent_like(plan: RoundPlan, shared: Tensors) -> Tensors:
    """Arrays with the names and shapes of what the plan's rule sends in its round; the values are not meant."""
    return rule_of(plan.rule).sent_like(plan.number, shared)


def encode_noised(code: NoisedWords, update: Tensors, random: SecureRandom, *, out: NDArray[np.uint32]) -> float:
    """Write one artist's noised words to `out`; returns the update's norm, which is for the artist alone."""
    flat = flat_of(update)
    code.encode(flat, random, out)
    return float(np.linalg.norm(flat))


def flat_of(update: Tensors) -> NDArray[np.float64]:
    """All values, (d,), by the names' order."""
    return np.concatenate([update[name].reshape(-1) for name in sorted(update)]).astype(np.float64)


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

    `update`: what the plan's rule sends. `metrics`: every one that the plan asks for, and "loss_before" for weights by
    loss. No memory is taken that grows with the update.
    """
    weight = 1.0
    if plan.weighting == "pictures":
        weight = min(pictures, MAX_WEIGHT_PICTURES) / MAX_WEIGHT_PICTURES
    elif plan.weighting == "loss":
        weight = (min(max(metrics["loss_before"], 0.0), LOSS_CAP) / LOSS_CAP) ** plan.q
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


def held_of(plan: RoundPlan, message: bytes, size: int) -> NDArray[np.uint32]:
    """The masked values, (size,), that stand in the place of an update's, as uint32 from 0 to 2^32 - 1 of any plan."""
    values = values_of(words_of(message), size, plan.bits)
    return values.astype(np.uint32) << np.uint32(32 - plan.bits)


def open_sum(code: FixedPoint | NoisedWords, sent: Tensors, words: NDArray[np.uint32], count: int) -> Summed:
    """Read the sum of `count` vectors, of tensors like `sent`.

    Raises:
        SecAggError: it does not open, or holds impossible weights.
    """
    if isinstance(code, NoisedWords):
        return Summed(_shaped(code.decode(words, count), sent), float(count), 0, 0, {})
    sums = code.decode(words, count)
    update = _shaped(sums["update"], sent)
    whole = {field.name: float(sums[field.name][0]) for field in code.fields[1:]}
    weight, pictures, clipped = whole.pop("weight"), whole.pop("pictures"), whole.pop("clipped")
    if not _SLACK < weight <= count * (1 + _SLACK):
        raise SecAggError(
            f"The weights of {count} artists add up to {weight:.6g}; expected above 0, to {count}. At least one of "
            "them sent nonsense; no result is made of it."
        )
    return Summed(update, weight, round(pictures), round(clipped), whole)


def _shaped(values: NDArray[np.float64], shared: Tensors) -> dict[str, NDArray[np.float64]]:
    """Values one behind the other as tensors of the shared adapter's names and shapes."""
    tensors: dict[str, NDArray[np.float64]] = {}
    start = 0
    for name in sorted(shared):
        size = math.prod(shared[name].shape)
        tensors[name] = values[start : start + size].reshape(shared[name].shape)
        start += size
    return tensors


def _beyond(array: NDArray[np.float32], limit: float) -> int:
    """How many values are outside [-limit, limit]; no second array where none are."""
    if not array.size or (array.max() <= limit and array.min() >= -limit):
        return 0
    return int(np.count_nonzero(np.abs(array) > limit))
