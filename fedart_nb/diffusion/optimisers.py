"""The optimiser of adapters: AdamW, or bitsandbytes' 8-bit one; its moments as plain tensors that can be saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import MissingExtra

__all__ = ["moments_of", "optimiser_of", "restore"]

_INNER = "__bnb_optimizer_quant_state__"  # bitsandbytes keeps its moments one dictionary deeper than torch


def optimiser_of(
    groups: Sequence[Sequence[torch.nn.Parameter]], *, learning_rate: float, eight_bit: bool = False
) -> torch.optim.Optimizer:
    """AdamW without weight decay (Loshchilov & Hutter 1711.05101), over groups that may get rates of their own.

    `eight_bit` keeps the moments of tensors of 4,096 values or more in 8 bits, with a scale for each block (Dettmers et
    al. 2110.02861): 2 bytes a parameter instead of 8.

    Raises:
        MissingExtra: `eight_bit` without bitsandbytes.
    """
    parameters = [{"params": list(group)} for group in groups]
    if not eight_bit:
        on_cpu = all(p.device.type == "cpu" for group in groups for p in group)
        fused = on_cpu or None  # one call for all; elsewhere torch knows best
        return torch.optim.AdamW(parameters, learning_rate, weight_decay=0.0, fused=fused)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MissingExtra('The 8-bit optimiser needs one more library: pip install "fedart-nb[8bit]"') from error
    optimiser: torch.optim.Optimizer = AdamW8bit(parameters, lr=learning_rate, weight_decay=0.0)
    return optimiser


def moments_of(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """A snapshot that later steps do not change: {"state": {index: {slot: tensor}}, "param_groups": [...]}."""
    state = optimiser.state_dict()
    moments = {}
    for index, slots in state["state"].items():
        flat = {name: value for name, value in slots.items() if name != _INNER}
        flat |= {f"{_INNER}/{name}": value for name, value in slots.get(_INNER, {}).items()}
        moments[index] = {
            name: value.detach().clone() if torch.is_tensor(value) else torch.tensor(value)
            for name, value in flat.items()
        }
    groups = [dict(group, params=list(group["params"])) for group in state["param_groups"]]
    return {"state": moments, "param_groups": groups}


def restore(optimiser: torch.optim.Optimizer, moments: dict[str, Any]) -> None:
    """Put a snapshot back into an optimiser of the same kind over the same parameters."""
    state = {}
    for index, flat in moments["state"].items():
        inner = {name.removeprefix(f"{_INNER}/"): v for name, v in flat.items() if name.startswith(f"{_INNER}/")}
        outer = {name: v for name, v in flat.items() if not name.startswith(f"{_INNER}/")}
        state[index] = outer | {_INNER: inner, "step": int(outer["step"])} if inner else outer
    optimiser.load_state_dict({"state": state, "param_groups": moments["param_groups"]})
