"""Aggregation rules, one file each: how a sum of updates becomes the next shared adapter."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import RoundError
from ..tensors import Tensors
from . import fedavg

__all__ = ["RULES", "aggregate"]

RULES: Mapping[str, fedavg.Rule] = {"fedavg": fedavg.aggregate}


def aggregate(rule: str, shared: Tensors, total: fedavg.Sums, weight: float) -> Tensors:
    """Apply a rule by its name to `total`, the sum of updates times weights; RoundError for an unknown name."""
    if rule not in RULES:
        raise RoundError(f"Unknown aggregation rule {rule!r}; known are {', '.join(sorted(RULES))}.")
    return RULES[rule](shared, total, weight)
