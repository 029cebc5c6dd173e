"""Rounds without I/O: the plan, the host's engine, the artist's side, and the aggregation rules."""

from .artist import ArtistSide, Pay, Task
from .engine import Member, Phase, RoundEngine, RoundResult
from .keeper import Keeper, MemoryKeeper
from .noised import promise_of, skellam_of
from .plan import PHASES, PROTECTIONS, RoundPlan
from .rules import RULES, aggregate
from .simulate import Simulated, Simulation
from .tensors import metadata_of, norm, pack, unpack
from .vector import words_of
from .view import RelayView, Sight

__all__ = [
    "PHASES",
    "PROTECTIONS",
    "RULES",
    "ArtistSide",
    "Keeper",
    "Member",
    "MemoryKeeper",
    "Pay",
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
    "promise_of",
    "skellam_of",
    "unpack",
    "words_of",
]
