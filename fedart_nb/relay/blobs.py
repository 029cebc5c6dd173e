"""Blobs as files named by their sha256: streamed to a temporary file, renamed only when the checksum fits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from fedart_nb.errors import RelayError
from fedart_nb.relay.limits import Refused

__all__ = ["BlobStore", "BlobWriter", "PieceWriter", "sha256_of_file"]

_READ_BYTES = 2**20


class BlobStore:
    """The files under `folder`: complete ones in `blobs`, others in `incoming`."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._incoming = folder / "incoming"
        try:
            self._blobs.mkdir(exist_ok=True)
            self._incoming.mkdir(exist_ok=True)
        except OSError as error:
            raise RelayError(
                f"The relay's data folder {str(folder)!r} cannot be used ({error}). Choose another with --data."
            ) from error

    def path(self, sha256: str) -> Path:
        """Where the blob lies, once it is complete."""
        return self._blobs / sha256[:2] / sha256

    def incoming(self, name: str | None = None) -> Path:
        """Where an upload lies until then; a new place without `name`."""
        return self._incoming / (name or secrets.token_hex(16))

    def cut(self, name: str, size_bytes: int) -> None:
        """Shorten an incoming file that is longer than it may be."""
        path = self._incoming / name
        if path.exists() and path.stat().st_size > size_bytes:
            os.truncate(path, size_bytes)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove incoming files that nobody will go on with."""
        for file in self._incoming.iterdir():
            if file.name not in names:
                file.unlink(missing_ok=True)

    def place(self, temporary: Path, sha256: str) -> None:
        """Put a complete upload where it belongs."""
        final = self.path(sha256)
        final.parent.mkdir(exist_ok=True)
        temporary.replace(final)

    def remove(self, sha256: str) -> None:
        """Forget a blob; one that is not there is no error."""
        self.path(sha256).unlink(missing_ok=True)


class _Writer:
    """A file that grows by checked chunks. A context manager: whatever was not committed leaves no trace."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._path = path
        self._limit = limit_bytes
        self._hash = hashlib.sha256()
        self._open = True
        self._file = path.open("ab")
        self._start = self._file.tell()
        self.size_bytes = 0

    def _append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    def _require_checksum(self, sha256: str, what: str) -> None:
        found = self._hash.hexdigest()
        if found != sha256:
            raise Refused(
                400,
                f"The bytes have the sha256 {found[:16]}...; announced was {sha256[:16]}...",
                f"Send the {what} again.",
            )

    def _finish(self, *, keep: bool) -> None:
        """Close the file; without `keep` it is as long as it was before, or gone."""
        if keep:
            self._file.flush()  # the disk may be full: then it is still open, and `abort` cleans up
        self._open = False
        with contextlib.suppress(OSError):
            self._file.close()
        if not keep:
            with contextlib.suppress(OSError):
                os.truncate(self._path, self._start) if self._start else self._path.unlink()

    def abort(self) -> None:
        """Forget what came since the writer was made; does nothing after a commit."""
        if self._open:
            self._finish(keep=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()


class BlobWriter(_Writer):
    """One running upload of a whole blob.

    `grow(n)` reserves n more bytes when no size was announced; `settle(size or None, reserved)` closes the books.
    """

    def __init__(
        self,
        path: Path,
        sha256: str,
        *,
        announced_bytes: int | None,
        limit_bytes: int,
        grow: Callable[[int], None],
        settle: Callable[[int | None, int], None],
    ) -> None:
        self._sha256 = sha256
        self._announced = announced_bytes
        self._grow, self._settle = grow, settle
        self._reserved = announced_bytes or 0
        try:
            super().__init__(path, limit_bytes)
        except BaseException:
            settle(None, self._reserved)
            raise

    def write(self, chunk: bytes) -> None:
        """Append bytes to the upload; refuses the first one that is too many."""
        size = self.size_bytes + len(chunk)
        if self._announced is not None and size > self._announced:
            raise Refused(400, f"More than the {self._announced} bytes announced arrived.", "Send the blob again.")
        if size > self._limit:
            raise Refused(413, f"The blob has more than {self._limit} bytes; this relay takes no more.", "Send less.")
        if self._announced is None:
            self._grow(len(chunk))
            self._reserved += len(chunk)
        self._append(chunk)

    def commit(self) -> None:
        """Check size and checksum, then put the blob in its place."""
        if self._announced is not None and self.size_bytes != self._announced:
            raise Refused(
                400, f"{self.size_bytes} of {self._announced} announced bytes arrived.", "Send the blob again."
            )
        self._require_checksum(self._sha256, "blob")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._finish(keep=True)
        try:
            self._settle(self.size_bytes, self._reserved)
        finally:
            self._path.unlink(missing_ok=True)  # it lies in its place by now, unless that was refused

    def abort(self) -> None:
        """Forget the upload; does nothing after a commit."""
        if self._open:
            super().abort()
            self._settle(None, self._reserved)


class PieceWriter(_Writer):
    """One piece of an upload that may go on later; `settle(size or None)` returns how many bytes there are now."""

    def __init__(self, path: Path, sha256: str, *, limit_bytes: int, settle: Callable[[int | None], int]) -> None:
        self._sha256 = sha256
        self._settle = settle
        try:
            super().__init__(path, limit_bytes)
        except BaseException:
            settle(None)
            raise

    def write(self, chunk: bytes) -> None:
        """Append bytes to the piece; refuses the first one that is too many."""
        if self.size_bytes + len(chunk) > self._limit:
            raise Refused(413, f"The piece has more than {self._limit} bytes, all that may come here.", "Send less.")
        self._append(chunk)

    def commit(self) -> int:
        """Check the piece's checksum and keep it; returns how many bytes of the blob are there."""
        if not self.size_bytes:
            raise Refused(400, "The piece is empty.", "Send at least one byte.")
        self._require_checksum(self._sha256, "piece")
        self._finish(keep=True)
        return self._settle(self.size_bytes)

    def abort(self) -> None:
        """Forget the piece; does nothing after a commit."""
        if self._open:
            super().abort()
            self._settle(None)


def sha256_of_file(path: Path) -> str:
    """sha256 of a file that may be large and that is on the disk for good afterwards."""
    digest = hashlib.sha256()
    with path.open("r+b") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
        os.fsync(file.fileno())
    return digest.hexdigest()
