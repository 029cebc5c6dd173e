"""Real numbers as whole numbers modulo 2^32, so that sums are exact and nothing overflows.

Each artist's value x in [-limit, limit] becomes q = round((x + limit) / step) in {0, ..., levels} with
levels = floor((2^32 - 1) / artists) and step = 2 limit / levels. The sum of at most `artists` such numbers is below
2^32: the budget is proved by construction, before anybody trains. Rounding errs by at most step / 2 per artist, so the
mean errs by at most step / 2 = limit / levels (7e-9 of the limit with thirty artists). Counts travel as they are.

A field of 16 bits puts two values into each word, with levels = floor((2^16 - 1) / artists): neither half's sum
reaches 2^16, so nothing is carried from one into the other, and masks modulo 2^32 hide both. Half the bytes, for an
error of the mean of limit / levels: 1.5e-4 of the limit with ten artists.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedart_nb.errors import SecAggError
from fedart_nb.secagg.masks import Words

__all__ = ["BITS", "CHECK_WORDS", "MAX_ARTISTS", "Encoded", "Field", "FixedPoint", "values_of"]

_MODULUS_BITS = 32
BITS = (32, 16)  #: what a value of an update may take
_LEAST_LEVELS = 256  # with fewer, rounding would be coarser than most updates
MAX_ARTISTS = 4096
CHECK_WORDS = 4  # each artist adds 1 to each; a sum whose masks did not cancel shows the right count with chance 2^-128
_MAX_WORDS = 2**31
_BLOCK = 2**16
_Values = NDArray[np.floating] | list[NDArray[np.floating]]


@dataclass(frozen=True, slots=True)
class Field:
    """A named stretch of the vector: `size` values within [-limit, limit], or counts from 0 to `limit` (`whole`).

    `bits`: 32, one value a word, or 16, two.
    """

    name: str
    size: int
    limit: float
    whole: bool = False
    bits: int = 32

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size < _MAX_WORDS:
            raise SecAggError(f"Field {self.name!r} has size {self.size!r}; expected 1 to {_MAX_WORDS - 1}.")
        if not (isinstance(self.limit, (int, float)) and math.isfinite(self.limit) and self.limit > 0):
            raise SecAggError(f"Field {self.name!r} has limit {self.limit!r}; expected a number above 0.")
        if self.bits not in BITS or (self.whole and self.bits != _MODULUS_BITS):
            raise SecAggError(f"Field {self.name!r} has {self.bits!r} bits; expected 32, or 16 for values.")

    @property
    def words(self) -> int:
        """How many words its values take."""
        return -(-self.size * self.bits // _MODULUS_BITS)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector ready to be masked, and how many values of each field were outside their limit and had to be clipped."""

    words: Words
    clipped: Mapping[str, int]


class FixedPoint:
    """Encoder and decoder for one round.

    Args:
        fields: what the vector holds, in order.
        artists: the most vectors that may be added up.

    Attributes:
        levels: the largest encoded value of 32 bits; `artists * levels < 2^32`.
        size: words of an encoded vector, check words included.

    >>> code = FixedPoint([Field("update", 3, limit=0.5)], artists=10)
    >>> vectors = [code.encode({"update": np.full(3, x)}).words for x in (0.1, 0.2)]
    >>> code.decode(vectors[0] + vectors[1], count=2)["update"].round(6).tolist()
    [0.3, 0.3, 0.3]
    """

    def __init__(self, fields: Sequence[Field], artists: int) -> None:
        if type(artists) is not int or not 1 <= artists <= MAX_ARTISTS:
            raise SecAggError(f"Encoding for {artists!r} artists; expected 1 to {MAX_ARTISTS}.")
        if len({field.name for field in fields}) != len(fields) or not fields:
            raise SecAggError("An encoding needs at least one field, each name once.")
        self.fields = tuple(fields)
        self.artists = artists
        self.levels = (2**_MODULUS_BITS - 1) // artists
        for field in fields:
            if field.whole and field.limit > self.levels:
                raise SecAggError(
                    f"Field {field.name!r} counts to {field.limit:,}; {artists} artists: {self.levels:,}."
                )
            if self._levels(field) < _LEAST_LEVELS:
                raise SecAggError(
                    f"Field {field.name!r} has {field.bits} bits: {self._levels(field)} levels for each of {artists} "
                    f"artists, of at least {_LEAST_LEVELS}. Take 32 bits."
                )
        self.size = sum(field.words for field in fields) + CHECK_WORDS
        if self.size >= _MAX_WORDS:
            raise SecAggError(f"{self.size:,} words are too many for one vector; at most {_MAX_WORDS - 1:,}.")

    def step(self, name: str) -> float:
        """The difference between two neighbouring values of a field."""
        field = next(f for f in self.fields if f.name == name)
        return 1.0 if field.whole else float(2 * field.limit / self._levels(field))

    def _levels(self, field: Field) -> int:
        return int(2**field.bits - 1) // self.artists

    def encode(
        self, values: Mapping[str, _Values], *, weights: Mapping[str, float] | None = None, out: Words | None = None
    ) -> Encoded:
        """Encode one artist's values, (size,) per field; in several arrays, one behind the other, if that is easier.

        `weights`: what a field's values are multiplied with after clipping, from 0 to 1. `out`: uint32 (self.size,) to
        write into. Nothing larger than a block is held beside it.

        Raises:
            SecAggError: other fields or sizes, or a value that is not finite. Values outside the limit are clipped and
                counted in `Encoded.clipped`: tell the artist.
        """
        if values.keys() != {field.name for field in self.fields}:
            raise SecAggError(f"Values for {sorted(values)}; expected {sorted(f.name for f in self.fields)}.")
        words = np.empty(self.size, np.uint32) if out is None else out
        words[-CHECK_WORDS:] = 1
        clipped: dict[str, int] = {}
        start = 0
        for field in self.fields:
            given = values[field.name]
            parts = [np.asarray(part).reshape(-1) for part in (given if isinstance(given, list) else [given])]
            if (size := sum(map(len, parts))) != field.size:
                raise SecAggError(f"Field {field.name!r} got {size} values; expected {field.size}.")
            weight = (weights or {}).get(field.name, 1.0)
            if not 0 <= weight <= 1:
                raise SecAggError(f"Field {field.name!r} has the weight {weight!r}; expected 0 to 1.")
            clipped[field.name] = 0
            target: NDArray[np.unsignedinteger] = words[start : start + field.words]
            if field.bits < _MODULUS_BITS:
                target[-1] = 0  # of an odd number of values the last half stays empty
                target = target.view(np.uint16)  # little-endian, as numpy's wheels are: the low half comes first
            at = 0
            for part in parts:
                clipped[field.name] += self._fill(target[at : at + len(part)], part, field, weight)
                at += len(part)
            start += field.words
        return Encoded(words, clipped)

    def _fill(
        self, words: NDArray[np.unsignedinteger], values: NDArray[np.floating], field: Field, weight: float
    ) -> int:
        """Encode a part of a field into `words`; returns how many values had to be clipped."""
        levels = self._levels(field)
        low, scale = (0.0, 1.0) if field.whole else (-field.limit, levels / (2 * field.limit))
        clipped = 0
        for at in range(0, len(values), _BLOCK):
            block = values[at : at + _BLOCK].astype(np.float64)
            least, most = block.min(), block.max()
            if not (np.isfinite(least) and np.isfinite(most)):
                raise SecAggError(f"Field {field.name!r} holds values that are not finite (NaN or infinity).")
            if least < low or most > field.limit:
                clipped += int(np.count_nonzero((block < low) | (block > field.limit)))
                np.clip(block, low, field.limit, out=block)
            if weight != 1.0:
                block *= weight
            block -= low
            block *= scale
            np.rint(block, out=block)
            np.minimum(block, levels, out=block)  # a float64 rounding must not cost the proof
            words[at : at + _BLOCK] = block
        return clipped

    def decode(self, total: Words, count: int) -> dict[str, NDArray[np.float64]]:
        """The sums, (size,) float64 per field, of the `count` vectors in `total`.

        Raises:
            SecAggError: the check words do not show `count`: masks did not cancel, or a vector was not honest.
        """
        if total.shape != (self.size,) or total.dtype != np.uint32:
            raise SecAggError(f"A sum of {total.dtype} {total.shape}; expected uint32 ({self.size},).")
        if not 1 <= count <= self.artists:
            raise SecAggError(f"A sum of {count} vectors; this encoding was made for 1 to {self.artists}.")
        if (total[-CHECK_WORDS:] != count).any():
            raise SecAggError(
                f"The sum does not open: its check words are {total[-CHECK_WORDS:].tolist()}, expected {count} in "
                "each. The artists did not hold the same plan, shared adapter and roster, or one of them sent nonsense."
            )
        sums: dict[str, NDArray[np.float64]] = {}
        start = 0
        for field in self.fields:
            part = values_of(total[start : start + field.words], field.size, field.bits).astype(np.float64)
            part *= self.step(field.name)
            part -= 0.0 if field.whole else count * field.limit
            sums[field.name] = part
            start += field.words
        return sums


def values_of(words: Words, size: int, bits: int) -> NDArray[np.unsignedinteger]:
    """The `size` encoded (or masked) values that lie in `words`: uint32, or uint16 where two lie in each.

    >>> values_of(np.array([0x0002_0001, 3], np.uint32), 3, 16).tolist()
    [1, 2, 3]
    """
    if bits == _MODULUS_BITS:
        return words[:size]
    halves = np.empty(2 * len(words), np.uint16)
    halves[::2], halves[1::2] = words & np.uint32(0xFFFF), words >> np.uint32(16)
    return halves[:size]
