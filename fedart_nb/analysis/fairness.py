"""Who gains from a room: your own gain, what your part is worth, and of the others the sums alone.

Everything is measured in this kernel on losses, in the unit of the backbone's training loss; nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from ..art import ArtSet
from ..diffusion import Adapter, Conditioning, LatentSet, cache_latents, denoising_loss
from ..errors import RoundError, TrainingError
from ..events import Note
from ..federated.data_valuation import leave_one_out
from ..federated.gains import Gains
from ..session import Session

__all__ = ["PUBLIC", "Fairness", "fairness"]

#: Sample artists whose held-out pictures stand for everybody else's.
PUBLIC = ("lorelei", "gameicons", "fluent3d", "rollandin")
_UNASKED = "How gains spread over the room is not known: the host did not ask, or fewer than five take part."
_EACH = 8
_SMALL = 5e-4  # differences below it are within what other noise would change


@dataclass(frozen=True)
class Fairness:
    """What an artist gets and gives.

    Attributes:
        bare, shared: losses on the artist's own held-out pictures of the backbone and with the shared adapter.
        personal: with the personal adapter on top, or None.
        without: with the shared adapter less one's own updates, or None; why_not: the reason.
        public: losses (bare, shared, without or None) on sample artists' held-out pictures, which nobody trained on.
        room: sums over the room, if its plan asks for them.
    """

    bare: float
    shared: float
    personal: float | None
    without: float | None
    public: tuple[float, float, float | None]
    why_not: str = ""
    room: Gains | None = None

    @property
    def gain(self) -> float:
        """How far the shared adapter lowers the loss on one's own held-out pictures."""
        return self.bare - self.shared

    @property
    def worth_to_me(self) -> float | None:
        """Leave-one-out on one's own held-out pictures: what one's own updates do for them."""
        return None if self.without is None else leave_one_out(self.bare - self.shared, self.bare - self.without)

    @property
    def worth_to_others(self) -> float | None:
        """Leave-one-out on pictures in other hands."""
        bare, shared, without = self.public
        return None if without is None else leave_one_out(bare - shared, bare - without)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same for a person."""
        told = [f"Your own held-out pictures: the shared adapter {_moves(self.gain)}."]
        if self.personal is not None:
            told.append(
                f"With your personal adapter on top: {_moves(self.bare - self.personal)}, from the backbone on."
            )
        if self.worth_to_me is not None and self.worth_to_others is not None:
            told.append(
                f"Your updates in it: on your own pictures they {_does(self.worth_to_me)}, on pictures in other hands "
                f"they {_does(self.worth_to_others)}."
            )
        else:
            told.append(f"What your updates do in it is not known here. {self.why_not}")
        told.append(f"The room: {self.room}." if self.room else _UNASKED)
        return tuple(told)

    def __str__(self) -> str:
        return " ".join(self.sentences)


def _moves(gain: float) -> str:
    if abs(gain) < _SMALL:
        return f"changes the loss by less than {_SMALL}"
    return f"{'lowers' if gain > 0 else 'raises'} the loss by {abs(gain):.4f}"


def _does(worth: float) -> str:
    if abs(worth) < _SMALL:
        return f"change the loss by less than {_SMALL}"
    return f"{'lower' if worth > 0 else 'raise'} the loss by {abs(worth):.4f}"


def fairness(session: Session, *, public: Sequence[str] = PUBLIC) -> Iterator[Note | Fairness]:
    """Measure what a session gains and gives, about a minute: notes on the way, and the `Fairness` at last.

    Args:
        public: sample artists whose held-out pictures judge for everybody else.

    Raises:
        TrainingError: no shared adapter yet, or no held-out pictures.

    Example:
        >>> for event in fairness(session):  # doctest: +SKIP
        ...     print(event)
    """
    if session.shared is None:
        raise TrainingError(
            "There is no shared adapter yet, so nobody has gained anything. Take part in a round first."
        )
    yield Note("Judging the backbone and the adapters on your held-out pictures")
    bare = session.held_out_loss(shared=0, personal=0)
    shared = session.held_out_loss(personal=0)
    if bare is None or shared is None:
        raise TrainingError("None of your pictures is held out. Give session.art a test split, or add pictures.")
    personal = session.held_out_loss() if session.personal is not None else None
    rest, why_not = None, ""
    try:
        rest = session.rest_of_world()
    except RoundError as error:
        why_not = str(error)
    without = _loss(session, session.latents("test"), rest) if rest is not None else None
    yield Note("Judging them on pictures in other hands")
    judges = _public(session, public)
    losses = (denoising_loss(session.backbone, judges), _loss(session, judges, session.shared))
    others = _loss(session, judges, rest) if rest is not None else None
    yield Fairness(bare, shared, personal, without, (*losses, others), why_not, session.room_gains)


def _loss(session: Session, data: LatentSet, adapter: Adapter) -> float:
    return denoising_loss(session.backbone, data, [(adapter, 1.0)])


def _public(session: Session, names: Sequence[str]) -> LatentSet:
    size = session.backbone.size_px
    sets = [cache_latents(session.backbone, ArtSet.sample(name, size_px=size), "test") for name in names]
    return LatentSet(
        torch.cat([one.latents[:_EACH] for one in sets]),
        Conditioning.cat([one.embeddings[:_EACH] for one in sets]),
        sets[0].empty,
        tuple(i for one in sets for i in one.ids[:_EACH]),
    )
