"""The panel that asks who is here: a name of one's own opens a session of one's own."""

from __future__ import annotations

import secrets
from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING

import ipywidgets

from fedart_nb.errors import FedArtError
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

if TYPE_CHECKING:
    from fedart_nb.session import Session

__all__ = ["SessionPanel"]


class SessionPanel(Panel):
    """Asks for the artist's name and opens the session of that name; `value` is the `Session`, None before.

    Whoever gives no name is a guest with a number: nobody shares a session by accident, and a guest's session is
    deleted with the kernel. A name that is in use in another notebook is refused, with a sentence.

    Args:
        name: to open at once; "" asks.

    Example:
        >>> panel = SessionPanel()
        >>> panel.use("Ada").name
        'Ada'
        >>> session = panel.session  # the session that is open; a guest's if nobody typed a name
    """

    title = "Who are you?"
    lead = "Everybody in the room sees this name. Your adapters and receipts are kept under it, on this machine."

    def __init__(self, name: str = "") -> None:
        super().__init__(self)
        self._name = parts.field(ipywidgets.Text(description="Your name", value=name, placeholder="such as Ada"))
        self._use = self._button("Use this name", self.use, icon="user", style="primary")
        self._told = ipywidgets.HTML()
        self._compose(parts.row(self._name, self._use), self._told)
        if name:
            with suppress(FedArtError):  # the error area says so, and asks for another name
                self.use(name)

    @property
    def session(self) -> Session:
        """The session that is open; where nobody typed a name, a guest's, opened now."""
        if self.value is None:
            with self._reporting():
                self._open(f"Guest {secrets.randbelow(9_000) + 1_000}", guest=True)
        return self.value

    def use(self, name: str | None = None) -> Session:
        """Open the session of this name (default: the one typed in), and close the one that was open."""
        with self._reporting():
            chosen = (self._name.value if name is None else name).strip()
            if not chosen:
                raise FedArtError("The name is empty. Type what the others shall see, such as your first name.")
            if self.value is None or self.value.name != chosen:
                self._open(chosen, guest=False)
        return self.value

    def _open(self, name: str, *, guest: bool) -> None:
        from fedart_nb.session import Session

        before, opened = self.value, Session(name, throwaway=guest)
        if before is not None:
            before.close()
        with self._lock:
            self._clear_error()
            self._name.value = name
            kept = "It is a guest's: nothing is kept after this kernel." if guest else f"Kept in {opened.folder}."
            again = " Run the cells below again: they still have the session of before." if before is not None else ""
            text = f"You are {name}. {kept}{again}"
            self._told.value = parts.notice(text, level="success", title="Session open")
            self.value = opened
            self._say(text, now=True)

    def _summary(self) -> list[tuple[str, str]]:
        return [("name", self.value.name if self.value is not None else "not chosen yet")]

    def _static_body(self) -> str:
        return f"<p>{escape(self.lead)}</p>"
