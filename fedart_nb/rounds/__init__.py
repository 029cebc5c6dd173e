"""Rounds without I/O: the plan, the host's engine, the artist's side, and the aggregation rules."""

from .artist import ArtistSide, Task
from .engine import Member, Phase, RoundEngine, RoundResult
from .keeper import Keeper, MemoryKeeper
from .plan import PHASES, RoundPlan
from .rules import RULES, aggregate
from .simulate import Simulated, Simulation
from .tensors import metadata_of, norm, pack, unpack
from .vector import words_of
from .view import RelayView, Sight

__all__ = [
    "PHASES",
    "RULES",
    "ArtistSide",
    "Keeper",
    "Member",
    "MemoryKeeper",
    "Phase",
    "RelayView",
    "RoundEngine",
    "RoundPlan",
    "RoundResult",
    "Sight",
    "Simulated",
    "Simulation",
    "Task",
    "aggregate",
    "metadata_of",
    "norm",
    "pack",
    "unpack",
    "words_of",
]
