"""Two pictures in one frame with an edge between them that a person moves: what was before, what is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from fedart_nb.analysis.mixer import Sample, wiped
from fedart_nb.figures import png_bytes
from fedart_nb.widgets import parts

__all__ = ["PlainWipe", "Wipe"]

_SIZE_PX = 384


class Wipe(anywidget.AnyWidget):
    """Drag the edge, or focus it and use the arrow keys; it lives in the browser, so it never waits for Python.

    The pictures travel as a message and are in no widget state, so no saved notebook holds them.
    """

    _esm = Path(__file__).parent / "static" / "wipe.js"
    _css = Path(__file__).parent / "static" / "wipe.css"

    left = traitlets.Bytes(b"")
    right = traitlets.Bytes(b"")
    left_title = traitlets.Unicode("").tag(sync=True)
    right_title = traitlets.Unicode("").tag(sync=True)
    left_alt = traitlets.Unicode("").tag(sync=True)
    right_alt = traitlets.Unicode("").tag(sync=True)
    size_px = traitlets.Int(_SIZE_PX).tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self.on_msg(lambda _widget, content, _buffers: self._tell() if content.get("kind") == "ask" else None)

    def show(
        self, left: Sample | None, right: Sample | None, *, titles: tuple[str, str], alts: tuple[str, str]
    ) -> None:
        """Put two pictures into the frame; None leaves a side empty."""
        before = (self.left, self.right)
        self.left, self.right = (side.png if side else b"" for side in (left, right))
        with self.hold_sync():
            self.left_title, self.right_title = titles
            self.left_alt, self.right_alt = alts
        if (self.left, self.right) != before:
            self._tell()

    def _tell(self) -> None:
        self.send({"kind": "pictures"}, [self.left, self.right])


class PlainWipe(ipywidgets.VBox):
    """The same with stock controls, for pages that show no custom widgets: a number moves the edge of one picture."""

    def __init__(self, image: Any = None) -> None:
        self._edge = parts.field(
            ipywidgets.BoundedIntText(
                description="Edge between the two, % from the left", value=50, min=0, max=100, step=5
            )
        )
        self._image = image if image is not None else ipywidgets.HTML()
        self._shown: tuple[Any, ...] = (None, None, ("", ""), ("", ""))
        self._edge.observe(lambda _change: self._paint(), "value")
        super().__init__([self._image, self._edge])
        self.add_class("fedart-stack")

    def show(
        self, left: Sample | None, right: Sample | None, *, titles: tuple[str, str], alts: tuple[str, str]
    ) -> None:
        """Put two pictures into the frame; None leaves a side empty."""
        if self._shown != (left, right, titles, alts):
            self._shown = (left, right, titles, alts)
            self._paint()

    def _paint(self) -> None:
        left, right, titles, alts = self._shown
        share = self._edge.value / 100
        if left is not None and right is not None:
            png = png_bytes(wiped(left.picture, right.picture, share), size_px=_SIZE_PX)
            alt = f"Left {share:.0%}: {alts[0]}. Right: {alts[1]}."
            caption = f"Left: {titles[0]}. Right: {titles[1]}."
        elif (only := left or right) is not None:
            side = 0 if left is not None else 1
            png, alt, caption = png_bytes(only.picture, size_px=_SIZE_PX), alts[side], titles[side]
        else:
            self._image.value = '<div class="fedart-blank">not drawn yet</div>'
            return
        self._image.value = parts.picture(png, alt, caption=caption)
