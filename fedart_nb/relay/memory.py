"""A relay inside this process, for simulations and tests: the same mailbox, the same rules, no network."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import RelayClosed, RelayError, WireError
from fedart_nb.relay.client import new_room_name
from fedart_nb.relay.invite import new_token
from fedart_nb.relay.limits import Limits
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.transport import Delivered, check_fetch, check_sender, open_messages
from fedart_nb.relay.wire import Envelope, sha256_hex

__all__ = ["MemoryRelay", "MemoryTransport"]


class MemoryRelay:
    """One room in this process. The first identity that connects is its host, unless `host` names it.

    >>> host, artist = Identity.generate(), Identity.generate()
    >>> with MemoryRelay() as relay:
    ...     to_room, from_room = relay.connect(host), relay.connect(artist)
    ...     plan = Envelope(room=relay.room, round=1, kind="plan", sender=host.id, recipient="all", body={"steps": 20})
    ...     seq = to_room.send(plan, host)
    ...     from_room.receive(after=0, wait_s=1.0)[0].envelope.body
    {'steps': 20}
    """

    def __init__(
        self,
        host: Identity | None = None,
        *,
        room: str | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.room = room or new_room_name()
        self._folder = tempfile.TemporaryDirectory(prefix="fedart-relay-")
        self._mailbox = Mailbox(Path(self._folder.name), limits, clock=clock)
        self._token = new_token()
        self._host_id: str | None = None
        self._lock = threading.Lock()
        if host is not None:
            self._open(host)

    @property
    def host_id(self) -> str:
        """The id of the room's host."""
        if self._host_id is None:
            raise RelayError("This room has no host yet; the first identity that connects becomes its host.")
        return self._host_id

    def connect(self, identity: Identity) -> MemoryTransport:
        """Make `identity` a member and return its transport."""
        with self._lock:
            if self._host_id is None:
                self._open(identity)
        self._mailbox.join(self.room, self._token, identity.public_key)
        return MemoryTransport(self._mailbox, self.room, self.host_id, identity)

    def close(self) -> None:
        """Forget everything."""
        self._mailbox.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _open(self, host: Identity) -> None:
        self._mailbox.create_room(self.room, sha256_hex(self._token.encode()), host.public_key)
        self._host_id = host.id


class MemoryTransport:
    """A member's connection to a MemoryRelay; see Transport for the verbs."""

    def __init__(self, mailbox: Mailbox, room: str, host_id: str, identity: Identity) -> None:
        self.room = room
        self.host_id = host_id
        self.identity = identity
        self._mailbox = mailbox
        self._bell = threading.Condition()
        self._rung = 0
        self._closed = False

    def send(self, envelope: Envelope, identity: Identity) -> int:
        """Store the attachments, then post the envelope; returns its seq."""
        check_sender(identity, self.identity)
        self._require_open()
        data = envelope.sealed(identity)
        for ref in envelope.attachment_refs:
            if ref.name in envelope.attachments:
                with self._mailbox.receive_blob(self.room, identity.id, ref.sha256, ref.size_bytes) as upload:
                    upload.write(envelope.attachments[ref.name])
                    upload.commit()
        return self._mailbox.post(self.room, identity.id, data)

    def receive(self, after: int, wait_s: float) -> list[Delivered]:
        """Messages for this member with seq > `after`; waits up to `wait_s` seconds for the first."""
        deadline = time.monotonic() + wait_s
        stop = self._mailbox.listen(self.room, self._ring, self.identity.id)
        try:
            while True:
                self._require_open()
                with self._bell:
                    rung = self._rung
                messages = self._mailbox.inbox(self.room, self.identity.id, after)
                if messages:
                    good, bad = open_messages(
                        messages, room=self.room, member_id=self.identity.id, host_id=self.host_id
                    )
                    if bad:
                        raise WireError(f"Message {bad[0][0]} is damaged: {bad[0][1]}")
                    return good
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return []
                with self._bell:
                    self._bell.wait_for(lambda: self._rung != rung or self._closed, left_s)  # noqa: B023
        finally:
            stop()

    def fetch(self, envelope: Envelope, limit_bytes: int) -> Envelope:
        """Return `envelope` with its attachments, each checked against its checksum."""
        check_fetch(envelope, limit_bytes)
        if envelope.attachments or not envelope.attachment_refs:
            return envelope
        self._require_open()
        return envelope.with_attachments({ref.name: self._read(ref.sha256) for ref in envelope.attachment_refs})

    def drop(self) -> int:
        """Delete every attachment that this member uploaded; returns how many."""
        self._require_open()
        return self._mailbox.drop_blobs(self.room, self.identity.id)

    def log(self) -> dict[str, Any]:
        """What the relay saw (host only)."""
        whole = self._mailbox.log(self.room, self.identity.id)
        messages = whole["messages"]
        while messages and (page := self._mailbox.log(self.room, self.identity.id, messages[-1]["seq"])["messages"]):
            messages += page
        return whole

    def close(self) -> None:
        """End a waiting `receive` (it raises RelayUnreachable, as over HTTP)."""
        with self._bell:
            self._closed = True
            self._bell.notify_all()

    def _read(self, sha256: str) -> bytes:
        path, _ = self._mailbox.find_blob(self.room, self.identity.id, sha256)
        return path.read_bytes()

    def _require_open(self) -> None:
        if self._closed:
            raise RelayClosed("The connection to the relay was closed.")

    def _ring(self) -> None:
        with self._bell:
            self._rung += 1
            self._bell.notify_all()
