"""The host's side of one round, without I/O: envelopes in, envelopes out, and a clock that is passed in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ..errors import RoundError
from ..relay.wire import Envelope
from .clear import ClearSum
from .plan import RoundPlan
from .rules import aggregate
from .tensors import metadata_of, pack, unpack

__all__ = ["Member", "Phase", "RoundEngine", "RoundResult"]

#: An update may exceed the shared adapter's own size by this much (header padding), no more.
_SLACK_BYTES = 64 * 1024


class Phase(StrEnum):
    """Where a round stands. The phases that a sum protocol leaves empty are passed in no time."""

    ADVERTISE = "advertise"  # the plan is out; artists say contribute or skip
    UPDATE = "update"  # the roster is fixed; updates come in
    DONE = "done"  # the result is out


@dataclass
class Member:
    """What the host knows of one artist: a chosen name, a state in a word, and when it was last heard."""

    id: str
    name: str
    state: str = "joined"  # joined, contributes, skips, training, sent, dropped, left
    progress: float = 0.0
    heard_at: float = 0.0


@dataclass(frozen=True)
class RoundResult:
    """The end of a round: the new shared adapter as bytes, and whose updates it is made of."""

    plan: RoundPlan
    shared: bytes = field(repr=False)
    contributors: tuple[str, ...]
    dropped: tuple[str, ...]


class RoundEngine:
    """Runs one round for the host.

    Args:
        plan: the round's agreement; `shared_sha256` must be that of `shared`.
        shared: safetensors bytes of the shared adapter that the round starts from.
        host: the host's identity id (sender of everything that comes out).
        members: artists known so far, by id; the engine keeps their states up to date.
        clock: seconds, monotonic.

    Protocol: `open()` gives the plan; `feed()` takes each envelope and gives answers; `tick()` closes phases whose time
    is over. When `phase` is DONE, `result` holds the sum's outcome.
    """

    def __init__(
        self, plan: RoundPlan, shared: bytes, *, host: str, members: dict[str, Member], clock: Callable[[], float]
    ) -> None:
        if hashlib.sha256(shared).hexdigest() != plan.shared_sha256:
            raise RoundError("The shared adapter is not the one that the plan names (SHA-256 differs).")
        self.plan = plan
        self.members = members
        self.phase = Phase.ADVERTISE
        self.result: RoundResult | None = None
        self.roster: tuple[str, ...] = ()
        self._shared = shared
        self._tensors = unpack(shared)
        self._sum = ClearSum(self._tensors)
        self._host = host
        self._clock = clock
        self._opened_at = clock()
        self._answers: dict[str, bool] = {}

    @property
    def limit_bytes(self) -> int:
        """The most that an update's attachment may have; anything larger is refused before it is fetched."""
        return len(self._shared) + _SLACK_BYTES

    def open(self) -> list[Envelope]:
        """The plan and the shared adapter, for everybody."""
        body = {"plan": self.plan.to_body(), "plan_digest": self.plan.digest}
        return [self._envelope("plan", "all", body, {"shared": self._shared})]

    def feed(self, envelope: Envelope) -> list[Envelope]:
        """Take one envelope; what does not fit is answered with a `refuse` that says why, and changes nothing."""
        try:
            if envelope.kind not in ("hello", "note", "leave") and envelope.round != self.plan.number:
                raise RoundError(f"This message is for round {envelope.round}; round {self.plan.number} is running.")
            answers = self._take(envelope)
        except RoundError as error:
            return [self._refuse(envelope, str(error))]
        return answers + self._advance()

    def recall(self, envelope: Envelope) -> None:
        """Take back what this host itself had already said in this round, before it was restarted (read from the log).

        A roster that went out stays the roster, and a result that went out stays the result, whatever the clock says.
        """
        if envelope.sender != self._host or envelope.body.get("plan_digest") != self.plan.digest:
            return
        if envelope.kind == "roster" and self.phase is Phase.ADVERTISE:
            self._start(tuple(envelope.body["artists"]))
        elif envelope.kind == "result":
            contributors = tuple(a for a in self.roster if self._sum.has(a))
            dropped = tuple(a for a in self.roster if a not in contributors)
            self.result = RoundResult(self.plan, envelope.attachments["shared"], contributors, dropped)
            self.phase = Phase.DONE

    def tick(self) -> list[Envelope]:
        """Notice silence: start without those who did not answer, go on without those who vanished."""
        now = self._clock()
        if self.phase is Phase.UPDATE:
            for artist in self.roster:
                member = self.members[artist]
                silent = now - max(member.heard_at, self._opened_at) > self.plan.patience_s
                if silent and not self._sum.has(artist) and member.state != "dropped":
                    member.state = "dropped"
        return self._advance()

    def waiting_for(self) -> tuple[str, ...]:
        """Ids of the artists whose message the running phase still needs."""
        if self.phase is Phase.ADVERTISE:
            return tuple(m.id for m in self._present() if m.id not in self._answers)
        if self.phase is Phase.UPDATE:
            return tuple(a for a in self.roster if not self._sum.has(a) and self.members[a].state not in _GONE)
        return ()

    def _take(self, envelope: Envelope) -> list[Envelope]:
        kind, sender = envelope.kind, envelope.sender
        if kind == "hello":
            return self._hello(envelope)
        if sender not in self.members:
            raise RoundError("This artist has not said hello to the room yet.")
        member = self.members[sender]
        member.heard_at = self._clock()
        if kind == "note":
            done, total = envelope.body.get("step"), envelope.body.get("of")
            if isinstance(done, int) and isinstance(total, int) and 0 <= done <= total and total > 0:
                member.progress = done / total
                member.state = "training" if member.state in ("contributes", "dropped") else member.state
            return []
        if kind == "leave":
            member.state = "left"
            self._answers[sender] = False
            return []
        if kind in ("advertise", "update") and envelope.body.get("plan_digest") != self.plan.digest:
            raise RoundError(
                "This message was made for another plan (plan_digest differs). Read the newest plan again."
            )
        if kind == "advertise":
            return self._advertise(member, envelope)
        if kind == "update":
            return self._update(member, envelope)
        raise RoundError(f"A {kind!r} message has no place in a round with protocol {self.plan.protocol!r}.")

    def _hello(self, envelope: Envelope) -> list[Envelope]:
        name = envelope.body.get("name")
        if not isinstance(name, str) or not 1 <= len(name.strip()) <= 60:
            raise RoundError(f"The name is {name!r}; expected a text of 1 to 60 characters.")
        member = self.members.setdefault(envelope.sender, Member(envelope.sender, name.strip()))
        member.name, member.heard_at = name.strip(), self._clock()
        if member.state == "left":
            member.state = "joined"
        return []

    def _advertise(self, member: Member, envelope: Envelope) -> list[Envelope]:
        contributes = envelope.body.get("contribute")
        if not isinstance(contributes, bool):
            raise RoundError(f"contribute is {contributes!r}; expected true or false.")
        if self.phase is not Phase.ADVERTISE:
            if member.id in self.roster and contributes:
                return []  # a kernel that came back and answers again
            raise RoundError(f"Round {self.plan.number} is already under way; you take part from the next one on.")
        self._answers[member.id] = contributes
        member.state = "contributes" if contributes else "skips"
        member.progress = 0.0
        return []

    def _update(self, member: Member, envelope: Envelope) -> list[Envelope]:
        if self.phase is not Phase.UPDATE or member.id not in self.roster:
            raise RoundError(f"Round {self.plan.number} takes no update from you now; wait for the next plan.")
        if [ref.name for ref in envelope.attachment_refs] != ["update"]:
            raise RoundError("An update message carries exactly one attachment, named 'update'.")
        ref = envelope.attachment_refs[0]
        if ref.size_bytes > self.limit_bytes:
            raise RoundError(
                f"The update announces {ref.size_bytes:,} bytes; this round's limit is {self.limit_bytes:,}. "
                "Nothing was fetched."
            )
        self._sum.add(member.id, envelope.attachments["update"], ref.sha256)
        member.state, member.progress = "sent", 1.0
        return []

    def _advance(self) -> list[Envelope]:
        if self.phase is Phase.ADVERTISE:
            willing = [m.id for m in self._present() if self._answers.get(m.id)]
            late = self._clock() - self._opened_at > self.plan.join_s
            if len(willing) >= self.plan.min_artists and (late or not self.waiting_for()):
                self._start(tuple(sorted(willing)))
                body = {"plan_digest": self.plan.digest, "artists": list(self.roster)}
                return [self._envelope("roster", "all", body)]
        elif self.phase is Phase.UPDATE and not self.waiting_for():
            enough = len(self._sum) >= min(self.plan.min_artists, len(self.roster))
            return [self._close()] if enough else []
        return []

    def _start(self, roster: tuple[str, ...]) -> None:
        self.roster = roster
        self.phase = Phase.UPDATE
        for artist in roster:
            self.members.setdefault(artist, Member(artist, artist[:8])).heard_at = self._clock()

    def _close(self) -> Envelope:
        contributors = tuple(a for a in self.roster if self._sum.has(a))
        tensors = aggregate(self.plan.rule, self._tensors, self._sum.total(), len(contributors))
        dropped = tuple(a for a in self.roster if a not in contributors)
        self.phase = Phase.DONE
        body = {
            "plan_digest": self.plan.digest,
            "total": self.plan.total,
            "contributors": len(contributors),
            "dropped": len(dropped),
        }
        data = pack(tensors, metadata_of(self._shared))
        self.result = RoundResult(self.plan, data, contributors, dropped)
        return self._envelope("result", "all", body, {"shared": data})

    def _present(self) -> list[Member]:
        return [m for m in self.members.values() if m.state != "left"]

    def _refuse(self, envelope: Envelope, reason: str) -> Envelope:
        body = {"kind": envelope.kind, "reason": reason[:2000]}
        return self._envelope("refuse", envelope.sender, body)

    def _envelope(
        self, kind: str, recipient: str, body: Mapping[str, object], attachments: dict[str, bytes] | None = None
    ) -> Envelope:
        return Envelope(
            room=self.plan.room,
            round=self.plan.number,
            kind=kind,
            sender=self._host,
            recipient=recipient,
            body=dict(body),
            attachments=attachments or {},
        )


_GONE = ("dropped", "left")
