"""The relay's books: one SQLite file that says who is in which room, what lies there, and how much each has used."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fedart_nb.errors import RelayError
from fedart_nb.relay.limits import Limits, Refused

__all__ = ["FOR_MEMBER", "Books"]

_DAY_S = 86_400.0
_TOUCH_S = 3600.0  # a room's last use is written no more often than this
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
CREATE INDEX IF NOT EXISTS blobs_by_sha256 ON blobs (sha256);
CREATE TABLE IF NOT EXISTS uploads (
    room TEXT NOT NULL, owner TEXT NOT NULL, sha256 TEXT NOT NULL, size_bytes INTEGER NOT NULL,
    received_bytes INTEGER NOT NULL, file TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (room, owner, sha256));
CREATE TABLE IF NOT EXISTS usage (
    room TEXT NOT NULL, member TEXT NOT NULL, bytes INTEGER NOT NULL, items INTEGER NOT NULL,
    PRIMARY KEY (room, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS active (room TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nonces (
    member TEXT NOT NULL, nonce TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (member, nonce)) WITHOUT ROWID;
"""
_OF_A_ROOM = ("rooms", "members", "messages", "attached", "blobs", "uploads", "usage", "active")
# Who gets a message. Parameters: the member's id, and whether that member is the room's host.
FOR_MEMBER = "(recipient = 'all' OR recipient = ? OR (recipient = 'host' AND ?))"
_IDLE = """
SELECT room FROM rooms WHERE MAX(at,
    COALESCE((SELECT active.at FROM active WHERE active.room = rooms.room), 0),
    COALESCE((SELECT m.at FROM messages AS m WHERE m.room = rooms.room ORDER BY seq DESC LIMIT 1), 0)) < ?
"""


class Books:
    """The database in `folder`, which belongs to one relay at a time. Methods raise Refused, whatever thread calls.

    `lock` is held while several steps belong together. Bytes of uploads that run are reserved in memory; those of
    uploads that may go on later stand in the table `uploads`.
    """

    def __init__(self, folder: Path, limits: Limits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.clock = clock
        self.lock = threading.RLock()
        self._reserved: dict[tuple[str, str], int] = {}  # bytes of running uploads, by room and member
        self._touched: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder_lock = _only_one(folder / "lock")
        self.db = sqlite3.connect(folder / "relay.sqlite3", isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut may cost the last moment
        self.db.executescript(_SCHEMA)

    def close(self) -> None:
        """Let go of the database and the folder."""
        with self.lock:
            self.db.close()
            self._folder_lock.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of it or nothing."""
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    # --- who is where ------------------------------------------------------------------------------------------

    def is_member(self, room: str, member_id: str) -> bool:
        """Whether that id is in the room."""
        found = self.db.execute("SELECT 1 FROM members WHERE room = ? AND id = ?", (room, member_id)).fetchone()
        return found is not None

    def require_member(self, room: str, member_id: str) -> str:
        """Return the host's id."""
        host_id, _ = self._room(room)
        if not self.is_member(room, member_id):
            raise Refused(403, f"{member_id} is not in the room {room!r}.", "Join it with the invite link first.")
        return host_id

    def touch(self, room: str, now: float) -> None:
        """Remember that the room is in use."""
        if now - self._touched.get(room, 0.0) > _TOUCH_S:
            self.db.execute("INSERT OR REPLACE INTO active VALUES (?, ?)", (room, now))
            self._touched[room] = now

    # --- how much ----------------------------------------------------------------------------------------------

    def require_space(self, room: str, member_id: str, size_bytes: int) -> None:
        """Refuse what would overfill the room, or this member's part of it."""
        host_id, used = self._room(room)
        total = used + self._running(room) + size_bytes
        if total > self.limits.room_bytes:
            raise Refused(
                413,
                f"The room {room!r} would hold {total} bytes; it may hold {self.limits.room_bytes}.",
                "Send less, or open a new room.",
            )
        if member_id == host_id:
            return
        total = self._used(room, member_id)[0] + self._running(room, member_id) + size_bytes
        if total > self.limits.member_bytes:
            raise Refused(
                413,
                f"You would hold {total} bytes of the room {room!r}; a member may hold {self.limits.member_bytes}.",
                "Send less, or ask the host for a new room.",
            )

    def require_place(self, room: str, member_id: str) -> None:
        """Refuse one more message or attachment of a member who has as many as allowed."""
        items = self._used(room, member_id)[1]
        if items >= self.limits.member_messages and member_id != self._room(room)[0]:
            raise Refused(
                429,
                f"You have {items} messages and attachments in the room {room!r}, as many as a member may.",
                "Ask the host for a new room.",
            )

    def charge(self, room: str, member_id: str, size_bytes: int) -> None:
        """Enter one message or attachment that is there for good."""
        self.db.execute("UPDATE rooms SET used_bytes = used_bytes + ? WHERE room = ?", (size_bytes, room))
        self.db.execute(
            "INSERT INTO usage VALUES (?, ?, ?, 1) "
            "ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes, items = items + 1",
            (room, member_id, size_bytes),
        )

    def reserve(self, room: str, member_id: str, size_bytes: int) -> None:
        """Keep space for an upload that runs; a negative number gives it back."""
        if size_bytes > 0:
            self.require_space(room, member_id, size_bytes)
        reserved = self._reserved.get((room, member_id), 0) + size_bytes
        if reserved > 0:
            self._reserved[room, member_id] = reserved
        else:
            self._reserved.pop((room, member_id), None)

    def totals(self) -> dict[str, int]:
        """How many rooms, members, messages and attachments there are, and their bytes."""
        with self.lock:
            counted = {
                name: int(self.db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0])  # noqa: S608 - our own names
                for name in ("rooms", "members", "messages", "blobs")
            }
            (used,) = self.db.execute("SELECT COALESCE(SUM(used_bytes), 0) FROM rooms").fetchone()
        return counted | {"bytes": int(used)}

    # --- what nobody needs any more -----------------------------------------------------------------------------

    def forget_idle_rooms(self) -> tuple[int, list[str]]:
        """Delete rooms that nobody used for `keep_days`; returns their number, and the checksums of their blobs."""
        oldest = self.clock() - self.limits.keep_days * _DAY_S
        with self.transaction():
            rooms = [room for (room,) in self.db.execute(_IDLE, (oldest,))]
            blobs: list[str] = []
            for room in rooms:
                blobs += [sha for (sha,) in self.db.execute("SELECT sha256 FROM blobs WHERE room = ?", (room,))]
                for table in _OF_A_ROOM:
                    self.db.execute(f"DELETE FROM {table} WHERE room = ?", (room,))  # noqa: S608 - our own names
                self._touched.pop(room, None)
        return len(rooms), blobs

    def _room(self, room: str) -> tuple[str, int]:
        """Host's id and bytes used."""
        row = self.db.execute("SELECT host_id, used_bytes FROM rooms WHERE room = ?", (room,)).fetchone()
        if row is None:
            raise Refused(404, f"There is no room {room!r} on this relay.", "Ask the host for a new invite link.")
        return str(row[0]), int(row[1])

    def _used(self, room: str, member_id: str) -> tuple[int, int]:
        row = self.db.execute("SELECT bytes, items FROM usage WHERE room = ? AND member = ?", (room, member_id))
        return row.fetchone() or (0, 0)

    def _running(self, room: str, member_id: str | None = None) -> int:
        """Bytes of uploads in a room (of one member) that are not complete."""
        (resumable,) = self.db.execute(
            "SELECT COALESCE(SUM(size_bytes), 0) FROM uploads WHERE room = ? AND (? IS NULL OR owner = ?)",
            (room, member_id, member_id),
        ).fetchone()
        whole = sum(n for (where, who), n in self._reserved.items() if where == room and member_id in (None, who))
        return int(resumable) + whole


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
