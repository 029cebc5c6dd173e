"""JupyterLab's single-key shortcuts rest while the focus is inside a panel, and a button that nobody hears says so."""

from __future__ import annotations

from pathlib import Path

import anywidget

__all__ = ["Keys"]


class Keys(anywidget.AnyWidget):
    """A part of every panel that is seen only where the kernel does not answer.

    Without it, `b` on a button inserts a cell and `d d` deletes the panel's. After each click it asks the kernel for a
    sign of life, because a page that outlived its kernel's restart has buttons that do nothing.
    """

    _esm = Path(__file__).parent / "static" / "keys.js"

    def __init__(self) -> None:
        super().__init__()
        self.on_msg(lambda _widget, _content, _buffers: self.send({"kind": "here"}))
