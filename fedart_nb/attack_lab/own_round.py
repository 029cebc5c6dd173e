"""The artist's own update: looked at before it leaves, and attacked afterwards as relay, room and kernel know it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..art import ArtSet
from ..attacks.view import ServerView
from .preflight import Finding, preflight
from .runs import Pausing, Shot

if TYPE_CHECKING:
    from ..session import Session

__all__ = ["OwnRound", "look", "own_round"]

_DECOYS = 8
_STAND_INS = ("fluent_ink", "openmoji")  # whose pictures are decoys where an artist keeps too few out of training


@dataclass(frozen=True)
class OwnRound:
    """What came of three attacks on one update: (what the attacker holds, the finding)."""

    number: int
    contributors: int
    findings: tuple[tuple[str, Finding], ...]

    def __str__(self) -> str:
        return f"Round {self.number}: " + " ".join(f"{what}: {finding}" for what, finding in self.findings)


def look(
    session: Session,
    view: ServerView,
    *,
    budget_s: float = 30.0,
    draws: int = 6,
    epsilon: float = math.inf,
    delta: float = 0.0,
    pausing: Pausing | None = None,
) -> Iterator[Shot | Finding]:
    """`preflight` with the session's own pictures, and its held-out ones as decoys (sample art where they are few).

    Example:
        >>> for event in look(session, session.sent_views()["clear"]):  # doctest: +SKIP
        ...     print(event)
    """
    art = session.art
    if art is None:
        return
    own, kept_out = art.included("train"), art.included("test")[:_DECOYS]
    pixels = [art.pixels(kept_out)] if kept_out else []
    captions = [p.caption for p in kept_out]
    if len(kept_out) < _DECOYS:
        name = next(name for name in _STAND_INS if name != art.name)
        sample = ArtSet.sample(name, limit=4 * _DECOYS, size_px=art.size_px)
        more = sample.included()[: _DECOYS - len(kept_out)]
        pixels.append(sample.pixels(more))
        captions += [p.caption for p in more]
    yield from preflight(
        view,
        session.backbone,
        own=art.pixels(own),
        own_captions=[p.caption for p in own],
        decoys=np.concatenate(pixels),
        decoy_captions=captions,
        budget_s=budget_s,
        draws=draws,
        epsilon=epsilon,
        delta=delta,
        pausing=pausing,
    )


def own_round(session: Session, *, budget_s: float = 90.0, pausing: Pausing | None = None) -> Iterator[Any]:
    """Attack the session's update in its last finished round, a third of the time for each view; `OwnRound` at last.

    Raises:
        RoundError: no such round in this kernel's lifetime.
    """
    found = []
    views = session.sent_views()
    for what, view in views.items():
        for event in look(session, view, budget_s=budget_s / len(views), pausing=pausing):
            if isinstance(event, Finding):
                found.append((what, event))
            else:
                yield event
    yield OwnRound(session.sent_round, views["the sum of all"].artists, tuple(found))
