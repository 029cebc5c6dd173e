"""Who may upload and fetch which blob: whole ones in one request, large ones in pieces that go on after any break."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedart_nb.relay.blobs import BlobStore, BlobWriter, PieceWriter, sha256_of_file
from fedart_nb.relay.limits import PIECE_BYTES, Refused
from fedart_nb.relay.store import FOR_MEMBER, Books

__all__ = ["Uploads"]

_UNFINISHED = 32  # uploads that one member may leave half done in a room
_UNFINISHED_S = 3600.0  # after which a half-done upload is forgotten
_BUSY_S = 1.0
_VISIBLE = (
    "SELECT size_bytes FROM blobs WHERE room = ? AND sha256 = ? AND (owner = ? OR EXISTS (SELECT 1 FROM attached "  # noqa: S608
    f"WHERE attached.room = blobs.room AND attached.sha256 = blobs.sha256 AND attached.{FOR_MEMBER}))"
)
_Key = tuple[str, str, str]  # room, owner, sha256


class Uploads:
    """The blobs of one relay. All announced sizes are checked before a byte is stored; methods raise Refused."""

    def __init__(self, books: Books, store: BlobStore) -> None:
        self._books = books
        self._store = store
        self._writing: set[_Key] = set()
        with books.transaction():  # what a crash left: a file longer than the books say has a piece cut off in it
            kept = set()
            for *key, received, name in self._rows("1 = 1"):
                file = store.incoming(name)
                if file.exists() and file.stat().st_size >= received:
                    with file.open("r+b") as opened:
                        opened.truncate(received)
                    kept.add(name)
                else:
                    self._forget(key[0], key[1], key[2])
        store.keep_only(kept)

    def receive(self, room: str, member_id: str, sha256: str, announced_bytes: int | None) -> BlobWriter:
        """Begin an upload in one request.

        Without an announcement (chunked bodies) the same limits hold while it streams.
        """
        books = self._books
        self._require_allowed(announced_bytes or 0)
        with books.lock:
            books.require_member(room, member_id)
            books.require_place(room, member_id)
            books.reserve(room, member_id, announced_bytes or 0)
        incoming = self._store.incoming()

        def grow(size_bytes: int) -> None:
            with books.lock:
                books.reserve(room, member_id, size_bytes)

        def settle(stored_bytes: int | None, reserved_bytes: int) -> None:
            with books.lock:
                books.reserve(room, member_id, -reserved_bytes)
                if stored_bytes is not None:
                    with self._without_orphan(sha256), books.transaction():
                        self._enter(room, member_id, sha256, stored_bytes, incoming)

        return BlobWriter(
            incoming,
            sha256,
            announced_bytes=announced_bytes,
            limit_bytes=books.limits.blob_bytes,
            grow=grow,
            settle=settle,
        )

    def received(self, room: str, member_id: str, sha256: str) -> int:
        """How many bytes of a half-done upload are here: it goes on from there."""
        with self._books.lock:
            self._books.require_member(room, member_id)
            row = self._row(room, member_id, sha256)
        return 0 if row is None else row[1]

    def receive_piece(
        self, room: str, member_id: str, sha256: str, *, offset: int, size_bytes: int, piece_sha256: str
    ) -> PieceWriter:
        """Go on with an upload of `size_bytes` in all, which must stand at `offset`; 0 begins it."""
        books, key = self._books, (room, member_id, sha256)
        self._require_allowed(size_bytes)
        with books.transaction():
            host_id = books.require_member(room, member_id)
            if key in self._writing:
                raise Refused(503, "Another request is writing this blob.", "Wait.", retry_after_s=_BUSY_S)
            row = self._row(*key)
            if row is None:
                if self.visible(room, member_id, host_id, sha256) is not None:
                    raise Refused(409, "This blob is here already.", "Ask with HEAD; there is nothing to do.")
                if offset != 0:
                    raise Refused(409, f"This upload stands at 0 bytes, not {offset}.", "Begin it.")
                row = self._begin(key, size_bytes)
            announced, received, name = row
            if announced != size_bytes:
                raise Refused(400, f"The blob had {announced} bytes before, now {size_bytes}.", "Send the same blob.")
            if offset != received:
                raise Refused(409, f"This upload stands at {received} bytes, not {offset}.", "Go on from there.")
            self._writing.add(key)

        def settle(added_bytes: int | None) -> int:
            try:
                return received if added_bytes is None else self._settle(key, received + added_bytes, announced, name)
            finally:
                self._writing.discard(key)

        limit = min(PIECE_BYTES, size_bytes - offset)
        try:
            self._store.cut(name, received)  # a piece that the books never took, because the disk was full
        except OSError:
            self._writing.discard(key)
            raise
        return PieceWriter(self._store.incoming(name), piece_sha256, limit_bytes=limit, settle=settle)

    def find(self, room: str, member_id: str, sha256: str) -> tuple[Path, int]:
        """File and size of a blob that this member uploaded, or that is attached to a message for this member."""
        with self._books.lock:
            host_id = self._books.require_member(room, member_id)
            size_bytes = self.visible(room, member_id, host_id, sha256)
        if size_bytes is None:
            raise Refused(
                404, f"No blob {sha256[:16]}... for you in the room {room!r}.", "Ask its sender to send again."
            )
        return self._store.path(sha256), size_bytes

    def visible(self, room: str, member_id: str, host_id: str, sha256: str) -> int | None:
        """Size of a blob that this member may have, else None."""
        row = self._books.db.execute(_VISIBLE, (room, sha256, member_id, member_id, member_id == host_id)).fetchone()
        return None if row is None else int(row[0])

    def drop(self, room: str, member_id: str) -> int:
        """Delete what this member uploaded to a room, and only that; returns how many blobs. Messages stay."""
        books = self._books
        with books.lock:
            with books.transaction():
                books.require_member(room, member_id)
                mine = (room, member_id)
                rows = books.db.execute("SELECT sha256, size_bytes FROM blobs WHERE room = ? AND owner = ?", mine)
                blobs: list[tuple[str, int]] = rows.fetchall()
                freed = sum(size for _, size in blobs)
                books.db.execute("DELETE FROM blobs WHERE room = ? AND owner = ?", mine)
                books.db.execute("UPDATE rooms SET used_bytes = used_bytes - ? WHERE room = ?", (freed, room))
                books.db.execute("UPDATE usage SET bytes = bytes - ? WHERE room = ? AND member = ?", (freed, *mine))
            self._unlink_orphans(sha256 for sha256, _ in blobs)
        return len(blobs)

    def sweep(self) -> int:
        """Forget half-done uploads and idle rooms with their blobs; returns how many rooms."""
        books = self._books
        with books.lock:
            rooms, blobs = books.forget_idle_rooms()
            self._unlink_orphans(blobs)
            old = books.clock() - _UNFINISHED_S
            for room, owner, sha256, _, name in self._rows("at < ? OR room NOT IN (SELECT room FROM rooms)", old):
                if (room, owner, sha256) not in self._writing:
                    self._forget(room, owner, sha256)
                    self._store.incoming(name).unlink(missing_ok=True)
        return rooms

    # --- inside ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _without_orphan(self, sha256: str) -> Iterator[None]:
        """Where the books do not take a blob, its file does not stay either."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error, OSError), self._books.lock:
                self._unlink_orphans([sha256])
            raise

    def _unlink_orphans(self, blobs: Iterable[str]) -> None:
        """Remove the files of those blobs that are in nobody's books any more."""
        for sha256 in set(blobs):
            owned = self._books.db.execute("SELECT 1 FROM blobs WHERE sha256 = ? LIMIT 1", (sha256,))
            if owned.fetchone() is None:
                self._store.remove(sha256)

    def _begin(self, key: _Key, size_bytes: int) -> tuple[int, int, str]:
        room, member_id, _ = key
        books = self._books
        books.require_place(room, member_id)
        books.require_space(room, member_id, size_bytes)
        (unfinished,) = books.db.execute(
            "SELECT COUNT(*) FROM uploads WHERE room = ? AND owner = ?", (room, member_id)
        ).fetchone()
        if unfinished >= _UNFINISHED:
            raise Refused(429, f"You have {unfinished} uploads half done, as many as you may.", "Finish them first.")
        name = self._store.incoming().name
        books.db.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, 0, ?, ?)", (*key, size_bytes, name, books.clock()))
        return size_bytes, 0, name

    def _settle(self, key: _Key, received: int, size_bytes: int, name: str) -> int:
        """Note a piece; after the last one check the whole blob and put it in its place."""
        room, member_id, sha256 = key
        books = self._books
        if received < size_bytes:
            with books.lock:
                books.db.execute(
                    "UPDATE uploads SET received_bytes = ?, at = ? WHERE room = ? AND owner = ? AND sha256 = ?",
                    (received, books.clock(), *key),
                )
            return received
        incoming = self._store.incoming(name)
        fits = sha256_of_file(incoming) == sha256
        try:
            with self._without_orphan(sha256), books.transaction():
                self._forget(*key)
                if fits:
                    self._enter(room, member_id, sha256, size_bytes, incoming)
        finally:
            incoming.unlink(missing_ok=True)  # it lies in its place by now, unless that was refused
        if not fits:
            message = f"All pieces are here, but together they do not have the sha256 {sha256[:16]}..."
            raise Refused(400, message, "Send them again.")
        return size_bytes

    def _enter(self, room: str, member_id: str, sha256: str, size_bytes: int, incoming: Path) -> None:
        """A blob is complete: into the books and to its place, inside a transaction, so that nobody deletes it."""
        books = self._books
        books.require_member(room, member_id)  # the room may have been deleted meanwhile
        new = books.db.execute(
            "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?)",
            (room, sha256, member_id, size_bytes, books.clock()),
        )
        if new.rowcount:
            books.charge(room, member_id, size_bytes)
        self._store.place(incoming, sha256)

    def _require_allowed(self, size_bytes: int) -> None:
        limit = self._books.limits.blob_bytes
        if size_bytes > limit:
            raise Refused(413, f"A blob of {size_bytes} bytes was announced; this relay takes {limit}.", "Send less.")

    def _row(self, room: str, member_id: str, sha256: str) -> tuple[int, int, str] | None:
        """Announced size, bytes received, file's name."""
        found: tuple[int, int, str] | None = self._books.db.execute(
            "SELECT size_bytes, received_bytes, file FROM uploads WHERE room = ? AND owner = ? AND sha256 = ?",
            (room, member_id, sha256),
        ).fetchone()
        return found

    def _rows(self, where: str, *values: float) -> list[tuple[str, str, str, int, str]]:
        query = f"SELECT room, owner, sha256, received_bytes, file FROM uploads WHERE {where}"  # noqa: S608 - ours
        return self._books.db.execute(query, values).fetchall()

    def _forget(self, room: str, member_id: str, sha256: str) -> None:
        self._books.db.execute(
            "DELETE FROM uploads WHERE room = ? AND owner = ? AND sha256 = ?", (room, member_id, sha256)
        )
