"""The host's panel: open a room at a relay, hand out the invite, see who is there, run the rounds."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import ipywidgets

from fedart_nb.consent import Question
from fedart_nb.errors import RoundError, WireError
from fedart_nb.events import Joined, Note, RoundClosed, RoundOpened, Waiting
from fedart_nb.federated.gains import FEWEST, GAIN_METRICS, Gains
from fedart_nb.federated.roster import short_id
from fedart_nb.host.admission import Guest
from fedart_nb.jobs import Job
from fedart_nb.secagg.messages import MIN_ARTISTS
from fedart_nb.widgets import parts
from fedart_nb.widgets.copyable import Copyable
from fedart_nb.widgets.lobby_card import DOOR_WORDS, LobbyCard, open_door_notice
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.question_card import QuestionCard
from fedart_nb.widgets.security import MASKED_UPDATES, masked_updates, promise_notice, safety_card
from fedart_nb.widgets.unsaved import UnsavedText
from fedart_nb.widgets.weight import Weight

if TYPE_CHECKING:
    from fedart_nb.host import Host
    from fedart_nb.relay import RunningRelay

__all__ = ["HostPanel"]

#: Beside the switch for noise; what it will be worth is told when the room is open, before its first round.
_ABOUT_NOISE = parts.notice(
    "With it, a core of a few hundred numbers is trained, not a whole adapter; every artist adds a share of noise "
    "inside the masked sum, and pictures are not counted. How loud the noise is, is told before the first round.",
    title="Noise on whole artists",
)

_ABOUT_FAIRNESS = parts.notice(
    "With q above 0 an artist's update weighs by the q-th power of their loss (q-FFL), so that whom the model serves "
    "badly counts more; the largest part of a sum is then hidden the least. Sums of gains tell the mean, from "
    "five artists on also spread and count, and nobody's own. Both are off where noise hides whole artists.",
    title="Fairness",
)
_Q_WORDS = {"0": "0, everybody alike", "1": "1, by their loss"}

_LOOK_S = 0.2
_HERE, _THERE = "Start a relay in this kernel", "Use a relay that is running"

#: A host's own relay outlives its panel: artists still read the last result when the cell is run again.
_relays: WeakKeyDictionary[Any, RunningRelay] = WeakKeyDictionary()

#: What a member's state is called, with a sign and a level of colour that say the same.
_STATES: dict[str, tuple[str, str, parts.Level]] = {
    "joined": ("○", "in the room", "info"),
    "contributes": ("✓", "takes part", "success"),
    "skips": ("–", "skips this round", "info"),
    "asks": ("?", "looks at the list", "info"),
    "training": ("◐", "training", "info"),
    "sent": ("✔", "update is here", "success"),
    "dropped": ("✕", "no sign of life", "warning"),
    "declined": ("–", "does not take this list", "warning"),
    "left": ("←", "left", "warning"),
}


class HostPanel(Panel):
    """Open a room, hand out its invite, and run its rounds; shows every artist's state while they go on.

    `value` is the last `RoundClosed` event, or None; `invite` is the link to hand out. The link holds the room's
    secret: it is shown here, and left out of what the panel saves with the notebook; what a cell prints is saved as it
    was printed. `join_s`: how many seconds a round waits for an answer before it starts without those who gave none;
    `gains`: the box for sums of gains; `door`: "lobby" (you let people in, by name) or "open" (whoever has the link).

    Example:
        >>> panel = HostPanel(Host("Studio"), rounds=2, min_artists=3)
        >>> panel.open_room()
        >>> print(panel.invite)
        >>> panel.start_rounds()
    """

    title = "Host a room"
    lead = "Open a room, hand out the invite, and add up what the artists learn."

    def __init__(
        self,
        host: Host,
        *,
        relay: str | None = None,
        rounds: int = 2,
        min_artists: int = 3,
        steps: int = 20,
        rank: int = 4,
        artist_epsilon: float | None = None,
        gains: bool = False,
        join_s: float = 30.0,
        door: str = "lobby",
    ) -> None:
        super().__init__(host)
        self.host = host
        self._join_s = join_s
        self._lines: list[str] = []
        self._now = "The room is open. Hand out the invite, then start the rounds."
        self._round = (0, rounds)
        self._round_open = 0
        self._closing = False
        self._latest: RoundClosed | None = None
        self._build(relay or os.environ.get("FEDART_RELAY", ""), rounds, min_artists, steps, rank, artist_epsilon)
        self._gains.value, self._door.value = gains, door
        if host.plan is not None:
            self._show_room()

    @property
    def invite(self) -> Any:
        """The invite to hand out, or None before the room is open; `str(panel.invite)` is the link."""
        return self.host.invite

    # the buttons' methods

    def open_room(self) -> HostPanel:
        """Make the room at the relay chosen, with the settings shown, and wait until its invite is there."""
        self._start_opening().wait()
        return self

    def start_rounds(self) -> Job:
        """Run all rounds; returns the running job. Artists may join at any time."""
        with self._reporting():
            if self.host.plan is None:
                raise RoundError("There is no room yet. Open one first.")
            self._closing, self._round_open = False, 0
            return self._begin("the rounds", self._events(), on_event=self._show, on_end=self._finish)

    async def asked(self) -> bool:
        """Wait until a question waits for your answer (`question`): True then, False where the rounds ended without.

        >>> if await panel.asked():  # doctest: +SKIP
        ...     panel.go_back()
        """
        while self.question is None and self.job is not None and not self.job.has_ended:  # noqa: ASYNC110 - see RoomPanel
            await asyncio.sleep(_LOOK_S)
        return self.question is not None

    @property
    def question(self) -> Question | None:
        """Whether the room goes back because somebody withdrew, and what that costs; None where nothing is asked."""
        return self.question_card.question

    def go_back(self) -> HostPanel:
        """Answer `question`: the room goes back, and the others train again without who withdrew."""
        with self._reporting():
            self.question_card.answer(yes=True)
        return self

    def stay(self) -> HostPanel:
        """Answer `question`: the room does not go back. Who withdrew is in no further round all the same."""
        with self._reporting():
            self.question_card.answer(yes=False)
        return self

    def close_room(self) -> HostPanel:
        """Tell everybody that the room is closed; rounds that are finished stay."""
        with self._reporting():
            self._closing = True
            if self.job is not None and not self.job.has_ended:
                self._say("Closing the room", now=True)
                self.cancel()
            else:
                self.host.close()
        return self

    # construction

    def _build(
        self, relay: str, rounds: int, min_artists: int, steps: int, rank: int, artist_epsilon: float | None
    ) -> None:
        self._where = parts.field(
            ipywidgets.RadioButtons(
                description="Relay", options=[_HERE, _THERE], value=_THERE if relay else _HERE, orientation="horizontal"
            )
        )
        self._address = parts.field(
            ipywidgets.Text(description="Address of the relay", value=relay, placeholder="http://127.0.0.1:8765"),
            grow=True,
        )
        self._secret = UnsavedText(label="Secret for opening rooms, if the relay asks for one", text="")
        self._secret.add_class("fedart-grow")
        self._part_address()
        number = ipywidgets.BoundedIntText
        self._rounds = parts.field(number(description="Rounds", value=rounds, min=1, max=10_000))
        least = max(MIN_ARTISTS, min_artists)
        self._min = parts.field(number(description="Artists at least", value=least, min=MIN_ARTISTS, max=64))
        self._steps = parts.field(number(description="Steps a round", value=steps, min=1, max=100_000))
        ranks = sorted({1, 2, 4, 8, 16, rank})
        self._rank = parts.field(ipywidgets.Dropdown(description="Rank of the adapter", options=ranks, value=rank))
        choices = [(words, door) for door, words in DOOR_WORDS.items()]
        self._door = parts.field(ipywidgets.RadioButtons(description="Who comes in?", options=choices))
        self._door_text = ipywidgets.HTML()
        self._noise = ipywidgets.Checkbox(
            value=artist_epsilon is not None, description="Add noise that hides whole artists", indent=False
        )
        self._noise.layout.width = "auto"
        self._noise.add_class("fedart-check")
        self._epsilon = parts.field(
            ipywidgets.BoundedFloatText(
                description="Epsilon for each artist, over all rounds", value=artist_epsilon or 8.0, min=0.1, max=100.0
            )
        )
        self._noise_text = ipywidgets.HTML(_ABOUT_NOISE)
        self._q = Weight(
            label="Weight of who is served badly, q", value=0.0, max=3.0, step=0.5, marks=[], words=_Q_WORDS
        )
        self._gains = ipywidgets.Checkbox(value=False, description="Ask what artists gain, as sums", indent=False)
        self._gains.layout.width = "auto"
        self._gains.add_class("fedart-check")
        self._fair_text = ipywidgets.HTML(_ABOUT_FAIRNESS)
        self._noise.observe(lambda _change: self._sync(), "value")
        self._door.observe(lambda _change: self._sync(), "value")
        self._where.observe(lambda _change: self._sync(), "value")
        self._open = self._button("Open room", self._start_opening, icon="key", style="primary")
        self._opening = ipywidgets.HTML()
        self._setup = parts.card(
            self._where,
            self._address,
            self._secret,
            parts.row(self._rounds, self._min, self._steps, self._rank),
            self._door,
            self._door_text,
            parts.row(self._noise, self._epsilon),
            self._noise_text,
            self._q,
            self._gains,
            self._fair_text,
            parts.row(self._open),
            self._opening,
            title="Open a room",
        )
        self._link = Copyable(label="Invite link: whoever has it can ask to come in")
        self._lobby = LobbyCard(self.host, button=self._button, say=lambda text: self._say(text, now=True))
        self._start = self._button("Start rounds", self.start_rounds, icon="play", style="primary")
        self._close_button = self._button("Close room", self.close_room, icon="stop", style="danger")
        self._promise = ipywidgets.HTML()
        self._progress = ipywidgets.HTML()
        self._safety = ipywidgets.HTML()
        self._roster = ipywidgets.HTML()
        self._log = ipywidgets.HTML()
        self.question_card = QuestionCard(button=self._button, lock=self._lock, on_change=self._asks)
        self._room_card = parts.card(
            self._link,
            self._promise,
            parts.row(self._start, self._close_button),
            self.question_card,
            self._lobby,
            self._progress,
            self._safety,
            self._roster,
            self._log,
            title="The room",
        )
        self._room_card.layout.display = "none"
        self._compose(ipywidgets.HTML(masked_updates()), self._setup, self._room_card)

    # the work, in the job's thread

    def _start_opening(self) -> Job:
        with self._reporting():
            self._part_address()
            here, address = self._where.value == _HERE, self._address.value.strip()
            if not here and not address:
                raise RoundError("The relay's address is empty. Type it (http://…), or start a relay in this kernel.")
            chosen: dict[str, Any] = {
                "rounds": self._rounds.value,
                "min_artists": self._min.value,
                "local_steps": self._steps.value,
                "join_s": self._join_s,
                "door": self._door.value,
            }
            if self._noise.value:
                chosen["artist_epsilon"] = self._epsilon.value
            elif self._q.value:
                chosen |= {"weighting": "loss", "q": float(self._q.value)}
            if self._gains.value and not self._noise.value:
                several = self._min.value >= FEWEST
                chosen["metrics"] = tuple(sorted(GAIN_METRICS)) if several else ("gain",)
            if not here and (secret := self._secret.text.strip()):
                chosen["opening_secret"] = secret
            events = self._opening_events(address, chosen, int(self._rank.value), here=here)
            return self._begin("opening the room", events, on_event=self._show_opening, on_end=self._opened)

    def _part_address(self) -> None:
        """A secret behind the relay's address goes to where it is not saved with the notebook."""
        from fedart_nb.relay import Address

        with suppress(WireError):  # what is no address is told when the room is opened
            relay = Address.parse(self._address.value)
            if relay.opening_secret is not None:
                self._secret.text = relay.opening_secret
                self._address.value = f"{relay.url}#cert={relay.cert}" if relay.cert else relay.url

    def _opening_events(self, address: str, chosen: dict[str, Any], rank: int, *, here: bool) -> Iterator[Note]:
        from fedart_nb.diffusion import AdapterConfig

        if here:
            yield Note("Starting a relay in this kernel")
            address = self._own_relay().url
        yield Note("Asking the relay, then making the first shared adapter")
        core_seed = 0 if "artist_epsilon" in chosen else None
        adapter = AdapterConfig(rank=rank, alpha=float(rank), core_seed=core_seed)
        self.host.open_room(address, adapter=adapter, **chosen)

    def _own_relay(self) -> RunningRelay:
        from fedart_nb.relay import serve_in_thread

        relay = _relays.get(self.host)
        if relay is None or not relay.running:
            relay = _relays[self.host] = serve_in_thread(self.host.folder / "relay")
        return relay

    def _events(self) -> Iterator[Any]:
        try:
            for event in self.host.rounds(ask=self.question_card.ask):
                self._record(event)
                yield event
        finally:
            if self._closing:
                self.host.close()

    def _asks(self, text: str) -> None:
        if text:
            self._say(text, now=True)

    def _record(self, event: Any) -> None:
        """Keep every event: the watcher may be told of the latest only."""
        with self._lock:
            if isinstance(event, Waiting):
                self._now = event.reason
            elif isinstance(event, Joined):
                if event.name != self.host.name:
                    self._lines.append(f"{event.name} joined.")
            elif isinstance(event, Guest):
                self._lines.append(str(event))
            elif isinstance(event, Note):
                self._lines.append(("⚠ " if event.level != "info" else "") + event.text)
            elif isinstance(event, RoundOpened):
                is_new = self._round_open != event.number  # told when the plan goes out, and again with the roster
                self._round, self._round_open = (event.number, event.total), event.number
                self._now = "Asking the artists" if is_new else f"{', '.join(event.artists)} take part"
                self._lines.append(f"Round {event.number} of {event.total}: {self._now}.")
            elif isinstance(event, RoundClosed):
                self._latest = event
                self._now = f"Round {event.number} of {event.total} is over"
                self._lines.append(
                    f"{self._now}: {event.contributors} updates make the new shared adapter{event.means}."
                )
                if gains := Gains.of(event.metrics, event.contributors):
                    self._lines.append(f"What round {event.number} started from: {gains}.")

    # what is shown, under the panel's lock

    def _show_opening(self, note: Note) -> None:
        self._opening.value = parts.progress(note.text, None, 1)
        self._say(note.text)

    def _opened(self, job: Job) -> None:
        self._opening.value = ""
        if job.state == "done":
            caution = getattr(self.host.invite, "caution", "")
            self._lines, self._latest = [f"⚠ {caution}"] if caution else [], None
            self._show_room()
            self._say("The room is open. The invite link is ready to be copied.", now=True)

    def _show_room(self) -> None:
        self._room_card.layout.display = ""
        self._link.text = str(self.host.invite) if self.host.invite is not None else ""
        if self.host.plan is not None:
            self._round = (min(self.host.plan.number, self.host.plan.total), self.host.plan.total)
        self._promise.value = promise_notice(self.host.promise)
        self._progress.value = parts.notice(self._now, title="Ready")
        self._draw_tables()
        self._sync()

    def _show(self, event: Any) -> None:
        number, total = self._round
        done = number - 1 + sum(m.progress for m in self._members()) / max(1, len(self._members()))
        if isinstance(event, RoundClosed):
            done, self.value = float(event.number), event
        label = f"Round {number} of {total}" if number else "Opening the first round"
        self._progress.value = parts.progress(label, min(done, total), total, self._now)
        self._say(f"{label}. {self._now}", now=isinstance(event, RoundClosed))
        self._draw_tables()

    def _finish(self, job: Job) -> None:
        self.question_card.close_question()
        if self._latest is not None and self.value is not self._latest:
            self.value = self._latest
        done = self._latest.number if self._latest else 0
        if job.state == "done":
            over = "The round is over" if done == 1 else f"All {done} rounds are over"
            text, level, title = f"{over}. The shared adapter is in host.shared.", "success", "Done"
        elif job.state == "cancelled":
            text = "The room is closed." if self._closing else "Stopped. Start rounds goes on with the round."
            level, title = "info", "Closed" if self._closing else "Paused"
        else:
            text, level, title = "Stopped by an error; the message is above.", "warning", "Not finished"
        self._progress.value = parts.notice(text, level=level, title=title)  # type: ignore[arg-type]
        self._say(text, now=True)
        self._draw_tables()

    def _members(self) -> list[Any]:
        return sorted(self.host.members.values(), key=lambda member: member.name.lower())

    def _draw_tables(self) -> None:
        rows = [self._row(member) for member in self._members()]
        caption = f"{len(rows)} artist{'s' if len(rows) != 1 else ''} in the room"
        self._lobby.draw()
        table = (
            parts.table(("artist", "id", "state", "progress", "last seen"), rows, caption=caption, safe=True)
            if rows
            else ""
        )
        safety = safety_card(self.host.safety_number)
        if self._safety.value != safety:
            self._safety.value = safety
        self._roster.value = parts.scrolling(table, "Artists in the room") if table else ""
        log = parts.happened(self._lines)
        if self._log.value != log:
            self._log.value = log

    def _row(self, member: Any) -> tuple[str, ...]:
        sign, word, level = _STATES.get(member.state, ("·", member.state, "info"))
        if self.host.admission.was_removed(member.id):
            sign, word, level = "✕", "removed", "warning"
        name = escape(member.name)
        bar = f'<progress aria-label="progress of {name}" max="1" value="{member.progress:.3f}"></progress>'
        bar = bar if member.state in ("training", "sent", "dropped") else "–"
        ago = parts.duration(time.monotonic() - member.heard_at) + " ago" if member.heard_at else "–"
        return (
            name,
            f"<code>{escape(short_id(member.id))}</code>",
            parts.badge(word, level=level, sign=sign),
            bar,
            escape(ago),
        )

    def _sync(self) -> None:
        busy = self.is_busy
        mine = busy and self.job is not None and not self.job.has_ended
        has_room = self.host.plan is not None
        with self._lock:
            for control in (
                *(self._where, self._rounds, self._min, self._steps, self._rank, self._noise, self._door, self._open),
            ):
                control.disabled = busy
            self._door_text.value = open_door_notice() if self._door.value == "open" else ""
            self._epsilon.disabled = busy or not self._noise.value
            self._q.disabled = self._gains.disabled = busy or self._noise.value
            self._address.disabled = busy or self._where.value == _HERE
            self._start.disabled = busy or not has_room
            self._close_button.disabled = not has_room or (mine and bool(self.job and self.job.is_cancelling))

    def _summary(self) -> list[tuple[str, str]]:
        if self.host.plan is None:
            return [("room", "not open")]
        told = [("room", self.host.plan.room), ("artists", ", ".join(m.name for m in self._members()) or "none yet")]
        if self.value is not None:
            told.append(("rounds", f"{self.value.number} of {self.value.total}"))
        if self.host.promise is not None:
            told.append(("noise", self.host.promise.sentence))
        told.append(("privacy", MASKED_UPDATES[0].lower() + MASKED_UPDATES[1:]))
        return told
