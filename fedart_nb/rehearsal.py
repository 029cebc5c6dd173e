"""Fill a room with sample artists from this kernel, for rehearsals and for a lone reader."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

from .art import ArtSet
from .diffusion import Backbone
from .jobs import Job
from .relay import Invite
from .session import Session

__all__ = ["rehearse"]


def rehearse(
    invite: Invite | str, samples: Sequence[str], *, backbone: Backbone | None = None, limit: int | None = None
) -> list[Job]:
    """Let one artist per sample set join the room and contribute to every round, each in a thread of this kernel.

    They share one frozen backbone and train one after another. Returns their running jobs.

    Example:
        >>> jobs = rehearse(invite, ["fluent3d", "fluent_ink"])  # doctest: +SKIP
    """
    backbone = backbone or Backbone.embedded()
    jobs = []
    for name in samples:
        folder = tempfile.mkdtemp(prefix="fedart-rehearsal-")
        session = Session(f"{ArtSet.samples()[name].title} (rehearsal)", folder=folder, backbone=backbone)
        session.art = ArtSet.sample(name, limit=limit)
        session.join(invite)
        jobs.append(Job(session.rounds(), name=f"rehearsal-{name}").start())
    return jobs
