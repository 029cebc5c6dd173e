"""An artist's side of the rounds, without I/O: envelopes in, envelopes out; training happens elsewhere."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from ..errors import RoundError, WireError
from ..relay.wire import Envelope
from .plan import RoundPlan
from .tensors import Tensors, pack, unpack

__all__ = ["ArtistSide", "Task"]


@dataclass(frozen=True)
class Task:
    """A round that waits for this artist: train from `shared` as the plan says, then `ArtistSide.submit` the update."""

    plan: RoundPlan
    shared: Tensors = field(repr=False)


class ArtistSide:
    """Follows the rounds for one artist and refuses whatever does not fit what was agreed.

    Args:
        room, host, me: room name, the host's identity id (from the invite), this artist's identity id.
        name: the name shown to the room.
        backbone_sha256: hash of the backbone in this kernel; plans for another one are refused.

    Attributes:
        plan: the newest plan, until its round is over.
        task: set when the roster holds this artist and no update was submitted yet.
        shared: bytes of the newest shared adapter, as it came with the last plan or result.
        refusals: sentences from the host about messages of ours, newest last.
    """

    protocol_understood = ("clear",)

    def __init__(self, *, room: str, host: str, me: str, name: str, backbone_sha256: str) -> None:
        self.room, self.host, self.me, self.name = room, host, me, name
        self.backbone_sha256 = backbone_sha256
        self.plan: RoundPlan | None = None
        self.task: Task | None = None
        self.shared: bytes | None = None
        self.contributors = 0
        self.rounds_done = 0
        self.closed = False
        self.refusals: list[str] = []
        self._expected_shared: str | None = None
        self._sent: set[str] = set()
        self._answered: set[str] = set()
        # A relay takes equal envelopes for one; signs of life of a restarted kernel must differ from its former ones.
        self._life = secrets.token_hex(8)

    def hello(self) -> Envelope:
        """Say who is here; again after every reconnect."""
        return self._envelope(0, "hello", {"name": self.name, "life": self._life})

    def feed(self, envelope: Envelope) -> None:
        """Take one envelope of the host.

        Raises:
            RoundError: the host's message breaks what was agreed; nothing of it was taken over.
        """
        if envelope.sender != self.host:
            return
        if envelope.kind == "plan":
            self._take_plan(envelope)
        elif envelope.kind == "roster" and self.plan and envelope.body.get("plan_digest") == self.plan.digest:
            artists = envelope.body.get("artists")
            mine = isinstance(artists, list) and self.me in artists and self.plan.digest not in self._sent
            if mine and self.shared is not None:
                self.task = Task(self.plan, unpack(self.shared))
        elif envelope.kind == "result":
            self._take_result(envelope)
        elif envelope.kind == "refuse":
            self.refusals.append(str(envelope.body.get("reason", "")))
        elif envelope.kind == "close":
            self.closed, self.task, self.plan = True, None, None

    def needs_answer(self) -> bool:
        """Whether a plan waits for `answer`."""
        return self.plan is not None and self.plan.digest not in self._answered

    def answer(self, *, contribute: bool) -> Envelope:
        """Contribute to the running plan, or skip this round. Nothing is trained or sent before this was called."""
        if self.plan is None:
            raise RoundError("There is no plan to answer; wait for the host to open a round.")
        self._answered.add(self.plan.digest)
        return self._envelope(
            self.plan.number, "advertise", {"plan_digest": self.plan.digest, "contribute": contribute}
        )

    def progress(self, step: int, of: int) -> Envelope:
        """A sign of life while training: how many steps are done, never a loss."""
        body = {"step": step, "of": of, "life": self._life}
        return self._envelope(self.plan.number if self.plan else 0, "note", body)

    def submit(self, update: Tensors) -> Envelope:
        """The update of the running task, ready to send. It leaves the kernel only when this envelope is sent."""
        if self.task is None:
            raise RoundError("No round waits for an update of this artist.")
        plan = self.task.plan
        envelope = self._envelope(plan.number, "update", {"plan_digest": plan.digest}, {"update": pack(update)})
        self._sent.add(plan.digest)
        self.task = None
        return envelope

    def leave(self) -> Envelope:
        """Leave the room; the rounds go on without this artist."""
        self.task = None
        return self._envelope(self.plan.number if self.plan else 0, "leave", {"life": self._life})

    def snapshot(self) -> dict[str, Any]:
        """JSON values from which `restore` goes on after a kernel restart (no keys, no pictures)."""
        return {"sent": sorted(self._sent), "answered": sorted(self._answered)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `snapshot`: which plans were answered and served. The room's messages arrive again anyway."""
        self._sent = set(state.get("sent", ()))
        self._answered = set(state.get("answered", ()))

    def _take_plan(self, envelope: Envelope) -> None:
        body = envelope.body.get("plan")
        plan = RoundPlan.from_body(body if isinstance(body, dict) else {})
        if plan.room != self.room or plan.number != envelope.round or plan.digest != envelope.body.get("plan_digest"):
            raise RoundError("The host's plan does not fit its envelope (room, round or digest differ).")
        if plan.backbone_sha256 != self.backbone_sha256:
            raise RoundError(
                f"The room trains the backbone {plan.backbone_sha256[:12]}…, this kernel holds "
                f"{self.backbone_sha256[:12]}…. Load the host's backbone; your updates would not fit."
            )
        if plan.protocol not in self.protocol_understood:
            raise RoundError(f"The plan wants the protocol {plan.protocol!r}; this version speaks 'clear'. Update it.")
        shared = self._attachment(envelope, "shared")
        if hashlib.sha256(shared).hexdigest() != plan.shared_sha256:
            raise RoundError("The shared adapter is not the one that the plan names. The host or relay changed it.")
        if self._expected_shared not in (None, plan.shared_sha256) and plan.number > 1:
            raise RoundError(
                "The plan starts from another shared adapter than the last result's. "
                "A host that does so could single you out; nothing was trained."
            )
        self.plan, self.shared = plan, shared
        self.task = None

    def _take_result(self, envelope: Envelope) -> None:
        if self.plan is not None and envelope.body.get("plan_digest") not in (None, self.plan.digest):
            return
        shared = self._attachment(envelope, "shared")
        unpack(shared)
        count = envelope.body.get("contributors")
        self.contributors = count if isinstance(count, int) else 0
        self.shared = shared
        self._expected_shared = hashlib.sha256(shared).hexdigest()
        self.rounds_done = envelope.round
        self.plan, self.task = None, None

    def _attachment(self, envelope: Envelope, name: str) -> bytes:
        try:
            return envelope.attachments[name]
        except KeyError:
            raise WireError(f"The {envelope.kind} message came without its attachment {name!r}.") from None

    def _envelope(
        self, number: int, kind: str, body: dict[str, Any], attachments: dict[str, bytes] | None = None
    ) -> Envelope:
        return Envelope(
            room=self.room,
            round=number,
            kind=kind,
            sender=self.me,
            recipient="host",
            body=body,
            attachments=attachments or {},
        )
