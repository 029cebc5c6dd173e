"""Fill a room with sample artists from this kernel, for rehearsals and for a lone reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..art import ArtSet
from ..consent import Question
from ..diffusion import Backbone
from ..jobs import Job
from ..relay import Invite
from ..session import Session

__all__ = ["Rehearsing", "rehearse"]


class Rehearsing(NamedTuple):
    """One sample artist who takes part from this kernel: its session, and the job that follows the rounds."""

    session: Session
    job: Job

    def again(self) -> Rehearsing:
        """Follow the rounds once more: those of a closed room that went back because somebody withdrew."""
        return self._replace(job=Job(self.session.rounds(ask=_yes, confirm="anyone"), name=self.job.name).start())


def _yes(_question: Question) -> bool:
    """Sample artists say yes to whatever they are asked: their pictures are everybody's."""
    return True


def rehearse(
    invite: Invite | str, samples: Sequence[str], *, backbone: Backbone | None = None, limit: int | None = None
) -> list[Rehearsing]:
    """Let one artist per sample set join the room and contribute to every round, each in a thread of this kernel.

    Their pictures are everybody's, so they take part with whomever the list of artists holds. They share one frozen
    backbone and train one after another; their sessions are thrown away, and count in nobody's ledger.

    Example:
        >>> company = rehearse(invite, ["fluent3d", "fluent_ink"])  # doctest: +SKIP
    """
    backbone = backbone or Backbone.embedded()
    company = []
    for name in samples:
        session = Session(f"{ArtSet.samples()[name].title} (rehearsal)", backbone=backbone, throwaway=True)
        session.art = ArtSet.sample(name, limit=limit)
        session.join(invite)
        session.consent.stand()
        job = Job(session.rounds(ask=_yes, confirm="anyone"), name=f"rehearsal-{name}")
        company.append(Rehearsing(session, job.start()))
    return company
