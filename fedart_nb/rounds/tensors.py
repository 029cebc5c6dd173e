"""Named float32 arrays on the wire: safetensors bytes, checked against the shapes that the round expects."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import RoundError

__all__ = ["Tensors", "check_like", "metadata_of", "norm", "pack", "unpack"]

Tensors = Mapping[str, NDArray[np.float32]]


def pack(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """Safetensors bytes, names sorted, little-endian float32."""
    named = {name: np.ascontiguousarray(tensors[name], "<f4") for name in sorted(tensors)}
    return save(named, metadata=dict(metadata) if metadata else None)


def metadata_of(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes (an adapter's configuration travels there); {} when there is none."""
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return {str(key): str(value) for key, value in header.get("__metadata__", {}).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise RoundError(f"These {len(data):,} bytes are no safetensors ({error}).") from error


def unpack(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read safetensors bytes of float32 arrays.

    Raises:
        RoundError: not safetensors, or another number type.
    """
    try:
        tensors = load(data)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise RoundError(f"These {len(data):,} bytes are no safetensors ({error}). Send the update again.") from error
    for name, array in tensors.items():
        if array.dtype != np.float32:
            raise RoundError(f"{name!r} is {array.dtype}; updates travel as float32.")
    return dict(tensors)


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
        if not np.isfinite(array).all():
            raise RoundError(f"{name!r} holds values that are not finite (NaN or infinity). Train again, then send.")


def norm(tensors: Tensors) -> float:
    """L2 norm over all values."""
    return float(np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in tensors.values())))
