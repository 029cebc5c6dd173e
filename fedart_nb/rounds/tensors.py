"""Named float32 arrays on the wire: safetensors bytes, checked against the shapes that the round expects."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RoundError

__all__ = ["Tensors", "check_like", "metadata_of", "norm", "pack", "unpack"]

Tensors = Mapping[str, NDArray[np.float32]]

_HEADER_LIMIT_BYTES = 16 * 2**20
_ALIGNMENT = 8


def pack(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """Safetensors bytes, names sorted, little-endian float32: what the safetensors library writes, in one copy."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    parts, end = [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name], "<f4").reshape(tensors[name].shape)
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        parts.append(array.reshape(-1).data.cast("B"))
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def metadata_of(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes (an adapter's configuration travels there); {} when there is none."""
    about = _header(data)[0].get("__metadata__", {})
    if not isinstance(about, dict):
        raise _unreadable(data, "its metadata is no object")
    return {str(key): str(value) for key, value in about.items()}


def unpack(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read safetensors bytes of float32 arrays. The arrays are read-only windows into `data`: nothing is copied.

    Raises:
        RoundError: not safetensors, or another number type.
    """
    header, start = _header(data)
    tensors: dict[str, NDArray[np.float32]] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if not isinstance(entry, dict) or entry.get("dtype") != "F32":
            kind = entry.get("dtype") if isinstance(entry, dict) else entry
            raise RoundError(f"{name!r} is {kind!r}; updates travel as float32.")
        shape, offsets = _whole(entry.get("shape")), _whole(entry.get("data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2:
            raise _unreadable(data, f"{name!r} has no shape and place")
        size = math.prod(shape)
        if offsets[1] - offsets[0] != 4 * size:
            raise _unreadable(data, f"{name!r} of shape {shape} has {offsets[1] - offsets[0]} bytes")
        if start + offsets[1] > len(data):
            raise _unreadable(data, "it was cut short")
        spans.append((offsets[0], offsets[1]))
        tensors[name] = np.frombuffer(data, "<f4", size, start + offsets[0]).reshape(shape)
    end = 0
    for begin, after in sorted(spans):
        if begin != end:
            raise _unreadable(data, "tensors overlap or leave gaps")
        end = after
    if start + end != len(data):
        raise _unreadable(data, "there are bytes that belong to no tensor")
    return tensors


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the numbers begin."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _HEADER_LIMIT_BYTES):
        raise _unreadable(data, "the header is cut short")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError) as error:
        raise _unreadable(data, str(error)) from error
    if not isinstance(header, dict):
        raise _unreadable(data, "the header is no object")
    return header, 8 + size


def _whole(values: Any) -> list[int] | None:
    """A list of whole numbers from 0 on, or None for anything else."""
    good = isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)
    return values if good else None


def _unreadable(data: bytes, why: str) -> RoundError:
    return RoundError(f"These {len(data):,} bytes are no safetensors ({why}). Send them again.")


def check_like(tensors: Tensors, expected: Tensors) -> None:
    """Check an update's names, shapes and values against the shared adapter that it belongs to.

    Raises:
        RoundError: other names or shapes, or values that are not finite; the message names the first difference.
    """
    if tensors.keys() != expected.keys():
        strange = min(tensors.keys() ^ expected.keys())
        raise RoundError(
            f"The update has {len(tensors)} tensors, this round's adapter {len(expected)} (first difference: "
            f"{strange!r}). Train the shared adapter that this round's plan came with."
        )
    for name, array in tensors.items():
        if array.shape != expected[name].shape:
            raise RoundError(
                f"{name!r} has shape {array.shape}, expected {expected[name].shape}. "
                "Train the shared adapter that this round's plan came with."
            )
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise RoundError(f"{name!r} holds values that are not finite (NaN or infinity). Train again, then send.")


def norm(tensors: Tensors) -> float:
    """L2 norm over all values."""
    return float(np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in tensors.values())))
