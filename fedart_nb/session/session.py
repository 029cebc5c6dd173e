"""One artist's session: art, backbone, adapters and room, saved in a folder so that a restarted kernel goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._system import settings
from .._system.cancelling import abandonable
from .._system.files import write_private
from .._system.names import checked_name
from ..attacks.view import ServerView
from ..consent import Ask, Choice, How, Leaving
from ..crypto.safety_number import SafetyNumber
from ..diffusion import (
    ANCHOR,
    Adapter,
    AdapterConfig,
    Backbone,
    LatentSet,
    PicturePrivacy,
    TrainConfig,
    TrainState,
    anchor_of,
    cache_latents,
    check_fits,
    compose,
    denoising_loss,
    initial_adapter,
    personal_config,
    sample,
    train,
)
from ..diffusion import (
    PERSONAL as PERSONAL_CONFIG,
)
from ..diffusion.composing import Way
from ..diffusion.example_level import Payment
from ..errors import ConsentError, FedArtError, PrivacyError, RelayClosed, RelayUnreachable, RoundError, TrainingError
from ..events import (
    Found,
    Joined,
    Note,
    RoomPaused,
    RoundClosed,
    RoundOpened,
    Sampled,
    SampleStep,
    Step,
    Trained,
    UpdateSent,
    Waiting,
)
from ..federated import (
    ArtistSide,
    RelayView,
    RoundPlan,
    Task,
    held_of,
    leaving_of,
    norm,
    pack,
    promise_of,
    refusal,
    rule_of,
    skellam_of,
    unpack,
)
from ..federated.client_memory import refusal_of
from ..federated.gains import Gains, addends, asked
from ..federated.leave_one_out import Followed, taken_out, taken_out_after
from ..federated.liveness import HostLife, SignsOfLife, sign_every_s
from ..federated.roster import RosterShown, short_id
from ..federated.tensors import Tensors
from ..privacy.accounting import Mechanism
from ..privacy.client_level import ArtistPrivacy
from ..privacy.distributed import SkellamSum
from ..privacy.guarantee import ArtistPromise
from ..privacy.ledger import PERSONAL, Ledger
from ..privacy.planning import Unit
from ..relay import Delivered, Envelope, Invite, Outbox, RelayClient, Transport
from .privacy_budgets import PrivacyBudgets
from .roster_check import Confirm, RosterCheck
from .round_training import TrainedUpdate, train_round, why_not_trainable
from .store import SessionStore

if TYPE_CHECKING:
    from ..art import ArtSet

__all__ = ["Decision", "Session"]

_POLL_S = 2.0
_KNOWN_RELAY_S = 120.0  # a room's relay may be away for a while; an address just typed may be wrong
_LOOK_S = 0.25  # while somebody is asked about a list of artists
_RELAY_S = 15.0  # a relay that does not answer for so long is asked again, and the artist is told
_AWAY_S = (0.05, 2.0)  # the first and the longest pause before a relay that was not reachable is asked again
#: Attachments of the host's messages; an SDXL adapter of rank 16 has about 100 MB.
_LIMIT_BYTES = 512 * 1024 * 1024


#: Answers what is about to leave: a `Choice`, or whether to contribute.
_Consent = Callable[[Leaving], Choice | bool]
_UNASKED = (
    "You have not agreed to contribute, and nobody is there to be asked: give rounds(consent=...), or call "
    "session.consent.stand() to contribute to every round of this room."
)
_UNASKED_AGAIN = (
    "Your masked update has left before, and nobody is there to be asked whether another one may: give rounds(ask=...)."
)
_UNASKED_TERMS = (
    "Your standing consent is for a room of other terms, and nobody is there to be asked about these: give "
    "rounds(consent=...), or take the consent back and give it anew (session.consent.ask_again(), then stand())."
)
#: What can go wrong with one round, and must not end the others; consent that cannot be read ends them.
_MISHAPS = (FedArtError, OSError, RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, MemoryError)

#: What an artist decides about an update before it leaves: send it, skip the round, or train it anew with this privacy.
Decision = Literal["send", "skip"] | PicturePrivacy
_Preflight = Callable[[RoundPlan, ServerView], Generator[Any, None, Decision]]


@dataclass(frozen=True)
class _Sent:
    """The last update of this kernel, in memory alone, float32; `mean` when the round is over."""

    plan: RoundPlan
    update: NDArray[np.float32]
    envelope: Envelope
    before: bytes
    mean: NDArray[np.float32] | None = None
    contributors: int = 0


class Session:
    """One artist: a name, pictures, a backbone, a shared and a personal adapter, and at most one room.

    Args:
        name: shown to the room.
        folder: where identity, adapters and progress are kept; one of its own for each name, in the user's data
            folder, by default. Pictures are not copied there. It is open in one kernel at a time (`close`).
        backbone: the embedded one by default, loaded when first needed.
        throwaway: keep nothing, for a lesson: the folder is a temporary one, and what is spent here counts here alone.

    Attributes:
        consent: what this artist agreed to (`Consent`). Nothing of a round leaves without a choice.
        privacy: how rounds are trained; None trains without noise. `PicturePrivacy` noises every step in this kernel;
            `ArtistPrivacy` wants noise on the room's sums. Budgets are kept in ledgers, one for each room, that survive
            the kernel; a room that noises its sums has one in any case, which keeps count.

    Example:
        >>> session = Session("Ada")
        >>> session.art = ArtSet.sample("openmoji")
        >>> for event in session.train_personal(TrainConfig(steps=60)):
        ...     print(event)
    """

    def __init__(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        backbone: Backbone | None = None,
        throwaway: bool = False,
    ) -> None:
        self.name = checked_name(name)
        self.store = SessionStore(self.name, folder, throwaway=throwaway)
        self.folder, self.identity = self.store.folder, self.store.identity
        self.consent = self.store.consent()
        self.budgets = PrivacyBudgets(self.folder, self.store.folders, self.identity.id)
        self.personal: Adapter | None = self.store.adapter("personal")
        self.shared: Adapter | None = self.store.adapter("shared")
        self.transport: Transport | None = None
        self.invite: Invite | None = None
        self.privacy: PicturePrivacy | ArtistPrivacy | None = None
        self.side: ArtistSide | None = None
        self.people: RosterCheck | None = None
        self.bytes_sent: int = self.store.room().get("bytes_sent", 0)
        self._backbone = backbone
        self._art: ArtSet | None = None
        self._latents: dict[tuple[int, int, str], LatentSet] = {}
        self._cursor = 0
        self._agreed: RoundPlan | None = None
        self._sent: _Sent | None = None
        self._loading = threading.Lock()

    def __repr__(self) -> str:
        art = f"{len(self._art)} pictures" if self._art is not None else "no art yet"
        return f"Session({self.name!r}, {art}, id {self.identity.id[:8]})"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found damaged, moved or set aside in this session's folder, as sentences."""
        return tuple(self.store.warnings)

    def close(self) -> None:
        """Let another kernel open this session; one that is thrown away is deleted."""
        self.store.close()

    @property
    def art(self) -> ArtSet | None:
        """The artist's pictures; they stay in this kernel."""
        return self._art

    @art.setter
    def art(self, art: ArtSet) -> None:
        self._art = art
        self._latents.clear()

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone, loaded at the first use."""
        with self._loading:
            if self._backbone is None:
                settings.limit_threads()
                self._backbone = Backbone.embedded()
            return self._backbone

    def latents(self, split: str) -> LatentSet:
        """Cached latents of the included pictures of "train" or "test"; encoded anew after a change of consent."""
        if self._art is None:
            raise TrainingError(f"{self.name} has no pictures yet. Set session.art = ArtSet.from_folder(...) first.")
        key = (id(self._art), self._art.revision, split)
        if key not in self._latents:
            self._latents = {k: v for k, v in self._latents.items() if k[:2] == key[:2]}
            self._latents[key] = cache_latents(self.backbone, self._art, split)
        return self._latents[key]

    def train_personal(
        self,
        config: TrainConfig | None = None,
        *,
        adapter: AdapterConfig | None = None,
        resume: TrainState | None = None,
        on_shared: bool = True,
        without_me: bool = False,
        privacy: PicturePrivacy | None = None,
    ) -> Iterator[Step | Trained]:
        """Train the personal adapter, on top of the frozen shared one where there is one. It never leaves this kernel.

        `on_shared=False` trains on the bare backbone, `without_me=True` on `rest_of_world`: what the others taught.
        With `TrainConfig(apart=...)` it is kept out of what the shared adapter writes already, with `style_tokens=4` a
        style token learns beside it, which never leaves this kernel either. The state is kept in the
        session folder every `config.validate_every` steps and where training is stopped, so that it also survives a
        kernel restart: pass `resume=session.resumable`, and `config` only for another number of steps.

        The adapter that was there before is kept (`former_adapters`, `take_former_back`). Training that goes out of
        control ends with an error and replaces nothing.

        `privacy` trains with noise, as is wise for an adapter that will be handed on, and pays from a ledger of its own
        before the first step; what is resumed pays for the steps that are left, with the noise that it began with.
        """
        config = config or (resume.config if resume else PERSONAL_CONFIG)
        below = self.rest_of_world() if without_me else self.shared if on_shared else None
        frozen = [(below, 1.0)] if below else []
        # noise grows with the number of parameters: what is trained with it stays small
        shape = adapter if privacy is not None else personal_config(self.backbone, adapter)
        start = None if resume else initial_adapter(self.backbone, shape, seed=secrets.randbits(31))
        data = self.latents("train")
        private, ledger = resume.private if resume else None, None
        if privacy is not None:
            ledger = self._ledger_for(privacy, PERSONAL)
            if resume is None:
                payment = privacy.payment(ledger, pictures=len(data), batch=config.batch, steps=config.steps)
                private = payment.private
        elif private is not None:
            ledger = self.ledger(PERSONAL).about(self.budgets.tally, self._content())
        events = train(
            self.backbone,
            data,
            config=config,
            start=start,
            frozen=frozen,
            held_out=self._held_out(),
            resume=resume,
            private=private,
            ledger=ledger,
            purpose="personal adapter",
            leaves="nothing, unless the artist hands the adapter on",
        )
        unfinished: TrainState | None = None
        try:
            for event in events:
                if isinstance(event, Step):
                    unfinished = event.state
                    if config.validate_every and event.index % config.validate_every == 0:
                        self.store.save_training(event.state, or_tell=True)
                else:
                    unfinished = None
                    self._replace_personal(event.adapter)
                    self.store.save_trained_on(event.adapter, self._content(data.ids), noised=private is not None)
                    self.store.forget_training()
                yield event
        except TrainingError:
            unfinished = None  # what went out of control is not worth going on from
            raise
        finally:
            if unfinished is not None:
                self.store.save_training(unfinished)

    @property
    def former_adapters(self) -> tuple[Adapter, ...]:
        """The personal adapters that training replaced, at most five, the newest last."""
        return tuple(self.store.former_adapters())

    def take_former_back(self) -> Adapter:
        """Make the personal adapter that was replaced last the personal one again; the present one is kept as former.

        Raises:
            TrainingError: none was replaced.
        """
        former = self.store.former_adapters()
        if not former:
            raise TrainingError("There is no former adapter: training has not replaced one in this session's folder.")
        self._replace_personal(former[-1])
        self.store.forget_former(former[-1])
        return former[-1]

    def _replace_personal(self, adapter: Adapter) -> None:
        """Save a personal adapter; the one that was there is kept, so that nothing is lost by training again."""
        if self.personal is not None and self.personal.digest != adapter.digest:
            self.store.keep_former(self.personal)
        self.store.save_adapter("personal", adapter)
        self.personal = adapter

    def ledger(self, room: str | None = None, *, unit: Unit | None = None) -> Ledger:
        """What was spent in a room, the one that this session is in by default ("personal": for personal adapters).

        What other rooms, sessions and personal adapters of this user spent of the same pictures counts in it.

        `unit`: "picture" or "artist", for rooms where both are kept; otherwise the one that there is.

        Raises:
            LedgerError: nothing was spent there yet, or the ledger cannot be trusted.
        """
        room = room or self._room_id()
        if unit is None:
            kept = self.budgets.units(room)
            wished: Unit = "artist" if isinstance(self.privacy, ArtistPrivacy) else "picture"
            unit = wished if wished in kept or not kept else kept[0]
        return self.budgets.ledger(room, unit, self._content())

    def promise(self, plan: RoundPlan) -> ArtistPromise | None:
        """What the noise of a plan that waits for an answer is worth to this artist; None where it has none."""
        side, _ = self._in_room()
        return promise_of(plan, rule_of(plan.rule).size(plan.number, unpack(side.shared or b"")))

    @property
    def safety_number(self) -> SafetyNumber | None:
        """What two people in the room compare aloud; None before this session was in a round's roster."""
        if self.side is None or not self.side.artists:
            return None
        return SafetyNumber.of(self.side.room, self.side.host, self.side.artists)

    @property
    def short_id(self) -> str:
        """The first digits of this artist's id: what a host sees at the door, and others in the list."""
        return short_id(self.identity.id)

    @property
    def roster(self) -> RosterShown | None:
        """The newest list of artists, with who was confirmed; None before a round has one."""
        return self.side.roster if self.side is not None else None

    def compared(self, words: SafetyNumber | str | None = None) -> RosterShown:
        """“We compared the words”: confirms the newest list, for this room and for good; returns it.

        `words`, where given, are those that were compared. Whoever is not in this list is asked about from now on,
        before anything is masked, also under a standing consent.

        Raises:
            RoundError: there is no list yet, or it has other words.
        """
        side, _ = self._in_room()
        assert self.people is not None  # noqa: S101 - who is in a room has one
        return self.people.compared(side, words)

    @property
    def resumable(self) -> TrainState | None:
        """The last saved state of an unfinished `train_personal`, or None."""
        return self.store.training()

    def rest_of_world(self) -> Adapter:
        """The shared adapter less what this artist added to it: the others' mean, worked out in this kernel.

        See `rounds.rest` for what it is exact for. Nothing is sent for it.

        Raises:
            RoundError: no round has ended here, one ended that this kernel did not follow to its end, or the room's
                rule does not allow it; the sentence says which.
        """
        if self.shared is None:
            raise RoundError("There is no shared adapter yet, so nothing to take yourself out of. Join a room first.")
        change = taken_out(self.store.without_me(self.shared.digest), self.shared.digest)
        return self.shared.plus(change)

    def export(
        self,
        folder: str | Path,
        *,
        how: Way = "cat",
        shared: float = 1.0,
        personal: float = 1.0,
        rank: int | None = None,
        handed_on: bool = True,
    ) -> Path:
        """Write both adapters at their weights as one, for any tool that reads LoRA files; returns its file.

        `how`: "cat" does exactly what they do together, "svd" nearly, at a smaller `rank` (`compose`). The file holds
        what the personal adapter learnt: whoever gets it can draw in this artist's hand. A style token is in it too;
        other tools pass it by, or take it as README says. So a personal adapter that was trained without noise is
        entered into the ledger as infinite; `handed_on=False` says that the file stays with you, and enters nothing.
        """
        if handed_on and personal and self.personal is not None:
            pictures, noised = self.store.trained_on(self.personal) or (self._content(), False)
            if pictures and not noised:
                once = ("personal adapter", self.personal.digest)
                left = "the personal adapter, which was trained without noise"
                self.budgets.unnoised(PERSONAL, pictures, purpose="personal adapter, handed on", left=left, once=once)
        return compose(self.adapters(shared=shared, personal=personal), how, rank=rank).save(folder)

    def adapters(self, *, shared: float = 1.0, personal: float = 1.0) -> list[tuple[Adapter, float]]:
        """The adapters that this session holds, with weights; those of weight 0 are left out."""
        pairs = [(self.shared, shared), (self.personal, personal)]
        return [(adapter, weight) for adapter, weight in pairs if adapter is not None and weight]

    def pictures(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int] = (1,),
        shared: float = 1.0,
        personal: float = 1.0,
        steps: int | None = None,
        guidance: float | None = None,
        anchored: bool | None = None,
        preview_every: int = 0,
    ) -> Iterator[SampleStep | Sampled]:
        """Draw pictures with the session's adapters at the given weights (0 and 0: the backbone alone).

        `anchored` ties them to what the bare backbone knows, so that captions survive (`diffusion.sampling`); None does
        so with the embedded backbone; False draws what plain diffusers would, which looks clearly different.
        """
        anchor = anchor_of(self.backbone) if anchored is None else ANCHOR if anchored else None
        return sample(
            self.backbone,
            prompts,
            seeds=seeds,
            adapters=self.adapters(shared=shared, personal=personal),
            steps=steps,
            guidance=guidance,
            anchor=anchor,
            preview_every=preview_every,
        )

    def held_out_loss(self, *, shared: float = 1.0, personal: float = 1.0) -> float | None:
        """Denoising loss on this artist's held-out pictures; None when there are none. Stays in this kernel."""
        held_out = self._held_out()
        if held_out is None:
            return None
        return denoising_loss(self.backbone, held_out, self.adapters(shared=shared, personal=personal))

    def gain(self) -> float | None:
        """How far the shared adapter lowers the loss on this artist's held-out pictures; None without such pictures.

        Below zero: the bare backbone draws them better. Stays in this kernel; a plan may ask for sums of it
        (`rounds.gains`).

        Raises:
            TrainingError: there is no shared adapter yet.
        """
        if self.shared is None:
            raise TrainingError("There is no shared adapter yet; a round has to end first.")
        return None if self._held_out() is None else self._gain_by(self.shared)

    def _gain_by(self, adapter: Adapter) -> float:
        held_out = self._held_out()
        if held_out is None:
            raise TrainingError(
                "The plan asks for sums of what artists gain, measured on held-out pictures, and you hold none out. "
                "Give session.art a test split, or skip this round."
            )
        bare = denoising_loss(self.backbone, held_out, [])
        return bare - denoising_loss(self.backbone, held_out, [(adapter, 1.0)])

    @property
    def room_gains(self) -> Gains | None:
        """What the newest result says of everybody's gains, in sums; None where the plan does not ask for them."""
        return Gains.of(self.side.metrics, self.side.contributors) if self.side is not None else None

    def join(self, invite: Invite | str | None = None, *, transport: Transport | None = None) -> Joined:
        """Enter a room by its invite link (or a transport, such as `MemoryRelay().connect`). Sends a name, no more.

        After a kernel restart, `join()` without an invite goes back to the room that this session was in.
        """
        link: Invite | None = None
        if transport is None:
            text = invite or self.store.room().get("invite")
            if not text:
                raise RoundError("No invite was given, and this session has not been in a room yet. Ask the host.")
            link = text if isinstance(text, Invite) else Invite.parse(text)
            transport = self._at_relay(link, known=not invite)
        room = f"{transport.room}-{transport.host_id[:16]}"
        people = RosterCheck(self.folder / "rosters", room, self.identity.id)
        known = self.store.room(room)
        side = self._side_in(transport, link, people)
        if (known.get("room"), known.get("host")) == (transport.room, transport.host_id):
            try:
                side.restore(known["side"])
            except (FedArtError, AttributeError, LookupError, TypeError, ValueError):
                self.store.room_is_damaged(room)
                side = self._side_in(transport, link, people)
        transport.send(side.hello(), self.identity)  # a room that refuses leaves this session as it was
        self.store.keep_room()
        self.invite, self.transport, self.side, self._cursor, self.people = link, transport, side, 0, people
        self._outbox, self._host_life = Outbox(transport, self.identity), HostLife()
        self.consent.room = self._room_id()
        self._write_room()
        return Joined(transport.room, self.name)

    def _at_relay(self, link: Invite, *, known: bool) -> RelayClient:
        """Become a member of the room, before anything long: a wrong address is said within ten seconds."""
        client = RelayClient(link, self.identity, patience_s=_KNOWN_RELAY_S if known else None)
        try:
            client.join()
        finally:
            client.close()
        return RelayClient(link, self.identity, patience_s=_RELAY_S)

    def _side_in(self, transport: Transport, link: Invite | None, people: RosterCheck) -> ArtistSide:
        side = ArtistSide(
            room=transport.room,
            host=transport.host_id,
            identity=self.identity,
            name=self.name,
            backbone_sha256=self.backbone.sha256,
            keeper=self.store.keeper(),
            pay=self._pay_for_noise,
            proof=link.proof(self.identity.id) if link else "",
        )
        side.check_shared, side.pins = self._check_shared, people.pins
        return side

    def rounds(
        self,
        *,
        consent: _Consent | None = None,
        ask: Ask | None = None,
        until_round: int | None = None,
        preflight: _Preflight | None = None,
        confirm: Confirm | None = None,
    ) -> Iterator[Any]:
        """Take part in the room's rounds until the host closes it (or `until_round` is over).

        `consent(leaving)` is asked before anything of a round is trained or sent, and shown what would leave; it says
        "contribute" (or True), "skip" (or False), "leave" or "withdraw". It is not asked under a standing consent for
        the room (`session.consent.stand()`); with neither, every round is skipped. While a round runs,
        `session.consent.change("skip")` changes the artist's mind, and a picture that is left out is trained without.

        `ask(question)` is asked, also under a standing consent, whether another masked update of a round may leave,
        where one has left before: because the round failed, or because the room went back; and once, whether any may
        leave in a room that the host has opened anew since one left. Without `ask`, `consent` is asked once more;
        without both, none leaves. `Question` has the sentences, and the plan caps how often.

        With `session.privacy` set, rounds are trained with noise and paid for from the room's ledger; a round that the
        budget does not reach for, or that cannot be trained here, is skipped before anything is trained. What goes
        wrong with one message or one round is a `Note` of level "error"; the rounds go on, also while the relay cannot
        be reached. Where the host stopped, or is not heard any more, there is a `RoomPaused`. Called again after the
        room was closed, it goes on if somebody withdrew since and the host has called its own `rounds` again.

        `preflight(plan, view)` is a generator that is run when an update is trained, before it is masked and sent:
        `view` is the update as somebody would see it in the clear. Its events are passed on (with a sign of life to the
        host now and then), and what it returns is the `Decision`: "send", "skip", or a `PicturePrivacy` under which the
        update is thrown away, trained anew, paid for, and looked at again.

        `confirm(roster)` is asked about a list of artists (`RosterShown`) that holds somebody unconfirmed, before
        anything is masked, in every attempt and under a standing consent too: "compared", "known" (or True), "no" (or
        False), or None to be asked again a moment later; "anyone" in its place takes every list. Without it, such a
        list is not taken, unless all who are unconfirmed are sessions of this process (`RosterCheck`).
        """
        side, transport = self._in_room()
        yield Joined(transport.room, self.name)
        if side.closed and not side.left:  # a host that went back because somebody withdrew opens its room again
            yield from self._heard(abandonable(partial(transport.receive, self._cursor, _POLL_S)))
        pause, away_s = "", _AWAY_S[0]
        while not side.closed and not (until_round and side.rounds_done >= until_round):
            if not self.store.is_newest:
                yield Note("This session was opened again in another tab or cell; this one stops here.", "warning")
                return
            unfinished = side.needs_answer() or side.task is not None  # this generator was stopped in the middle before
            wait_s = 0 if unfinished else _POLL_S if side.question is None else _LOOK_S
            try:
                abandonable(self._outbox.flush)
                delivered = abandonable(partial(transport.receive, self._cursor, wait_s))
            except RelayClosed:
                raise
            except RelayUnreachable as error:
                self._host_life.excuse()
                yield Waiting(f"The relay is asked again: {error}")
                time.sleep(away_s)
                away_s = min(2 * away_s, _AWAY_S[1])
                continue
            away_s = _AWAY_S[0]
            if not delivered and not unfinished and side.question is None:
                before, pause = pause, self._host_life.stopped or "silent" * bool(self._host_life.silent_s)
                if pause not in ("", before):
                    yield RoomPaused(self._host_life.pause)
                waits_for = "the host to open a round" if side.plan is None else "the others"
                outside = f"the host to let you in, as {self.name} (id {self.short_id})"
                yield Waiting(self._host_life.waiting(outside if side.waits_outside else waits_for))
                continue
            yield from self._heard(delivered)
            yield from self._met(confirm)
            if side.needs_answer() and side.plan is not None:
                here = yield from self._answered(side.plan, consent, ask)
                if not here:
                    return
            if side.task is not None:
                yield from self._contribute(side.task, preflight)
            try:
                self._write_room()
            except OSError as error:
                yield Note(
                    f"What this kernel knows of the room could not be written down: {error}. Free some disk space."
                )

    def _met(self, confirm: Confirm | None) -> Iterator[Any]:
        """Show a list of artists that has arrived, and ask where somebody in it is unconfirmed."""
        side, _ = self._in_room()
        assert self.people is not None  # noqa: S101 - who is in a room has one
        yield from self.people.heard(side)
        if side.question is None or (plan := side.plan) is None:
            return
        yield from self.people.ask(side, confirm, self._send)
        if self.people.declined:
            leaving = self.consent.shown(plan.digest) or self.what_leaves(plan)
            if self.people.final:
                self.consent.choose("skip", "asked" if confirm else "unasked", leaving=leaving)
            self.consent.stayed(leaving, self.people.declined)

    def _heard(self, delivered: Sequence[Delivered]) -> Iterator[Any]:
        """Take the room's messages; one that cannot be fetched now is asked for again."""
        side, transport = self._in_room()
        for seq, message in delivered:
            refused, warned, envelope = len(side.refusals), len(side.warnings), message
            turn, newest = side.rewound, side.newest
            try:
                if message.sender == side.host and message.attachment_refs:
                    envelope = abandonable(partial(transport.fetch, message, _LIMIT_BYTES))
                for answer in side.feed(envelope):
                    self._send(answer)
            except RelayUnreachable as error:
                yield Note(str(error), "warning")
                break  # the cursor stays: the same message is asked for again
            except (FedArtError, OSError) as error:
                yield Note(str(error), "error")
            except Exception as error:  # noqa: BLE001 - a message is the boundary: whatever it holds, the rounds go on
                said = f"{type(error).__name__}: {str(error)[:200]}"
                yield Note(f"A {message.kind} message cannot be read ({said}). It was set aside.", "error")
            if envelope.sender == side.host:
                self._host_life.heard(envelope, patience_s=side.plan.patience_s if side.plan else 0.0)
            try:
                if side.rewound != turn:
                    self._rewound()
                self._cursor = seq
                if side.newest != newest:
                    yield from self._take_result(envelope)
            except OSError as error:
                yield Note(f"The new shared adapter could not be written to {self.folder}: {error}.", "error")
            for reason in side.refusals[refused:]:
                yield Note(f"The host refused a message: {reason}", "error")
            for sentence in side.warnings[warned:]:
                yield Note(sentence, "warning")

    @property
    def can_look_back(self) -> bool:
        """Whether `relay_view` has a finished round to show."""
        return self._sent is not None and self._sent.mean is not None

    def relay_view(self, others: Sequence[Session] = ()) -> RelayView:
        """What the relay holds of the last finished round that this session sent an update in; its bytes are fetched.

        `others`: sessions of this kernel that were in the round too (a rehearsal), whose updates are known here.

        Raises:
            RoundError: no such round in this kernel's lifetime: an update is kept in memory alone, until the next one.
        """
        sent = self._sent
        _, transport = self._in_room()
        if sent is None or sent.mean is None:
            raise RoundError("No round has ended with an update of this kernel in it yet. Take part in one first.")
        message = abandonable(partial(transport.fetch, sent.envelope, _LIMIT_BYTES)).attachments["update"]
        known = {
            other.name: other._sent.update.astype(np.float64)
            for other in others
            if other._sent is not None and other._sent.plan.digest == sent.plan.digest and other is not self
        }
        artists = len(self.side.artists) if self.side else sent.contributors
        noised = sent.plan.protection == "artist"
        return RelayView(
            number=sent.plan.number,
            update=sent.update.astype(np.float64),
            held=held_of(sent.plan, message, len(sent.update)),
            mean=sent.mean.astype(np.float64),
            contributors=sent.contributors,
            roster=artists,
            others=known,
            noise_std=skellam_of(sent.plan, len(sent.update), artists).noise_std(1) if noised else 0.0,
        )

    @property
    def sent_round(self) -> int:
        """The number of the last finished round that this kernel sent an update in; 0: none."""
        return self._sent.plan.number if self._sent is not None and self._sent.mean is not None else 0

    def sent_views(self) -> dict[str, ServerView]:
        """The last finished round's update as it is seen by who holds what, for attacks on it.

        "your masked share": the bytes that the relay holds, fetched from it; "the sum of all": what everybody in the
        room can compute; "your update in the clear": what only this kernel knows.

        Raises:
            RoundError: no such round in this kernel's lifetime, or one of tiny cores, which attacks do not read.
        """
        sent = self._sent
        _, transport = self._in_room()
        if sent is None or sent.mean is None:
            raise RoundError("No round has ended with an update of this kernel in it yet. Take part in one first.")
        like = rule_of(sent.plan.rule).sent_like(sent.plan.number, unpack(sent.before))
        if any(".lora_A." not in name and ".lora_B." not in name for name in like):
            raise RoundError(f"The rule {sent.plan.rule!r} sends no A or B; the attacks here read those alone.")
        message = abandonable(partial(transport.fetch, sent.envelope, _LIMIT_BYTES)).attachments["update"]
        facts = _public(sent.plan, len(self.latents("train")))
        sha, shared = self.backbone.sha256, sent.before
        hidden = {name: fact for name, fact in facts.items() if name != "kind"}
        share = ServerView.of_share(held_of(sent.plan, message, len(sent.update)), shared, sha, like=like, **hidden)
        total = _shaped(sent.mean * np.float32(sent.contributors), like)
        return {
            "your masked share": share,
            "the sum of all": ServerView.of(total, shared, sha, artists=max(1, sent.contributors), **facts),
            "your update in the clear": ServerView.of(_shaped(sent.update, like), shared, sha, **facts),
        }

    def leave(self, *, withdraw: bool = False) -> str:
        """Leave the room; pictures and adapters stay. Returns what was deleted in this kernel, as a sentence.

        `withdraw` asks the host, under this artist's signature, to go back to before their first round and have the
        others train again without them (`Host.rounds`); the host may say no, and plans cap how often a room goes back.
        In no case does a further round start with this artist in it. The relay is asked to delete what they uploaded.
        In this kernel the updates in the clear are deleted, with all that is known of them and the secrets of every
        try. A relay or a participant that kept copies cannot be made to forget them.
        """
        side, transport = self._in_room()
        self.consent.depart("withdraw" if withdraw else "leave")
        gone = ""
        if withdraw:
            self._sent = None
            gone = self.store.withdraw()  # also where the relay cannot be reached
        transport.send(side.leave(withdraw=withdraw), self.identity)
        if withdraw:
            transport.drop()
        self.store.keep_room()
        return gone

    def what_leaves(self, plan: RoundPlan) -> Leaving:
        """What a round with this plan would take out of this kernel."""
        side, _ = self._in_room()
        return leaving_of(
            plan,
            side.shared or b"",
            room=self._room_id(),
            name=self.name,
            pictures=len(self._trained_on()),
            goes_to=self.invite.url if self.invite else "the room's relay",
            price=self._price(plan),
            again=question.sentences if (question := side.further()) else (),
        )

    def _answered(self, plan: RoundPlan, consent: _Consent | None, ask: Ask | None) -> Generator[Any, None, bool]:
        """Choose for a round, write it down, and only then answer the host; False where the room was left."""
        side, _ = self._in_room()
        again = self._agreed == replace(plan, attempt=1)  # the same round again: that was asked before
        choice: Choice = "skip"
        why_not = why_not_trainable(plan, side.shared or b"", self._art, self.backbone) or refusal_of(
            plan, side.history
        )
        if not why_not and not (again or consent or self.consent.standing):
            why_not = _UNASKED
        if not why_not:
            leaving = self.what_leaves(plan)
            choice, how = self._choice(leaving, consent, ask, again=again)
            leaving = replace(leaving, pictures=len(self._trained_on()))  # some may be left out while the plan waits
            unasked = _UNASKED_AGAIN if again or self.consent.covers(leaving.terms) else _UNASKED_TERMS
            why_not = self._why_unpaid(plan) if choice == "contribute" else unasked * (how == "unasked")
            if choice in ("leave", "withdraw"):
                yield Note(f"Round {plan.number}: you leave the room.")
                if gone := self.leave(withdraw=choice == "withdraw"):
                    yield Note(gone)
                return False
            try:
                self.consent.choose(choice, how, leaving=leaving, pictures=self._trained_on())
                if why_not and choice == "contribute":
                    self.consent.stayed(leaving, why_not)
            except OSError as error:
                why_not = f"Your choice could not be written down: {error}. Free some disk space."
        contribute = choice == "contribute" and not why_not
        self._agreed = replace(plan, attempt=1) if contribute else None
        self._send(side.answer(contribute=contribute))
        skipped = Note(f"Round {plan.number} skipped. {why_not}".strip(), "warning" if why_not else "info")
        yield RoundOpened(plan.number, plan.total) if contribute else skipped
        return True

    def _choice(
        self, leaving: Leaving, consent: _Consent | None, ask: Ask | None, *, again: bool
    ) -> tuple[Choice, How]:
        """What the artist chose for a round, or chooses now."""
        side, _ = self._in_room()
        if self.consent.skips(leaving.room, leaving.number, leaving.turn):
            return "skip", "again"
        covered, question = self.consent.covers(leaving.terms), side.further()
        if (again or covered) and question is None:
            return "contribute", "again" if again else "standing"
        if (again or covered) and question is not None and ask is not None:
            return "contribute" if ask(question) else "skip", "asked"
        if consent is None:
            return "skip", "unasked"
        answer = consent(leaving)
        if isinstance(answer, bool):
            return "contribute" if answer else "skip", "asked"
        return answer, "asked"

    def _trained_on(self) -> tuple[str, ...]:
        """Ids of the pictures that a round would be trained on now."""
        return tuple(picture.id for picture in self._art.included("train")) if self._art is not None else ()

    def _price(self, plan: RoundPlan) -> tuple[Ledger, Mechanism] | None:
        """The ledger that a round with this plan would be paid from, and for what; None without noise or budget."""
        side, _ = self._in_room()
        with contextlib.suppress(PrivacyError):
            if plan.protection == "artist":
                wish = self.privacy if isinstance(self.privacy, ArtistPrivacy) else ArtistPrivacy(epsilon=None)
                size = rule_of(plan.rule).size(plan.number, unpack(side.shared or b""))
                code = skellam_of(plan, size, plan.min_artists)
                return self._artist_ledger(wish, plan), code.mechanism(colluders=wish.colluders)
            if (payment := self._payment(plan)) is not None:
                return payment.ledger, payment.mechanism
        return None

    def _contribute(self, task: Task, preflight: _Preflight | None = None) -> Iterator[Any]:
        """Train a round's update, have it looked at, and send it; the host hears all the while that this kernel lives.

        Whatever goes wrong, or keeps it here, the host is told not to wait.
        """
        side, transport = self._in_room()
        plan = task.plan
        leaving = self.consent.shown(plan.digest) or self.what_leaves(plan)

        def say(step: int) -> None:
            transport.send(side.progress(min(step, plan.local_steps), plan.local_steps), self.identity)

        signs = SignsOfLife(say, every_s=sign_every_s(plan.patience_s))
        try:
            kept_here = yield from signs.over(self._contributed(plan, leaving, preflight))
        except ConsentError:
            raise
        except _MISHAPS as error:
            kept_here = str(error) or type(error).__name__
            yield Note(f"Round {plan.number} goes on without you: {kept_here}", "error")
        if kept_here:
            side.task, self._agreed = None, None
            with contextlib.suppress(OSError):
                self.consent.stayed(leaving, kept_here)
            self._send(side.give_up(plan))

    def _contributed(
        self, plan: RoundPlan, leaving: Leaving, preflight: _Preflight | None
    ) -> Generator[Any, None, str]:
        """Train, look, send; returns why nothing was sent, or ""."""
        path = self._update_path(plan)
        decision: Decision | None = None
        while decision != "send":
            if not self._usable(path) and not (yield from self._train_for(plan, path)):
                break
            leaving = self.consent.leaving = replace(leaving, ready=True)
            decision = "send"
            if preflight:
                decision = yield from self._looked_at(plan, path, preflight)
                leaving = self.consent.shown(plan.digest) or leaving
                chosen: Choice = "skip" if decision == "skip" else "contribute"
                if leaving.found or decision == "skip":
                    self.consent.choose(chosen, "looked", leaving=leaving, pictures=self._trained_on())
            if decision == "skip":
                break
            if isinstance(decision, PicturePrivacy):
                self.privacy = decision
                path.unlink()
                leaving = self.what_leaves(plan)
            elif not self._usable(path):
                decision = None  # a picture was left out while somebody looked
        if decision == "send" and not (yield from self._still_runs(plan)):
            yield Note(f"Round {plan.number} went on before your update was ready; nothing of it has left.")
            return ""
        events: list[Any] | None = None
        with self.consent.sending(leaving) as may_leave:
            if may_leave and decision == "send":
                events = self._handed_over(plan, path, leaving)
        if events is not None:
            yield from events
            return ""
        path.unlink(missing_ok=True)
        yield Note(f"Round {plan.number}: nothing was sent. The others go on without you.")
        return "The artist's last word was to skip."

    def _still_runs(self, plan: RoundPlan) -> Generator[Any, None, bool]:
        """Whether a plan's attempt waits for our update as far as the relay tells: for another one none is masked."""
        side, transport = self._in_room()
        with contextlib.suppress(RelayUnreachable):
            yield from self._heard(transport.receive(self._cursor, 0))
        return side.task is not None and side.task.plan.digest == plan.digest

    def _train_for(self, plan: RoundPlan, path: Path) -> Generator[Any, None, bool]:
        """Train an update into its file; False where the artist's mind was changed meanwhile."""
        training = self._trained_update(plan)
        try:
            while not self.consent.skips(self._room_id(), plan.number, plan.rewound):
                try:
                    yield next(training)
                except StopIteration as over:
                    update, told, ids, noised = over.value
                    about = {"pictures": str(len(ids)), "metrics": json.dumps(told), "trained_on": " ".join(ids)}
                    about["noised"] = str(int(noised))
                    write_private(path, pack(update, about))  # masked twice, it must be the same: kept until it is over
                    return True
            return False
        finally:
            training.close()

    def _usable(self, path: Path) -> bool:
        """Whether an update is there, and no picture that it was trained on was left out since."""
        found = self.store.update(path)
        if found is None:
            return False
        if set(found[1].get("trained_on", "").split()) <= set(self._trained_on()):
            return True
        path.unlink()
        return False

    def _handed_over(self, plan: RoundPlan, path: Path, leaving: Leaving) -> list[Any]:
        """Mask an update, write down that it leaves, and send it; what happened, as events.

        It is on the disk that it is masked before a byte leaves: a restarted kernel must know.
        """
        side, _ = self._in_room()
        found = self.store.update(path)
        if found is None:
            raise RoundError(f"The update of round {plan.number} is gone from {str(self.folder)!r}. Train it again.")
        update, about = found
        warned = len(side.warnings)
        pictures, told = int(about["pictures"]), json.loads(about["metrics"])
        envelope = side.submit(update, pictures=pictures, metrics=told)
        if about.get("noised") != "1" and plan.protection != "artist":
            self._enter_unnoised(plan, path, about.get("trained_on", "").split())
        self._write_room(before_sending=True)
        ids = about.get("trained_on", "").split()
        self.consent.left(leaving, pictures=ids, size_bytes=envelope.attachments_bytes)
        self._send(envelope)
        before = side.shared or b""
        sent = rule_of(plan.rule).sent(plan.number, unpack(before), update)
        self._sent = _Sent(plan, _flat(sent), replace(envelope, attachments={}), before)
        self.bytes_sent += envelope.attachments_bytes
        warnings = [Note(sentence, "warning") for sentence in side.warnings[warned:]]
        return [*warnings, UpdateSent(plan.number, envelope.attachments_bytes, norm(sent))]

    def _enter_unnoised(self, plan: RoundPlan, path: Path, ids: Sequence[str]) -> None:
        """Write down, before an update without noise leaves, that nothing bounds what it tells of its pictures."""
        once = (f"{plan.digest} without noise", hashlib.sha256(path.read_bytes()).hexdigest())
        left = "a masked update without noise, known to others in a sum"
        room, pictures = self._room_id(), self._content(ids)
        self.budgets.unnoised(room, pictures, purpose=f"round {plan.number}", left=left, once=once)

    def _looked_at(self, plan: RoundPlan, path: Path, preflight: _Preflight) -> Generator[Any, None, Decision]:
        """Run the look before sending."""
        side, _ = self._in_room()
        looking = preflight(plan, self._view_of(plan, unpack(path.read_bytes()), side.shared or b""))
        try:
            while True:
                try:
                    event = next(looking)
                except StopIteration as over:
                    return "send" if over.value is None else over.value
                if isinstance(event, Found) and self.consent.leaving is not None:
                    self.consent.leaving = replace(self.consent.leaving, found=event.sentences)
                if self.consent.skips(self._room_id(), plan.number, plan.rewound):
                    return "skip"
                yield event
        finally:
            looking.close()

    def _view_of(self, plan: RoundPlan, update: Mapping[str, NDArray[np.float32]], shared: bytes) -> ServerView:
        """What this round's update is to somebody who sees it: what the rule sends of it."""
        sent = rule_of(plan.rule).sent(plan.number, unpack(shared), update)
        return ServerView.of(sent, shared, self.backbone.sha256, **_public(plan, len(self.latents("train"))))

    def note(self, text: str, record: Mapping[str, Any] | None = None) -> None:
        """Write a line into this room's ledger, or where there is none into `notes.jsonl` in the session's folder."""
        room = self._room_id()
        for unit in self.budgets.units(room)[:1]:
            self.budgets.ledger(room, unit).note(text, record=record)
            return
        self.store.note(room, text, record or {})

    def _trained_update(self, plan: RoundPlan) -> Generator[Step | Note, None, TrainedUpdate]:
        side, _ = self._in_room()
        picture = self.privacy if isinstance(self.privacy, PicturePrivacy) else None
        return train_round(
            self.backbone,
            self.latents("train"),
            plan,
            side.shared or b"",
            payment=self._payment(plan),
            learning_rate=picture.learning_rate if picture else None,
            measured=lambda start: addends(self._gain_by(start)) if asked(plan.metrics) else {},
        )

    def _payment(self, plan: RoundPlan) -> Payment | None:
        """With what noise to train a round so that the budget lasts for those to come, and who pays; None without."""
        if not isinstance(self.privacy, PicturePrivacy):
            return None
        if plan.metrics:
            raise PrivacyError(
                f"The plan asks for {', '.join(plan.metrics)}: losses on your pictures, which no noise covers. Ask the "
                "host for a room without metrics, or set session.privacy = None."
            )
        if reason := refusal(plan.rule, server=plan.server, weighting=plan.weighting, noise="picture"):
            raise PrivacyError(reason)
        ledger = self._ledger_for(self.privacy, self._room_id())
        factors = rule_of(plan.rule).factors(plan.number)
        privacy = self.privacy if factors == "both" else replace(self.privacy, factors=factors)
        return privacy.payment(
            ledger,
            pictures=len(self.latents("train")),
            batch=plan.batch,
            steps=plan.local_steps,
            rounds_left=plan.total - plan.number + 1,
            name=f"round {plan.number}",
        )

    def _why_unpaid(self, plan: RoundPlan) -> str:
        """Why the budget does not reach for a round, or "" if it does, or nothing is to be trained for it."""
        if unpaid := self._why_no_noise(plan):
            return unpaid
        if self._update_path(plan).exists():
            return ""
        try:
            payment = self._payment(plan)
        except PrivacyError as error:
            return str(error)
        return payment.refusal if payment is not None else ""

    def _why_no_noise(self, plan: RoundPlan) -> str:
        """Why a plan's noise on whole artists is not what this artist wants or can pay for, or ""."""
        side, _ = self._in_room()
        wish = self.privacy if isinstance(self.privacy, ArtistPrivacy) else None
        side.least_noise = wish.noise_multiplier if wish else 0.0
        if plan.protection != "artist":
            return "You want noise on whole artists, and this room's sums have none." if wish else ""
        if objection := side.objection():
            return objection
        wish = wish or ArtistPrivacy(epsilon=None)
        try:
            size = rule_of(plan.rule).size(plan.number, unpack(side.shared or b""))
            code = skellam_of(plan, size, plan.min_artists)
            return wish.refusal(self._artist_ledger(wish, plan), code)
        except PrivacyError as error:
            return str(error)

    def _pay_for_noise(self, plan: RoundPlan, code: SkellamSum, words_sha256: str) -> None:
        """Called by the side before a noised vector is masked."""
        wish = self.privacy if isinstance(self.privacy, ArtistPrivacy) else ArtistPrivacy(epsilon=None)
        wish.pay(
            self._artist_ledger(wish, plan),
            code,
            purpose=f"round {plan.number}",
            once=(plan.digest, words_sha256),
            pictures=len(self._art.included("train")) if self._art is not None else 0,
        )

    def _artist_ledger(self, wish: ArtistPrivacy, plan: RoundPlan) -> Ledger:
        return self.budgets.for_artist(wish, self._room_id(), self._content(), plan.delta)

    def _ledger_for(self, privacy: PicturePrivacy, room: str) -> Ledger:
        return self.budgets.for_pictures(privacy, room, self._content(self.latents("train").ids))

    def _content(self, ids: Iterable[str] | None = None) -> list[str]:
        """Hashes of pictures' content, by which the tally knows them; of those that are trained on by default."""
        wanted = set(self._trained_on() if ids is None else ids)
        return [one.sha256 for one in self._art if one.id in wanted] if self._art is not None else []

    def _room_id(self) -> str:
        _, transport = self._in_room()
        return f"{transport.room}-{transport.host_id[:16]}"

    def _update_path(self, plan: RoundPlan) -> Path:
        """Where the update for this attempt lies until the round is over, with that of an earlier one in its place.

        Unless it had left in the earlier one: a sum with it may be known, and two sums with one update in both tell
        too much. Then it is trained again.
        """
        side, _ = self._in_room()

        def path_of(attempt: int) -> Path:
            digest = replace(plan, attempt=attempt).digest
            return self.folder / "rounds" / f"update-{plan.number}-{digest[:16]}.safetensors"

        path = path_of(plan.attempt)
        for old in filter(Path.exists, map(path_of, range(1, plan.attempt))):
            if side.released(plan.number) or path.exists():
                old.unlink()
            else:
                old.replace(path)
        return path

    def _take_result(self, envelope: Envelope) -> Iterator[RoundClosed]:
        side, _ = self._in_room()
        if side.shared is None or side.rounds_done != envelope.round:
            return
        was = self.shared
        self.shared = self._shared_of(side.shared).expanded()
        self.store.save_adapter("shared", self.shared)
        sent = None
        if self._sent is not None and self._sent.plan.number == envelope.round:
            plan, before = self._sent.plan, unpack(self._sent.before)
            moved = rule_of(plan.rule).moved(plan.number, before, unpack(side.shared or b""))
            mean = _flat(moved)
            sent = Followed(plan, self._sent.update, moved, side.contributors)
            self._sent = replace(self._sent, mean=mean, contributors=side.contributors)
        self.consent.closed(
            self._room_id(),
            envelope.round,
            str(envelope.body.get("plan_digest", "")),
            counted=side.counted,
            shared=hashlib.sha256(side.shared).hexdigest(),
            contributors=side.contributors,
        )
        unfollowed = sent is None and self.store.has_update(envelope.round)
        self._keep_without_me(was, sent, unfollowed=unfollowed)
        self.store.forget_updates(number=envelope.round)
        total = envelope.body.get("total")
        total = total if isinstance(total, int) else envelope.round
        yield RoundClosed(envelope.round, total, side.contributors, self.shared, dict(side.metrics))

    def _rewound(self) -> None:
        """The room went back: what was made of later rounds is thrown away here too, and written down."""
        side, _ = self._in_room()
        assert side.plan is not None  # noqa: S101 - a plan took the room back
        why = "An artist withdrew."
        self.consent.rewound(self._room_id(), side.plan.number, why=why, plan=side.plan.digest)
        self.shared = self._shared_of(side.shared).expanded()
        self.store.save_adapter("shared", self.shared)
        self.store.forget_updates()

    def _keep_without_me(self, was: Adapter | None, sent: Followed | None, *, unfollowed: bool) -> None:
        """Add a round to what `rest_of_world` takes out of the shared adapter; in this session's folder alone."""
        side, _ = self._in_room()
        assert self.shared is not None  # noqa: S101 - a result has just arrived
        before = was.digest if was else ""
        kept = self.store.without_me(before) if side.rounds_done > 1 else b""
        reason = f"this kernel was restarted in round {side.rounds_done} and no longer knows its update" * unfollowed
        self.store.save_without_me(taken_out_after(kept, before, self.shared.digest, sent, why_not=reason))

    def _shared_of(self, data: bytes | None) -> Adapter:
        if data is None:
            raise RoundError("No shared adapter has arrived yet.")
        return Adapter.from_bytes(data)

    def _check_shared(self, data: bytes) -> None:
        """Refuse a shared adapter that the backbone cannot take, before the side takes it over."""
        check_fits(self.backbone, Adapter.from_bytes(data))

    def _send(self, envelope: Envelope) -> None:
        """Send it, or keep it until the relay can be reached."""
        abandonable(partial(self._outbox.send, envelope))

    def _in_room(self) -> tuple[ArtistSide, Transport]:
        if self.side is None or self.transport is None:
            raise RoundError(f"{self.name} is in no room yet. Call session.join(invite) first.")
        return self.side, self.transport

    def _held_out(self) -> LatentSet | None:
        if self._art is not None and not self._art.included("test"):
            return None
        return self.latents("test")

    def _write_room(self, *, before_sending: bool = False) -> None:
        side, transport = self._in_room()
        data = {
            "room": transport.room,
            "host": transport.host_id,
            "side": side.snapshot(before_sending=before_sending),
            "bytes_sent": self.bytes_sent,
        }
        if self.invite is not None:
            data["invite"] = str(self.invite)
        self.store.save_room(data)


def _flat(tensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate([tensors[name].reshape(-1) for name in sorted(tensors)])


def _shaped(flat: NDArray[np.float32], like: Tensors) -> dict[str, NDArray[np.float32]]:
    """The opposite of `_flat`: tensors with the names and shapes of others."""
    out, start = {}, 0
    for name, value in sorted(like.items()):
        out[name] = flat[start : start + value.size].reshape(value.shape)
        start += value.size
    return out


def _public(plan: RoundPlan, pictures: int) -> dict[str, Any]:
    """What everybody knows of an update in a round, by the names of `ServerView`."""
    return {
        "kind": "steps",
        "local_steps": plan.local_steps,
        "batch": max(1, min(plan.batch, pictures)),
        "learning_rate": plan.round_rate,
        "pictures": pictures,
    }
