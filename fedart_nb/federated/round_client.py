"""An artist's side of the rounds, without I/O: envelopes in, envelopes out; training happens elsewhere."""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..consent.question import Question
from ..crypto.identity import Identity, identity_id
from ..errors import RoundError, WireError
from ..privacy.distributed import SkellamSum
from ..relay.wire import Envelope
from ..secagg.client import SecAggClient
from ..secagg.encoding import FixedPoint
from .client_memory import History, Masked, check_rollback, further, refusal_of
from .commitments import Keeper, MemoryKeeper
from .noised_vector import NoisedWords, noise_stream
from .payload import bytes_in, text_of
from .plan import METRICS, RoundPlan
from .roster import Pins, RosterShown, names_in, short_id
from .strategies import rule_of
from .tampering import suspicions
from .tensors import Tensors, check_like, unpack, unpack_adapter
from .vector import encode, encode_noised, flat_of, layout
from .withdrawal import withdrawal

__all__ = ["ArtistSide", "Pay", "Task"]

_OPENINGS = 64  # of one room by one host; each has a history of its own

#: Pays for a noised vector before it is masked: the plan, its noise with this roster, and SHA-256 of the words. Called
#: again with the same after a restart. What it raises keeps the vector in the kernel.
Pay = Callable[[RoundPlan, SkellamSum, str], None]


@dataclass(frozen=True)
class Task:
    """A round that waits for this artist: train from `shared` as the plan says, then `ArtistSide.submit` the update."""

    plan: RoundPlan
    shared: Tensors = field(repr=False)


class ArtistSide:
    """Follows the rounds for one artist and refuses whatever does not fit what was agreed.

    Args:
        room, host: room name, and the host's identity id (from the invite).
        identity: this artist's key pair; it signs what goes into the secure sum.
        name: the name shown to the room.
        backbone_sha256: hash of the backbone in this kernel; plans for another one are refused.
        keeper: keeps secrets and commitments over a restart of the kernel.
        simulated: whether this artist exists in a simulation alone, where a plan may have a sparse graph.
        pay: pays from the artist's ledger before a noised vector leaves (`Pay`); without it nobody keeps count.
        least_noise: plans whose noise on whole artists is smaller than this multiplier are not contributed to.
        pins: whom this artist has confirmed in this room. With pins, a roster that holds anybody else becomes a
            `question` before a share is dealt, and nothing is masked under it; None (simulations) takes any roster.
        proof: of the one-time invite that this artist came with (`Invite.proof`), or "".

    Attributes:
        plan: the newest plan, until its round is over.
        task: set when shares have been exchanged and no update was submitted yet.
        shared: bytes of the newest shared adapter, as it came with the last plan or result.
        artists: ids of everybody in the running (or last) round's roster.
        roster: the same with names, judged by `pins`; None before the first one.
        question: the roster that waits for `deal` or `decline`, because it holds somebody unconfirmed; else None.
        waits_outside: whether the host said that this artist is not let in yet, or no longer.
        contributors, metrics: of the newest result; metrics are means over the contributors.
        counted: whether the newest result's sum holds this artist's update; None where that was not seen here.
        left: whether this artist has left the room; none of its plans is taken from then on.
        history: what this kernel knows of the room as it is open now, kept over restarts (`rounds.limits`).
        newest: digest of the plan whose result was taken over last, "" before the first one.
        refusals: sentences from the host about messages of ours, newest last.
        warnings: sentences about what this artist should know, newest last.
    """

    def __init__(
        self,
        *,
        room: str,
        host: str,
        identity: Identity,
        name: str,
        backbone_sha256: str,
        keeper: Keeper | None = None,
        simulated: bool = False,
        pay: Pay | None = None,
        least_noise: float = 0.0,
        pins: Pins | None = None,
        proof: str = "",
    ) -> None:
        self.room, self.host, self.identity, self.name = room, host, identity, name
        self.backbone_sha256 = backbone_sha256
        self.plan: RoundPlan | None = None
        self.task: Task | None = None
        self.shared: bytes | None = None
        self.artists: tuple[str, ...] = ()
        self.contributors = 0
        self.counted: bool | None = None
        self.left = False
        self.metrics: dict[str, float] = {}
        self.history, self.newest = History(), ""
        self.closed = False
        self.refusals: list[str] = []
        self.warnings: list[str] = []
        self.pay, self.least_noise = pay, least_noise
        self.check_shared: Callable[[bytes], object] | None = None  #: raises where an adapter does not fit the backbone
        self.pins, self._proof = pins, proof
        self.roster: RosterShown | None = None
        self.question: RosterShown | None = None
        self.waits_outside = False
        self._signs = 0
        self._asked_about = b""  # the roster message behind the question
        self._keeper: Keeper = keeper or MemoryKeeper()
        self._simulated = simulated
        self._client: SecAggClient | None = None
        self._code: FixedPoint | NoisedWords | None = None
        self._sent: set[str] = set()
        self._answers: dict[str, bool] = {}
        self._over: set[str] = set()
        self._nonce = ""  # of the room whose plan was taken last
        self._histories: dict[str, History] = {}  # of each opening of the room, by its nonce
        self._last_sum: frozenset[str] = frozenset()
        # A relay takes equal envelopes for one; signs of life of a restarted kernel must differ from its former ones.
        self._life = secrets.token_hex(8)

    @property
    def me(self) -> str:
        """This artist's id on the wire."""
        return self.identity.id

    @property
    def rounds_done(self) -> int:
        """The newest finished round."""
        return self.history.rounds_done

    @property
    def rewound(self) -> int:
        """How many times the room went back to an earlier round because an artist withdrew."""
        return self.history.rollbacks

    def hello(self) -> Envelope:
        """Say who is here; again after every reconnect."""
        proof = {"proof": self._proof} if self._proof else {}
        return self._envelope(0, "hello", {"name": self.name, "life": self._life, **proof})

    def feed(self, envelope: Envelope) -> list[Envelope]:
        """Take one envelope of the host; returns what is to be sent because of it.

        After a restart the room's messages come again, and the same answers are given again, byte by byte.

        Raises:
            RoundError, SecAggError: the host's message breaks what was agreed; nothing of it was taken over.
        """
        if envelope.sender != self.host:
            return []
        if envelope.kind == "plan":
            return self._take_plan(envelope)
        if envelope.kind == "result":
            self._take_result(envelope)
        elif envelope.kind == "refuse":
            self.refusals.append(str(envelope.body.get("reason", "")))
        elif envelope.kind == "close":
            went_back = envelope.body.get("rewound", 0)
            if type(went_back) is not int or went_back >= self.history.rollbacks:  # not one from before it went back
                self._end(self.plan)
                self.closed = True
        elif envelope.kind == "note":
            self.waits_outside = envelope.body.get("lobby", self.waits_outside) is True
        elif self._takes_part(envelope):
            return self._answer_phase(envelope)
        return []

    def needs_answer(self) -> bool:
        """Whether a plan waits for `answer`."""
        return self.plan is not None and self.plan.digest not in self._answers

    def further(self) -> Question | None:
        """What to ask the artist before `answer(contribute=True)` to the running plan; None where nothing has left."""
        before = [one for nonce, one in self._histories.items() if nonce != self._nonce]
        return further(self.plan, self.history, before) if self.plan is not None else None

    def objection(self) -> str:
        """Why this artist takes no part in the running plan: too little noise, or too many sums of one round; or ""."""
        plan = self.plan
        if plan is not None and (refused := refusal_of(plan, self.history)):
            return refused
        if plan is None or plan.noise_multiplier >= self.least_noise:
            return ""
        return (
            f"The plan's noise on whole artists is {plan.noise_multiplier:g} clip norms, you want at least "
            f"{self.least_noise:g}. Ask the host for more noise, or want less."
        )

    def answer(self, *, contribute: bool) -> Envelope:
        """Contribute to the running plan, or skip this round. Nothing is trained or sent before this was called.

        Raises:
            RoundError: there is no plan, or there is an `objection` to contributing.
        """
        if self.plan is None:
            raise RoundError("There is no plan to answer; wait for the host to open a round.")
        if contribute and (objection := self.objection()):
            raise RoundError(f"{objection} Nothing was sent; skip the round with contribute=False.")
        self._answers[self.plan.digest] = contribute
        body: dict[str, Any] = {"contribute": contribute}
        if contribute:
            body["data"] = text_of(self._secure().advertise())
            self.history.agreed = True
        return self._reply("advertise", body)

    def progress(self, step: int, of: int) -> Envelope:
        """A sign of life while training: how many steps are done, never a loss."""
        self._signs += 1  # equal messages count as one
        body = {"step": step, "of": of, "life": self._life, "sign": self._signs}
        return self._envelope(self.plan.number if self.plan else 0, "note", body)

    def deal(self) -> list[Envelope]:
        """Go on under the roster of `question`, once everybody in it is in `pins`: deal shares, nothing else yet.

        Raises:
            RoundError: no roster waits, or somebody in it is still unconfirmed.
        """
        if self.question is None or self.plan is None:
            raise RoundError("No roster waits for an answer now.")
        self._check_pins(self.artists)
        self.question = None
        return self._deal(self._asked_about)

    def asks(self) -> Envelope:
        """A sign of life while somebody looks at the list of artists."""
        self._signs += 1
        return self._reply("note", {"asks": True, "life": self._life, "sign": self._signs})

    def decline(self) -> Envelope:
        """Take no part in this attempt, because of its roster: the host need not wait. Nothing was dealt or masked."""
        if self.question is None:
            raise RoundError("No roster waits for an answer now.")
        self.question, self._code = None, None
        return self._reply("note", {"declined": True})

    def _check_pins(self, artists: tuple[str, ...]) -> None:
        strange = self.pins.unconfirmed(artists, self.me) if self.pins is not None else ()
        if strange:
            raise RoundError(
                f"The list of artists holds {', '.join(map(short_id, strange))}, whom you have not confirmed. Nothing "
                "of yours was masked."
            )

    def give_up(self, plan: RoundPlan) -> Envelope:
        """Tell the host that no update for this plan comes after all, so that nobody waits for it."""
        self.task = None
        body = {"plan_digest": plan.digest, "gives_up": True, "life": self._life}
        return self._envelope(plan.number, "note", body)

    def submit(self, update: Tensors, *, pictures: int, metrics: Mapping[str, float] | None = None) -> Envelope:
        """Mask the update of the running task; it leaves the kernel only when this envelope is sent.

        Args:
            update: float32 arrays with the names and shapes of the task's `shared`; what the plan's rule leaves as it
                is must be zero, and is not sent.
            pictures: how many pictures it was trained on; known to the others in sum only.
            metrics: what the plan's `metrics` name; known to the others as means only. Weights by loss take
                "loss_before" too, which is part of the weight alone.

        Raises:
            RoundError: names, shapes, values or metrics do not fit; nothing was masked.
            SecAggError: another update was already sent in this attempt.
            PrivacyError: under noise on whole artists, the ledger does not pay for it; nothing was masked.
        """
        if self.task is None or self._code is None:
            raise RoundError("No round waits for an update of this artist.")
        plan = self.task.plan
        self._check_pins(self.artists)
        if refused := refusal_of(plan, self.history):
            raise RoundError(f"{refused} Nothing was masked.")
        check_like(update, self.task.shared)
        sent = rule_of(plan.rule).sent(plan.number, self.task.shared, update)
        if type(pictures) is not int or pictures < 1:
            raise RoundError(f"The update was trained on {pictures!r} pictures; expected a whole number from 1 on.")
        if isinstance(self._code, NoisedWords):
            return self._submit_noised(plan, self._code, sent)
        asked = (*plan.metrics, "loss_before") if plan.weighting == "loss" else plan.metrics
        told = {name: (metrics or {}).get(name, math.nan) for name in asked}
        if missing := [name for name, value in told.items() if not math.isfinite(value)]:
            raise RoundError(
                f"The plan asks for {missing[0]!r}; pass metrics={{{missing[0]!r}: ...}}, a finite number."
            )
        code, clipped = self._code, 0

        def write(words: NDArray[np.uint32]) -> None:
            nonlocal clipped
            clipped = encode(code, plan, sent, pictures=pictures, metrics=told, out=words)

        message = self._secure().mask_written(code.size, write)
        if clipped:
            self._warn(
                f"{clipped:,} of the update's values were larger than the plan's clip ({plan.clip:g}) and were cut. "
                "A lower learning rate or fewer local steps keep them smaller."
            )
        return self._update(message)

    def _submit_noised(self, plan: RoundPlan, code: NoisedWords, update: Tensors) -> Envelope:
        """Noise, then pay, then commit, then mask: what was paid is what leaves, and a restart says it again."""
        if objection := self.objection():
            raise RoundError(f"{objection} Nothing was masked.")
        client = self._secure()
        random = noise_stream(self._keeper.secret(plan.digest), client.context, flat_of(update))
        norm = 0.0

        def write(words: NDArray[np.uint32]) -> None:
            nonlocal norm
            norm = encode_noised(code, update, random, out=words)
            if self.pay is not None:
                self.pay(plan, code.code, hashlib.sha256(words.view(np.uint8).data).hexdigest())

        message = client.mask_written(code.size, write)
        if norm > plan.clip_norm:
            self._warn(
                f"Your update has the length {norm:.3g} and was clipped to {plan.clip_norm:g}, as the plan says: one "
                "artist cannot move the sum further than the noise hides."
            )
        return self._update(message)

    def _update(self, message: bytes) -> Envelope:
        if self.plan is not None:
            self._sent.add(self.plan.digest)
            self._note_masked(self.plan)
        self.task = None
        return self._reply("update", {}, {"update": message})

    def leave(self, *, withdraw: bool = False) -> Envelope:
        """Leave the room; the rounds go on without this artist. `withdraw`: those before are to be trained anew."""
        number = self.plan.number if self.plan else 0
        self._end(self.plan)
        self.closed = self.left = True
        body: dict[str, Any] = {"life": self._life}
        if withdraw:
            body["withdraw"] = withdrawal(self.room, self.host, self.identity)
        return self._envelope(number, "leave", body)

    def snapshot(self, *, before_sending: bool = False) -> dict[str, Any]:
        """JSON values from which `restore` goes on after a kernel restart (no keys, no pictures).

        `before_sending`: the running plan's update is masked and has not left yet; a kernel that is killed right now
        sends the same bytes after its restart.
        """
        unsent = {self.plan.digest} if before_sending and self.plan is not None else set[str]()
        return {
            "sent": sorted(self._sent - unsent),
            "answers": dict(sorted(self._answers.items())),
            "over": sorted(self._over),
            "last_sum": sorted(self._last_sum),
            "nonce": self._nonce,
            "newest": self.newest,
            "histories": {nonce: history.to_json() for nonce, history in sorted(self._histories.items())},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a `snapshot`: which plans were answered, served and over, what left, and what is pinned.

        The room's messages arrive again, if the relay is honest; whatever it withholds, nothing of this is forgotten.
        """
        self._sent = set(state.get("sent", ()))
        self._answers = dict(state.get("answers", {}))
        self._over = set(state.get("over", ()))
        self._last_sum = frozenset(state.get("last_sum", ()))
        self._nonce, self.newest = str(state.get("nonce", "")), str(state.get("newest", ""))
        self._histories = {nonce: History.from_json(told) for nonce, told in state.get("histories", {}).items()}
        self.history = self._histories.get(self._nonce, History())

    def released(self, number: int) -> bool:
        """Whether a vector left in an ended attempt of a round, so that a sum with this artist's update may be known.

        That nothing was signed or released here proves nothing: the others' shares are enough to open a sum, and who
        runs relay and host decides what we hear of it.
        """
        return any(one.number == number for digest, one in self.history.masked.items() if digest in self._over)

    # --- the host's messages ---

    def _take_plan(self, envelope: Envelope) -> list[Envelope]:
        body = envelope.body.get("plan")
        plan = RoundPlan.from_body(body if isinstance(body, dict) else {})
        self._check_plan(plan, envelope)
        history, same = self._history_of(plan), plan.nonce == self._nonce
        stale = same and self.plan is not None and plan.place < self.plan.place
        if plan.digest in self._over or stale or plan.rewound < history.rollbacks or (same and self.left):
            return []  # a relay that repeats itself ends nothing
        if self._keeper.over(plan.digest):  # of a room that this artist comes back to: its secret is gone for good
            self._over.add(plan.digest)
            return []
        back = plan.rewound > history.rollbacks
        if back:
            check_rollback(plan, envelope.body.get("withdrawn"), history, room=self.room, host=self.host)
        elif plan.number <= history.rounds_done:
            raise RoundError(
                f"The host asks for round {plan.number} again, which is over. What it would learn from the two sums "
                "together says more about you than each of them; nothing was trained."
            )
        shared = self._attachment(envelope, "shared")
        if hashlib.sha256(shared).hexdigest() != plan.shared_sha256:
            raise RoundError("The shared adapter is not the one that the plan names. The host or relay changed it.")
        began = history.starts.get(plan.number, "")
        expected = began if back else history.pin or began
        if expected not in ("", plan.shared_sha256):
            raise RoundError(
                "The plan starts from another shared adapter than the last result's. "
                "A host that does so could single you out; nothing was trained."
            )
        if found := suspicions(self._checked(shared)):
            raise RoundError(
                "The shared adapter looks built to single somebody out or to read inputs: "
                f"{len(found)} of its tensors; {found[0]} Ask the host for it again, or leave; nothing was trained."
            )
        if self.plan is not None and self.plan.digest != plan.digest:
            self._end(self.plan)
        self.history = self._histories[plan.nonce] = history
        if back:
            history.rollbacks, history.rounds_done, history.pin = plan.rewound, plan.number - 1, plan.shared_sha256
            self._warn(
                f"An artist withdrew: the room goes back to round {plan.number} and trains from there without them. "
                "Who kept the former sums has one more to compare the new ones with."
            )
        history.starts[plan.number], self._nonce, self.left = plan.shared_sha256, plan.nonce, False
        self.plan, self.shared, self.task, self.closed = plan, shared, None, False
        if because := envelope.body.get("because"):
            self._warn(f"Round {plan.number} starts again: {because}")
        if self.needs_answer() and self._keeper.state(plan.digest):  # said yes, and was killed right then
            return [self.answer(contribute=True)]
        return []

    def _history_of(self, plan: RoundPlan) -> History:
        if plan.nonce not in self._histories and len(self._histories) >= _OPENINGS:
            raise RoundError(
                f"The host has opened this room {_OPENINGS} times, the most that this kernel follows: each time, what "
                "went before binds it less. Nothing was trained; ask for a room of another name."
            )
        return self._histories.get(plan.nonce, History())

    def _check_plan(self, plan: RoundPlan, envelope: Envelope) -> None:
        """What must hold of any plan, whichever round it is for."""
        if plan.room != self.room or plan.number != envelope.round or plan.digest != envelope.body.get("plan_digest"):
            raise RoundError("The host's plan does not fit its envelope (room, round or digest differ).")
        if plan.number > plan.total:
            raise RoundError(
                f"The host asks for round {plan.number} of {plan.total}. The room's rounds are over, and nobody agreed "
                "to more of them; nothing was trained."
            )
        if plan.degree and not self._simulated:
            raise RoundError(
                f"The plan joins everybody with {plan.degree} artists alone, which is for simulations: few colluders "
                "would be enough to open your update. Nothing was trained."
            )
        if identity_id(bytes.fromhex(plan.host_key)) != self.host:
            raise RoundError("The plan's host_key is not the key of the host in your invite. Somebody else made it.")
        if plan.backbone_sha256 != self.backbone_sha256:
            raise RoundError(
                f"The room trains the backbone {plan.backbone_sha256[:12]}…, this kernel holds "
                f"{self.backbone_sha256[:12]}…. Load the host's backbone; your updates would not fit."
            )

    def _takes_part(self, envelope: Envelope) -> bool:
        plan = self.plan
        mine = plan is not None and envelope.body.get("plan_digest") == plan.digest
        return mine and plan is not None and bool(self._answers.get(plan.digest))

    def _answer_phase(self, envelope: Envelope) -> list[Envelope]:
        plan, shared = self.plan, self.shared
        if plan is None or shared is None or (envelope.kind != "roster" and self._code is None):
            return []
        client = self._secure()
        warned = len(client.warnings)
        out: list[Envelope] = []
        if envelope.kind == "roster":
            artists = envelope.body.get("artists")
            if isinstance(artists, list) and self.me in artists:
                out = self._meet(bytes_in(envelope), names_in(envelope.body))
        elif envelope.kind == "share":
            client.receive(bytes_in(envelope))
            if plan.digest not in self._sent:
                self.task = Task(plan, unpack(shared))
        elif envelope.kind == "consistency":
            survivors = envelope.body.get("survivors")
            if not isinstance(survivors, list) or self.me not in survivors:
                self.task = None
                self._warn(f"Round {plan.number} goes on without your update; it came too late or not at all.")
                return []
            out = [self._reply("consistency", {"data": text_of(client.confirm(bytes_in(envelope)))})]
        elif envelope.kind == "unmask" and client.counted_ids:
            out = [self._reply("unmask", {"data": text_of(client.unmask(bytes_in(envelope)))})]
        for sentence in client.warnings[warned:]:
            self._warn(sentence)
        return out

    def _meet(self, message: bytes, names: Mapping[str, str]) -> list[Envelope]:
        """A roster arrived: deal shares where everybody in it is confirmed; else it becomes the question."""
        plan = self.plan
        assert plan is not None  # noqa: S101 - rosters are heard for a plan alone
        self.artists = tuple(entry.id for entry in self._secure().read(message).entries)
        about: dict[str, Any] = {"me": self.me, "room": self.room, "host": self.host}
        pins = self.pins or Pins().with_accepted(dict.fromkeys(self.artists, ""))
        self.roster = RosterShown.of(pins, self.artists, names, **about, number=plan.number, attempt=plan.attempt)
        if self.pins is None or not self.roster.unconfirmed:
            return self._deal(message)
        self.question, self._asked_about = self.roster, message
        return []

    def _deal(self, message: bytes) -> list[Envelope]:
        plan, shared = self.plan, self.shared
        assert plan is not None  # noqa: S101 - as above
        reply = self._reply("share", {"data": text_of(self._secure().share(message))})
        self._code = layout(plan, unpack(shared or b""), len(self.artists))
        for artist in self.artists:
            self.history.met.setdefault(artist, set()).add(plan.rewound)
        return [reply]

    def _take_result(self, envelope: Envelope) -> None:
        plan, made_by = self.plan, envelope.body.get("plan_digest")
        if not isinstance(made_by, str):
            raise RoundError("A result arrived that names no plan. It was not taken over; the pinned adapter stays.")
        if plan is None or made_by != plan.digest or made_by in self.history.results:
            return  # a relay that repeats itself does not bring an old adapter back
        if envelope.round != plan.number:
            raise RoundError(f"The result is said to be round {envelope.round}'s; its plan is round {plan.number}'s.")
        shared = self._attachment(envelope, "shared")
        self._checked(shared)
        client = self._client
        counted = client.counted_ids if client is not None else ()
        signed = client.transcript() if client is not None and counted else None
        if signed is not None and envelope.body.get("transcript") != signed:
            raise RoundError(
                "The result is said to come from another sum than the one that you signed. Host or relay lie; "
                "it was not taken over."
            )
        self._check_frozen(unpack(shared))
        self.counted = self.me in counted if counted else None
        count = envelope.body.get("contributors")
        self.contributors = count if isinstance(count, int) else 0
        means = envelope.body.get("metrics")
        told = means.items() if isinstance(means, dict) else ()
        self.metrics = {
            name: float(value) for name, value in told if name in METRICS and isinstance(value, int | float)
        }
        self.shared = shared
        self.history.pin, self.history.rounds_done = hashlib.sha256(shared).hexdigest(), plan.number
        self.history.results.add(made_by)
        self.newest = made_by
        self._end(plan)

    def _checked(self, shared: bytes) -> Tensors:
        """A shared adapter that arrived, when it is one; raises RoundError, or what `check_shared` raises."""
        tensors = unpack_adapter(shared)
        if self.check_shared is not None:
            self.check_shared(shared)
        return tensors

    def _check_frozen(self, after: Tensors) -> None:
        """The running plan's rule says what stays as it was; a host that changes it would train something else."""
        if self.plan is None or self.shared is None or (rule := rule_of(self.plan.rule)).refactors:
            return
        before = unpack(self.shared)
        for name in before.keys() - set(rule.trained(self.plan.number, before)):
            if name not in after or not np.array_equal(before[name], after[name]):
                raise RoundError(
                    f"The result changes {name!r}, which the rule {rule.name!r} leaves as it is in round "
                    f"{self.plan.number}. The host does not follow its plan; the result was not taken over."
                )

    def _end(self, plan: RoundPlan | None) -> None:
        """An attempt is over: its keys are deleted, and it is never answered again."""
        if plan is not None:
            self._over.add(plan.digest)
            if "words" in self._keeper.state(plan.digest):
                self._note_masked(plan)
            if self._client is not None and self._client.counted_ids:  # whether or not a result was shown to us
                self._last_sum = frozenset(self._client.counted_ids)
            self._keeper.forget(plan.digest)
        self.plan, self.task, self._client, self._code, self.question = None, None, None, None, None

    def _note_masked(self, plan: RoundPlan) -> None:
        """An update of this plan is masked; whatever is heard from now on, its sum counts as opened."""
        self.history.masked[plan.digest] = Masked(plan.rewound, plan.number, plan.shared_sha256)

    def _secure(self) -> SecAggClient:
        plan, shared = self.plan, self.shared
        if plan is None or shared is None:
            raise RoundError("No round is running.")
        if self._client is None:
            digest = plan.digest
            self._client = SecAggClient(
                self.identity,
                bytes.fromhex(plan.host_key),
                plan.binding(shared),
                self._keeper.secret(digest),
                state=self._keeper.state(digest),
                remember=lambda state: self._keeper.remember(digest, state),
                previous=self._last_sum,
                degree=plan.degree,
                at_least=plan.min_artists,
                survivors=plan.survivors,
            )
        return self._client

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _attachment(self, envelope: Envelope, name: str) -> bytes:
        try:
            return envelope.attachments[name]
        except KeyError:
            raise WireError(f"The {envelope.kind} message came without its attachment {name!r}.") from None

    def _reply(self, kind: str, body: dict[str, Any], attachments: dict[str, bytes] | None = None) -> Envelope:
        plan = self.plan
        if plan is None:
            raise RoundError("No round is running.")
        return self._envelope(plan.number, kind, {"plan_digest": plan.digest, **body}, attachments)

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
