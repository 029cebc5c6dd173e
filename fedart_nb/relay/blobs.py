"""Blobs as files named by their sha256: streamed to a temporary file, renamed only when the checksum fits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from fedart_nb.relay.limits import Refused

__all__ = ["BlobStore", "BlobWriter"]


class BlobStore:
    """The files under `folder`; uploads that a crash cut off are removed when it opens."""

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._incoming = folder / "incoming"
        self._blobs.mkdir(exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink(missing_ok=True)

    def path(self, sha256: str) -> Path:
        """Where the blob lies, once it is complete."""
        return self._blobs / sha256[:2] / sha256

    def writer(
        self,
        sha256: str,
        *,
        announced_bytes: int | None,
        limit_bytes: int,
        grow: Callable[[int], None],
        finish: Callable[[int | None, int], None],
    ) -> BlobWriter:
        """Begin an upload; `grow(n)` reserves n more bytes when no size was announced, `finish` closes the books."""
        return BlobWriter(
            self._incoming / secrets.token_hex(16), self.path(sha256), announced_bytes, limit_bytes, grow, finish
        )


class BlobWriter:
    """One running upload. A context manager: whatever was not committed is removed without a trace."""

    def __init__(
        self,
        temporary: Path,
        final: Path,
        announced_bytes: int | None,
        limit_bytes: int,
        grow: Callable[[int], None],
        finish: Callable[[int | None, int], None],
    ) -> None:
        self._temporary, self._final = temporary, final
        self._announced, self._limit = announced_bytes, limit_bytes
        self._grow, self._finish = grow, finish
        self._reserved = announced_bytes or 0
        self._hash = hashlib.sha256()
        self._open = True
        self.size_bytes = 0
        try:
            self._file = temporary.open("xb")
        except BaseException:
            finish(None, self._reserved)
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
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size_bytes = size

    def commit(self) -> None:
        """Check size and checksum, then put the blob in its place."""
        if self._announced is not None and self.size_bytes != self._announced:
            raise Refused(
                400, f"{self.size_bytes} of {self._announced} announced bytes arrived.", "Send the blob again."
            )
        if self._hash.hexdigest() != self._final.name:
            raise Refused(
                400,
                f"The bytes have the sha256 {self._hash.hexdigest()[:16]}...; announced was {self._final.name[:16]}...",
                "Send the blob again.",
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._final.parent.mkdir(exist_ok=True)
        self._temporary.replace(self._final)
        self._open = False
        self._finish(self.size_bytes, self._reserved)

    def abort(self) -> None:
        """Forget the upload; does nothing after a commit."""
        if self._open:
            self._open = False
            self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            self._finish(None, self._reserved)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.abort()
