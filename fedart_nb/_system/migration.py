"""Finds the folders of people and hosts, and moves there, once, what an older version kept in the cache folder."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

from .files import locked, private_folder, user_path
from .folders import UserFolders, folder_name, same_name, unique_folder

__all__ = ["host_folder", "move_old_files", "named_folder"]

#: What lay in the cache folder, and under which root it lies now.
_MOVED = {"sessions": "data", "hosts": "data", "relay": "data", "ledgers": "state"}


def move_old_files() -> str:
    """Move what an older version kept in the cache folder to the data folder; a sentence when something was, else "".

    Every folder is moved by one rename, so a crash leaves it in one of the two places; the next call goes on. What is
    in both places stays where it is, and the sentence says so.
    """
    home = os.environ.get("FEDART_HOME")
    old = Path(home).expanduser() if home else Path.home() / ".cache" / "fedart_nb"
    folders = UserFolders.of_user()
    roots = {"data": folders.data, "state": folders.state}
    moves = {old / name: roots[root] / name for name, root in _MOVED.items()}
    moves = {source: target for source, target in moves.items() if source != target and source.is_dir()}
    if not moves:
        return ""
    for root in roots.values():
        private_folder(root)
    moved, left = 0, 0
    with locked(folders.data / "move.lock"):
        for source, target in moves.items():
            if target.exists() and source.name == "relay":
                continue  # a relay may be at work there
            pairs = [(one, target / one.name) for one in source.iterdir()] if target.exists() else [(source, target)]
            for one, place in pairs:
                if place.exists():
                    left += 1
                elif one.exists():
                    _move(one, place)
                    moved += 1
            with suppress(OSError):
                source.rmdir()
    told = f"Your sessions, keys and ledgers have moved from {old} to {folders.data}, which no cleaner empties." * bool(
        moved
    )
    if left:
        told += f" {left} of them are in both places; those in {old} were left there and are no longer used."
    return told.strip() if moved else ""


def _move(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        passing = target.with_name(f"{target.name}.moving-{secrets.token_hex(4)}")
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, passing)
        passing.rename(target)
        shutil.rmtree(source) if source.is_dir() else source.unlink()


def named_folder(parent: Path, name: str) -> tuple[Path, str]:
    """The folder of a name in `parent`, and a sentence where one of an older version was renamed to it.

    An older version named folders by letters alone, so that "Ada!" and "Ada?" had one: who comes first keeps it.
    """
    folder, old = parent / unique_folder(name), parent / folder_name(same_name(name))
    if folder.exists() or not (old / "identity.key").exists():
        return folder, ""
    old.rename(folder)
    return folder, f"{str(old)!r} is now {str(folder)!r}, so that no other name shares it."


def host_folder(name: str, folder: str | Path | None) -> Path:
    """Where a host's files lie, made for this user alone; in the user's data folder unless given."""
    told = [move_old_files()]
    if folder is None:
        folder, renamed = named_folder(UserFolders.of_user().data / "hosts", name)
        told.append(renamed)
    for sentence in filter(None, told):
        warnings.warn(sentence, UserWarning, stacklevel=3)
    return private_folder(user_path(folder))
