"""The host's session: opens a room at a relay and runs its rounds; restarted, it goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .._system.arguments import texts
from .._system.cancelling import abandonable
from .._system.files import read_json, set_aside, write_private
from .._system.folder_lock import FolderLock
from .._system.migration import host_folder
from .._system.names import checked_name
from ..consent import Question
from ..crypto.identity_file import identity_in
from ..crypto.safety_number import SafetyNumber
from ..diffusion import Adapter, AdapterConfig, Backbone, initial_adapter
from ..errors import FedArtError, RelayClosed, RelayRefused, RelayUnreachable, RoundError
from ..events import Joined, Note, RoundClosed, RoundOpened, Waiting
from ..federated import DEFAULT_RULE, DOORS, Member, Phase, RoundEngine, RoundPlan, promise_of, rule_of, unpack
from ..federated.liveness import HostSigns, first_sign_s
from ..federated.rollback import AskHost, Withdrawals
from ..privacy.distributed import SkellamSum, solve_skellam
from ..privacy.guarantee import ArtistPromise
from ..privacy.planning import default_delta
from ..relay import Envelope, Invite, Outbox, RelayClient, Transport, create_room
from ..relay.client import require_relay
from ..secagg.encoding import BITS
from ..secagg.graph import quorum_of
from .admission import Admission, Guest, Ticket
from .lobby import Admit, Lobby

__all__ = ["CLIP_NORM", "Host"]

_POLL_S = 1.0
_RELAY_S = 15.0  # a relay that does not answer for so long is asked again, and the host is told
_AWAY_S = 0.2  # before a relay that was not reachable is asked again
_LATE_S = 0.01  # a deadline is over when it is past
CLIP_NORM = 0.3  #: of a core's whole update under noise on whole artists; about what 20 steps on sample art move it
_NOISED_RATE = 2e-2  # artists who noise their training may take another rate than the plan's; this learns best
_MAX_ATTEMPTS = 5  # in a row, before the host is asked what to do
_RELAY_S = 15.0  # a relay that does not answer for so long is asked again, and the host is told
_GOODBYE_S = 2.0  # nobody waits longer for a host that stops
_ENDS = (Phase.DONE, Phase.ABORTED)
_WAITED_FOR = {
    Phase.SHARE: "the keys of",
    Phase.UPDATE: "updates of",
    Phase.CONSISTENCY: "signatures of",
    Phase.UNMASK: "shares of",
}


class Host:
    """Runs a workshop's room. The host needs no pictures, sees no kernel and no single update: masked sums alone.

    Args:
        name: shown to the room.
        folder: where identity, rounds and the shared adapter are kept; in the user's data folder by default.
        backbone: the embedded one by default; needed once, to make the first shared adapter.

    Example:
        >>> host = Host("Studio")
        >>> invite = host.open_room("http://127.0.0.1:8765", rounds=2, min_artists=3)
        >>> for event in host.rounds():
        ...     print(event)
    """

    def __init__(self, name: str, *, folder: str | Path | None = None, backbone: Backbone | None = None) -> None:
        self.name = checked_name(name)
        self.folder = host_folder(self.name, folder)
        self._in_use = FolderLock(self.folder, title=f"The host {self.name!r}")
        self.identity, told = identity_in(self.folder, ("room.json", "admission.json"))
        if told:
            warnings.warn(told, UserWarning, stacklevel=2)
        self.invite: Invite | None = None
        self.transport: Transport | None = None
        self.members: dict[str, Member] = {}
        self.plan: RoundPlan | None = None
        self.engine: RoundEngine | None = None
        self._backbone = backbone
        self._shared: bytes = b""
        self._state: bytes = b""
        self._cursor = 0
        self._because = ""
        self._outbox: Outbox | None = None
        self._withdrawals = Withdrawals()
        self._ask: AskHost | None = None
        self._back = 0  # the round that the room goes back to, once the host said so
        self._life = secrets.token_hex(8)  # a relay takes equal messages for one
        self._early: list[Envelope] = []  # came and went after the room was closed
        self.admission = Admission(self.folder / "admission.json")
        self._lobby = Lobby(self.admission, self._tell_outside)
        self._resume()

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {len(self.members)} artists, id {self.identity.id[:8]})"

    @property
    def shared(self) -> Adapter | None:
        """The newest shared adapter; an ordinary one, also where a core is trained."""
        return Adapter.from_bytes(self._shared).expanded() if self._shared else None

    @property
    def promise(self) -> ArtistPromise | None:
        """What the noise of the running plan is worth to an artist; None without a plan, or without noise."""
        if self.plan is None or not self._shared:
            return None
        return promise_of(self.plan, rule_of(self.plan.rule).size(self.plan.number, unpack(self._shared)))

    @property
    def safety_number(self) -> SafetyNumber | None:
        """What two people in the room compare aloud; None before a round has a roster."""
        if self.engine is None or not self.engine.roster:
            return None
        return SafetyNumber.of(self.engine.plan.room, self.identity.id, self.engine.roster)

    def open_room(
        self,
        relay: str | None = None,
        *,
        rounds: int = 2,
        min_artists: int = 3,
        local_steps: int = 20,
        batch: int = 8,
        learning_rate: float = 3e-3,
        adapter: AdapterConfig | None = None,
        seed: int = 0,
        join_s: float = 30.0,
        patience_s: float = 60.0,
        clip: float | None = None,
        bits: int | None = None,
        schedule: str = "constant",
        rule: str | None = None,
        server: str = "average",
        server_rate: float = 1.0,
        weighting: str = "equal",
        q: float = 0.0,
        metrics: Sequence[str] = (),
        artist_epsilon: float | None = None,
        colluders: int = 1,
        clip_norm: float = CLIP_NORM,
        survivors: int = 0,
        delta: float | None = None,
        door: str = "lobby",
        room: str | None = None,
        opening_secret: str | None = None,
        transport: Transport | None = None,
    ) -> Invite | None:
        """Make a room and the first shared adapter; returns the invite link (None with a transport of your own).

        `rule`: how the sum becomes the next shared adapter (`fedart_nb.federated.RULES` has a sentence on each):
        `DEFAULT_RULE`, with noise on whole artists "fedsvd", and "fedsb" for a core. `server` and `server_rate`: the
        host's optimiser; `weighting` and `q`: how much each artist counts (`RoundPlan`).
        `bits`: of each number on the wire: 16 unless noise or products are summed, which take 32. `clip`: no number of
        an update is larger; unless given, what training cannot reach (with 16 bits rounding grows with it).
        `schedule` "cosine" lets the learning rate fall over the rounds. What learnt best in `benchmarks/quality.py` is
        many short rounds, and, where hands are very unlike and nobody adds noise, weights by loss: `rounds=20,
        local_steps=2, learning_rate=3e-2, schedule="cosine", weighting="loss", q=1.0`.
        `metrics`: "loss_before", "loss_after": the room learns their means over all artists, nobody a single one.
        `artist_epsilon` switches noise on whole artists on: as much of it as keeps epsilon there over all rounds, for
        every artist, against `colluders` others who put together what they know, with updates clipped to `clip_norm`,
        sums of at least `survivors` artists, and `delta`. Take a core for it (`AdapterConfig(core_seed=...)`):
        `promise` says beforehand how many times the signal the noise is.
        `door`: with "lobby" nobody takes part whom you did not admit: by name and id (`guests`, `admit`, `admit_all`,
        `rounds(admit=...)`), or by an invite made for one person (`invite_one`). Sessions of this very process come in
        unasked. With "open" whoever has the link is in, as often as they like: one person with four kernels reads a
        fifth artist's update; every artist is told so in the plan.
        `opening_secret`: a relay that strangers can reach asks for one; it may also stand behind the address
        (#open=...) or in the environment variable FEDART_OPENING_SECRET.
        Nothing is trained yet; `rounds()` runs the rounds. A host that was restarted is already in its room.
        """
        if door not in DOORS:
            raise RoundError(
                f"The door is {door!r}; expected 'lobby' (you admit artists) or 'open' (the link is enough)."
            )
        if transport is None:
            if relay is None:
                raise RoundError("No relay was given. Start one with `fedart relay`, or ask for its address.")
            require_relay(relay, self.identity, opening_secret=opening_secret)  # before anything long
        if self._backbone is None:
            self._backbone = Backbone.embedded()
        first = initial_adapter(self._backbone, adapter, seed=seed)
        self._shared = first.to_bytes()
        if rule is None:
            rule = "fedsb" if first.core is not None else DEFAULT_RULE if artist_epsilon is None else "fedsvd"
        size = rule_of(rule).size(1, unpack(self._shared))
        if bits is None:
            bits = 16 if artist_epsilon is None and not rule_of(rule).sends_products else 32
        if clip is None:
            clip = 1.0 if bits == BITS[0] else min(1.0, 2 * local_steps * max(learning_rate, _NOISED_RATE))
        if transport is None:
            self.invite = create_room(relay or "", self.identity, room=room, opening_secret=opening_secret)
            transport = RelayClient(self.invite, self.identity, patience_s=_RELAY_S)
        self._connect(transport)
        noise: dict[str, Any] = {}
        if artist_epsilon is not None:
            delta = default_delta(min_artists) if delta is None else delta
            code = SkellamSum(
                size=size,
                artists=min_artists,
                survivors=survivors or quorum_of(min_artists),
                clip_norm=clip_norm,
                noise_multiplier=1.0,
                seed=bytes(32),
            )
            solved = solve_skellam(code, target=artist_epsilon, delta=delta, rounds=rounds, colluders=colluders)
            noise = {"protection": "artist", "clip_norm": float(clip_norm), "survivors": survivors, "delta": delta}
            noise["noise_multiplier"] = solved.noise_multiplier
        self.plan = RoundPlan(
            room=transport.room,
            number=1,
            total=rounds,
            backbone_sha256=self._backbone.sha256,
            shared_sha256=hashlib.sha256(self._shared).hexdigest(),
            host_key=self.identity.public_key.hex(),
            clip=clip,
            bits=bits,
            schedule=schedule,
            rule=rule,
            server=server,
            server_rate=server_rate,
            weighting=weighting,
            q=q,
            metrics=tuple(sorted(texts("metrics", metrics, RoundError))),
            nonce=secrets.token_hex(16),
            rank=first.config.rank,
            alpha=first.config.alpha,
            targets=first.config.targets,
            local_steps=local_steps,
            batch=batch,
            learning_rate=learning_rate,
            min_artists=min_artists,
            join_s=join_s,
            patience_s=patience_s,
            door=door,
            **noise,
        )
        self.admission.reset()
        self.admission.bind(transport.room, self.identity.id)
        self.members, self._cursor, self._because, self.engine, self._state = {}, 0, "", None, b""
        self._withdrawals, self._back = Withdrawals(), 0
        self._save()
        return self.invite

    @property
    def guests(self) -> tuple[Guest, ...]:
        """Who asks to come in: name, id, since when, and whether this host admitted them before."""
        return self.admission.guests

    def admit(self, who: str | Guest) -> Guest:
        """Let somebody in who asks, by id or the beginning of one; they take part from the next round that begins."""
        return self.admission.admit(who)

    def admit_all(self) -> tuple[Guest, ...]:
        """Let everybody in who asks now. Count them first: as many as there are people?"""
        return self.admission.admit_all()

    def remove(self, who: str) -> str:
        """Let an artist take part no more, by id or the beginning of one; a round that runs goes to its end."""
        return self.admission.remove(who)

    def invite_one(self, label: str = "") -> Invite:
        """A link for one person: it lets exactly one artist in, once, without being asked about. `revoke` undoes it.

        Raises:
            RoundError: there is no room at a relay.
        """
        if self.invite is None:
            raise RoundError("There is no room at a relay yet. Call open_room(relay) first.")
        return replace(self.invite, once=self.admission.ticket(label).secret)

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """The links made for one person each, and who came in with them."""
        return self.admission.tickets

    def revoke(self, label: str) -> None:
        """Take back a link made for one person that nobody has used, by its label."""
        self.admission.revoke(label)

    def rounds(
        self, *, admit: Admit | None = None, ask: AskHost | None = None
    ) -> Iterator[Joined | Waiting | Note | Guest | RoundOpened | RoundClosed]:
        """Run the room's rounds to the end, yielding what happens: at least one event a second, so it can be stopped.

        Called again after it was stopped, or after the kernel was killed, it goes on in the middle of the round. Where
        it stops, for whatever reason, the artists are told.

        `admit(guest)` is asked about everybody who wants to come in: True, False, or None to be asked again; without it
        they wait until `admit` or `admit_all` is called.

        An artist who leaves and withdraws (`Session.leave(withdraw=True)`) is in no further round. `ask(question)` is
        asked whether the room goes back to the round before their first one, and told what that costs the others: True
        goes back, False stays, None is asked again a second later while the rounds go on. Without `ask` the room does
        not go back, and the word waits for a call with it. Where it goes back, the others train from there anew, with
        noise and drawn pictures of their own as ever. Their updates are new ones, so it is exact: nothing of what is
        made then has seen the withdrawn artist. The withdrawn artist's signed word goes to everybody with the plan, or
        nobody would follow. Called again after the room was closed, it first looks for withdrawals that came since.
        """
        self._ask = ask
        why = "The host's kernel stopped."
        try:
            yield from self._all_rounds(admit)
            why = ""
        except GeneratorExit:
            why = "The host pressed stop."
            raise
        except Exception as error:
            why = str(error) or type(error).__name__
            raise
        finally:
            if why:
                self._say_goodbye(why)

    def _all_rounds(self, admit: Admit | None) -> Iterator[Joined | Waiting | Note | Guest | RoundOpened | RoundClosed]:
        plan, transport = self._in_room()
        yield Joined(plan.room, self.name, len(self.members))
        if plan.number > plan.total:
            yield from self._withdrawals_since()
        aborted = 0
        while True:
            plan, transport = self._in_room()
            yield from self._decide()
            if self._back:
                yield from self._rewind()
                plan, transport = self._in_room()
            if plan.number <= plan.total:
                yield from self._round(admit)
                aborted = aborted + 1 if self._because else 0
                if aborted >= _MAX_ATTEMPTS:
                    raise RoundError(
                        f"Round {plan.number} failed {aborted} times, last: {self._because} Call rounds() again."
                    )
            elif self._ask is not None and self._withdrawals.waiting:
                yield Waiting("A withdrawal waits for your answer.")
                transport.receive(self._cursor, _POLL_S)  # a pause that ends when somebody says something
                yield from self._withdrawals_since()
            else:
                break
        if self._withdrawals.waiting:
            yield Note("A withdrawal waits, and nobody was asked: call rounds(ask=...) to answer it.", "warning")
        self.close()

    @property
    def question(self) -> Question | None:
        """The withdrawal that waits for the host's answer, as `rounds(ask=...)` asks it; None where none waits."""
        if self.plan is None:
            return None
        return self._withdrawals.question(self.plan, self._name, self.promise)

    def _decide(self) -> Iterator[Note]:
        """Ask about the withdrawals that wait, if there is somebody to ask, and follow the answer."""
        question = self.question
        if question is None or self._ask is None or self._back:
            return
        answer = self._ask(question)
        if answer is None:
            return
        names = " and ".join(self._name(one["artist"]) for one in self._withdrawals.waiting)
        words = list(self._withdrawals.waiting)
        if answer:
            self._back = question.number
            yield Note(f"The room goes back to round {self._back}, and trains without {names}.", "warning")
        else:
            self._withdrawals.stay()
            self._save()
            yield Note(f"The room does not go back; {names} is in no further round.", "warning")
        for word in words:
            self._tell(word, self._back)

    def _tell(self, word: dict[str, str], back: int) -> None:
        """Say to a withdrawn artist what came of their word: the round that the room went back to, 0: it did not."""
        self._send(self._note(word["artist"], {"withdrawal": word["nonce"], "back_to": back}))

    def _show_life(self, again_s: float | None) -> None:
        """A sign of life for the artists, where one is due; it names when to expect the next."""
        if again_s is not None:
            self._send(self._note("all", {"again_s": again_s, "life": self._life, "at": time.time_ns()}))

    def _note(self, recipient: str, body: dict[str, Any]) -> Envelope:
        plan, _ = self._in_room()
        number = min(plan.number, plan.total)
        me = self.identity.id
        return Envelope(room=plan.room, round=number, kind="note", sender=me, recipient=recipient, body=body)

    def _say_goodbye(self, why: str) -> None:
        """Tell the artists that the rounds stand still; not for longer than a moment, whatever the relay does."""
        if self.plan is None or self.transport is None:
            return
        body = {"stopped": why[:500], "life": self._life, "at": time.time_ns()}
        farewell, transport = self._note("all", body), self.transport

        def say() -> None:
            with suppress(Exception):  # whatever the relay is like by now, nobody is left to be told
                transport.send(farewell, self.identity)

        with suppress(RuntimeError):  # no thread starts when the interpreter ends
            thread = threading.Thread(target=say, name="fedart-goodbye", daemon=True)
            thread.start()
            thread.join(_GOODBYE_S)

    def close(self) -> None:
        """Tell everybody that the room is closed; finished rounds stay."""
        if self.plan is not None and self.transport is not None:
            number = min(self.plan.number, self.plan.total)
            body = {"rewound": self.plan.rewound} if self.plan.rewound else {}  # equal messages count as one
            me = self.identity.id
            self._send(Envelope(room=self.plan.room, round=number, kind="close", sender=me, recipient="all", body=body))

    def _round(self, admit: Admit | None) -> Iterator[Joined | Waiting | Note | Guest | RoundOpened | RoundClosed]:
        """One attempt of the running round."""
        plan, transport = self._in_room()
        engine = self.engine = RoundEngine(
            plan,
            self._shared,
            host=self.identity,
            members=self.members,
            clock=time.monotonic,
            said=self._said(plan),
            because=self._because,
            state=self._state,
            withdrawn=self._withdrawals.followed,
        )
        signs = HostSigns(first_s=first_sign_s(plan.patience_s))
        cursor = self._cursor
        for answer in engine.open():
            self._send(answer)
        yield from self._entered(engine, admit)
        early, self._early = self._early, []
        for envelope in early:
            yield from self._hear(engine, envelope)
        yield RoundOpened(plan.number, plan.total, self._names(tuple(self.members)))
        while engine.phase not in _ENDS and not self._back:
            try:
                if self._outbox is not None:
                    abandonable(self._outbox.flush)
                wait_s = min(_POLL_S, engine.patient_s() + _LATE_S)
                for seq, envelope in abandonable(partial(transport.receive, cursor, wait_s)):
                    if engine.phase in _ENDS or self._back:
                        break  # what comes now belongs to the next attempt: a late hello, for example
                    if envelope.sender != self.identity.id:
                        yield from self._noticed_withdrawal(envelope)
                        yield from self._hear(engine, envelope)
                    cursor = seq
            except RelayClosed:
                raise
            except RelayUnreachable as error:  # a message whose update could not be fetched is read again
                yield Waiting(f"The relay is asked again: {error}")
                time.sleep(_AWAY_S)
                engine.excuse()
                continue
            yield from self._entered(engine, admit)
            phase = engine.phase
            for answer in engine.tick():
                self._send(answer)
            yield from self._started(engine, phase)
            yield from self._decide()
            self._show_life(signs.due(engine.phase, time.monotonic()))
            if engine.phase not in _ENDS and not self._back:
                yield Waiting(self._reason(engine))
        self._cursor = cursor
        if engine.phase in _ENDS:
            yield from self._finish(engine)

    def _entered(self, engine: RoundEngine, admit: Admit | None) -> Iterator[Joined | Note | Guest | RoundOpened]:
        """Follow what was decided about those who ask to come in."""
        yield from self._past_the_door(engine, self._lobby.step(engine, admit))

    def _hear(self, engine: RoundEngine, envelope: Envelope) -> Iterator[Joined | Note | Guest | RoundOpened]:
        """One message of somebody else: for the engine, if they are admitted."""
        yield from self._past_the_door(engine, self._lobby.pass_on(envelope, engine))

    def _past_the_door(
        self, engine: RoundEngine, news: Iterator[Envelope | Guest | Joined]
    ) -> Iterator[Joined | Note | Guest | RoundOpened]:
        for one in news:
            if isinstance(one, Envelope):
                yield from self._listen(engine, one)
            else:
                yield one

    def _tell_outside(self, artist: str, outside: bool) -> None:
        plan, me = self.plan, self.identity.id
        if plan is not None and artist != me:
            body = {"lobby": outside, "life": secrets.token_hex(4)}  # equal messages count as one
            self._send(Envelope(room=plan.room, round=plan.number, kind="note", sender=me, recipient=artist, body=body))

    def _listen(self, engine: RoundEngine, envelope: Envelope) -> Iterator[Joined | Note | RoundOpened]:
        """One message of an artist who is admitted, for the engine."""
        known, phase = len(self.members), engine.phase
        _, transport = self._in_room()
        try:
            wanted = engine.wants(envelope)
            fetched = abandonable(partial(transport.fetch, envelope, engine.limit_bytes)) if wanted else envelope
        except RelayRefused as error:
            if error.status != 404:
                raise
            yield Note(f"{self._name(envelope.sender)} had their update deleted at the relay.", "warning")
            return
        for answer in engine.feed(fetched):
            self._send(answer)
            if answer.kind == "refuse":
                yield Note(f"Refused a message of {self._name(envelope.sender)}: {answer.body['reason']}", "warning")
        if len(self.members) > known:
            yield Joined(engine.plan.room, self._name(envelope.sender), len(self.members))
        yield from self._started(engine, phase)

    def _noticed_withdrawal(self, envelope: Envelope) -> Iterator[Note]:
        """Where an artist withdraws what they sent: keep the signed fact, and know how far to go back."""
        plan, _ = self._in_room()
        if envelope.kind != "leave" or (fact := envelope.body.get("withdraw")) is None:
            return
        name = self._name(envelope.sender)
        if self.engine is not None and self.engine.plan == plan and self.engine.holds(envelope.sender):
            self._withdrawals.first.setdefault(envelope.sender, plan.number)
        try:
            outcome = self._withdrawals.hear(fact, sender=envelope.sender, plan=plan, host=self.identity.id)
        except RoundError as error:
            yield Note(f"{name}: {error}", "warning")
            return
        if outcome == "nothing":
            yield Note(f"{name} withdraws; no sum holds anything of them, and the room goes on.")
        elif outcome == "capped":
            self._tell(fact, 0)
            yield Note(
                f"{name} withdraws and is in no further round. The room does not go back for it: it has gone back as "
                f"often as its plan allows (at most {plan.max_rollbacks} times, {plan.max_round_rollbacks} times to "
                "one round).",
                "warning",
            )
        elif outcome == "waits":
            self._save()
            yield Note(
                f"{name} withdraws, and is in no further round. Whether the room goes back is for you to say.",
                "warning",
            )

    def _rewind(self) -> Iterator[Note]:
        """Go back to the shared adapter of before a withdrawn artist's first round; later ones are deleted here."""
        plan, _ = self._in_room()
        self._because, self._back = "", 0
        number = self._withdrawals.follow(plan)
        self._shared = self._path_of("shared", number).read_bytes()
        optimiser = self._path_of("optimiser", number)
        self._state = optimiser.read_bytes() if optimiser.exists() else b""
        self.plan = replace(
            plan,
            number=number,
            attempt=1,
            rewound=len(self._withdrawals.followed),
            shared_sha256=hashlib.sha256(self._shared).hexdigest(),
        )
        self._next()
        for later in range(number + 1, plan.number + 1):
            for kind in ("shared", "optimiser"):
                self._path_of(kind, later).unlink(missing_ok=True)
        rounds = f"{plan.number - number} finished round{'s' if plan.number - number != 1 else ''}"
        yield Note(f"Back at round {number}: {rounds} will be trained anew, without the artist who withdrew.")

    def _withdrawals_since(self) -> Iterator[Note]:
        """Look for artists who withdrew after the last round; one that a sum holds makes the room go back."""
        _, transport = self._in_room()
        while delivered := transport.receive(self._cursor, 0):
            for _, envelope in delivered:
                yield from self._noticed_withdrawal(envelope)
                if envelope.kind in ("hello", "leave"):
                    self._early.append(envelope)
            self._cursor = delivered[-1].seq

    def _started(self, engine: RoundEngine, before: Phase) -> Iterator[RoundOpened]:
        if before is Phase.ADVERTISE and engine.roster:
            yield RoundOpened(engine.plan.number, engine.plan.total, self._names(engine.roster))

    def _finish(self, engine: RoundEngine) -> Iterator[Note | RoundClosed]:
        """Keep the outcome, then tell of it: whoever saw a round end finds it again after any crash."""
        result, plan = engine.result, engine.plan
        if result is None:
            self._because = engine.reason
            self.plan = replace(plan, attempt=plan.attempt + 1)
            self._save()
            yield Note(f"Round {plan.number} starts again: {engine.reason}", "warning")
            return
        self._shared, self._state, self._because = result.shared, result.state, ""
        for artist in result.contributors:
            self._withdrawals.first.setdefault(artist, plan.number)
        shared_sha256 = hashlib.sha256(self._shared).hexdigest()
        self.plan = replace(plan, number=plan.number + 1, attempt=1, shared_sha256=shared_sha256)
        self._next()
        if result.dropped:
            yield Note(f"Round {plan.number} went on without {', '.join(self._names(result.dropped))}.", "warning")
        yield RoundClosed(plan.number, plan.total, len(result.contributors), self.shared, dict(result.metrics))

    def _said(self, plan: RoundPlan) -> list[Envelope]:
        """What this host had already said in this attempt before it was restarted, from the room's log."""
        _, transport = self._in_room()
        said: list[Envelope] = []
        cursor = self._cursor
        while delivered := transport.receive(cursor, 0):
            said += [
                e for _, e in delivered if e.sender == self.identity.id and e.body.get("plan_digest") == plan.digest
            ]
            cursor = delivered[-1].seq
        return said

    def _in_room(self) -> tuple[RoundPlan, Transport]:
        if self.plan is None or self.transport is None:
            raise RoundError("There is no room yet. Call open_room(relay) first.")
        return self.plan, self.transport

    def _send(self, envelope: Envelope) -> None:
        """Send it, or keep it until the relay can be reached."""
        self._in_room()
        if self._outbox is not None:
            abandonable(partial(self._outbox.send, envelope))

    def _connect(self, transport: Transport) -> None:
        self.transport, self._outbox = transport, Outbox(transport, self.identity)

    def _name(self, artist: str) -> str:
        member = self.members.get(artist)
        return member.name if member else f"{artist[:8]}…"

    def _names(self, artists: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._name(artist) for artist in artists)

    def _reason(self, engine: RoundEngine) -> str:
        waiting = self._names(engine.waiting_for())
        if engine.phase is Phase.ADVERTISE and not waiting and len(self.members) >= engine.plan.min_artists:
            return (
                f"{engine.willing} of at least {engine.plan.min_artists} artists contribute; the others skip the round."
            )
        if engine.phase is Phase.ADVERTISE:
            asking = ", ".join(f"{guest.name} ({guest.short})" for guest in self.guests)
            asking = f" Asking to come in: {asking}." if asking else ""
            return f"{len(self.members)} of at least {engine.plan.min_artists} artists are in the room.{asking}"
        return f"Waiting for {_WAITED_FOR[engine.phase]} {', '.join(waiting)}."

    def _next(self) -> None:
        """The plan is another round's from now on: whoever has not left is waited for again."""
        for member in self.members.values():
            member.state = "joined" if member.state != "left" else "left"
        self._save()

    def _path_of(self, kind: str, number: int) -> Path:
        """Where the "shared" adapter, or the "optimiser"'s state, lies that a round starts from."""
        return self.folder / f"{kind}-{number:04d}.safetensors"

    def _save(self) -> None:
        """One atomic file holds the room, so a killed host never finds half of a round."""
        plan, _ = self._in_room()
        shared = self._path_of("shared", plan.number)
        write_private(shared, self._shared)
        if self._state:
            write_private(self._path_of("optimiser", plan.number), self._state)
        state = {
            "plan": plan.to_body(),
            "optimiser": bool(self._state),
            "shared": shared.name,
            "cursor": self._cursor,
            "because": self._because,
            "invite": str(self.invite) if self.invite else None,
            **self._withdrawals.to_json(),
            "members": [[m.id, m.name, m.state] for m in self.members.values()],
        }
        write_private(self.folder / "room.json", json.dumps(state).encode())

    def _resume(self) -> None:
        """Go on where a kernel before stopped; a damaged file is set aside, and the room is opened anew."""
        path = self.folder / "room.json"
        if not path.exists():
            return
        try:
            state: Any = read_json(path)
            if not state.get("invite"):
                return
            plan, invite = RoundPlan.from_body(state["plan"]), Invite.parse(state["invite"])
            shared = (self.folder / state["shared"]).read_bytes()
            Adapter.from_bytes(shared)
            optimiser = self._path_of("optimiser", plan.number).read_bytes() if state.get("optimiser") else b""
            cursor, because = int(state["cursor"]), str(state["because"])
            withdrawals = Withdrawals.from_json(state)
            members = {i: Member(i, name, mark, heard_at=time.monotonic()) for i, name, mark in state["members"]}
        except (FedArtError, OSError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            told = (
                f"The host cannot go on with its room ({error}). What was kept of it is now "
                f"{str(set_aside(path))!r}; the shared adapters stay. Open a room, and send its invites."
            )
            warnings.warn(told, UserWarning, stacklevel=3)
            return
        self.plan, self.invite, self._shared, self._state = plan, invite, shared, optimiser
        self._cursor, self._because, self._withdrawals, self.members = cursor, because, withdrawals, members
        self.admission.bind(self.invite.room, self.identity.id)
        self._connect(RelayClient(self.invite, self.identity, patience_s=_RELAY_S))
