"""Rounds without I/O: the plan, the host's engine, the artist's side, and the aggregation rules."""

from .artist import ArtistSide, Task
from .engine import Member, Phase, RoundEngine, RoundResult
from .keeper import Keeper, MemoryKeeper
from .plan import PHASES, RoundPlan
from .rules import RULES, aggregate
from .tensors import norm, pack, unpack

__all__ = [
    "PHASES",
    "RULES",
    "ArtistSide",
    "Keeper",
    "Member",
    "MemoryKeeper",
    "Phase",
    "RoundEngine",
    "RoundPlan",
    "RoundResult",
    "Task",
    "aggregate",
    "norm",
    "pack",
    "unpack",
]
