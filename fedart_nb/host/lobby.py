"""Between a room's inbox and its rounds: what artists who are not admitted say is held back, and they are told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ..errors import FedArtError
from ..events import Joined
from ..federated import Member, Phase, RoundEngine
from ..federated.roster import runs_here
from ..relay import Envelope
from .admission import MAX_GUESTS, Admission, Guest

__all__ = ["Admit", "Lobby"]

#: Asked about somebody who wants to come in: True, False (not now, nor again), or None: ask me again.
Admit = Callable[[Guest], bool | None]


class Lobby:
    """Lets messages of admitted artists through to the engine; the others' last answer waits until they are admitted.

    Sessions of the host's own process are admitted unasked: the host started them.

    Args:
        admission: who is in.
        tell: sends a note to one artist: whether they wait outside.
    """

    def __init__(self, admission: Admission, tell: Callable[[str, bool], None]) -> None:
        self.admission, self._tell = admission, tell
        self._held: dict[str, Envelope] = {}  # the newest answer to a plan, by artist
        self._refused: set[str] = set()

    def pass_on(self, envelope: Envelope, engine: RoundEngine) -> Iterator[Envelope | Guest | Joined]:
        """What of a message may be heard now, or the guest who asks with it."""
        sender, kind = envelope.sender, envelope.kind
        if kind == "hello":
            yield from self._hello(envelope, engine)
        elif self.admission.lets_in(sender):
            yield from self._entered(engine, sender)  # admitted a moment ago, from another thread
            yield envelope
        elif sender in engine.roster and engine.phase is not Phase.ADVERTISE:
            yield envelope  # removed, but the round goes to its end
        elif kind == "leave":
            self._held.pop(sender, None)
            self.admission.forget_guest(sender)
        elif kind == "advertise" and (sender in self._held or len(self._held) < MAX_GUESTS):
            self._held[sender] = envelope

    def step(self, engine: RoundEngine, admit: Admit | None) -> Iterator[Envelope | Guest | Joined]:
        """Ask about guests, and follow what was decided since: answers of who is in now, and nobody who was removed."""
        for guest in self.admission.guests if admit is not None else ():
            if guest.id not in self._refused and (answer := admit(guest) if admit else None) is not None:
                self.admission.admit(guest) if answer else self._refused.add(guest.id)
        for artist in self.admission.admitted:
            yield from self._entered(engine, artist)
            if (held := self._held.pop(artist, None)) is not None:
                yield held
        settled = engine.phase in (Phase.ADVERTISE, Phase.DONE, Phase.ABORTED)
        for artist in list(engine.members) if settled else ():
            if self.admission.was_removed(artist):
                del engine.members[artist]
                self._tell(artist, True)

    def _entered(self, engine: RoundEngine, artist: str) -> Iterator[Joined]:
        """Make an admitted artist a member of the room, and tell them; nothing where they are one."""
        if artist not in engine.members and (name := self.admission.admitted.get(artist)) is not None:
            engine.members[artist] = Member(artist, name, heard_at=time.monotonic())
            self._tell(artist, False)
            yield Joined(engine.plan.room, name, len(engine.members))

    def _hello(self, envelope: Envelope, engine: RoundEngine) -> Iterator[Envelope | Guest | Joined]:
        name, proof, sender = envelope.body.get("name"), envelope.body.get("proof"), envelope.sender
        try:
            is_in = self.admission.asks(
                sender,
                name if isinstance(name, str) else "",
                is_open=engine.plan.door == "open",
                proof=proof if isinstance(proof, str) else "",
                mine=runs_here(sender),
            )
        except FedArtError:
            yield envelope  # the engine refuses the name, and says why
            return
        if is_in:  # under the name that the host has seen
            yield Envelope(
                room=envelope.room,
                round=envelope.round,
                kind=envelope.kind,
                sender=sender,
                recipient=envelope.recipient,
                body={**envelope.body, "name": self.admission.admitted[sender]},
            )
            return
        self._tell(sender, True)
        yield from (guest for guest in self.admission.guests if guest.id == sender)
