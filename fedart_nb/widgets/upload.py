"""The uploader: pictures are shrunk and stripped of metadata in the browser, then handed over one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from fedart_nb.art import Problem
from fedart_nb.errors import ArtError
from fedart_nb.widgets.parts import amount

__all__ = ["LIMIT_BYTES", "PART_BYTES", "Upload"]

#: The largest file that an art set reads; what the browser can decode is shrunk to less than a megabyte before.
LIMIT_BYTES = 64 * 2**20
#: A notebook server drops any message above 10 MiB without a word; a part stays well below.
PART_BYTES = 4 * 2**20
#: A handful of gigabytes would fill a small kernel's memory before anybody looked at a picture.
_TOTAL_LIMIT_BYTES = 1024 * 2**20
_MOST_FILES = 5000
_PROBLEMS_KEPT = 1000


class Upload(anywidget.AnyWidget):
    """A labelled file chooser that also takes dropped files and folders.

    At the end it calls `on_files` with (name, bytes) pairs, and with a `Problem` for each file that could not be handed
    over as it is. `on_problem` gets an error where nothing can be handed over. Both run in the callback that received
    the last message.
    """

    _esm = Path(__file__).parent / "static" / "upload.js"

    label = traitlets.Unicode("Pictures from this browser").tag(sync=True)
    help = traitlets.Unicode("Choose files, or drop files or a folder here.").tag(sync=True)
    max_px = traitlets.Int(512).tag(sync=True)
    limit_bytes = traitlets.Int(LIMIT_BYTES).tag(sync=True)
    part_bytes = traitlets.Int(PART_BYTES).tag(sync=True)
    most_files = traitlets.Int(_MOST_FILES).tag(sync=True)
    disabled = traitlets.Bool(default_value=False).tag(sync=True)

    def __init__(
        self,
        *,
        on_files: Callable[[list[tuple[str, bytes] | Problem]], Any],
        on_problem: Callable[[Exception], Any],
        **traits: Any,
    ) -> None:
        super().__init__(**traits)
        self._files: list[tuple[str, bytes]] = []
        self._parts: tuple[str, list[bytes]] = ("", [])
        self._total = 0
        self._on_files, self._on_problem = on_files, on_problem
        self.on_msg(lambda _widget, content, buffers: self.take(content, buffers))

    def take(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """One message of the browser: "begin", "file" (a part of its bytes in the first buffer) or "end"."""
        kind = content.get("kind")
        if kind == "begin":
            self._files, self._parts, self._total = [], ("", []), 0
        elif kind == "file" and buffers:
            self._take_part(content, memoryview(buffers[0]))
        elif kind == "end":
            files, self._files = self._files, []
            if self._total > _TOTAL_LIMIT_BYTES:
                self._on_problem(ArtError(f"{amount(self._total)} were chosen; give a folder path for so many files."))
                return
            told = content.get("problems")
            problems = [_problem(one) for one in (told if isinstance(told, list) else [])[:_PROBLEMS_KEPT]]
            if files or problems:
                self._on_files([*files, *problems])

    def _take_part(self, content: dict[str, Any], part: memoryview) -> None:
        """Parts of one file come in order, one file after the other."""
        name = str(content.get("name", "picture"))[:1024]
        number, count = content.get("part", 1), content.get("parts", 1)
        self._total += part.nbytes
        before = self._parts[1] if self._parts[0] == name and number != 1 else []
        if self._total > _TOTAL_LIMIT_BYTES or sum(map(len, before)) + part.nbytes > LIMIT_BYTES:
            self._parts = ("", [])
            return
        parts = [*before, bytes(part)]
        self._parts = (name, parts)
        if number == count and len(parts) == count:
            self._files.append((name, b"".join(parts)))
            self._parts = ("", [])


def _problem(told: Any) -> Problem:
    """What the browser says of one file, in words."""
    told = told if isinstance(told, dict) else {}
    name, kind, count = str(told.get("name", "a file"))[:200], told.get("kind"), told.get("count")
    number = count if isinstance(count, int) else 0
    if kind == "frames":
        todo = "Save the others as single pictures"
        return Problem(name, f"the first of its {number} frames was taken", "picture", todo=todo)
    if kind == "folder":
        todo = "Type its path above, or drop the pictures in it"
        return Problem(name, "this browser cannot look into the folder", "folder", todo=todo)
    if kind == "empty":
        return Problem(name, "there is no file in the folder", "folder", todo="Drop another one")
    if kind == "many":
        todo = "Type the folder's path above for all of them"
        return Problem(name, f"only the first {number:,} files of the folder were taken", "limit", todo=todo)
    if kind == "unreadable":
        todo = "Check that it is still there and may be read; a folder's path can be typed above"
        return Problem(name, "the browser cannot read it", "broken", todo=todo)
    size = told.get("size_bytes", 0)
    shown = amount(size if isinstance(size, int) else 0)
    reason = f"{shown}, and this browser cannot shrink it (limit {amount(LIMIT_BYTES)} a file)"
    return Problem(name, reason, "too large", todo="Type the path of its folder above, or save a smaller copy")
