"""The artist's panel for the rounds: an invite, a plan to agree to or not, and what came of each round."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import ipywidgets

from fedart_nb.consent import Question
from fedart_nb.errors import FedArtError, RoundError, TrainingError
from fedart_nb.events import Joined, Note, RoomPaused, RoundClosed, RoundOpened, Step, UpdateSent, Waiting
from fedart_nb.jobs import Job
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.preflight_card import PreflightCard
from fedart_nb.widgets.question_card import QuestionCard
from fedart_nb.widgets.roster_card import RosterCard
from fedart_nb.widgets.security import MASKED_UPDATES, masked_updates, promise_notice, safety_card
from fedart_nb.widgets.unsaved import UnsavedText

if TYPE_CHECKING:
    from fedart_nb.session import Session
    from fedart_nb.session.roster_check import Confirm

__all__ = ["RoomPanel"]

#: Who is let into the room, as its plan says.
_DOORS = {
    "lobby": "whom the host lets in, by name or by a link made for one person",
    "open": "▲ whoever has the link, as often as they like: one person may be all the others",
}
_LOOK_S = 0.2  # while a person thinks, the job looks this often whether it was cancelled


class _StoppedError(Exception):
    """The panel was stopped while a plan waited for an answer."""


@dataclass
class _Round:
    """What the panel knows of one round."""

    number: int
    part: str = "waiting for your answer"
    sent_bytes: int | None = None
    contributors: int | None = None
    loss: float | None = None


class RoomPanel(Panel):
    """Join a room and take part in its rounds; before anything leaves, the plan is shown and you are asked.

    `value` is the last `RoundClosed` event, or None. `ask=False` (or the box unticked) gives a standing consent to the
    room, under which every round is contributed to: what a notebook without a person in front of it needs. With
    `preflight=True` (or the box ticked) every update is attacked in this kernel before it leaves; `panel.preflight` is
    the card that shows what came out and asks what to do. A list of artists with somebody whom you have not confirmed
    is shown before anything is masked, and waits for you, also under a standing consent; `panel.roster` is its card.
    `confirm="anyone"` takes every list: for programs alone.

    Example:
        >>> panel = RoomPanel(session, ask=False)
        >>> panel.join("fedart+http://127.0.0.1:8765/studio#token=…&host=…")
        >>> panel.wait()
    """

    title = "The room"
    lead = "Train together: your kernel sends an update of numbers, and receives what all artists learnt."

    def __init__(
        self,
        session: Session,
        *,
        invite: str = "",
        ask: bool = True,
        preflight: bool = False,
        confirm: Literal["ask", "anyone"] = "ask",
    ) -> None:
        super().__init__(session)
        self.session = session
        self.plan: Any = None  # the plan that waits for an answer
        self.loss_before: float | None = None
        self._rounds: dict[int, _Round] = {}
        self._lines: list[str] = []
        self._now = ""
        self._step: Step | None = None
        self._room = ""
        self._answer: bool | None = None
        self._answered = threading.Event()
        self._leaving = False
        self._confirm = confirm
        self._build(invite, ask, preflight)

    # the buttons' methods

    def join(self, invite: str | None = None) -> Job:
        """Enter the room (default: by the link in the panel) and follow its rounds; returns the running job."""
        with self._reporting():
            art = self.session.art
            if art is None or not art.included("train"):
                raise TrainingError("No picture is included yet. Choose pictures with ArtPanel(session), then join.")
            link = str(invite).strip() if invite is not None else self._link.text.strip()
            with self._lock:
                self._leaving, self.plan, self._now = False, None, "Entering the room"
                self._rounds, self._lines, self._step = {}, [], None
            return self._begin("the rounds", self._events(link or None), on_event=self._show, on_end=self._finish)

    def contribute(self) -> RoomPanel:
        """Agree to the plan shown: train, and send the update when the round needs it."""
        self._reply(contribute=True)
        return self

    def skip(self) -> RoomPanel:
        """Stay in the room and send nothing in this round."""
        self._reply(contribute=False)
        return self

    async def asked(self) -> bool:
        """Wait until a plan waits for your answer: True then, False where the rounds ended without.

        >>> if await panel.asked():  # doctest: +SKIP
        ...     panel.contribute()
        """
        while self.plan is None and self.job is not None and not self.job.has_ended:  # noqa: ASYNC110 - a thread asks
            await asyncio.sleep(_LOOK_S)
        return self.plan is not None

    @property
    def question(self) -> Question | None:
        """Whether another update of a round may leave, where one has left before; None where nothing is asked."""
        return self.question_card.question

    def answer(self, *, yes: bool) -> RoomPanel:
        """Answer `question`."""
        with self._reporting():
            self.question_card.answer(yes=yes)
        return self

    def rethink(self) -> str:
        """Skip the running round after all; returns, and shows, what that still changes."""
        with self._reporting():
            told = self.session.consent.change("skip")
            with self._lock:
                self._lines.append(told)
                self._changed.value = parts.notice(told, title="You changed your mind")
                self._say(told, now=True)
                self._draw_tables()
        return told

    def leave(self) -> RoomPanel:
        """Leave the room for good; your pictures and adapters stay. Takes a few seconds while a message is awaited."""
        with self._reporting():
            self._leaving = True
            if self.job is not None and not self.job.has_ended:
                self._say("Leaving the room", now=True)
                self.cancel()
            else:
                self.session.leave()
        return self

    # construction

    def _build(self, invite: str, ask: bool, preflight: bool) -> None:
        self._link = UnsavedText(label="Invite link from the host", text=invite, placeholder="fedart+http://…")
        self._link.add_class("fedart-grow")
        self._join = self._button("Join", self.join, icon="sign-in", style="primary")
        self._leave = self._button("Leave", self.leave, icon="sign-out")
        self._ask = ipywidgets.Checkbox(value=ask, description="Ask me before each round", indent=False)
        self._ask.layout.width = "auto"
        self._ask.add_class("fedart-check")
        looking = "Attack my update here first, before it leaves"
        self._look = ipywidgets.Checkbox(value=preflight, description=looking, indent=False)
        self._look.layout.width = "auto"
        self._look.add_class("fedart-check")
        self.preflight = PreflightCard(self.session, asks=lambda: bool(self._ask.value), on_change=self._sync)
        self._terms = ipywidgets.HTML()
        self._contribute = self._button("Contribute", self.contribute, icon="check", style="primary")
        self._skip = self._button("Skip this round", self.skip, icon="forward")
        self._consent_card = parts.card(
            self._terms, parts.row(self._contribute, self._skip), title="Do you take part in this round?"
        )
        self._consent_card.add_class("fedart-raised")
        self._progress = ipywidgets.HTML()
        self._table = ipywidgets.HTML()
        self._log = ipywidgets.HTML()
        self._safety = ipywidgets.HTML()
        self._rethink = self._button("Skip this round after all", self.rethink, icon="undo")
        self._changed = ipywidgets.HTML()
        self._rounds_card = parts.card(
            self._progress,
            parts.row(self._rethink),
            self._changed,
            self._safety,
            self._table,
            self._log,
            title="Rounds",
        )
        self.question_card = QuestionCard(button=self._button, lock=self._lock, on_change=self._asks)
        self.roster = RosterCard(self.session, on_change=self._sync, button=self._button, lock=self._lock)
        self._consent_card.layout.display = self._rounds_card.layout.display = "none"
        self._budget_row = parts.row(self.preflight.budget)
        enter = parts.card(parts.row(self._link, self._join, self._leave), self._ask, self._look, self._budget_row)
        self._look.observe(lambda _change: self._sync(), "value")
        self._ask.observe(lambda _change: self._stand(), "value")
        self._compose(
            ipywidgets.HTML(masked_updates()),
            enter,
            self._consent_card,
            self.question_card,
            self.roster,
            self.preflight,
            self._rounds_card,
        )

    # the work, in the job's thread

    def _events(self, link: str | None) -> Iterator[Any]:
        yield Note("Asking the relay, then loading the backbone")
        from fedart_nb.relay import Invite

        with suppress(FedArtError):  # a link that is none is told by joining
            if link and (caution := Invite.parse(link).caution):
                self._record(Note(caution, "warning"))
        self.session.join(link)
        self._stand()
        try:
            self.loss_before = self.session.held_out_loss(shared=0.0, personal=0.0)
            confirm: Confirm = "anyone" if self._confirm == "anyone" else self._met
            asking: dict[str, Any] = {"consent": self._consent, "ask": self._asked_again, "confirm": confirm}
            for event in self.session.rounds(preflight=self._before_sending, **asking):
                self._record(event)
                yield event
        except _StoppedError:
            yield Note("Stopping")
        finally:
            if self._leaving:
                self.session.leave()

    def _before_sending(self, plan: Any, view: Any) -> Generator[Any, None, Any]:
        """The look before sending, where the box is ticked when the update is ready."""
        if not self._look.value:
            return "send"
        return (yield from self.preflight.look(plan, view))

    def _asked_again(self, question: Question) -> bool:
        """Ask whether another update of a round may leave, and wait for the person, whatever the box says."""
        while (answer := self.question_card.ask(question)) is None:
            if self.job is not None and self.job.is_cancelling:
                self.question_card.close_question()
                raise _StoppedError
            self.question_card.wait()
        return answer

    def _met(self, roster: Any) -> Any:
        """Ask whether the artists of a list are people whom this one knows; None until somebody answers."""
        if self.roster.question is not roster:
            self._say(f"{roster.question} {roster.warning}", now=True)
        return self.roster.confirm(roster)

    def _stand(self) -> None:
        """The box says whether there is a standing consent to the room that the session is in."""
        if self.session.consent.room:
            (self.session.consent.ask_again if self._ask.value else self.session.consent.stand)()

    def _consent(self, leaving: Any) -> bool:
        """Show what would leave and wait for the person; called by the session before it trains or sends anything.

        Under a standing consent it is called all the same when the room's terms are others than before: then the
        question is asked whatever the box says.
        """
        plan = leaving.key
        with self._lock:
            round_ = self._rounds.setdefault(plan.number, _Round(plan.number))
            self.plan, self._answer = plan, None
            self._answered.clear()
            self._terms.value = self._leaving_html(leaving)
            self._consent_card.layout.display = ""
            self._now = f"Round {plan.number} waits for your answer"
            self._show(None)
            self._say(f"{self._now}. {MASKED_UPDATES}.", now=True)
        self._sync()
        while not self._answered.wait(_LOOK_S):
            if self.job is not None and self.job.is_cancelling:
                raise _StoppedError  # neither yes nor no: after a restart the question comes again
        with self._lock:
            contribute = bool(self._answer)
            round_.part = "contributing" if contribute else "skipped"
            self._consent_card.layout.display = "none"
        self._sync()
        return contribute

    def _reply(self, *, contribute: bool) -> None:
        with self._reporting():
            if self.plan is None:
                raise RoundError("No plan waits for an answer now. The host opens the rounds.")
            self._answer, self.plan = contribute, None
            self._answered.set()

    def _asks(self, text: str) -> None:
        if text:
            self._say(text, now=True)
        self._sync()

    def _record(self, event: Any) -> None:
        """Keep every event: the watcher may be told of the latest only."""
        with self._lock:
            if isinstance(event, RoundOpened | RoundClosed):
                self._changed.value = ""
            if isinstance(event, Joined):
                self._room, self._now = event.room, "In the room. Waiting for the host to open a round."
                self._lines.append(f"Joined the room {event.room!r} as {event.name} (id {self.session.short_id}).")
            elif isinstance(event, Waiting):
                self._now, self._step = event.reason, None
            elif isinstance(event, RoomPaused):
                self._now, self._step = event.reason, None
                self._lines.append(f"⚠ {event.reason}")
            elif isinstance(event, Note):
                self._lines.append(("⚠ " if event.level != "info" else "") + event.text)
            elif isinstance(event, RoundOpened):
                self._rounds.setdefault(event.number, _Round(event.number)).part = "contributing"
                self._now = f"Round {event.number} of {event.total}: waiting for the others to answer"
                self._lines.append(f"Round {event.number} of {event.total}: you contribute.")
            elif isinstance(event, Step):
                self._step, self._now = event, "Training on your pictures"
            elif isinstance(event, UpdateSent):
                self._step = None
                round_ = self._rounds.setdefault(event.number, _Round(event.number))
                round_.part, round_.sent_bytes = "sent", event.size_bytes
                self._now = "Your update is sent. Waiting for the others."
                self._lines.append(
                    f"Round {event.number}: sent {parts.amount(event.size_bytes)}, of length {event.norm:.3g}."
                )
            elif isinstance(event, RoundClosed):
                self._close_round(event)

    def _close_round(self, event: RoundClosed) -> None:
        round_ = self._rounds.setdefault(event.number, _Round(event.number, part="not in it"))
        round_.part = {"waiting for your answer": "skipped", "contributing": "not counted"}.get(
            round_.part, round_.part
        )
        round_.contributors = event.contributors
        round_.loss = self.session.held_out_loss(shared=1.0, personal=0.0)
        self._closed_round = event
        self._now = f"Round {event.number} of {event.total} is over: the shared adapter has arrived."
        self._lines.append(f"{self._now} It is made of {event.contributors} updates{event.means}.")

    # what is shown, under the panel's lock

    def _show(self, event: Any) -> None:
        self._rounds_card.layout.display = ""
        if isinstance(event, RoundClosed):
            self.value = event
        self._sync()
        if isinstance(event, Note) and not self._room:
            self._now = event.text
        if self._step is not None:
            text = f"step {self._step.index} of {self._step.total}"
            self._progress.value = parts.progress(self._now, self._step.index, self._step.total, text)
        else:
            self._progress.value = parts.progress(self._now, None, 1, f"Room: {self._room}" if self._room else "")
        self._say(self._now, now=isinstance(event, RoundClosed | UpdateSent | RoomPaused))
        self.roster.draw()
        self._draw_safety()
        self._draw_tables()

    def _finish(self, job: Job) -> None:
        closed = getattr(self, "_closed_round", None)
        if closed is not None and self.value is not closed:
            self.value = closed
        self.plan = None
        self.question_card.close_question()
        self._consent_card.layout.display = "none"
        self._rounds_card.layout.display = ""
        if job.state == "done":
            over, level = "The host has closed the room. The shared adapter stays with you.", "success"
        elif job.state == "cancelled":
            over = (
                "You have left the room." if self._leaving else "You stopped taking part. Join goes back to the room."
            )
            level = "info"
        else:
            over, level = "Stopped by an error; the message is above. Join goes back to the room.", "warning"
        title = {"success": "Over", "info": "Stopped", "warning": "Not finished"}[level]
        self._progress.value = parts.notice(over, level=level, title=title)  # type: ignore[arg-type]
        self._say(over, now=True)
        self._draw_tables()

    def _draw_safety(self) -> None:
        safety = "" if self.roster.question is not None else safety_card(self.session.safety_number)
        if self._safety.value != safety:
            self._safety.value = safety

    def _draw_tables(self) -> None:
        rows = [self._row(round_) for round_ in sorted(self._rounds.values(), key=lambda round_: round_.number)]
        head = ("round", "your part", "you sent", "updates in it", "held-out loss with the shared adapter")
        before = "" if self.loss_before is None else f" Backbone alone: held-out loss {self.loss_before:.3f}."
        table = parts.table(head, rows, caption=f"Lower loss is better.{before}") if rows else ""
        if self._table.value != table:
            self._table.value = table
        log = parts.happened(self._lines)
        if self._log.value != log:
            self._log.value = log

    def _row(self, round_: _Round) -> tuple[str, ...]:
        loss = "–"
        if round_.loss is not None:
            loss = f"{round_.loss:.3f}"
            if self.loss_before:
                change = 100 * (round_.loss - self.loss_before) / self.loss_before
                loss += f" ({abs(change):.1f} % {'lower' if change <= 0 else 'higher'} than the backbone)"
        sent = "nothing" if round_.sent_bytes is None else parts.amount(round_.sent_bytes)
        contributors = "–" if round_.contributors is None else str(round_.contributors)
        return str(round_.number), round_.part, sent, contributors, loss

    def _leaving_html(self, leaving: Any) -> str:
        plan = leaving.key
        known = parts.facts(
            [
                ("round", f"{leaving.number} of {leaving.total}"),
                ("leaves this kernel", f"{parts.amount(leaving.size_bytes)}, masked, and the name {leaving.name}"),
                ("goes to", leaving.goes_to),
                ("is read as", f"a sum with at least {leaving.others} others, whom you are shown first"),
                ("training here", f"{leaving.steps} steps on {leaving.pictures} pictures"),
                ("privacy", leaving.cost),
                ("how often", leaving.limits),
                ("who comes in", _DOORS[plan.door]),
                ("never leaves", "pictures, captions, file names, losses, your own adapter"),
                ("the host waits", f"{parts.duration(plan.join_s)} or more, until {plan.min_artists} artists said yes"),
            ]
        )
        again = parts.notice(" ".join(leaving.again), level="warning") if leaving.again else ""
        noised = plan.protection == "artist"
        promised = promise_notice(self.session.promise(plan)) if noised else ""
        return known + again + masked_updates(why=False) + promised

    def _sync(self) -> None:
        busy = self.is_busy
        mine = busy and self.job is not None and not self.job.has_ended
        going = bool(self.job and self.job.is_cancelling)
        with self._lock:
            self._link.disabled = self._join.disabled = busy
            self._leave.disabled = not mine or going
            self._contribute.disabled = self._skip.disabled = self.plan is None or going
            self._rethink.disabled = not mine or self.session.consent.leaving is None
            self._budget_row.layout.display = "" if self._look.value else "none"

    def _summary(self) -> list[tuple[str, str]]:
        told = [("room", self._room or "not joined")]
        if self.value is not None:
            told.append(("rounds", f"{self.value.number} of {self.value.total}"))
        told.append(("privacy", MASKED_UPDATES[0].lower() + MASKED_UPDATES[1:]))
        return told

    def _static_body(self) -> str:
        return self._table.value
