"""Rounds without I/O: the plan, the host's engine, the artist's side, and the aggregation rules."""

from .artist import ArtistSide, Task
from .engine import Member, Phase, RoundEngine, RoundResult
from .plan import PHASES, RoundPlan
from .rules import RULES, aggregate
from .tensors import norm, pack, unpack, unpack_like

__all__ = [
    "PHASES",
    "RULES",
    "ArtistSide",
    "Member",
    "Phase",
    "RoundEngine",
    "RoundPlan",
    "RoundResult",
    "Task",
    "aggregate",
    "norm",
    "pack",
    "unpack",
    "unpack_like",
]
