"""Named float32 arrays on the wire: safetensors bytes, checked against the shapes that the round expects."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._system.tensor_format import DamagedTensors, TensorFile
from ..errors import RoundError

__all__ = ["Tensors", "check_like", "metadata_of", "norm", "pack", "unpack", "unpack_adapter"]

Tensors = Mapping[str, NDArray[np.float32]]

_ALIGNMENT = 8
_DIMENSIONS = range(2, 6)
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")


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
    return _opened(data).metadata


def unpack(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read safetensors bytes of float32 arrays. The arrays are read-only windows into `data`: nothing is copied.

    Raises:
        RoundError: not safetensors, or another number type.
    """
    file = _opened(data)
    for name, entry in file.entries.items():
        if entry.dtype != "F32":
            raise RoundError(f"{name[:100]!r} is {entry.dtype!r}; updates travel as float32.")
    return {name: file.numbers(name) for name in file.entries}


def unpack_adapter(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Read a shared adapter that somebody else sent: `unpack`, and every LoRA factor is one by its name and shape.

    Raises:
        RoundError: names, dimensions or values that no adapter has. Nothing of it was taken over.
    """
    tensors = unpack(data)
    for name, array in tensors.items():
        if reason := _why_no_factor(name, array, tensors):
            raise RoundError(f"The shared adapter's {name[:100]!r} {reason}. The host or relay changed it; ask again.")
    return tensors


def _why_no_factor(name: str, array: NDArray[np.float32], tensors: Tensors) -> str:
    """What a tensor of an adapter has that none may have, or "". Simulations average any tensors: only LoRA's are."""
    if ".lora_" not in name:
        return ""
    if not _NAME.fullmatch(name):
        return "has a name that no module of a network has"
    if array.ndim not in _DIMENSIONS or not array.size:
        return f"has the shape {array.shape}; expected two to five dimensions, none of them 0"
    if not (np.isfinite(array.min()) and np.isfinite(array.max())):
        return "holds values that are not finite"
    for mine, other in (("A", "B"), ("B", "A")):
        module = name.removesuffix(f".lora_{mine}.weight")
        if module == name:
            continue
        pair = tensors.get(f"{module}.lora_{other}.weight")
        if pair is None:
            return f"has no lora_{other} beside it"
        if pair.ndim != array.ndim:
            return f"and its lora_{other} have {array.ndim} and {pair.ndim} dimensions"
        if mine == "A" and pair.shape[1] != array.shape[0]:
            return f"has the rank {array.shape[0]}, its lora_B {pair.shape[1]}"
    return ""


def _opened(data: bytes) -> TensorFile:
    try:
        return TensorFile(data)
    except DamagedTensors as error:
        raise RoundError(f"These {len(data):,} bytes are no safetensors ({error}). Send them again.") from error


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
