"""Small files written so that nothing is lost, nobody else reads them, and a damaged one is kept under another name."""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import SecAggError, StorageError
from .folders import cache_folder, folder_name

__all__ = [
    "FolderKeeper",
    "cache_folder",
    "folder_name",
    "is_secret",
    "locked",
    "make_private",
    "private_folder",
    "read_json",
    "set_aside",
    "user_path",
    "write_file",
    "write_private",
]


def write_private(path: Path, data: bytes) -> None:
    """Write `data` atomically to a file that only its owner may read; a crash leaves the old file or the new one.

    When it returns, the new one is there for good, also after a power cut. Several threads and processes may write one
    file at the same time: the last one wins, and nobody reads half of one.

    Raises:
        StorageError: the disk is full, or the folder cannot be written to; the file that was there is untouched.
    """
    _write(path, data, 0o600)


def write_file(path: Path, data: bytes) -> None:
    """The same for a file that its owner means to hand on: the umask says who may read it. Its folder is made."""
    _write(path, data, None)


def private_folder(folder: Path) -> Path:
    """Make a folder that only its owner may enter (0700, whatever the umask), with those above it; returns it.

    Raises:
        StorageError: it cannot be made, or a file is in its place.
    """
    try:
        missing = list(itertools.takewhile(lambda one: not one.exists(), [folder, *folder.parents]))
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            one.chmod(0o700)
        if not folder.is_dir():
            raise StorageError(f"{str(folder)!r} is a file; a folder was expected there. Move it away.")
        here = Path.cwd()
        if folder.resolve() not in (here, *here.parents, Path.home()):  # what is shared stays shared
            with suppress(PermissionError):
                folder.chmod(0o700)
    except StorageError:
        raise
    except OSError as error:
        raise _storage_error(folder, error, "make the folder") from error
    return folder


def make_private(paths: Iterable[Path]) -> None:
    """Take others' rights away from files and folders, as an older version or a backup may have left them."""
    for path in paths:
        for one in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
            if not one.is_symlink():
                with suppress(OSError):
                    mode = 0o700 if one.is_dir() else 0o600
                    if one.stat().st_mode & 0o777 != mode:
                        one.chmod(mode)


def set_aside(path: Path, kind: str = "damaged") -> Path:
    """Rename a file or folder to `<name>.<kind>-<n>` beside it, with the first free number; returns the new path."""
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.{kind}-{number}")
        if not os.path.lexists(target):
            try:
                path.rename(target)
            except OSError as error:
                raise _storage_error(path, error, "rename") from error
            return target
    raise AssertionError  # pragma: no cover - count never ends


def read_json(path: Path) -> object:
    """The JSON value in a file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_secret(data: bytes) -> bool:
    """Whether these are 32 bytes that can be a secret; a power cut may leave fewer, or zeros.

    >>> is_secret(bytes(32))
    False
    """
    return len(data) == 32 and any(data)


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path as a person writes it: `~` is the home folder.

    >>> user_path("~/art").is_absolute()
    True
    """
    return Path(path).expanduser()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path` for the time of the `with` block; other threads and processes wait. A dead one lets go."""
    if not path.parent.exists():
        private_folder(path.parent)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _storage_error(path, error, "open") from error
    try:
        try:
            import fcntl
        except ImportError:  # pragma: no cover - Windows
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined, unused-ignore]
        else:
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class FolderKeeper:
    """Keeps what a round must not lose (`federated.Keeper`): one file with its secret, one with its commitments.

    The secret's file is deleted when the round is over; the other one holds hashes only, and stays. Two kernels that
    are opened on one folder by mistake are bound to the same words: whoever comes second with others is refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def secret(self, digest: str) -> bytes:
        """The plan's secret, 32 bytes: made from the operating system's entropy when first asked for.

        Raises:
            SecAggError: its file is damaged, and something was already said under it; the file is kept.
        """
        path = self._folder / f"{digest[:32]}.secret"
        with locked(self._folder / "lock"):
            if path.exists() and is_secret(kept := path.read_bytes()):
                return kept
            if path.exists():
                damaged = set_aside(path)
                if self._state_path(digest).exists():
                    raise SecAggError(
                        f"The secret of this try of the round was damaged, and is kept as {str(damaged)!r}. This "
                        "kernel cannot say the same again, so this try goes on without you; the next one does not."
                    )
            write_private(path, secrets.token_bytes(32))
            return path.read_bytes()

    def state(self, digest: str) -> Mapping[str, str]:
        """What `remember` was last given; {} at first.

        Raises:
            SecAggError: its file is damaged. It stays: without it nobody knows what was said, so nothing more is said.
        """
        path = self._state_path(digest)
        if not path.exists():
            return {}
        try:
            state = read_json(path)
        except ValueError:
            state = None
        if not isinstance(state, dict) or not all(isinstance(value, str) for value in state.values()):
            raise SecAggError(
                f"{str(path)!r} is damaged: it held what this kernel has said in this try of the round. This try goes "
                "on without you; the next one does not."
            )
        return state

    def remember(self, digest: str, state: Mapping[str, str]) -> None:
        """Write the state so that no crash loses it; SecAggError when another kernel has said something else."""
        with locked(self._folder / "lock"):
            before = self.state(digest)
            for step, known in before.items():
                if state.get(step, known) != known:
                    raise SecAggError(
                        f"Another kernel on {str(self._folder.parent)!r} has already said something else in the step "
                        f"{step!r} of this round. Nothing was sent. Close one of the two notebooks, or give each a "
                        "folder of its own."
                    )
            write_private(self._state_path(digest), json.dumps({**before, **state}).encode())

    def forget(self, digest: str) -> None:
        """Delete the secret."""
        (self._folder / f"{digest[:32]}.secret").unlink(missing_ok=True)

    def over(self, digest: str) -> bool:
        """Whether something was remembered, and the secret forgotten since: nothing can be said under it any more."""
        here = self._state_path(digest)
        return here.exists() and not here.with_suffix(".secret").exists()

    def _state_path(self, digest: str) -> Path:
        return self._folder / f"{digest[:32]}.json"


def _write(path: Path, data: bytes, mode: int | None) -> None:
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.tmp")
    try:
        if mode is None:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        try:
            with os.fdopen(handle, "wb") as file:
                if mode is not None:
                    with suppress(OSError):  # a file system that knows no rights
                        temporary.chmod(mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _storage_error(path, error, "write") from error
    with suppress(OSError):  # Windows opens no folders; elsewhere the new name, too, survives a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _storage_error(path: Path, error: OSError, doing: str) -> StorageError:
    free = ""
    with suppress(OSError):
        place = next(one for one in (path, *path.parents) if one.exists())
        free = f" ({shutil.disk_usage(place).free / 2**20:,.0f} MiB are free there)"
    told = StorageError(
        f"Cannot {doing} {str(path)!r}: {error.strerror or error}{free}. What was there before is untouched. Make "
        "room, or let this user write there, and try again."
    )
    told.errno = error.errno
    return told
