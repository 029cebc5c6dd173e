"""JupyterLab's single-key shortcuts rest while the focus is inside a panel."""

from __future__ import annotations

from pathlib import Path

import anywidget

__all__ = ["Keys"]


class Keys(anywidget.AnyWidget):
    """An invisible part of every panel: without it, `b` on a button inserts a cell and `d d` deletes the panel's."""

    _esm = Path(__file__).parent / "static" / "keys.js"
