"""Where files come from: a folder that is scanned without reading it, or files that a person handed over."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fedart_nb.art.captions import cleaned
from fedart_nb.art.formats import PICTURE_SUFFIXES, is_side_file, suffix_of
from fedart_nb.art.problems import Problem, Unusable
from fedart_nb.errors import ArtError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SCAN_LIMIT", "Source", "path_of", "scan_folder", "shown_name", "source_of_path"]

SCAN_LIMIT = 100_000  # directory entries looked at in one folder
_HEAD_BYTES = 64


@dataclass(frozen=True, slots=True)
class Source:
    """A file that has not been read: `key` finds its caption, `name` is what a person sees."""

    key: str
    name: str
    size_bytes: int
    _read: Callable[[], bytes] = field(repr=False)
    _head: Callable[[], bytes] | None = field(default=None, repr=False)

    def read(self, limit_bytes: int) -> bytes:
        """All its bytes; raises `Unusable` where it is larger than the limit or cannot be read."""
        if self.size_bytes > limit_bytes:
            message = f"{self.size_bytes / 2**20:.0f} MiB, more than {limit_bytes / 2**20:.0f}"
            raise Unusable(message, kind="too large", todo="Save a smaller copy")
        try:
            return self._read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            message = f"it cannot be read ({reason})"
            raise Unusable(message, kind="broken", todo="Check that you may read it, and that it is whole") from error

    def head(self) -> bytes:
        """Its first bytes, nothing where it cannot be read: enough to tell a picture from other files."""
        try:
            return (self._head or self._read)()[:_HEAD_BYTES]
        except (OSError, ValueError):
            return b""


def path_of(value: Any) -> Path:
    """A path as people type or paste it: `~`, quotes around it, a file:// address. Raises `ArtError` for other values.

    >>> str(path_of('"/home/me/my drawings"'))
    '/home/me/my drawings'
    """
    if not isinstance(value, str | os.PathLike):
        message = f"The path is {value!r:.80} ({type(value).__name__}); expected a text such as '~/drawings'."
        raise ArtError(message)
    text = os.fspath(value)
    if not isinstance(text, str):
        message = f"The path is {text!r:.80}; expected a text, not bytes."
        raise ArtError(message)
    if isinstance(value, str):
        text = text.strip()
        if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
            text = text[1:-1]
        if re.match("file://", text, re.IGNORECASE):
            text = unquote(re.sub("^file://(localhost)?", "", text, flags=re.IGNORECASE))
    if not text.strip() or "\0" in text:
        message = f"The path is {text!r}; expected where your pictures lie, such as '~/drawings'."
        raise ArtError(message)
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        message = f"There is no home folder for {text!r}; give the whole path."
        raise ArtError(message) from error


def shown_name(name: str) -> str:
    """A file's name as a person may see it: without control characters."""
    return cleaned(name, limit=200)[0] or "unnamed"


def source_of_path(path: Path, *, key: str, name: str) -> Source:
    """A file on this machine; raises `OSError` where it is not there."""

    def head() -> bytes:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)

    return Source(key, name, path.stat().st_size, path.read_bytes, head)


def scan_folder(root: Path) -> tuple[list[Source], list[Problem]]:
    """Every visible file below `root` in the order of names, unread; a link that leads out is listed, not followed."""
    try:
        top = root.expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        message = f"There is no folder {str(root)!r}; give the folder that holds your pictures."
        raise ArtError(message) from error
    if not top.is_dir():
        message = f"{str(root)!r} is a file; give its folder, or use ArtSet.from_files([{str(root)!r}])."
        raise ArtError(message)
    sources: list[Source] = []
    problems: list[Problem] = []
    pending, seen = [top], 0
    while pending and seen < SCAN_LIMIT:
        folder = pending.pop()
        try:
            with os.scandir(folder) as listing:
                for entry in listing:
                    seen += 1
                    if seen > SCAN_LIMIT:
                        break
                    _sort_entry(entry, top, sources, problems, pending)
        except OSError as error:
            todo = "Check that you may read this folder"
            problems.append(Problem(_name(folder, top), f"it cannot be opened ({error.strerror})", "broken", todo=todo))
    if pending or seen > SCAN_LIMIT:
        todo = "Give a folder with your pictures alone"
        problems.append(
            Problem(top.name, f"more than {SCAN_LIMIT:,} files: the rest was not looked at", "limit", todo=todo)
        )
    sources.sort(key=lambda source: source.key)
    problems.sort(key=lambda problem: problem.file)
    return sources, problems


def _sort_entry(
    entry: os.DirEntry[str], top: Path, sources: list[Source], problems: list[Problem], pending: list[Path]
) -> None:
    if entry.name.startswith((".", "__MACOSX")) and not entry.name.lower().endswith(".icloud"):
        return
    if is_side_file(entry.name):
        return
    path = Path(entry.path)
    name = _name(path, top)
    try:
        if entry.is_symlink():
            target = _target(path, name, top, problems)
            if target is None:
                return
            path = target
        elif entry.is_dir(follow_symlinks=False):
            pending.append(path)
            return
        if not path.is_file():  # a pipe or a device would keep a reader waiting
            if suffix_of(name) in PICTURE_SUFFIXES:
                problems.append(Problem(name, "not a regular file", "broken"))
            return
        sources.append(source_of_path(path, key=Path(entry.path).relative_to(top).as_posix(), name=name))
    except OSError as error:
        problems.append(Problem(name, f"it cannot be looked at ({error.strerror or error})", "broken"))


def _target(path: Path, name: str, top: Path, problems: list[Problem]) -> Path | None:
    """The file that a link leads to, where that is inside the folder."""
    copy = "Copy the pictures themselves into the folder"
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(top):
        problems.append(Problem(name, "a link that leads out of the folder; it was not followed", "symlink", todo=copy))
        return None
    if not target.exists():
        problems.append(Problem(name, "a link that leads nowhere", "symlink", todo=copy))
        return None
    if target.is_dir():  # found there anyway, and a link to a parent would go round for ever
        hidden = any(part.startswith(".") for part in target.relative_to(top).parts)
        if hidden:
            problems.append(Problem(name, "a link to a hidden folder; it was not followed", "symlink", todo=copy))
        return None
    return target


def _name(path: Path, top: Path) -> str:
    relative = path.relative_to(top).as_posix()
    return shown_name(relative if relative != "." else top.name)
