"""Real numbers as whole numbers modulo 2^32, so that sums are exact and nothing overflows.

Each artist's value x in [-limit, limit] becomes q = round((x + limit) / step) in {0, ..., levels} with
levels = floor((2^32 - 1) / artists) and step = 2 limit / levels. The sum of at most `artists` such numbers is below
2^32: the budget is proved by construction, before anybody trains. Rounding errs by at most step / 2 per artist, so the
mean errs by at most step / 2 = limit / levels (7e-9 of the limit with thirty artists).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedart_nb.errors import SecAggError
from fedart_nb.secagg.masks import Words

__all__ = ["CHECK_WORDS", "MAX_ARTISTS", "Encoded", "Field", "FixedPoint"]

_MODULUS_BITS = 32
MAX_ARTISTS = 4096
CHECK_WORDS = 4  # each artist adds 1 to each; a sum whose masks did not cancel shows the right count with chance 2^-128
_MAX_WORDS = 2**31
_BLOCK = 2**16


@dataclass(frozen=True, slots=True)
class Field:
    """A named stretch of the vector: `size` values, each within [-limit, limit]."""

    name: str
    size: int
    limit: float

    def __post_init__(self) -> None:
        if type(self.size) is not int or not 1 <= self.size < _MAX_WORDS:
            raise SecAggError(f"Field {self.name!r} has size {self.size!r}; expected 1 to {_MAX_WORDS - 1}.")
        if not (isinstance(self.limit, (int, float)) and math.isfinite(self.limit) and self.limit > 0):
            raise SecAggError(f"Field {self.name!r} has limit {self.limit!r}; expected a number above 0.")


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
        levels: the largest encoded value; `artists * levels < 2^32`.
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
        self.size = sum(field.size for field in fields) + CHECK_WORDS
        if self.size >= _MAX_WORDS:
            raise SecAggError(f"{self.size:,} words are too many for one vector; at most {_MAX_WORDS - 1:,}.")

    def step(self, name: str) -> float:
        """The difference between two neighbouring values of a field."""
        limit = next(f.limit for f in self.fields if f.name == name)
        return float(2 * limit / self.levels)

    def encode(self, values: Mapping[str, NDArray[np.floating]]) -> Encoded:
        """Encode one artist's values, (size,) per field.

        Raises:
            SecAggError: other fields or sizes, or a value that is not finite. Values outside the limit are clipped and
                counted in `Encoded.clipped`: tell the artist.
        """
        if values.keys() != {field.name for field in self.fields}:
            raise SecAggError(f"Values for {sorted(values)}; expected {sorted(f.name for f in self.fields)}.")
        words = np.empty(self.size, np.uint32)
        clipped: dict[str, int] = {}
        start = 0
        for field in self.fields:
            flat = np.asarray(values[field.name]).reshape(-1)
            if len(flat) != field.size:
                raise SecAggError(f"Field {field.name!r} got {len(flat)} values; expected {field.size}.")
            clipped[field.name] = 0
            scale = self.levels / (2 * field.limit)
            for at in range(0, field.size, _BLOCK):
                block = flat[at : at + _BLOCK].astype(np.float64)
                outside = int(np.count_nonzero(np.abs(block) > field.limit))
                if not np.isfinite(block).all():
                    raise SecAggError(f"Field {field.name!r} holds values that are not finite (NaN or infinity).")
                if outside:
                    clipped[field.name] += outside
                    np.clip(block, -field.limit, field.limit, out=block)
                block += field.limit
                block *= scale
                np.rint(block, out=block)
                np.minimum(block, self.levels, out=block)  # a float64 rounding must not cost the proof
                words[start + at : start + at + len(block)] = block
            start += field.size
        words[start:] = 1
        return Encoded(words, clipped)

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
            part = total[start : start + field.size].astype(np.float64)
            sums[field.name] = part * self.step(field.name) - count * field.limit
            start += field.size
        return sums
