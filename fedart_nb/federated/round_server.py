"""The host's side of one attempt of one round, without I/O: envelopes in, envelopes out, and a clock passed in.

It sees masked vectors and their sum, never a single update: see `fedart_nb.secagg`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from .._system.names import checked_name
from ..crypto.identity import Identity
from ..errors import FedArtError, RoundError, SecAggError
from ..relay.wire import Envelope
from ..secagg.server import SecAggServer
from .disclosures import MESSAGE_BYTES
from .liveness import Pace
from .payload import bytes_in, text_of
from .plan import RoundPlan
from .roster import names_for
from .strategies import aggregate, server_step
from .tensors import metadata_of, pack, unpack
from .vector import layout, open_sum, sent_like

__all__ = ["Member", "Phase", "RoundEngine", "RoundResult"]

_GONE = ("dropped", "declined", "left")
_GRACE_S = 3.0  # signatures are made in no time: whoever is slower is not waited for, if the others are enough


class Phase(StrEnum):
    """Where a round stands, in order; what it waits for in each."""

    ADVERTISE = "advertise"  # the plan is out; artists say contribute, with their keys, or skip
    SHARE = "share"  # the roster is fixed; sealed shares come in
    UPDATE = "update"  # shares are handed out; artists train; masked vectors come in
    CONSISTENCY = "consistency"  # it is fixed whose vectors count; signatures over it come in
    UNMASK = "unmask"  # the signatures are handed out; shares come in
    DONE = "done"  # the result is out
    ABORTED = "aborted"  # too few artists are left; the protocol unmasked nothing


@dataclass
class Member:
    """What the host knows of one artist: a chosen name, a state in a word, and when it was last heard."""

    id: str
    name: str
    state: str = "joined"  # joined, contributes, skips, asks, training, sent, dropped, declined, left
    progress: float = 0.0
    heard_at: float = 0.0


@dataclass(frozen=True)
class RoundResult:
    """The end of a round: the new shared adapter as bytes, and whose updates it is made of.

    `pictures` is how many pictures they trained on and `clipped` how many values were clipped, all together; both are 0
    where noise on whole artists covers the sum, and they are not told. `metrics` are means over them. `state` is that
    of the host's optimiser, for the next round's engine.
    """

    plan: RoundPlan
    shared: bytes = field(repr=False)
    contributors: tuple[str, ...]
    dropped: tuple[str, ...]
    pictures: int
    clipped: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    state: bytes = field(default=b"", repr=False)


class RoundEngine:
    """Runs one attempt of one round for the host.

    Args:
        plan: the round's agreement; `shared_sha256` must be that of `shared`.
        shared: safetensors bytes of the shared adapter that the round starts from.
        host: the host's identity; it signs what goes into the secure sum.
        members: artists known so far, by id; the engine keeps their states up to date.
        clock: seconds, monotonic.
        said: this host's own envelopes of this plan, read from the log after a restart. What was decided then is
            decided again, whatever the clock says, so that nobody ever hears two different things.
        because: why the attempt before ended, for the artists.
        withdrawn: signed facts of the artists for whom the room went back (`rounds.rewinding`), shown to everybody.
        state: `RoundResult.state` of the round before. The same log and the same state give the same result.

    Protocol: `open()` gives the plan; `feed()` takes each envelope and gives answers; `tick()` closes phases whose time
    is over. When `phase` is DONE, `result` holds the outcome; when it is ABORTED, `reason` says why, and the next
    attempt needs a plan of its own.
    """

    def __init__(
        self,
        plan: RoundPlan,
        shared: bytes,
        *,
        host: Identity,
        members: dict[str, Member],
        clock: Callable[[], float],
        said: Iterable[Envelope] = (),
        because: str = "",
        state: bytes = b"",
        withdrawn: Sequence[Mapping[str, str]] = (),
    ) -> None:
        if hashlib.sha256(shared).hexdigest() != plan.shared_sha256:
            raise RoundError("The shared adapter is not the one that the plan names (SHA-256 differs).")
        if plan.host_key != host.public_key.hex():
            raise RoundError("The plan names another host's key than that of this host.")
        self.plan = plan
        self.members = members
        self.phase = Phase.ADVERTISE
        self.result: RoundResult | None = None
        self.reason = ""
        self.roster: tuple[str, ...] = ()
        self._because = because
        self._state = state
        self._withdrawn = withdrawn
        self._shared = shared
        self._tensors = unpack(shared)
        self._words = layout(plan, self._tensors, plan.min_artists).size
        self._sum = SecAggServer(host, plan.binding(shared), self._words, degree=plan.degree)
        self._host = host
        self._clock = clock
        self._opened_at = clock()
        self._answers: dict[str, bool] = {}
        self._paces: dict[str, Pace] = {}
        self._gave_up: set[str] = set()
        self._decided: dict[str, tuple[str, ...]] = {}
        self._vectors: dict[str, str] = {}  # checksum of the one masked vector that is looked at, by artist
        for e in said:
            if e.sender == host.id and e.body.get("plan_digest") == plan.digest:
                self._decided |= {kind: tuple(e.body[key]) for kind, key in _LISTS.items() if key in e.body}

    @property
    def limit_bytes(self) -> int:
        """What an update's attachment has, to the byte; anything larger is refused before it is fetched."""
        return 4 * self._words + MESSAGE_BYTES

    def wants(self, envelope: Envelope) -> bool:
        """Whether to fetch this message's attachment: it is the first update of a roster member in this attempt.

        Checked on the signed envelope alone, so that nobody makes a host download what it will not use.
        """
        return (
            envelope.kind == "update"
            and self.phase is Phase.UPDATE
            and envelope.sender in self.roster
            and envelope.sender not in self._vectors
            and envelope.round == self.plan.number
            and envelope.body.get("plan_digest") == self.plan.digest
            and [(ref.name, ref.size_bytes) for ref in envelope.attachment_refs] == [("update", self.limit_bytes)]
            and not self._too_late("update", envelope.sender)
        )

    def open(self) -> list[Envelope]:
        """The plan and the shared adapter, for everybody."""
        body: dict[str, object] = {"plan": self.plan.to_body(), "plan_digest": self.plan.digest}
        if self._withdrawn:
            body["withdrawn"] = [dict(fact) for fact in self._withdrawn]
        if self._because:
            body["because"] = self._because[:500]
        return [self._envelope("plan", "all", body, {"shared": self._shared})]

    def feed(self, envelope: Envelope) -> list[Envelope]:
        """Take one envelope; what does not fit is answered with a `refuse` that says why, and changes nothing."""
        if envelope.kind in _FLEETING and envelope.body.get("plan_digest") != self.plan.digest:
            return self._advance()  # of an attempt that went on, or ended, without it
        try:
            if envelope.kind not in ("hello", "note", "leave") and envelope.round != self.plan.number:
                raise RoundError(f"This message is for round {envelope.round}; round {self.plan.number} is running.")
            self._take(envelope)
        except (RoundError, SecAggError) as error:
            return [self._refuse(envelope, str(error)), *self._advance()]
        return self._advance()

    def tick(self) -> list[Envelope]:
        """Notice silence: start without those who did not answer, go on without those who vanished."""
        now = self._clock()
        if self.phase not in (Phase.ADVERTISE, Phase.DONE, Phase.ABORTED):
            for artist in self._awaited():
                member = self.members[artist]
                silent_s = now - max(member.heard_at, self._opened_at)
                if silent_s > self.patience_with(artist) and member.state != "dropped":
                    member.state = "dropped"
        return self._advance()

    def excuse(self) -> None:
        """Nobody could be heard: the relay was away. Everybody's silence counts from now."""
        now = self._clock()
        for member in self.members.values():
            member.heard_at = now

    def patient_s(self) -> float:
        """Seconds after which `tick` may change something, if nobody says anything until then; infinity: never."""
        now, plan = self._clock(), self.plan
        if self.phase is Phase.ADVERTISE:
            ends = [self._opened_at + plan.join_s] if len(self._willing()) >= plan.min_artists else []
        else:
            ends = [
                max(self.members[artist].heard_at, self._opened_at) + self.patience_with(artist)
                for artist in self.waiting_for()
            ]
            if self.phase is Phase.CONSISTENCY and self._sum.has_quorum():
                ends.append(self._opened_at + _GRACE_S)
        return max(0.0, min(ends) - now) if ends else math.inf

    def holds(self, artist: str) -> bool:
        """Whether a masked update of this artist is in the running attempt's sum, or may come to be."""
        return artist in self._sum.heard("masked")

    @property
    def willing(self) -> int:
        """How many artists said that they contribute."""
        return len(self._willing())

    def patience_with(self, artist: str) -> float:
        """For how many seconds of silence an artist is waited for: the plan's, or longer where their steps are slow."""
        pace = self._paces.get(artist)
        return pace.patience_s if pace is not None else self.plan.patience_s

    def waiting_for(self) -> tuple[str, ...]:
        """Ids of the artists whose message the running phase still needs."""
        if self.phase is Phase.ADVERTISE:
            return tuple(m.id for m in self._present() if m.id not in self._answers)
        return tuple(a for a in self._awaited() if self.members[a].state not in _GONE)

    # --- what comes in ---

    def _take(self, envelope: Envelope) -> None:
        kind, sender = envelope.kind, envelope.sender
        if kind == "hello":
            self._hello(envelope)
            return
        if sender not in self.members:
            raise RoundError("This artist has not said hello to the room yet.")
        member = self.members[sender]
        member.heard_at = self._clock()
        if kind == "note":
            self._note(member, envelope)
            return
        if kind == "leave":
            member.state = "left"
            self._answers[sender] = False
            return
        if kind not in _TAKEN:
            raise RoundError(f"A {kind!r} message of an artist has no place in a round.")
        if envelope.body.get("plan_digest") != self.plan.digest:
            raise RoundError(
                "This message was made for another plan (plan_digest differs). Read the newest plan again."
            )
        if kind == "advertise":
            self._advertise(member, envelope)
        elif kind == "update":
            self._update(member, envelope)
        else:
            take = {"share": self._sum.share, "consistency": self._sum.confirm, "unmask": self._sum.unmask}[kind]
            if self.phase not in (Phase.DONE, Phase.ABORTED) and not self._too_late(kind, sender):
                take(sender, bytes_in(envelope))
                member.state = "sent" if kind in ("consistency", "unmask") else "contributes"

    def _note(self, member: Member, envelope: Envelope) -> None:
        """A sign of life, or a word that no update comes after all."""
        if envelope.body.get("gives_up") is True:
            if envelope.body.get("plan_digest") == self.plan.digest and member.id not in self._sum.heard("masked"):
                self._gave_up.add(member.id)
                self._answers[member.id] = False
                member.state = "skips" if self.phase is Phase.ADVERTISE else "dropped"
            return
        if self._about_roster(member, envelope):
            return
        done, total = envelope.body.get("step"), envelope.body.get("of")
        if isinstance(done, int) and isinstance(total, int) and 0 <= done <= total and total > 0:
            member.progress = done / total
            self._paces.setdefault(member.id, Pace(self.plan.patience_s)).heard(member.heard_at, done)
            trains = member.state in ("contributes", "dropped") and member.id not in self._gave_up
            member.state = "training" if trains else member.state

    def _about_roster(self, member: Member, envelope: Envelope) -> bool:
        """Whether an artist says that the list of artists is looked at, or not taken."""
        said = {state for name, state in _OF_ROSTER.items() if envelope.body.get(name) is True}
        if not said or envelope.body.get("plan_digest") != self.plan.digest:
            return bool(said)
        if self.phase is Phase.SHARE and member.id not in self._sum.heard("share"):
            member.state = said.pop()
        return True

    def _hello(self, envelope: Envelope) -> None:
        try:
            name = checked_name(envelope.body.get("name"))
        except FedArtError as error:
            raise RoundError(str(error)) from error
        member = self.members.setdefault(envelope.sender, Member(envelope.sender, name))
        member.name, member.heard_at = name, self._clock()
        if member.state == "left":
            member.state = "joined"
            self._answers.pop(member.id, None)  # the no was said with leaving

    def _advertise(self, member: Member, envelope: Envelope) -> None:
        contributes = envelope.body.get("contribute")
        if not isinstance(contributes, bool):
            raise RoundError(f"contribute is {contributes!r}; expected true or false.")
        if self.phase is not Phase.ADVERTISE:
            if member.id in self.roster and contributes:
                return  # a kernel that came back and answers again
            raise RoundError(f"Round {self.plan.number} is already under way; you take part from the next one on.")
        if contributes:
            self._sum.advertise(member.id, bytes_in(envelope))
        self._answers[member.id] = contributes
        member.state = "contributes" if contributes else "skips"
        member.progress = 0.0

    def _update(self, member: Member, envelope: Envelope) -> None:
        if self.phase is not Phase.UPDATE or member.id not in self.roster:
            if member.id in self._sum.heard("masked"):
                return  # a kernel that came back and sends the same again
            raise RoundError(f"Round {self.plan.number} takes no update from you now; wait for the next plan.")
        if [ref.name for ref in envelope.attachment_refs] != ["update"]:
            raise RoundError("An update message carries exactly one attachment, named 'update'.")
        ref = envelope.attachment_refs[0]
        if ref.size_bytes != self.limit_bytes:
            raise RoundError(
                f"The update announces {ref.size_bytes:,} bytes; in this round it has {self.limit_bytes:,}. "
                "Nothing was fetched."
            )
        if self._too_late("update", member.id):
            return
        if (before := self._vectors.get(member.id)) is not None:
            if before == ref.sha256:
                return  # a kernel that came back and sends the same again
            raise RoundError("A second, different update of yours arrived in this attempt. Nothing was fetched.")
        if "update" not in envelope.attachments:
            raise RoundError("The update's attachment is not there. Send it again.")
        self._vectors[member.id] = ref.sha256
        self._sum.masked(member.id, envelope.attachments["update"])
        member.state, member.progress = "sent", 1.0

    def _too_late(self, kind: str, artist: str) -> bool:
        """Whether it was decided, before a restart, to go on without this message."""
        decided = self._decided.get(_CLOSED_BY[kind]) if kind in _CLOSED_BY else None
        return decided is not None and artist not in decided

    # --- what goes out ---

    def _advance(self) -> list[Envelope]:
        """Close every phase that can be closed; each closing may allow the next one."""
        out: list[Envelope] = []
        try:
            while closing := self._closing():
                out += closing()
        except SecAggError as error:
            self.phase, self.reason = Phase.ABORTED, str(error)
        return out

    def _closing(self) -> Callable[[], list[Envelope]] | None:
        kind, closing = {
            Phase.ADVERTISE: ("roster", self._start),
            Phase.SHARE: ("share", self._hand_out),
            Phase.UPDATE: ("consistency", self._count),
            Phase.CONSISTENCY: ("unmask", self._show_signatures),
            Phase.UNMASK: ("result", self._close),
        }.get(self.phase, ("", None))
        if closing is None:
            return None
        decided = self._decided.get(kind)
        if decided is not None:
            return closing if set(decided) <= self._heard() else None
        return closing if self._ripe() else None

    def _ripe(self) -> bool:
        """Whether the running phase has what it needs, or nobody is left to wait for."""
        if self.phase is Phase.ADVERTISE:
            late = self._clock() - self._opened_at > self.plan.join_s
            return len(self._willing()) >= self.plan.min_artists and (late or not self.waiting_for())
        if self.phase is Phase.UNMASK and self._sum.enough():
            return True
        if self.phase is Phase.CONSISTENCY and self._clock() - self._opened_at > _GRACE_S and self._sum.has_quorum():
            return True
        return not self.waiting_for()

    def _start(self) -> list[Envelope]:
        self.roster = self._decided.get("roster", self._willing())
        data = self._sum.roster(self.roster)
        self._go_to(Phase.SHARE)
        for artist in self.roster:
            self.members.setdefault(artist, Member(artist, artist[:8])).heard_at = self._clock()
        names = names_for({artist: self.members[artist].name for artist in self.roster})
        told = self._said("roster", self.roster, data)
        return [replace(told, body=told.body | {"names": names})]

    def _hand_out(self) -> list[Envelope]:
        dealers = self._decided.get("share", self._counted())
        deliveries = self._sum.deliveries(dealers)
        self._go_to(Phase.UPDATE)
        # What it says to single artists, a restarted host does not find in its inbox: a word to itself comes first.
        mine = self._envelope("note", "host", {"plan_digest": self.plan.digest, "dealers": list(dealers)})
        return [mine, *(self._said("share", dealers, data, to=artist) for artist, data in sorted(deliveries.items()))]

    def _count(self) -> list[Envelope]:
        survivors = self._decided.get("consistency", self._counted())
        if len(survivors) < self.plan.survivors:
            raise SecAggError(
                f"{len(survivors)} of {len(self.roster)} artists are left; the plan's noise is sized for "
                f"{self.plan.survivors}. This attempt ends here; the protocol has opened no update. Sums of the same "
                "artists in further attempts tell more than one of them."
            )
        data = self._sum.survivors(survivors)
        self._go_to(Phase.CONSISTENCY)
        return [self._said("consistency", survivors, data)]

    def _show_signatures(self) -> list[Envelope]:
        signers = self._decided.get("unmask", self._counted())
        data = self._sum.confirmed(signers)
        self._go_to(Phase.UNMASK)
        return [self._said("unmask", signers, data)]

    def _close(self) -> list[Envelope]:
        contributors = self._sum.survivors_ids
        code = layout(self.plan, self._tensors, len(self.roster))
        summed = open_sum(code, sent_like(self.plan, self._tensors), self._sum.total(), len(contributors))
        total, weight, state = summed.update, summed.weight, self._state
        if self.plan.server != "average" or self.plan.server_rate != 1:
            mean = {name: value / weight for name, value in total.items()}
            total, state = server_step(self.plan.server, mean, state, rate=self.plan.server_rate)
            weight = 1.0
        tensors = aggregate(self.plan.rule, self._tensors, total, weight)
        dropped = tuple(a for a in self.roster if a not in contributors)
        metrics = {name: total / len(contributors) for name, total in summed.metrics.items()}
        self._go_to(Phase.DONE)
        body = {
            "plan_digest": self.plan.digest,
            "total": self.plan.total,
            "contributors": len(contributors),
            "dropped": len(dropped),
            "pictures": summed.pictures,
            "metrics": metrics,
            "transcript": self._sum.transcript(),
        }
        data = pack(tensors, metadata_of(self._shared))
        self.result = RoundResult(
            self.plan, data, contributors, dropped, summed.pictures, summed.clipped, metrics, state
        )
        return [self._envelope("result", "all", body, {"shared": data})]

    def _go_to(self, phase: Phase) -> None:
        self.phase, self._opened_at = phase, self._clock()

    def _awaited(self) -> tuple[str, ...]:
        """Ids whose message the running phase has not got, whether they are still there or not."""
        heard = self._heard()
        expected: Iterable[str] = {
            Phase.SHARE: self.roster,
            Phase.UPDATE: self._sum.heard("share") & set(self._dealers()),
            Phase.CONSISTENCY: self._sum.survivors_ids,
            Phase.UNMASK: self._sum.survivors_ids,
        }.get(self.phase, ())
        return tuple(sorted(a for a in expected if a not in heard))

    def _dealers(self) -> tuple[str, ...]:
        return self._decided.get("share", tuple(self._sum.heard("share")))

    def _heard(self) -> frozenset[str]:
        """Whose message of the running phase is in."""
        names = {Phase.UPDATE: "masked", Phase.CONSISTENCY: "confirm"}
        return self._sum.heard(names.get(self.phase, self.phase.value))

    def _counted(self) -> tuple[str, ...]:
        return tuple(sorted(self._heard()))

    def _willing(self) -> tuple[str, ...]:
        return tuple(sorted(m.id for m in self._present() if self._answers.get(m.id)))

    def _present(self) -> list[Member]:
        return [m for m in self.members.values() if m.state != "left"]

    def _said(self, kind: str, artists: tuple[str, ...], data: bytes, *, to: str = "all") -> Envelope:
        """A decision, readable in the log: who, and the protocol's message."""
        body = {"plan_digest": self.plan.digest, _LISTS[kind]: list(artists), "data": text_of(data)}
        return self._envelope(kind, to, body)

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
            sender=self._host.id,
            recipient=recipient,
            body=dict(body),
            attachments=attachments or {},
        )


_FLEETING = ("share", "consistency", "unmask")
#: What an artist says of the roster, and the state that it puts them in.
_OF_ROSTER = {"asks": "asks", "declined": "declined"}
_TAKEN = ("advertise", "share", "update", "consistency", "unmask")
#: The host's decisions: kind of envelope to the name of the list of artists in it.
_LISTS = {"roster": "artists", "share": "dealers", "consistency": "survivors", "unmask": "signers"}
#: An artist's kind of message to the host's kind that ends the waiting for it.
_CLOSED_BY = {"share": "share", "update": "consistency", "consistency": "unmask"}
