"""A folder that one process at a time works in: the second one is told who has it; a dead one's hold ends with it."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from ..errors import SessionInUse
from .files import private_folder, read_json, write_private

__all__ = ["FolderLock"]

_WAIT_S = 1.5  # a kernel that is restarted may still be ending


class _Hold:
    """The open file with which this process holds a folder, and how many refer to it."""

    def __init__(self, handle: int) -> None:
        self.handle, self.users, self.newest, self.is_open = handle, 0, 0, True


_opening = threading.Lock()
_guard = threading.RLock()  # the garbage collector may call `_leave` in the middle of anything
_holds: dict[Path, _Hold] = {}


class FolderLock:
    """Holds a folder for this process, until `close` or until nobody refers to it.

    In this process a folder can be taken again, as by a cell that is run twice or a second tab of one kernel: then the
    former one is not `is_newest` any more, and whoever works with it stops.

    Raises:
        SessionInUse: another process has it; the message says which.
    """

    def __init__(self, folder: Path, *, title: str) -> None:
        self.folder = private_folder(folder).resolve()
        with _opening:
            hold = _again(self.folder)
            if hold is None:
                hold = _Hold(_taken(self.folder, title))
                with _guard:
                    _holds[self.folder] = hold
                    hold.users += 1
        hold.newest += 1
        self._hold, self._number = hold, hold.newest
        self._end = weakref.finalize(self, _leave, self.folder, hold)

    @property
    def is_newest(self) -> bool:
        """Whether it is not closed, and nobody in this process has taken the folder since."""
        return self._end.alive and self._number == self._hold.newest

    def close(self) -> None:
        """Let go of the folder; another process can take it when nobody in this one holds it any more."""
        self._end()


def _again(folder: Path) -> _Hold | None:
    with _guard:
        hold = _holds.get(folder)
        if hold is not None:
            hold.users += 1
        return hold if hold is not None and hold.is_open else None


def _leave(folder: Path, hold: _Hold) -> None:
    with _guard:
        hold.users -= 1
        if hold.users == 0 and hold.is_open:
            hold.is_open = False
            if _holds.get(folder) is hold:
                del _holds[folder]
            with suppress(OSError):
                os.close(hold.handle)


def _forget_after_fork() -> None:
    """A forked child must not hold what its parent holds: it may outlive it."""
    for hold in _holds.values():
        hold.is_open = False
        with suppress(OSError):
            os.close(hold.handle)
    _holds.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def _taken(folder: Path, title: str) -> int:
    handle = os.open(folder / "in-use.lock", os.O_RDWR | os.O_CREAT, 0o600)
    until = time.monotonic() + _WAIT_S
    while not _try(handle):
        if time.monotonic() > until:
            os.close(handle)
            raise SessionInUse(
                f"{title} is open in {_holder(folder)}. Two kernels on one folder ({str(folder)!r}) would spoil each "
                "other's rounds. Shut that kernel down (Kernel, Shut Down Kernel), or open a session under another "
                "name here."
            )
        time.sleep(0.05)
    about = {"process": os.getpid(), "computer": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M")}
    with suppress(OSError):  # only for the sentence that others get; a full disk keeps nobody out
        write_private(folder / "in-use.json", json.dumps(about).encode())
    return handle


def _try(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that knows no locks: nobody can be kept out
        return True
    return True


def _holder(folder: Path) -> str:
    try:
        about = read_json(folder / "in-use.json")
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict):
        return "another kernel"
    where = "this computer" if about.get("computer") == platform.node() else f"the computer {about.get('computer')!r}"
    return f"another kernel (process {about.get('process')} on {where}, since {about.get('since')})"
