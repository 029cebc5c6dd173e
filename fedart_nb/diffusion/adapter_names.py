"""What tensors of an adapter's file may be called and shaped, and whose file it is when it is not ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from .._system.tensor_format import TensorFile
from ..errors import AdapterError
from .cores import CORE_NAME

__all__ = ["PARTS", "check_factors", "exactly", "foreign", "modules_of"]

#: The networks that adapters belong to, and the prefix of their tensors' names.
PARTS = ("unet", "transformer")

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_DIMENSIONS = range(2, 6)
_SHOWN = 3

#: What other tools' files are known by: a part of their tensors' names, and what it says.
_OTHERS = (
    ("hada_", "a LoHa adapter (LyCORIS)"),
    ("lokr_", "a LoKr adapter (LyCORIS)"),
    ("lora_magnitude_vector", "a DoRA adapter (PEFT)"),
    ("dora_scale", "a DoRA adapter in kohya's spelling"),
    ("lora_te", "a LoRA adapter in kohya's spelling, with a part for the text encoder"),
    ("lora_unet_", "a LoRA adapter in kohya's spelling"),
    ("lora_transformer_", "a LoRA adapter in kohya's spelling"),
    ("lora_down", "a LoRA adapter in kohya's spelling"),
    (".lora.down", "a LoRA adapter of an early diffusers"),
    ("processor.", "attention processors of an early diffusers"),
    ("base_model.model.", "a LoRA adapter of PEFT"),
    ("text_encoder.", "a LoRA adapter of diffusers, with a part for the text encoder"),
    (".lora_A", "a LoRA adapter of diffusers or PEFT"),
    (".lora_B", "a LoRA adapter of diffusers or PEFT"),
    ("lora", "a LoRA adapter of another tool"),
    ("string_to_param", "a textual inversion"),
    ("emb_params", "a textual inversion"),
)


class _Config(Protocol):
    @property
    def rank(self) -> int: ...


def modules_of(tensors: Iterable[str]) -> list[str]:
    """The modules that tensors belong to, by the tensors' names, sorted.

    >>> modules_of(["conv_in.lora_A.weight", "conv_in.lora_B.weight"])
    ['conv_in']
    """
    return sorted({name.split(".lora_")[0] for name in tensors})


def exactly(modules: Sequence[str]) -> str:
    r"""A regular expression that matches these names and no others.

    >>> exactly(["conv_in", "mid.to_q"])
    'conv_in|mid\\.to_q'
    """
    return "|".join(re.escape(module) for module in modules)


def check_factors(shapes: Mapping[str, tuple[int, ...]], config: _Config, *, part: str, core: bool) -> None:
    """Check a file's tensors by name and shape alone, before any of them is read.

    Raises:
        AdapterError: what is no pair of LoRA factors (or no core) of the rank that the file says.
    """
    if part not in PARTS or not shapes:
        raise AdapterError(
            f"The adapter belongs to {part[:40]!r}; expected tensors of one of the networks {', '.join(PARTS)}."
        )
    for name, shape in shapes.items():
        shown = repr(name[:100])
        if not _NAME.fullmatch(name) or not name.startswith(f"{part}.") or ".lora_" not in name:
            raise AdapterError(f"Unexpected tensor {shown} in an adapter; expected LoRA weights of the denoiser.")
        if len(shape) not in _DIMENSIONS or 0 in shape:
            raise AdapterError(f"{shown} has the shape {shape}; expected two to five dimensions, none of them 0.")
        if core:
            if not name.endswith(CORE_NAME):
                raise AdapterError(f"Unexpected tensor {shown} beside cores; expected names that end in {CORE_NAME!r}.")
            continue
        if name.endswith(".lora_A.weight"):
            rank, other = shape[0], f"{name.removesuffix('.lora_A.weight')}.lora_B.weight"
        elif name.endswith(".lora_B.weight"):
            rank, other = shape[1], f"{name.removesuffix('.lora_B.weight')}.lora_A.weight"
        else:
            raise AdapterError(f"Unexpected tensor {shown} in an adapter; expected lora_A and lora_B of each module.")
        if rank != config.rank:
            raise AdapterError(f"{shown} has the shape {shape}, of rank {rank}; the adapter says rank {config.rank}.")
        if len(shapes.get(other, ())) != len(shape):
            raise AdapterError(f"{shown} has no {other[:100]!r} of as many dimensions beside it; the file is damaged.")


def foreign(file: TensorFile) -> str:
    """A sentence on a file that this package did not write: whose it is, and some of the names in it."""
    names = list(file.entries)
    if not names:
        return "This file holds no tensor at all. Save the adapter again."
    kind = next((what for mark, what in _OTHERS if any(mark in name for name in names)), "a file of another kind")
    some = ", ".join(repr(name[:100]) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (
        f"This is {kind}, not one that fedart-nb saved: it does not say which backbone it was made for. "
        f"Its tensors are {some}{more}. Draw with it in the tool that made it, or train one here and load that."
    )
