"""Rounds without I/O: the plan, the host's engine, the artist's side, and the aggregation rules."""

from .collusion_view import RelayView, Sight
from .commitments import Keeper, MemoryKeeper
from .disclosures import leaving_of, upload_bytes
from .noised_vector import promise_of, skellam_of
from .plan import DOORS, PHASES, PROTECTIONS, RoundPlan
from .roster import Person, Pins, RosterShown
from .round_client import ArtistSide, Pay, Task
from .round_server import Member, Phase, RoundEngine, RoundResult
from .simulation import Simulated, Simulation
from .strategies import DEFAULT_RULE, NOT_FROM_SUMS, RULES, SERVERS, aggregate, aggregation_error, refusal, rule_of
from .tensors import metadata_of, norm, pack, unpack
from .vector import held_of, words_of

__all__ = [
    "DEFAULT_RULE",
    "DOORS",
    "NOT_FROM_SUMS",
    "PHASES",
    "PROTECTIONS",
    "RULES",
    "SERVERS",
    "ArtistSide",
    "Keeper",
    "Member",
    "MemoryKeeper",
    "Pay",
    "Person",
    "Phase",
    "Pins",
    "RelayView",
    "RosterShown",
    "RoundEngine",
    "RoundPlan",
    "RoundResult",
    "Sight",
    "Simulated",
    "Simulation",
    "Task",
    "aggregate",
    "aggregation_error",
    "held_of",
    "leaving_of",
    "metadata_of",
    "norm",
    "pack",
    "promise_of",
    "refusal",
    "rule_of",
    "skellam_of",
    "unpack",
    "upload_bytes",
    "words_of",
]
