"""The blind mailbox: rooms, members, an append-only log of sealed messages, and blobs by checksum. It holds no key."""

from __future__ import annotations

import hmac
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fedart_nb.crypto.identity import identity_id
from fedart_nb.errors import TooLarge, WireError
from fedart_nb.relay.blobs import BlobStore, BlobWriter, PieceWriter
from fedart_nb.relay.limits import Limits, Refused
from fedart_nb.relay.signing import WINDOW_S, SignedRequest
from fedart_nb.relay.store import Books
from fedart_nb.relay.uploads import Uploads
from fedart_nb.relay.wire import Envelope, check_room, sha256_hex

__all__ = ["INBOX_PAGE", "LOG_PAGE", "Mailbox", "StoredMessage"]

INBOX_PAGE = 64  # messages in one answer: at 64 KiB each, never more than 4 MiB
LOG_PAGE = 1000

# Each part is a range of the index by recipient, so that nobody's inbox takes longer for what others got.
_PART = (
    "SELECT seq FROM (SELECT seq FROM messages WHERE room = :room AND recipient = {} AND seq > :after "
    "ORDER BY seq LIMIT :page)"
)
_SEQS = " UNION ALL ".join(_PART.format(who) for who in ("'all'", ":me", ":host"))
_INBOX = f"SELECT seq, data FROM messages WHERE room = :room AND seq IN ({_SEQS}) ORDER BY seq LIMIT :page"  # noqa: S608


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
        self.clock = clock
        self._listeners: dict[str, dict[str, set[Callable[[], None]]]] = {}  # room → member ("" for any) → whom to call
        self._books = Books(Path(folder), self.limits, clock)
        self._db, self._lock = self._books.db, self._books.lock
        try:
            self._uploads = Uploads(self._books, BlobStore(Path(folder)))
            self.sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database and the folder."""
        self._books.close()

    def sweep(self) -> int:
        """Delete what nobody needs any more: idle rooms, half-done uploads, old nonces; returns how many rooms."""
        with self._lock:
            self._books.forget_nonces(self.clock())
            return self._uploads.sweep()

    def totals(self) -> dict[str, int]:
        """How many rooms, members, messages and blobs there are, and their bytes."""
        return self._books.totals()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- who may ask -------------------------------------------------------------------------------------------

    def admit(self, request: SignedRequest, room: str | None = None) -> None:
        """Let a signed request pass: its clock is right, its signer is in `room` (if given), it comes only once."""
        now = self.clock()
        if abs(now - request.time_s) > WINDOW_S:
            raise Refused(
                401,
                f"The request was signed at {request.time_s}, the relay's clock says {int(now)} (unix seconds).",
                "Set this computer's clock and try again.",
            )
        with self._lock:
            if room is not None:
                self._books.require_member(room, request.member_id)
                if not self._books.knows_as(room, request.member_id, request.relay):
                    raise Refused(
                        401,
                        f"The request was signed for the relay at {request.relay[:200]}; you did not join this one as "
                        "that.",
                        "Use the address in your invite, or join again.",
                    )
                self._books.touch(room, now)
            if not self._books.is_new(request.member_id, request.nonce, request.time_s + WINDOW_S + 1):
                raise Refused(401, "This very request was made before.", "Sign a new one; a copied request is refused.")

    def require_member(self, room: str, member_id: str) -> None:
        """Refuse whoever is not in the room."""
        with self._lock:
            self._books.require_member(room, member_id)

    def create_room(
        self, room: str, token_sha256: str, public_key: bytes, *, relay: str = "", address: str = ""
    ) -> None:
        """Open a room whose host is the owner of `public_key`; again with the same values is no error.

        `relay`: by what address the host knows this relay; `address`: where the host is, as far as rooms are counted.
        """
        host_id = identity_id(public_key)
        try:
            check_room(room)
        except WireError as error:
            raise Refused(400, str(error), "Choose another name.") from error
        with self._books.transaction():
            known = self._db.execute("SELECT token_sha256, host_id FROM rooms WHERE room = ?", (room,)).fetchone()
            if known == (token_sha256, host_id):
                self._books.know_as(room, host_id, relay)
                return
            if known is not None:
                raise Refused(409, f"The room {room!r} exists already.", "Choose another name.")
            self._books.note_opening(room, host_id, address)
            now = self.clock()
            self._db.execute("INSERT INTO rooms VALUES (?, ?, ?, 0, ?)", (room, token_sha256, host_id, now))
            self._db.execute("INSERT INTO members VALUES (?, ?, ?, ?)", (room, host_id, public_key, now))
            self._books.know_as(room, host_id, relay)

    def join(self, room: str, token: str, public_key: bytes, *, relay: str = "") -> str:
        """Make the owner of `public_key` a member, who knows this relay by the address `relay`; again is no error.

        Returns the host's id.
        """
        member_id = identity_id(public_key)
        with self._books.transaction():
            known = self._db.execute("SELECT token_sha256, host_id FROM rooms WHERE room = ?", (room,)).fetchone()
            if known is None:
                raise _no_room(room)
            token_sha256, host_id = known
            if not hmac.compare_digest(sha256_hex(token.encode()), token_sha256):
                raise Refused(403, f"The token does not open the room {room!r}.", "Ask the host for the invite link.")
            if self._books.is_member(room, member_id):
                if not self._books.knows_as(room, member_id, relay):
                    self._books.know_as(room, member_id, relay)
                return str(host_id)
            (members,) = self._db.execute("SELECT COUNT(*) FROM members WHERE room = ?", (room,)).fetchone()
            if members >= self.limits.members:
                raise Refused(429, f"The room {room!r} is full: it has {members} members.", "Ask the host for another.")
            self._db.execute("INSERT INTO members VALUES (?, ?, ?, ?)", (room, member_id, public_key, self.clock()))
            self._books.know_as(room, member_id, relay)
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
        with self._books.transaction():
            host_id = self._books.require_member(room, member_id)
            known = self._db.execute(
                "SELECT seq FROM messages WHERE room = ? AND sha256 = ?", (room, sha256)
            ).fetchone()
            if known is not None:
                return int(known[0])
            if envelope.recipient not in ("all", "host") and not self._books.is_member(room, envelope.recipient):
                raise Refused(
                    404, f"{envelope.recipient} is not in the room {room!r}.", "Send to a member of the room."
                )
            self._require_attachments(room, envelope, host_id)
            (last,) = self._db.execute("SELECT COALESCE(MAX(seq), 0) FROM messages WHERE room = ?", (room,)).fetchone()
            if last >= self.limits.messages:
                raise Refused(429, f"The room {room!r} has {last} messages, as many as it may.", "Open a new room.")
            self._books.require_place(room, member_id)
            self._books.require_space(room, member_id, len(data))
            seq = int(last) + 1
            self._db.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (room, seq, sha256, envelope.kind, envelope.round, member_id, envelope.recipient, data, self.clock()),
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO attached VALUES (?, ?, ?, ?)",
                [(room, ref.sha256, envelope.recipient, seq) for ref in envelope.attachment_refs],
            )
            self._books.charge(room, member_id, len(data))
        self._wake(room, host_id if envelope.recipient == "host" else envelope.recipient)
        return seq

    def inbox(self, room: str, member_id: str, after: int) -> list[StoredMessage]:
        """The next messages for this member with seq > `after`, oldest first, at most INBOX_PAGE."""
        with self._lock:
            host_id = self._books.require_member(room, member_id)
            host = "host" if member_id == host_id else "all"
            asked = {"room": room, "after": after, "me": member_id, "host": host, "page": INBOX_PAGE}
            rows = self._db.execute(_INBOX, asked).fetchall()
        return [StoredMessage(seq, bytes(data)) for seq, data in rows]

    def listen(self, room: str, callback: Callable[[], None], member_id: str = "") -> Callable[[], None]:
        """Call `callback` (from the posting thread) after each new message of `room` that is for this member.

        Without a member: after every message. Returns a function that ends it. To miss nothing: listen first, then look
        into the inbox, then wait.
        """
        with self._lock:
            self._listeners.setdefault(room, {}).setdefault(member_id, set()).add(callback)

        def stop() -> None:
            with self._lock:
                members = self._listeners.get(room, {})
                waiting = members.get(member_id, set())
                waiting.discard(callback)
                if not waiting:
                    members.pop(member_id, None)
                if not members:
                    self._listeners.pop(room, None)

        return stop

    # --- blobs -------------------------------------------------------------------------------------------------

    def receive_blob(self, room: str, member_id: str, sha256: str, announced_bytes: int | None) -> BlobWriter:
        """Begin an upload in one request; see Uploads.receive."""
        return self._uploads.receive(room, member_id, sha256, announced_bytes)

    def receive_piece(
        self, room: str, member_id: str, sha256: str, *, offset: int, size_bytes: int, piece_sha256: str
    ) -> PieceWriter:
        """Go on with an upload; see Uploads.receive_piece."""
        return self._uploads.receive_piece(
            room, member_id, sha256, offset=offset, size_bytes=size_bytes, piece_sha256=piece_sha256
        )

    def received_bytes(self, room: str, member_id: str, sha256: str) -> int:
        """How much of a half-done upload is here."""
        return self._uploads.received(room, member_id, sha256)

    def find_blob(self, room: str, member_id: str, sha256: str) -> tuple[Path, int]:
        """File and size of a blob that this member uploaded, or that is attached to a message for this member."""
        return self._uploads.find(room, member_id, sha256)

    def drop_blobs(self, room: str, member_id: str) -> int:
        """Delete all blobs that this member uploaded to the room; returns how many."""
        return self._uploads.drop(room, member_id)

    # --- what the relay saw ------------------------------------------------------------------------------------

    def log(self, room: str, member_id: str, after: int = 0) -> dict[str, Any]:
        """Everything that the relay knows of a room, without contents; for its host only.

        Returns members and blobs (on the first page) and at most LOG_PAGE messages with seq > `after`.
        """
        with self._lock:
            if self._books.require_member(room, member_id) != member_id:
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

    def _require_attachments(self, room: str, envelope: Envelope, host_id: str) -> None:
        for ref in envelope.attachment_refs:
            limit = self.limits.blob_bytes
            if ref.size_bytes > limit:
                raise Refused(
                    413,
                    f"Attachment {ref.name!r} announces {ref.size_bytes} bytes; this relay takes {limit}.",
                    "Send less.",
                )
            if self._uploads.visible(room, envelope.sender, host_id, ref.sha256) != ref.size_bytes:
                raise Refused(
                    409,
                    f"Attachment {ref.name!r} ({ref.size_bytes} bytes, {ref.sha256[:16]}...) is not on the relay.",
                    "Upload it first, then send the message.",
                )

    def _wake(self, room: str, recipient: str) -> None:
        with self._lock:
            members = self._listeners.get(room, {})
            heard = members if recipient == "all" else ("", recipient)
            waiting = [callback for member_id in heard for callback in members.get(member_id, ())]
        for callback in waiting:
            callback()


def _no_room(room: str) -> Refused:
    return Refused(404, f"There is no room {room!r} on this relay.", "Ask the host for a new invite link.")


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
