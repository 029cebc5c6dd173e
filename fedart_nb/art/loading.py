"""From what a person gives, a folder or files, to pictures: the two ways into an art set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedart_nb.art.collecting import Collected, collect
from fedart_nb.art.handed import sources_of
from fedart_nb.art.sources import path_of, scan_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from fedart_nb.art.handed import Handed

__all__ = ["of_files", "of_folder"]


def of_folder(
    path: str | os.PathLike[str], *, size_px: int, limit: int, name: str | None = None, here_before: Iterable[str] = ()
) -> tuple[str, Collected]:
    """The name for a set and the pictures of a folder; see `collect` for `here_before`."""
    root = path_of(path)
    sources, problems = scan_folder(root)
    title = name or root.resolve().name or "art"
    found = collect(
        sources, problems, name=title, place=repr(str(root)), size_px=size_px, limit=limit, here_before=here_before
    )
    return title, found


def of_files(
    files: Iterable[Handed] | Handed, *, name: str, size_px: int, limit: int, here_before: Iterable[str] = ()
) -> Collected:
    """The pictures in files that a person handed over."""
    sources, problems = sources_of(files)
    return collect(
        sources,
        problems,
        name=name,
        place="these files",
        size_px=size_px,
        limit=limit,
        chosen_by_hand=True,
        here_before=here_before,
    )
