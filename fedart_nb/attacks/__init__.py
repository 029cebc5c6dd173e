"""Attacks on updates, each given a `ServerView` alone and scored by somebody else; light to import.

Every attack is a generator: `attack(view, backbone, *, evaluations=..., budget_s=...)` yields `Frame`s, and ends with
one `Outcome`. Closing it stops it, and leaves the backbone as it was. They compute in float32 on the public backbone.
`load(name)` gives one by its name in `threat.ATTACKS`; importing this package loads no torch.

    view       what was seen and is known             threat     who x sees x knows, and what follows
    frames     what an attack yields                  scoring    the truth, and how near an attack came
    victim     the artist's own training, for a lesson or benchmark
    opened     the public model, ready for gradients of gradients
    bounds     what noise promises, in closed form
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module

from ..errors import AttackError
from .outcomes import Clock, Frame, Outcome
from .threat import ATTACKS, BY_TRIES, KNOWS, SEES, WHO, ThreatModel
from .view import Knowledge, ServerView

__all__ = [
    "ATTACKS",
    "BY_TRIES",
    "KNOWS",
    "SEES",
    "WHO",
    "Clock",
    "Frame",
    "Knowledge",
    "Outcome",
    "ServerView",
    "ThreatModel",
    "load",
]

_HOMES = {"imprint": "malicious", "forked": "malicious"}


def load(name: str) -> Callable[..., Iterator[Frame | Outcome]]:
    """The attack of that name; loads torch.

    Raises:
        AttackError: there is no such attack.

    Example:
        >>> attack = load("identify")  # doctest: +SKIP
        >>> for event in attack(view, backbone):  # doctest: +SKIP
        ...     print(event)
    """
    if name not in ATTACKS:
        raise AttackError(f"There is no attack {name!r}; known are {', '.join(ATTACKS)}.")
    found: Callable[..., Iterator[Frame | Outcome]] = getattr(
        import_module(f"{__name__}.{_HOMES.get(name, name)}"), name
    )
    return found
