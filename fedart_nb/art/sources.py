"""Where files come from: a folder that is scanned without reading it, or files that a person handed over."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fedart_nb.art.captions import cleaned
from fedart_nb.art.problems import Problem, Unusable
from fedart_nb.errors import ArtError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["PICTURE_SUFFIXES", "SCAN_LIMIT", "Source", "scan_folder", "sources_of", "suffix_of"]

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".heic", ".heif"})
SCAN_LIMIT = 100_000  # directory entries looked at in one folder


@dataclass(frozen=True, slots=True)
class Source:
    """A file that has not been read: `key` finds its caption, `name` is what a person sees."""

    key: str
    name: str
    size_bytes: int
    _read: Callable[[], bytes] = field(repr=False)

    def read(self, limit_bytes: int) -> bytes:
        """All its bytes; raises `Unusable` where it is larger than the limit or cannot be read."""
        if self.size_bytes > limit_bytes:
            message = f"{self.size_bytes / 2**20:.0f} MiB, more than {limit_bytes / 2**20:.0f}: save a smaller copy"
            raise Unusable(message, kind="too large")
        try:
            return self._read()
        except OSError as error:
            message = f"it cannot be read ({error.strerror or error})"
            raise Unusable(message, kind="broken") from error


def suffix_of(name: str) -> str:
    """Lower-case ending of a file name, with its dot."""
    return PurePosixPath(name).suffix.lower()


def scan_folder(root: Path) -> tuple[list[Source], list[Problem]]:
    """Every visible file below `root` in the order of names, unread; a link that leads out is listed, not followed."""
    try:
        top = root.expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
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
                    if entry.name.startswith((".", "__MACOSX")):
                        continue
                    _sort_entry(entry, top, sources, problems, pending)
        except OSError as error:
            problems.append(Problem(_name(folder, top), f"it cannot be opened ({error.strerror})", "broken"))
    if pending or seen > SCAN_LIMIT:
        problems.append(Problem(top.name, f"more than {SCAN_LIMIT:,} files: the rest was not looked at", "limit"))
    sources.sort(key=lambda source: source.key)
    problems.sort(key=lambda problem: problem.file)
    return sources, problems


def _sort_entry(
    entry: os.DirEntry[str], top: Path, sources: list[Source], problems: list[Problem], pending: list[Path]
) -> None:
    path = Path(entry.path)
    name = _name(path, top)
    if entry.is_symlink():
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(top):
            problems.append(Problem(name, "a link that leads out of the folder; it was not followed", "symlink"))
            return
        if not target.exists():
            problems.append(Problem(name, "a link that leads nowhere", "symlink"))
            return
        if target.is_dir():  # found there anyway, and a link to a parent would go round for ever
            return
        path = target
    elif entry.is_dir(follow_symlinks=False):
        pending.append(path)
        return
    if not path.is_file():  # a pipe or a device would keep a reader waiting
        if suffix_of(name) in PICTURE_SUFFIXES:
            problems.append(Problem(name, "not a regular file", "broken"))
        return
    key = Path(entry.path).relative_to(top).as_posix()
    sources.append(Source(key, name, path.stat().st_size, path.read_bytes))


def _name(path: Path, top: Path) -> str:
    relative = path.relative_to(top).as_posix()
    return cleaned(relative if relative != "." else top.name, limit=200)[0] or "unnamed"


def sources_of(
    files: Iterable[tuple[str, bytes | bytearray | memoryview] | str | os.PathLike[str]],
) -> tuple[list[Source], list[Problem]]:
    """Sources from (name, bytes) pairs and paths, in the order given; a path brings the .txt beside it along."""
    sources: list[Source] = []
    problems: list[Problem] = []
    for file in files:
        if isinstance(file, tuple):
            name, data = file
            content = bytes(data)
            key = name.replace("\\", "/")
            shown = cleaned(key, limit=200)[0] or "unnamed"
            sources.append(Source(key, shown, len(content), lambda content=content: content))  # type: ignore[misc]
            continue
        path = Path(file).expanduser()
        shown = cleaned(path.name, limit=200)[0] or "unnamed"
        try:
            if not path.is_file():
                problems.append(Problem(shown, f"there is no file {str(file)!r}", "broken"))
                continue
            sources.append(Source(path.as_posix(), shown, path.stat().st_size, path.read_bytes))
            beside = path.with_suffix(".txt")
            if beside != path and beside.is_file():
                sources.append(Source(beside.as_posix(), beside.name, beside.stat().st_size, beside.read_bytes))
        except (OSError, ValueError) as error:
            problems.append(Problem(shown, f"it cannot be read ({error})", "broken"))
    return sources, problems
