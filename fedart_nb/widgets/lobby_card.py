"""Who stands at the door: the host admits artists one by one or all at once, removes them, and makes links for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb.federated.roster import short_id
from fedart_nb.host.admission import Guest
from fedart_nb.widgets import parts
from fedart_nb.widgets.copyable import Copyable

if TYPE_CHECKING:
    from fedart_nb.host import Host

__all__ = ["DOOR_WORDS", "LobbyCard", "open_door_notice"]

#: How the panel's choice reads.
DOOR_WORDS = {"lobby": "I let people in, by name", "open": "Whoever has the link comes in"}
_NOBODY = "Nobody asks to come in. Who joins with the link is shown here, and waits until you let them in."
_COUNT = "Let in people whom you know, each once: ask who has which id. One person with many ids reads others' updates."
_ROWS = 8  # guests shown at a time


def open_door_notice() -> str:
    """What an open door costs, wherever it is chosen."""
    text = (
        "Whoever has the link comes in, as often as they like. One person with four kernels can read a fifth artist's "
        "update. Every artist is told that the door is open."
    )
    return parts.notice(text, level="warning", title="An open door")


class _Row:
    """A line for one guest: it stays theirs until they are in or gone, so that no click ever means somebody else."""

    def __init__(self, let_in: Callable[[Guest], None], button: Callable[..., Any]) -> None:
        self.guest: Guest | None = None
        self._text = ipywidgets.HTML()
        self._button = button("Let in", lambda: let_in(self.guest) if self.guest else None, icon="sign-in")
        self.box = parts.row(self._text, self._button)
        self.box.add_class("fedart-guest")
        self.box.layout.display = "none"

    def show(self, guest: Guest | None) -> None:
        if guest == self.guest:
            return
        self.guest = guest
        self.box.layout.display = "none" if guest is None else ""
        if guest is not None:
            name = f"{guest.name} ({guest.short})" if guest.alike else guest.name
            self._button.description = self._button.tooltip = f"Let {name} in"
            self._text.value = _about(guest)


class LobbyCard(ipywidgets.VBox):
    """A card of HostPanel; `draw` shows what the host knows now. Every button has a method of `Host`.

    Args:
        host: whose room it is.
        button: makes a button whose errors are shown by the panel.
        say: tells a screen reader.
    """

    def __init__(self, host: Host, *, button: Callable[..., Any], say: Callable[[str], None]) -> None:
        self.host, self._say = host, say
        self._told: set[str] = set()
        self._note, self._more = ipywidgets.HTML(), ipywidgets.HTML()
        self._rows = [_Row(self._let_in, button) for _ in range(_ROWS)]
        self._all = button("Let everybody in", self._let_everybody_in, icon="users")
        self._out = parts.field(ipywidgets.Dropdown(description="Artist in the room", options=[]))
        self._remove = button("Remove from the room", self._take_out, icon="user-times")
        self._for = parts.field(ipywidgets.Text(description="A link for one person: for whom?", placeholder="Mira"))
        self._make = button("Make the link", self._make_link, icon="link")
        self._link = Copyable(label="Link for one person: it lets one artist in, once")
        self._link.layout.display = "none"
        self._tickets = ipywidgets.HTML()
        self._unused = parts.field(ipywidgets.Dropdown(description="Links that nobody has used", options=[]))
        self._revoke = button("Take the link back", self._take_back, icon="undo")
        super().__init__(
            [
                ipywidgets.HTML(parts.heading("At the door", level=4)),
                self._note,
                *(row.box for row in self._rows),
                self._more,
                parts.row(self._all),
                parts.row(self._out, self._remove),
                parts.row(self._for, self._make),
                self._link,
                self._tickets,
                parts.row(self._unused, self._revoke),
            ]
        )
        self.add_class("fedart-card")

    def draw(self) -> None:
        """Show who asks, who is in, and which links there are; nothing is drawn anew that has not changed."""
        guests = {guest.id: guest for guest in self.host.guests}
        for row in self._rows:
            row.show(guests.get(row.guest.id) if row.guest else None)
        shown = {row.guest.id for row in self._rows if row.guest}
        waiting = [guest for artist, guest in guests.items() if artist not in shown]
        for row in self._rows:
            if row.guest is None and waiting:
                row.show(waiting.pop(0))
        _put(self._more, f"<div>{len(waiting)} more ask to come in.</div>" if waiting else "")
        if fresh := [str(guest) for artist, guest in guests.items() if artist not in self._told]:
            self._told |= guests.keys()
            self._say(" ".join(fresh))
        is_open = self.host.plan is not None and self.host.plan.door == "open"
        _put(self._note, open_door_notice() if is_open else f"<div>{escape(_COUNT if guests else _NOBODY)}</div>")
        self._all.layout.display = "" if len(guests) > 1 else "none"
        self._draw_people()

    def _draw_people(self) -> None:
        people, tickets = self.host.admission.admitted, self.host.tickets
        _choose(self._out, [(f"{name} ({short_id(one)})", one) for one, name in sorted(people.items(), key=_by_name)])
        states = {one.label: people.get(one.used_by, "an artist") if one.used_by else "" for one in tickets}
        rows = [(label, f"used by {name}" if name else "unused") for label, name in states.items()]
        _put(self._tickets, parts.table(("for", "state"), rows, caption="Links for one person each") if rows else "")
        _choose(self._unused, [(one.label, one.label) for one in tickets if not one.used_by])
        for control, button in ((self._out, self._remove), (self._unused, self._revoke)):
            control.layout.display = button.layout.display = "" if control.options else "none"

    def _let_in(self, guest: Guest) -> None:
        self.host.admit(guest)
        self._say(f"{guest.name} is in.")
        self.draw()

    def _let_everybody_in(self) -> None:
        came = self.host.admit_all()
        self._say(f"{', '.join(guest.name for guest in came)}: in.")
        self.draw()

    def _take_out(self) -> None:
        if self._out.value:
            self.host.remove(self._out.value)
            self._say("Removed. A round that runs goes to its end.")
            self.draw()

    def _make_link(self) -> None:
        self._link.text = str(self.host.invite_one(self._for.value.strip()))
        self._link.layout.display = ""
        self._for.value = ""
        self._say("The link is ready to be copied. It lets one artist in, once.")
        self.draw()

    def _take_back(self) -> None:
        if self._unused.value:
            self.host.revoke(self._unused.value)
            self._say("The link lets nobody in any more.")
            self.draw()


def _about(guest: Guest) -> str:
    known = f"was here before as {guest.before}" if guest.before else "new"
    asked = time.strftime("%H:%M", time.localtime(guest.since))
    alike = parts.badge("looks like another name", level="warning", sign="▲") if guest.alike else ""
    badge = parts.badge(known, level="info", sign="○" if guest.before else "✦")
    return f"<p><strong>{escape(guest.name)}</strong> <code>{guest.short}</code> asks since {asked} {badge} {alike}</p>"


def _by_name(person: tuple[str, str]) -> str:
    return person[1].casefold()


def _put(html: Any, value: str) -> None:
    if html.value != value:
        html.value = value


def _choose(control: Any, options: list[tuple[str, str]]) -> None:
    """Other options in a dropdown, keeping what is chosen."""
    if list(control.options) != options:
        chosen = control.value
        control.options = options
        values = [value for _label, value in options]
        control.value = chosen if chosen in values else next(iter(values), None)
