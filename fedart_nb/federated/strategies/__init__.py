"""Aggregation rules, one file each: how a sum of updates becomes the next shared adapter.

Rooms see sums alone, one a round. So every rule here is made of one sum; those in `NOT_FROM_SUMS` cannot be, and plans
that ask for them are refused with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import RoundError
from ..tensors import Tensors
from . import bfirst, dense, fedavg, fedsb, fedsvd, ffa, rolora
from .fedavg import aggregation_error
from .server_optimizer import SERVERS, server_step
from .strategy import Factors, Rule, Sums

__all__ = [
    "DEFAULT_RULE",
    "NOT_FROM_SUMS",
    "RULES",
    "SERVERS",
    "Factors",
    "Rule",
    "Sums",
    "aggregate",
    "aggregation_error",
    "refusal",
    "rule_of",
    "server_step",
]

RULES: Mapping[str, Rule] = {m.RULE.name: m.RULE for m in (bfirst, rolora, fedsvd, ffa, fedsb, fedavg, dense)}

#: What rooms follow unless told otherwise; chosen by `benchmarks/quality.py`.
DEFAULT_RULE = "bfirst"

#: Published rules that no room here can follow, and why.
NOT_FROM_SUMS: Mapping[str, str] = {
    "flora": "it stacks every artist's own A and B (Wang et al. 2409.05976), and rooms see their sum alone",
    "fedex": "its residual needs every artist's own A and B (Singhal et al. 2410.09432); 'dense' sums the products",
    "lora-fair": "its correction needs every artist's own A and B (Bian et al. 2411.14961); 'rolora' is exact",
    "fedask": "it takes two sums a round (2507.09990), and a room makes one; 'fedsvd' takes one",
}


def rule_of(name: str) -> Rule:
    """The rule of a name; RoundError for an unknown one, or one that needs more than a sum, with the reason."""
    if name in NOT_FROM_SUMS:
        raise RoundError(f"The rule {name!r} is impossible under secure aggregation: {NOT_FROM_SUMS[name]}.")
    if name not in RULES:
        raise RoundError(f"Unknown aggregation rule {name!r}; known are {', '.join(sorted(RULES))}.")
    return RULES[name]


def refusal(rule: str, *, server: str = "average", weighting: str = "equal", noise: str = "") -> str:
    """Why a rule, an optimiser of the host, a weighting and noise do not go together, or "" where they do.

    `noise`: "" for none, "picture" where artists noise their training, "artist" where the sum is noised.

    >>> refusal("rolora", server="momentum")
    ''
    """
    try:
        chosen = rule_of(rule)
    except RoundError as error:
        return str(error)
    if server not in SERVERS:
        return f"Unknown optimiser of the host {server!r}; known are {', '.join(SERVERS)}."
    if chosen.refactors and server != "average":
        return (
            f"The rule {rule!r} makes new factors every round, so {server!r} would add up steps that belong to "
            "different factors. Take the server 'average', or the rule 'rolora'."
        )
    if noise == "artist" and chosen.no_artist_noise:
        return f"The rule {rule!r} does not go with noise on whole artists: {chosen.no_artist_noise}. Take 'fedsvd'."
    if noise and weighting == "loss":
        return (
            "The plan weights artists by their losses, which depend on their pictures and which no noise covers. Take "
            "equal weights where noise is to protect."
        )
    return ""


def aggregate(rule: str, shared: Tensors, total: Sums, weight: float) -> Tensors:
    """Apply a rule by its name to `total`, the sum of weights times what was sent; RoundError for an unknown name."""
    return rule_of(rule).aggregate(shared, total, weight)
