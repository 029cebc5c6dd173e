"""A text that is there to be copied: a read-only field with its label and a Copy button."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets

__all__ = ["Copyable"]


class Copyable(anywidget.AnyWidget):
    """Shows `text` in a read-only field; focus selects it all, the button copies it."""

    _esm = Path(__file__).parent / "static" / "copy.js"

    label = traitlets.Unicode("").tag(sync=True)
    text = traitlets.Unicode("").tag(sync=True)
