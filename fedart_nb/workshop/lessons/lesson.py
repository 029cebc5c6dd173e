"""A lesson's own session: it begins afresh each time, leaves nothing behind, and can be started over at a button."""

from __future__ import annotations

import contextlib
from html import escape
from typing import Any

import ipywidgets

from fedart_nb._system.files import folder_name
from fedart_nb.host import Host
from fedart_nb.session import Session
from fedart_nb.widgets import parts, registry
from fedart_nb.widgets.panel import Panel

__all__ = ["Lesson"]

_STOP_S = 5.0  # what runs is given so long to stop


class Lesson(Panel):
    """A throw-away session for a notebook that is run again and again, and the button that starts it over.

    `session` has no earlier adapter, receipt or spent budget, counts in no other session's ledger, and its folder is
    deleted with the kernel. `value` is how often the lesson was started over.

    Args:
        name: the artist's, in this lesson.

    Example:
        >>> lesson = Lesson("Ada")
        >>> session = lesson.session
        >>> lesson.start_over() is session  # a fresh one; the name `session` in the notebook stands for it now
        False
    """

    title = "A lesson to play with"
    lead = (
        "What you do in this notebook is thrown away with its kernel, and counts nowhere else: no budget, no receipt "
        "and no adapter of yours is touched."
    )

    def __init__(self, name: str = "Ada") -> None:
        super().__init__(self)
        self.session = Session(name, throwaway=True)
        self._hosts: list[Host] = []
        self._button_over = self._button("Start this lesson over", self.start_over, icon="undo")
        self._told = ipywidgets.HTML()
        self._compose(parts.row(self._button_over), self._told)
        self.value = 0

    def host(self, name: str) -> Host:
        """A host for this lesson, with nothing left from an earlier one."""
        folder = self.session.folder / f"host-{len(self._hosts)}-{folder_name(name)}"
        self._hosts.append(Host(name, folder=folder))
        return self._hosts[-1]

    def start_over(self) -> Session:
        """Stop what runs, take this lesson's panels away, and begin with a fresh session; returns it.

        Names of the notebook that stood for the old session stand for the new one, so any cell below can be run again.
        """
        with self._reporting():
            old = self.session
            for owner in (old, *self._hosts):
                _stop(owner)
            self.session, self._hosts = Session(old.name, throwaway=True), []
            _rename(old, self.session)
            old.close()
            with self._lock:
                self.value += 1
                text = "Everything so far is gone. Run the cells below again, from here on."
                self._told.value = parts.notice(text, level="success", title="Started over")
                self._say(f"Started over. {text}", now=True)
        return self.session

    def _summary(self) -> list[tuple[str, str]]:
        return [("artist", self.session.name), ("started over", f"{self.value} times")]

    def _static_body(self) -> str:
        return f"<p>{escape(self.lead)}</p>"


def _stop(owner: object) -> None:
    """Stop the owner's job, and take its panels out of the notebook."""
    job = registry.job_of(owner)
    for panel in registry.panels(owner):
        panel.remove()
    if job is not None:
        job.cancel()
        with contextlib.suppress(Exception):  # what it ended with is of no interest any more
            job.wait(_STOP_S)


def _rename(old: Session, new: Session) -> None:
    """Let the notebook's names for the old session stand for the new one."""
    with contextlib.suppress(ImportError):
        from IPython import get_ipython

        shell: Any = get_ipython()
        names = shell.user_ns if shell is not None else {}
        for name in [name for name, value in names.items() if value is old]:
            names[name] = new
