"""The uploader: pictures are shrunk and stripped of metadata in the browser, then handed over one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from fedart_nb.errors import ArtError
from fedart_nb.widgets.parts import amount

__all__ = ["LIMIT_BYTES", "Upload"]

#: A notebook server drops any message above 10 MiB without a word; a file stays well below.
LIMIT_BYTES = 8 * 2**20
#: A handful of gigabytes would fill a small kernel's memory before anybody looked at a picture.
_TOTAL_LIMIT_BYTES = 1024 * 2**20


class Upload(anywidget.AnyWidget):
    """A labelled file chooser that also takes dropped files; calls `on_files` with (name, bytes) pairs at the end.

    `on_problem` gets an error for files that were too large to hand over. Both run in the callback that received the
    last message.
    """

    _esm = Path(__file__).parent / "static" / "upload.js"

    label = traitlets.Unicode("Pictures from this browser").tag(sync=True)
    help = traitlets.Unicode("Choose files, or drop them here.").tag(sync=True)
    max_px = traitlets.Int(512).tag(sync=True)
    limit_bytes = traitlets.Int(LIMIT_BYTES).tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(
        self,
        *,
        on_files: Callable[[list[tuple[str, bytes]]], Any],
        on_problem: Callable[[Exception], Any],
        **traits: Any,
    ) -> None:
        super().__init__(**traits)
        self._files: list[tuple[str, bytes]] = []
        self._total = 0
        self._on_files, self._on_problem = on_files, on_problem
        self.on_msg(lambda _widget, content, buffers: self.take(content, buffers))

    def take(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """One message of the browser: "begin", "file" (its bytes in the first buffer) or "end"."""
        kind = content.get("kind")
        if kind == "begin":
            self._files, self._total = [], 0
        elif kind == "file" and buffers:
            size = memoryview(buffers[0]).nbytes
            self._total += size
            if size <= LIMIT_BYTES and self._total <= _TOTAL_LIMIT_BYTES:
                name = str(content.get("name", "picture"))[:255]
                self._files.append((name, bytes(buffers[0])))
        elif kind == "end":
            files, self._files = self._files, []
            if self._total > _TOTAL_LIMIT_BYTES:
                self._on_problem(ArtError(f"{amount(self._total)} were chosen; give a folder path for so many files."))
                return
            if files:
                self._on_files(files)
            if problems := content.get("problems"):
                self._on_problem(_too_large(problems))


def _too_large(problems: list[dict[str, Any]]) -> ArtError:
    first = problems[0]
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return ArtError(
        f"{str(first.get('name'))!r} ({amount(int(first.get('size_bytes', 0)))}){more} cannot pass a notebook "
        f"server (limit {amount(LIMIT_BYTES)} a file). Give the path of its folder instead."
    )
