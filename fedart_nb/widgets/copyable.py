"""A text that is there to be copied: a read-only field with its label and a Copy button."""

from __future__ import annotations

from pathlib import Path

from fedart_nb.widgets.unsaved import UnsavedText

__all__ = ["Copyable"]


class Copyable(UnsavedText):
    """Shows `text` in a read-only field; focus selects it all, the button copies it. No saved notebook holds it."""

    _esm = Path(__file__).parent / "static" / "copy.js"
