"""A panel's still picture in the saved notebook: what a page without a kernel shows in the panel's place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["Still", "live_class"]

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

#: Colours of the page; a still has no theme of its own and no part of the panels' style sheet.
_STYLE = """
.fedart-still { font-family: system-ui, sans-serif; font-size: 14px; line-height: 1.5; max-width: 960px;
  margin: 4px 2px; padding: 16px 20px; border: 1px solid #80868f; border-radius: 12px; }
.fedart-still h3 { margin: 0 0 8px; font-size: 19px; }
.fedart-still dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 18px; margin: 0 0 10px; }
.fedart-still :is(dt, dd) { float: none; width: auto; margin: 0; padding: 0; }
.fedart-still :is(.fedart-row, .fedart-lineup, .fedart-multiples) { display: flex; flex-wrap: wrap; gap: 10px; }
.fedart-still figure { margin: 0 0 8px; max-width: 640px; }
.fedart-still figcaption { font-size: 12.5px; }
.fedart-still .fedart-notice { display: flex; gap: 10px; border: 1px solid; border-left-width: 5px; border-radius: 8px;
  padding: 8px 12px; margin: 8px 0; }
.fedart-still table { border-collapse: collapse; }
.fedart-still :is(th, td) { padding: 3px 12px 3px 0; text-align: left; vertical-align: middle; }
.fedart-still .fedart-hidden { display: none; }
"""


def live_class(panel_id: str) -> str:
    """The class of a live panel: where it is on the page, its still is not shown."""
    return f"fedart-live-{panel_id}"


class Still:
    """Displays a panel, and beside it its still, which is brought up to date without touching the live panel.

    A front end without the panel's kernel cannot show the panel ("model not found"); the still's own style sheet then
    takes that message away and shows the still in its place.

    Args:
        panel_id: of the widget.
        make: gives the still as HTML; text: gives it as text.
    """

    def __init__(self, panel_id: str, *, make: Callable[[], str], text: Callable[[], str]) -> None:
        self._id, self._make, self._text = panel_id, make, text
        self._handle: Any = None
        self._last = ""

    def display(self, view: dict[str, Any]) -> None:
        """Show the live panel by its MIME bundle, then the still."""
        from IPython.display import display

        live = {_WIDGET_VIEW: view[_WIDGET_VIEW]} if _WIDGET_VIEW in view else {}
        display({**live, "text/plain": ""}, raw=True)
        self._last = self._html()
        self._handle = display({"text/html": self._last, "text/plain": self._text()}, raw=True, display_id=True)

    def renew(self) -> None:
        """Put what the panel shows now into the saved notebook; nothing where it was not displayed."""
        if self._handle is None:
            return
        html = self._html()
        if html != self._last:
            self._last = html
            with suppress(Exception):  # a closed front end must not stop the work behind the panel
                self._handle.update({"text/html": html, "text/plain": self._text()}, raw=True)

    def clear(self) -> None:
        """Take the still out of the notebook, with a panel that is gone for good."""
        if self._handle is not None:
            with suppress(Exception):  # a closed front end must not stop the work behind the panel
                self._handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def _html(self) -> str:
        live, still = live_class(self._id), f"fedart-still-{self._id}"
        apart = f".jp-OutputArea-child:has(+ .jp-OutputArea-child .{still})"
        rules = f"body:has(.{live}) .{still} {{ display: none; }}\nbody:not(:has(.{live})) {apart} {{ display: none; }}"
        return f'<div class="fedart-still {still}"><style>{_STYLE}{rules}</style>{self._make()}</div>'
