"""Who would take part in a round: shown, compared aloud and confirmed, before anything of the artist's is masked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb.errors import RoundError
from fedart_nb.federated.roster import runs_here
from fedart_nb.session.roster_check import Answer
from fedart_nb.widgets import parts
from fedart_nb.widgets.security import safety_card

if TYPE_CHECKING:
    from fedart_nb.federated import Person, RosterShown
    from fedart_nb.session import Session

__all__ = ["RosterCard", "roster_table"]

_STANDING: dict[str, tuple[str, str, parts.Level]] = {
    "me": ("●", "you", "info"),
    "compared": ("✓", "confirmed", "success"),
    "accepted": ("✓", "you said yes", "success"),
    "unconfirmed": ("?", "not confirmed", "warning"),
}
_WHY = (
    "Your update hides among the others in this list, if they are as many people. One person who holds all other "
    "places reads it. Count the people you know, and compare the six words with them aloud."
)
_SAY = "Their words are the same: confirm the list. Other words, or an artist whom nobody knows: send nothing, and ask."


class RosterCard(ipywidgets.VBox):
    """A card of RoomPanel. `confirm` is what `Session.rounds(confirm=...)` takes; the buttons have methods.

    `question` is the list that waits for an answer, or None.

    Args:
        on_change: called when a question comes or goes.
        button: makes a button whose errors are shown by the panel.
    """

    def __init__(
        self,
        session: Session,
        *,
        on_change: Callable[[], None],
        button: Callable[..., Any] = parts.button,
        lock: Any = None,
    ) -> None:
        self.session, self._on_change = session, on_change
        self.question: RosterShown | None = None
        self._answer: Answer | None = None
        self._drawn: Any = None
        self._lock = lock or threading.RLock()
        self._heading, self._notice, self._list, self._words = (ipywidgets.HTML() for _ in range(4))
        self._compared = button("We compared the words", self.compared, icon="check", style="primary")
        self._known = button("I know them all", self.known, icon="users")
        self._no = button("Send nothing in this round", self.no, icon="ban")
        buttons = parts.row(self._compared, self._known, self._no)
        super().__init__([self._heading, self._notice, self._list, self._words, buttons])
        self.add_class("fedart-card")
        self.layout.display = "none"

    def compared(self) -> None:
        """We compared the words, and they are the same: this list is confirmed, for this room and for good."""
        if self.question is None:
            self.session.compared()
            self.draw()
            self._on_change()
            return
        self._answer = "compared"

    def known(self) -> None:
        """Everybody in the list is known to me; no words were compared."""
        self._reply("known")

    def no(self) -> None:
        """Send nothing in this round."""
        self._reply("no")

    def confirm(self, roster: RosterShown) -> Answer | None:
        """Ask; None until somebody answers. Artists who run in this very kernel are nobody else: not asked about."""
        if all(runs_here(one.id) for one in roster.unconfirmed):
            return "known"
        answer, self._answer = self._answer if self.question is roster else None, None
        if answer is not None or self.question is not roster:
            with self._lock:
                self.question = None if answer else roster
            self.draw()
            self._on_change()
        return answer

    def draw(self) -> None:
        """Show the newest list as it stands now."""
        side = self.session.side
        if self.question is not None and (side is None or side.question is not self.question):
            self.question, self._answer = None, None  # the round went on without an answer
        roster = self.question or self.session.roster
        if roster is None:
            return
        asked = self.question is not None
        pins = self.session.people.pins if self.session.people is not None else None
        confirmed = pins is not None and all(one.id in pins.compared for one in roster.people)
        state = (roster, asked, confirmed)
        if state == self._drawn:
            return
        with self._lock:
            self._drawn = state
            self._heading.value = parts.heading(roster.question if asked else "The artists in this round", level=4)
            level: parts.Level = "danger" if roster.pinned else "warning"
            self._notice.value = parts.notice(_notice_of(roster), level=level, title=_title_of(roster)) if asked else ""
            self._list.value = roster_table(roster, confirmed=confirmed)
            self._words.value = safety_card(roster.words) if asked else ""
            self._known.layout.display = self._no.layout.display = "" if asked else "none"
            self._compared.layout.display = "none" if confirmed else ""
            self._compared.button_style = "primary" if asked and not roster.pinned else ""
            self._no.button_style = "primary" if roster.pinned else ""
            (self.add_class if asked else self.remove_class)("fedart-raised")
            self.layout.display = ""

    def _reply(self, answer: Answer) -> None:
        if self.question is None:
            raise RoundError("No list of artists waits for an answer now. It comes when a round has begun.")
        self._answer = answer


def roster_table(roster: RosterShown, *, confirmed: bool = False) -> str:
    """The list as a table: name, id, and whether it was confirmed, in words."""
    rows = [_row(one, confirmed=confirmed) for one in roster.people]
    rows += [_row(one, gone=True) for one in roster.missing]
    many = len(roster.people)
    caption = f"{many} artists in round {roster.number}"
    return parts.table(("artist", "id", "known to you as"), rows, caption=caption, safe=True)


def _row(one: Person, *, confirmed: bool = False, gone: bool = False) -> Sequence[str]:
    standing = "compared" if confirmed and one.standing != "me" else one.standing
    sign, word, level = _STANDING[standing]
    told = parts.badge("confirmed, not in this round" if gone else word, level="info" if gone else level, sign=sign)
    more = ["new since the last round"] * (one.new and not confirmed) + ["looks like another name"] * one.alike
    more += ["runs in this kernel"] * (runs_here(one.id) and one.standing != "me")
    return escape(one.name), f"<code>{one.short}</code>", f"{told} {escape(', '.join(more))}"


def _title_of(roster: RosterShown) -> str:
    return "Not the people whose words you compared" if roster.pinned else "Count the people"


def _notice_of(roster: RosterShown) -> str:
    return f"{roster.warning} {_SAY}" if roster.pinned else f"{_WHY} {_SAY}"
