"""The relay's books: one SQLite file that says who is in which room, what lies there, and how much each has used."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from fedart_nb.errors import RelayError
from fedart_nb.relay.limits import Limits, Refused

__all__ = ["FOR_MEMBER", "Books", "made_folder"]

_DAY_S = 86_400.0
_TOUCH_S = 600.0  # a room's last use is written no more often than this
_RELAYS_OF_A_MEMBER = 8
_NONCES_IN_MEMORY = 100_000
_FULL_S = 30.0
_WAL_LIMIT_BYTES = 2**24
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
CREATE INDEX IF NOT EXISTS messages_by_recipient ON messages (room, recipient, seq);
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
CREATE TABLE IF NOT EXISTS opened (room TEXT PRIMARY KEY, address_sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS opened_by_address ON opened (address_sha256);
CREATE TABLE IF NOT EXISTS relays (
    room TEXT NOT NULL, member TEXT NOT NULL, relay TEXT NOT NULL, UNIQUE (room, member, relay));
CREATE TABLE IF NOT EXISTS salt (value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS nonces (
    member TEXT NOT NULL, nonce TEXT NOT NULL, expires REAL NOT NULL, PRIMARY KEY (member, nonce)) WITHOUT ROWID;
"""
_OF_A_ROOM = ("rooms", "members", "messages", "attached", "blobs", "uploads", "usage", "active", "opened", "relays")
# Who gets a message. Parameters: the member's id, and whether that member is the room's host. Looked up, not scanned.
FOR_MEMBER = "recipient IN ('all', ?, CASE WHEN ? THEN 'host' ELSE 'all' END)"
_IDLE = """
SELECT room FROM rooms WHERE MAX(at,
    COALESCE((SELECT active.at FROM active WHERE active.room = rooms.room), 0),
    COALESCE((SELECT m.at FROM messages AS m WHERE m.room = rooms.room ORDER BY seq DESC LIMIT 1), 0))
    < CASE WHEN (SELECT COUNT(*) FROM (SELECT 1 FROM members WHERE members.room = rooms.room LIMIT 2)) < 2
      THEN ? ELSE ? END
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
        self._nonces: dict[tuple[str, str], float] = {}  # while the disk is full
        self._folder = folder
        made_folder(folder)
        self._folder_lock = _only_one(folder / "lock")
        self.db = _opened(folder / "relay.sqlite3", self._folder_lock)
        (self._salt,) = self.db.execute("SELECT value FROM salt").fetchone()

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
                self.db.execute("COMMIT")  # fails where the disk is full
            except BaseException:
                if self.db.in_transaction:  # SQLite itself goes back after some faults
                    self.db.execute("ROLLBACK")
                raise

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
            with contextlib.suppress(sqlite3.OperationalError):  # on a full disk rooms can still be read
                self.db.execute("INSERT OR REPLACE INTO active VALUES (?, ?)", (room, now))
            self._touched[room] = now

    def is_new(self, member_id: str, nonce: str, expires: float) -> bool:
        """Enter a request's nonce; False when it was there. On a full disk it is remembered in memory."""
        known = self._nonces.get((member_id, nonce))
        if known is not None:
            return False
        try:
            entered = self.db.execute("INSERT OR IGNORE INTO nonces VALUES (?, ?, ?)", (member_id, nonce, expires))
        except sqlite3.OperationalError:
            found = self.db.execute("SELECT 1 FROM nonces WHERE member = ? AND nonce = ?", (member_id, nonce))
            if len(self._nonces) >= _NONCES_IN_MEMORY:
                raise
            self._nonces[member_id, nonce] = expires
            return found.fetchone() is None
        return bool(entered.rowcount)

    def forget_nonces(self, now: float) -> None:
        """Forget those whose time is over: the clock alone refuses them from now on."""
        self.db.execute("DELETE FROM nonces WHERE expires < ?", (now,))
        self._nonces = {key: expires for key, expires in self._nonces.items() if expires >= now}

    def knows_as(self, room: str, member_id: str, relay: str) -> bool:
        """Whether that member came into the room under that address of the relay."""
        values = (room, member_id, relay)
        found = self.db.execute("SELECT 1 FROM relays WHERE room = ? AND member = ? AND relay = ?", values)
        return found.fetchone() is not None

    def know_as(self, room: str, member_id: str, relay: str) -> None:
        """Take this member's requests that are signed for that address from now on; the newest few are kept."""
        values = (room, member_id)
        self.db.execute("INSERT OR REPLACE INTO relays VALUES (?, ?, ?)", (*values, relay))
        self.db.execute(
            "DELETE FROM relays WHERE room = ? AND member = ? AND rowid NOT IN "
            "(SELECT rowid FROM relays WHERE room = ? AND member = ? ORDER BY rowid DESC LIMIT ?)",
            (*values, *values, _RELAYS_OF_A_MEMBER),
        )

    def note_opening(self, room: str, host_id: str, address: str) -> None:
        """Refuse one more room of a host, or from an address, that has as many as it may; else count it.

        Of the address a salted hash is kept, for as long as the room is there.
        """
        limits = self.limits
        address_sha256 = hashlib.sha256(self._salt + address.encode()).hexdigest()[:32]
        (rooms,) = self.db.execute("SELECT COUNT(*) FROM rooms").fetchone()
        (mine,) = self.db.execute("SELECT COUNT(*) FROM rooms WHERE host_id = ?", (host_id,)).fetchone()
        here = self.db.execute("SELECT COUNT(*) FROM opened WHERE address_sha256 = ?", (address_sha256,)).fetchone()[0]
        empty = f"A room that nobody joins is deleted after {limits.keep_empty_minutes} minutes."
        if rooms >= limits.rooms:
            raise Refused(429, f"This relay holds {rooms} rooms, as many as it may.", f"Raise its limit. {empty}")
        if mine >= limits.identity_rooms:
            raise Refused(429, f"You have {mine} rooms on this relay, as many as a host may.", f"Use one. {empty}")
        if address:
            if here >= limits.address_rooms:
                raise Refused(429, f"{here} rooms were opened from your address, as many as may be.", f"Wait. {empty}")
            self.db.execute("INSERT OR REPLACE INTO opened VALUES (?, ?)", (room, address_sha256))

    # --- how much ----------------------------------------------------------------------------------------------

    def require_space(self, room: str, member_id: str, size_bytes: int) -> None:
        """Refuse what would overfill the room, or this member's part of it."""
        host_id, used = self._room(room)
        self._require_disk(size_bytes)
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

    def _require_disk(self, size_bytes: int) -> None:
        """Refuse what would fill the relay, or the disk: the database, and other programs, need what is left."""
        (used,) = self.db.execute("SELECT COALESCE(SUM(used_bytes), 0) FROM rooms").fetchone()
        if used + self._running() + size_bytes > self.limits.total_bytes:
            raise Refused(503, "This relay is full.", "Tell who runs it.", retry_after_s=_FULL_S, reason="size")
        free = shutil.disk_usage(self._folder).free - self._running()
        if free - size_bytes < self.limits.free_bytes:
            raise Refused(503, "The relay's disk is full.", "Tell who runs it.", retry_after_s=_FULL_S, reason="size")

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
        """Delete rooms that nobody used for `keep_days`, or `keep_empty_minutes` where the host is alone.

        Returns their number, and the checksums of their blobs.
        """
        now, limits = self.clock(), self.limits
        unused = now - limits.keep_days * _DAY_S
        oldest = (max(unused, now - limits.keep_empty_minutes * 60.0), unused)
        with self.transaction():
            rooms = [room for (room,) in self.db.execute(_IDLE, oldest)]
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

    def _running(self, room: str | None = None, member_id: str | None = None) -> int:
        """Bytes of uploads (in a room, of one member) that are not complete."""
        (resumable,) = self.db.execute(
            "SELECT COALESCE(SUM(size_bytes), 0) FROM uploads "
            "WHERE (? IS NULL OR room = ?) AND (? IS NULL OR owner = ?)",
            (room, room, member_id, member_id),
        ).fetchone()
        whole = sum(
            n
            for (where, who), n in self._reserved.items()
            if (room is None or where == room) and member_id in (None, who)
        )
        return int(resumable) + whole


def made_folder(folder: Path) -> None:
    """Make the relay's folder; raises RelayError for one that cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        raise RelayError(
            f"The relay's data folder {str(folder)!r} cannot be used ({error}). Choose another with --data."
        ) from error


def _opened(path: Path, folder_lock: IO[bytes]) -> sqlite3.Connection:
    """The database, made if it is missing; raises RelayError for one that is damaged or cannot be written."""
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut may cost the last moment
        db.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
        (sound,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(sound)
        db.executescript(_SCHEMA)
        db.execute("INSERT INTO salt SELECT ? WHERE NOT EXISTS (SELECT 1 FROM salt)", (secrets.token_bytes(32),))
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        folder_lock.close()
        raise RelayError(
            f"The relay's database {str(path)!r} cannot be used ({error}). It was left as it is: free some disk, take "
            "it from a backup, or move it aside and let hosts open new rooms; or choose another folder with --data."
        ) from error
    return db


def _only_one(path: Path) -> IO[bytes]:
    """Hold a lock for as long as the file is open, so that two relays never share a folder."""
    try:
        file = path.open("ab")
    except OSError as error:
        raise RelayError(
            f"The relay's data folder {str(path.parent)!r} cannot be used ({error}). Choose another with --data."
        ) from error
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
