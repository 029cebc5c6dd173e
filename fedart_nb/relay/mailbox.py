"""The blind mailbox: rooms, members, an append-only log of sealed messages, and blobs by checksum. It holds no key."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

from fedart_nb.errors import RelayError, TooLarge, WireError
from fedart_nb.relay.blobs import BlobStore, BlobWriter
from fedart_nb.relay.limits import Limits, Refused
from fedart_nb.relay.signing import WINDOW_S, SignedRequest
from fedart_nb.relay.wire import Envelope, check_room, sha256_hex
from fedart_nb.secagg.identity import identity_id

__all__ = ["INBOX_PAGE", "LOG_PAGE", "Mailbox", "StoredMessage"]

INBOX_PAGE = 64  # messages in one answer: at 64 KiB each, never more than 4 MiB
LOG_PAGE = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rooms (
    room TEXT PRIMARY KEY, token_sha256 TEXT NOT NULL, host_id TEXT NOT NULL, used_bytes INTEGER NOT NULL,
    at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS members (
    room TEXT NOT NULL, id TEXT NOT NULL, public_key BLOB NOT NULL, at REAL NOT NULL, PRIMARY KEY (room, id));
CREATE TABLE IF NOT EXISTS messages (
    room TEXT NOT NULL, seq INTEGER NOT NULL, sha256 TEXT NOT NULL, kind TEXT NOT NULL, round INTEGER NOT NULL,
    sender TEXT NOT NULL, recipient TEXT NOT NULL, data BLOB NOT NULL, at REAL NOT NULL,
    UNIQUE (room, seq), UNIQUE (room, sha256));
CREATE TABLE IF NOT EXISTS attached (
    room TEXT NOT NULL, sha256 TEXT NOT NULL, recipient TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (room, sha256, recipient, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blobs (
    room TEXT NOT NULL, sha256 TEXT NOT NULL, owner TEXT NOT NULL, size_bytes INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (room, sha256, owner));
CREATE TABLE IF NOT EXISTS nonces (
    member TEXT NOT NULL, nonce TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (member, nonce)) WITHOUT ROWID;
"""
# Who gets a message. Parameters: the member's id, and whether that member is the room's host.
_FOR_MEMBER = "(recipient = 'all' OR recipient = ? OR (recipient = 'host' AND ?))"
_INBOX = f"SELECT seq, data FROM messages WHERE room = ? AND seq > ? AND {_FOR_MEMBER} ORDER BY seq LIMIT ?"  # noqa: S608
_VISIBLE_BLOB = (
    "SELECT size_bytes FROM blobs WHERE room = ? AND sha256 = ? AND (owner = ? OR EXISTS (SELECT 1 FROM attached "  # noqa: S608
    f"WHERE attached.room = blobs.room AND attached.sha256 = blobs.sha256 AND {_FOR_MEMBER}))"
)


class StoredMessage(NamedTuple):
    """A sealed envelope as it lies in the log."""

    seq: int
    data: bytes


class Mailbox:
    """The relay's rules over one SQLite file and one folder of blobs; every method may be called from any thread.

    `folder` is made if it is missing and belongs to one Mailbox at a time. Methods raise Refused. `clock` gives unix
    seconds.
    """

    def __init__(
        self, folder: str | os.PathLike[str], limits: Limits | None = None, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.limits = limits or Limits()
        self._clock = clock
        self._lock = threading.RLock()
        self._listeners: dict[str, set[Callable[[], None]]] = {}
        self._reserved: dict[str, int] = {}  # bytes of running uploads, by room
        self._admitted = 0
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder_lock = _only_one(folder / "lock")
        self._blobs = BlobStore(folder)
        self._db = sqlite3.connect(folder / "relay.sqlite3", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut may cost the last moment
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the database and the folder."""
        with self._lock:
            self._db.close()
            self._folder_lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- who may ask -------------------------------------------------------------------------------------------

    def admit(self, request: SignedRequest, room: str | None = None) -> None:
        """Let a signed request pass: its clock is right, its signer is in `room` (if given), it comes only once."""
        now = self._clock()
        if abs(now - request.time_s) > WINDOW_S:
            raise Refused(
                401,
                f"The request was signed at {request.time_s}, the relay's clock says {int(now)} (unix seconds).",
                "Set this computer's clock and try again.",
            )
        with self._lock:
            if room is not None:
                self._require_member(room, request.member_id)
            self._admitted += 1
            if self._admitted % 256 == 1:
                self._db.execute("DELETE FROM nonces WHERE expires < ?", (now,))
            fresh = self._db.execute(
                "INSERT OR IGNORE INTO nonces VALUES (?, ?, ?)",
                (request.member_id, request.nonce, request.time_s + WINDOW_S + 1),
            )
            if not fresh.rowcount:
                raise Refused(401, "This very request was made before.", "Sign a new one; a copied request is refused.")

    def create_room(self, room: str, token_sha256: str, public_key: bytes) -> None:
        """Open a room whose host is the owner of `public_key`; again with the same values is no error."""
        host_id = identity_id(public_key)
        try:
            check_room(room)
        except WireError as error:
            raise Refused(400, str(error), "Choose another name.") from error
        with self._transaction():
            known = self._db.execute("SELECT token_sha256, host_id FROM rooms WHERE room = ?", (room,)).fetchone()
            if known == (token_sha256, host_id):
                return
            if known is not None:
                raise Refused(409, f"The room {room!r} exists already.", "Choose another name.")
            (rooms,) = self._db.execute("SELECT COUNT(*) FROM rooms").fetchone()
            if rooms >= self.limits.rooms:
                raise Refused(429, f"This relay holds {rooms} rooms, as many as it may.", "Raise its limit of rooms.")
            now = self._clock()
            self._db.execute("INSERT INTO rooms VALUES (?, ?, ?, 0, ?)", (room, token_sha256, host_id, now))
            self._db.execute("INSERT INTO members VALUES (?, ?, ?, ?)", (room, host_id, public_key, now))

    def join(self, room: str, token: str, public_key: bytes) -> str:
        """Make the owner of `public_key` a member; again is no error. Returns the host's id."""
        member_id = identity_id(public_key)
        with self._transaction():
            known = self._db.execute("SELECT token_sha256, host_id FROM rooms WHERE room = ?", (room,)).fetchone()
            if known is None:
                raise _no_room(room)
            token_sha256, host_id = known
            if not hmac.compare_digest(hashlib.sha256(token.encode()).hexdigest(), token_sha256):
                raise Refused(403, f"The token does not open the room {room!r}.", "Ask the host for the invite link.")
            if self._is_member(room, member_id):
                return str(host_id)
            (members,) = self._db.execute("SELECT COUNT(*) FROM members WHERE room = ?", (room,)).fetchone()
            if members >= self.limits.members:
                raise Refused(429, f"The room {room!r} is full: it has {members} members.", "Ask the host for another.")
            self._db.execute("INSERT INTO members VALUES (?, ?, ?, ?)", (room, member_id, public_key, self._clock()))
            return str(host_id)

    # --- messages ----------------------------------------------------------------------------------------------

    def post(self, room: str, member_id: str, data: bytes) -> int:
        """Append a sealed envelope to the room's log and wake who waits; the same bytes again give the same seq."""
        try:
            envelope = Envelope.opened(data)
        except TooLarge as error:
            raise Refused(413, str(error), "Put large values into an attachment.") from error
        except WireError as error:
            raise Refused(400, str(error), "Nothing was stored.") from error
        if envelope.room != room:
            raise Refused(400, f"The envelope is for room {envelope.room!r}, not {room!r}.", "Send it there.")
        if envelope.sender != member_id:
            raise Refused(403, f"{member_id} cannot send for {envelope.sender}.", "Seal it with your own key.")
        sha256 = sha256_hex(data)
        with self._transaction():
            host_id = self._require_member(room, member_id)
            known = self._db.execute(
                "SELECT seq FROM messages WHERE room = ? AND sha256 = ?", (room, sha256)
            ).fetchone()
            if known is not None:
                return int(known[0])
            if envelope.recipient not in ("all", "host") and not self._is_member(room, envelope.recipient):
                raise Refused(
                    404, f"{envelope.recipient} is not in the room {room!r}.", "Send to a member of the room."
                )
            self._require_attachments(room, envelope, host_id)
            (last,) = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM messages WHERE room = ?", (room,)).fetchone()
            if last >= self.limits.messages:
                raise Refused(429, f"The room {room!r} has {last} messages, as many as it may.", "Open a new room.")
            self._require_space(room, len(data))
            seq = int(last) + 1
            self._db.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (room, seq, sha256, envelope.kind, envelope.round, member_id, envelope.recipient, data, self._clock()),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO attached VALUES (?, ?, ?, ?)",
                [(room, ref.sha256, envelope.recipient, seq) for ref in envelope.attachment_refs],
            )
            self._db.execute("UPDATE rooms SET used_bytes = used_bytes + ? WHERE room = ?", (len(data), room))
        self._wake(room)
        return seq

    def inbox(self, room: str, member_id: str, after: int) -> list[StoredMessage]:
        """The next messages for this member with seq > `after`, oldest first, at most INBOX_PAGE."""
        with self._lock:
            host_id = self._require_member(room, member_id)
            rows = self._db.execute(
                _INBOX,
                (room, after, member_id, member_id == host_id, INBOX_PAGE),
            ).fetchall()
        return [StoredMessage(seq, bytes(data)) for seq, data in rows]

    def listen(self, room: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` (from the posting thread) after each new message of `room`; returns a function that ends it.

        To miss nothing: listen first, then look into the inbox, then wait.
        """
        with self._lock:
            self._listeners.setdefault(room, set()).add(callback)

        def stop() -> None:
            with self._lock:
                waiting = self._listeners.get(room, set())
                waiting.discard(callback)
                if not waiting:
                    self._listeners.pop(room, None)

        return stop

    # --- blobs -------------------------------------------------------------------------------------------------

    def receive_blob(self, room: str, member_id: str, sha256: str, announced_bytes: int | None) -> BlobWriter:
        """Begin an upload. All announced sizes are checked here, before a byte is stored.

        Without an announcement (chunked bodies) the same limits hold while it streams.
        """
        limit = self.limits.blob_bytes
        if announced_bytes is not None and announced_bytes > limit:
            raise Refused(
                413, f"A blob of {announced_bytes} bytes was announced; this relay takes {limit}.", "Send less."
            )
        with self._lock:
            self._require_member(room, member_id)
            self._reserve(room, announced_bytes or 0)

        def grow(size_bytes: int) -> None:
            with self._lock:
                self._reserve(room, size_bytes)

        def finish(stored_bytes: int | None, reserved_bytes: int) -> None:
            """End the upload: enter it into the books (None: it failed) and give the reservation back."""
            with self._transaction():
                self._reserve(room, -reserved_bytes)
                if stored_bytes is None:
                    return
                new = self._db.execute(
                    "INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?)",
                    (room, sha256, member_id, stored_bytes, self._clock()),
                )
                if new.rowcount:
                    self._db.execute(
                        "UPDATE rooms SET used_bytes = used_bytes + ? WHERE room = ?", (stored_bytes, room)
                    )

        return self._blobs.writer(sha256, announced_bytes=announced_bytes, limit_bytes=limit, grow=grow, finish=finish)

    def find_blob(self, room: str, member_id: str, sha256: str) -> tuple[Path, int]:
        """File and size of a blob that this member uploaded, or that is attached to a message for this member."""
        with self._lock:
            host_id = self._require_member(room, member_id)
            size_bytes = self._visible_blob(room, member_id, host_id, sha256)
        if size_bytes is None:
            raise Refused(
                404, f"No blob {sha256[:16]}... for you in the room {room!r}.", "Ask its sender to send again."
            )
        return self._blobs.path(sha256), size_bytes

    # --- what the relay saw ------------------------------------------------------------------------------------

    def log(self, room: str, member_id: str, after: int = 0) -> dict[str, Any]:
        """Everything that the relay knows of a room, without contents; for its host only.

        Returns members and blobs (on the first page) and at most LOG_PAGE messages with seq > `after`.
        """
        with self._lock:
            if self._require_member(room, member_id) != member_id:
                raise Refused(403, f"Only the host of the room {room!r} may read its log.", "Ask the host.")
            messages = self._db.execute(
                "SELECT seq, kind, round, sender, recipient, LENGTH(data) AS size_bytes, at FROM messages "
                "WHERE room = ? AND seq > ? ORDER BY seq LIMIT ?",
                (room, after, LOG_PAGE),
            )
            answer: dict[str, Any] = {"messages": _dicts(messages), "members": [], "blobs": []}
            if after == 0:
                answer["members"] = _dicts(
                    self._db.execute("SELECT id, at FROM members WHERE room = ? ORDER BY at, id", (room,))
                )
                answer["blobs"] = _dicts(
                    self._db.execute(
                        "SELECT sha256, owner AS sender, size_bytes, at FROM blobs WHERE room = ? ORDER BY at, sha256",
                        (room,),
                    )
                )
        return answer

    # --- inside ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _is_member(self, room: str, member_id: str) -> bool:
        found = self._db.execute("SELECT 1 FROM members WHERE room = ? AND id = ?", (room, member_id)).fetchone()
        return found is not None

    def _require_member(self, room: str, member_id: str) -> str:
        """Return the host's id."""
        row = self._db.execute("SELECT host_id FROM rooms WHERE room = ?", (room,)).fetchone()
        if row is None:
            raise _no_room(room)
        if not self._is_member(room, member_id):
            raise Refused(403, f"{member_id} is not in the room {room!r}.", "Join it with the invite link first.")
        return str(row[0])

    def _visible_blob(self, room: str, member_id: str, host_id: str, sha256: str) -> int | None:
        """Size of a blob that this member uploaded or that is attached to a message for this member, else None."""
        row = self._db.execute(_VISIBLE_BLOB, (room, sha256, member_id, member_id, member_id == host_id)).fetchone()
        return None if row is None else int(row[0])

    def _require_attachments(self, room: str, envelope: Envelope, host_id: str) -> None:
        for ref in envelope.attachment_refs:
            limit = self.limits.blob_bytes
            if ref.size_bytes > limit:
                raise Refused(
                    413,
                    f"Attachment {ref.name!r} announces {ref.size_bytes} bytes; this relay takes {limit}.",
                    "Send less.",
                )
            if self._visible_blob(room, envelope.sender, host_id, ref.sha256) != ref.size_bytes:
                raise Refused(
                    409,
                    f"Attachment {ref.name!r} ({ref.size_bytes} bytes, {ref.sha256[:16]}...) is not on the relay.",
                    "Upload it first, then send the message.",
                )

    def _require_space(self, room: str, size_bytes: int) -> None:
        (used,) = self._db.execute("SELECT used_bytes FROM rooms WHERE room = ?", (room,)).fetchone()
        total = used + self._reserved.get(room, 0) + size_bytes
        if total > self.limits.room_bytes:
            raise Refused(
                413,
                f"The room {room!r} would hold {total} bytes; it may hold {self.limits.room_bytes}.",
                "Send less, or open a new room.",
            )

    def _reserve(self, room: str, size_bytes: int) -> None:
        if size_bytes > 0:
            self._require_space(room, size_bytes)
        reserved = self._reserved.get(room, 0) + size_bytes
        if reserved > 0:
            self._reserved[room] = reserved
        else:
            self._reserved.pop(room, None)

    def _wake(self, room: str) -> None:
        with self._lock:
            waiting = tuple(self._listeners.get(room, ()))
        for callback in waiting:
            callback()


def _no_room(room: str) -> Refused:
    return Refused(404, f"There is no room {room!r} on this relay.", "Ask the host for a new invite link.")


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _only_one(path: Path) -> IO[bytes]:
    """Hold a lock for as long as the file is open, so that two relays never share a folder."""
    file = path.open("ab")
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise RelayError(f"Another relay is using {path.parent}. Stop it, or choose another data folder.") from error
    return file
