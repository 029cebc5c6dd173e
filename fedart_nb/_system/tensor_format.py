"""Safetensors bytes read without trust: names, shapes, sizes and depth are checked before anything is allocated."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

__all__ = ["HEADER_LIMIT_BYTES", "MOST_DIMENSIONS", "DamagedTensors", "TensorFile", "bounded_json"]

HEADER_LIMIT_BYTES = 16 * 2**20
#: numpy itself goes to 64; no network here has weights of more than five.
MOST_DIMENSIONS = 8
_MOST_TENSORS = 65_536
_MOST_DEPTH = 32
_MOST_NUMBERS = 2**40
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class DamagedTensors(ValueError):
    """What is wrong with the bytes, as a clause; callers put it into a sentence of their own error."""


@dataclass(frozen=True)
class _Entry:
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class TensorFile:
    """The header of safetensors bytes, checked; arrays are made when they are asked for.

    Attributes:
        entries: name to number type, shape and place of every tensor, in the header's order.
        metadata: the file's own words, text to text.

    Raises:
        DamagedTensors: what the safetensors library would refuse too, and besides more than 65,536 tensors, more than
            eight dimensions, and headers that are nested deeper than 32 levels.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        size = int.from_bytes(data[:8], "little")
        if len(data) < 8 or size > min(len(data) - 8, HEADER_LIMIT_BYTES):
            raise DamagedTensors("the header is cut short")
        self._start = 8 + size
        listed = data.count(b'"data_offsets"', 8, self._start)
        if listed > _MOST_TENSORS:
            raise DamagedTensors(f"it lists {listed:,} tensors, more than {_MOST_TENSORS:,}")
        header = bounded_json(data[8 : self._start])
        if not isinstance(header, dict):
            raise DamagedTensors("the header is no object")
        about = header.pop("__metadata__", {})
        if not isinstance(about, dict):
            raise DamagedTensors("its metadata is no object")
        self.metadata = {str(key): str(value) for key, value in about.items()}
        self.entries = {name: _entry(name, said) for name, said in header.items()}
        self._check_places()

    def numbers(self, name: str) -> NDArray[np.float32]:
        """One tensor as float32: a read-only window into the bytes where it is stored so, else a copy."""
        entry = self.entries[name]
        count, at = math.prod(entry.shape), self._start + entry.begin
        if entry.dtype == "BF16":
            words = np.frombuffer(self._data, "<u2", count, at).astype("<u4") << np.uint32(16)
            return words.view("<f4").reshape(entry.shape)
        if entry.dtype not in _FLOATS:
            raise DamagedTensors(f"{_short(name)} holds {entry.dtype}, not fractions")
        found = np.frombuffer(self._data, _FLOATS[entry.dtype], count, at).reshape(entry.shape)
        with np.errstate(over="ignore"):  # what is too large becomes infinity, which callers refuse
            return found if entry.dtype == "F32" else found.astype(np.float32)

    def _check_places(self) -> None:
        end = 0
        for name, entry in sorted(self.entries.items(), key=lambda item: (item[1].begin, item[1].end)):
            if self._start + entry.end > len(self._data):
                raise DamagedTensors(f"it was cut short: {_short(name)} ends behind the last byte")
            if entry.begin != end:
                raise DamagedTensors("tensors overlap or leave gaps")
            end = entry.end
        if self._start + end != len(self._data):
            raise DamagedTensors("there are bytes that belong to no tensor")


def bounded_json(data: bytes) -> Any:
    """JSON that is nested at most 32 levels deep and names nothing twice.

    Raises:
        DamagedTensors: deeper, twice, NaN or Infinity, or no JSON.

    >>> bounded_json(b'{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    depth = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > _MOST_DEPTH:
            raise DamagedTensors(f"it is nested deeper than {_MOST_DEPTH} levels")
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedTensors(str(error)) from error


def _entry(name: str, said: Any) -> _Entry:
    if not isinstance(said, dict) or not isinstance(said.get("dtype"), str):
        raise DamagedTensors(f"{_short(name)} is {str(said)[:80]}; arrays travel as float32 with a shape and a place")
    dtype, shape, place = said["dtype"], _whole(said.get("shape")), _whole(said.get("data_offsets"))
    if dtype not in _SIZES:
        raise DamagedTensors(f"{_short(name)} has the unknown number type {_short(dtype)}")
    if shape is None or place is None or len(place) != 2:
        raise DamagedTensors(f"{_short(name)} has no shape and place")
    if len(shape) > MOST_DIMENSIONS:
        raise DamagedTensors(f"{_short(name)} has {len(shape)} dimensions, more than {MOST_DIMENSIONS}")
    if place[1] - place[0] != _SIZES[dtype] * math.prod(shape):
        raise DamagedTensors(f"{_short(name)} of shape {shape} has {place[1] - place[0]} bytes")
    if 0 in shape and math.prod(side or 1 for side in shape) > _MOST_NUMBERS:  # numpy reckons with the other sides
        raise DamagedTensors(f"{_short(name)} is empty and has a side of {max(shape):,}")
    return _Entry(dtype, tuple(shape), place[0], place[1])


def _whole(values: Any) -> list[int] | None:
    """A list of whole numbers from 0 on, or None for anything else."""
    good = isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)
    return values if good else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DamagedTensors("it names something twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise DamagedTensors(f"it holds {text}")


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
