"""Small files written so that nothing is lost and nobody else reads them."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import SecAggError

__all__ = ["FolderKeeper", "cache_folder", "folder_name", "locked", "write_private"]


def cache_folder() -> Path:
    """`FEDART_HOME`, else `~/.cache/fedart_nb`; not created here."""
    return Path(os.environ.get("FEDART_HOME") or Path.home() / ".cache" / "fedart_nb")


def write_private(path: Path, data: bytes) -> None:
    """Write `data` atomically to a file that only its owner may read; a crash leaves the old file or the new one.

    When it returns, the new one is there for good, also after a power cut.
    """
    temporary = path.with_name(path.name + ".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    with suppress(OSError):  # Windows opens no folders; elsewhere the new name, too, survives a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path` for the time of the `with` block; other threads and processes wait. A dead one lets go."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
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


def folder_name(name: str) -> str:
    """A person's name as a folder name: letters, digits, - and _ stay.

    >>> folder_name("Ada Lovelace")
    'Ada_Lovelace'
    """
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]


class FolderKeeper:
    """Keeps what a round must not lose (`rounds.Keeper`): one file with its secret, one with its commitments.

    The secret's file is deleted when the round is over; the other one holds hashes only, and stays. Two kernels that
    are opened on one folder by mistake are bound to the same words: whoever comes second with others is refused.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    def secret(self, digest: str) -> bytes:
        """The plan's secret, 32 bytes: made from the operating system's entropy when first asked for."""
        path = self._folder / f"{digest[:32]}.secret"
        with locked(self._folder / "lock"):
            if not path.exists():
                write_private(path, secrets.token_bytes(32))
            return path.read_bytes()

    def state(self, digest: str) -> Mapping[str, str]:
        """What `remember` was last given; {} at first."""
        path = self._folder / f"{digest[:32]}.json"
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

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
            write_private(self._folder / f"{digest[:32]}.json", json.dumps({**before, **state}).encode())

    def forget(self, digest: str) -> None:
        """Delete the secret."""
        (self._folder / f"{digest[:32]}.secret").unlink(missing_ok=True)

    def over(self, digest: str) -> bool:
        """Whether something was remembered, and the secret forgotten since: nothing can be said under it any more."""
        here = self._folder / f"{digest[:32]}.json"
        return here.exists() and not here.with_suffix(".secret").exists()
