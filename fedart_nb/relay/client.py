"""A member's way to a room on a relay: an httpx client that stays patient while the relay is away."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import RelayError, RelayRefused, WireError
from fedart_nb.relay.connection import Connection, OnWait, read_answer
from fedart_nb.relay.invite import Address, Invite, new_token
from fedart_nb.relay.signing import EMPTY_SHA256, OPENING_HEADER
from fedart_nb.relay.transfers import download, upload
from fedart_nb.relay.transport import Delivered, check_fetch, check_sender, open_messages
from fedart_nb.relay.wire import Envelope, check_room, parse_json, sha256_hex

__all__ = ["SECRET_VARIABLE", "RelayClient", "create_room", "new_room_name", "require_relay"]

SECRET_VARIABLE = "FEDART_OPENING_SECRET"  # noqa: S105 - the name of an environment variable

_POLL_S = 25.0  # proxies cut silent connections after 30 to 60 s
_RUNNING_DRY_S = 0.1


class RelayClient:
    """Transport over HTTP(S). Joins the room at its first use (or by `join()`); works from several threads.

    `patience_s` is how long one call goes on trying while the relay cannot be reached, then RelayUnreachable is raised:
    unless given, two minutes, but eight seconds at an address where no relay has answered yet. Meanwhile
    `on_wait(sentence)` is called before each new attempt and `on_wait("")` when the relay is back. What the
    relay refuses raises RelayRefused at once. Messages that fail their checks are left out by `receive` and listed in
    `damaged` as (seq, reason).
    """

    def __init__(
        self,
        invite: Invite | str,
        identity: Identity,
        *,
        patience_s: float | None = None,
        timeout_s: float = 30.0,
        on_wait: OnWait | None = None,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        backoff_s: tuple[float, float] = (0.2, 5.0),
    ) -> None:
        self.invite = Invite.parse(invite) if isinstance(invite, str) else invite
        self.identity = identity
        self.damaged: deque[tuple[int, str]] = deque(maxlen=100)
        self._base = f"/v1/rooms/{self.invite.room}"
        self._blob_limit_bytes: int | None = None  # None: not joined yet
        self._piece_bytes: int | None = None
        self._connection = Connection(
            self.invite.url,
            identity,
            cert=self.invite.cert,
            patience_s=patience_s,
            timeout_s=timeout_s,
            on_wait=on_wait,
            clock=clock,
            rng=rng,
            backoff_s=backoff_s,
            hidden=(self.invite.token,),
        )
        if self.invite.caution:
            warnings.warn(self.invite.caution, stacklevel=2)

    @property
    def room(self) -> str:
        """The room's name."""
        return self.invite.room

    @property
    def host_id(self) -> str:
        """The host's id, from the invite (not from the relay)."""
        return self.invite.host_id

    def join(self) -> int:
        """Become a member of the room; again is no error. Returns the relay's limit for one attachment, in bytes.

        Raises RelayRefused for a wrong token or a full room.
        """
        answer = self._connection.ask_json("POST", f"{self._base}/join", {"token": self.invite.token})
        if answer.get("host_id") != self.host_id:
            raise RelayError(
                f"The relay names {answer.get('host_id')!r} as the room's host, the invite {self.host_id!r}. "
                "Do not trust this relay; ask the host for a new invite."
            )
        limit = answer.get("blob_limit_bytes")
        if type(limit) is not int:
            raise WireError(f"The relay announces {limit!r} as its limit for attachments; expected a number of bytes.")
        pieces = answer.get("piece_bytes")  # a relay of an earlier version takes none
        self._piece_bytes = max(pieces, 1) if type(pieces) is int else None
        self._blob_limit_bytes = limit
        return limit

    def send(self, envelope: Envelope, identity: Identity) -> int:
        """Upload the attachments that the relay does not have yet, then post the envelope; returns its seq."""
        check_sender(identity, self.identity)
        sealed = envelope.sealed(identity)
        limit = self._joined()
        for ref in envelope.attachment_refs:
            if ref.size_bytes > limit:
                raise RelayRefused(
                    f"Attachment {ref.name!r} has {ref.size_bytes} bytes; this relay takes {limit}. Send less.",
                    status=413,
                )
        for ref in envelope.attachment_refs:
            if ref.name in envelope.attachments:
                data = envelope.attachments[ref.name]
                upload(self._connection, f"{self._base}/blobs/{ref.sha256}", ref, data, self._piece_bytes)
        answer = self._connection.ask("POST", f"{self._base}/outbox", body=sealed)
        seq = answer.get("seq") if isinstance(answer, dict) else None
        if type(seq) is not int or seq < 1:
            raise WireError(f"The relay took the message but answered {answer!r}; expected its seq.")
        return seq

    def receive(self, after: int, wait_s: float) -> list[Delivered]:
        """Messages for this member with seq > `after`; waits up to `wait_s` seconds for the first (0: only look)."""
        self._joined()
        deadline = time.monotonic() + wait_s
        while True:
            left_s = max(0.0, deadline - time.monotonic())
            asked_s = min(_POLL_S, left_s)
            started = time.monotonic()
            answer = self._connection.ask("GET", f"{self._base}/inbox?after={after}&wait={asked_s:.3f}", wait_s=asked_s)
            messages = _messages(answer, after)
            good, bad = open_messages(messages, room=self.room, member_id=self.identity.id, host_id=self.host_id)
            self.damaged.extend(bad)
            if good:
                return good
            after = max([after, *(seq for seq, _ in messages)])
            if not messages and time.monotonic() >= deadline:
                return []
            if not messages and time.monotonic() - started < asked_s / 2:  # the relay is closing down: no hot loop
                self._connection.closed.wait(_RUNNING_DRY_S)

    def fetch(self, envelope: Envelope, limit_bytes: int) -> Envelope:
        """Return `envelope` with its attachments, each checked; TooLarge before a byte is asked for."""
        check_fetch(envelope, limit_bytes)
        if envelope.attachments or not envelope.attachment_refs:
            return envelope
        self._joined()
        return envelope.with_attachments(
            {
                ref.name: download(self._connection, f"{self._base}/blobs/{ref.sha256}", ref)
                for ref in envelope.attachment_refs
            }
        )

    def drop(self) -> int:
        """Have the relay delete every attachment that this member uploaded to the room; returns how many."""
        self._joined()
        answer = self._connection.ask("DELETE", f"{self._base}/blobs")
        dropped = answer.get("dropped") if isinstance(answer, dict) else None
        if type(dropped) is not int:
            raise WireError(f"The relay was asked to delete and answered {answer!r}; expected how many it deleted.")
        return dropped

    def log(self) -> dict[str, Any]:
        """What the relay saw of this room (host only): members, messages and blobs, metadata without contents."""
        self._joined()
        whole: dict[str, Any] = {"members": [], "messages": [], "blobs": []}
        after = 0
        while True:
            page = self._connection.ask("GET", f"{self._base}/log?after={after}")
            if not isinstance(page, dict) or not all(isinstance(page.get(part), list) for part in whole):
                raise WireError("The relay's log is not in the form expected; use the same fedart-nb on both sides.")
            for part, entries in whole.items():
                entries.extend(page[part])
            last = max((entry["seq"] for entry in page["messages"]), default=after)
            if last <= after:
                return whole
            after = last

    def close(self) -> None:
        """Let go of the connections; calls that wait raise RelayUnreachable."""
        self._connection.close()

    def __repr__(self) -> str:
        return f"RelayClient(url={self.invite.url!r}, room={self.room!r}, id={self.identity.id!r})"

    def _joined(self) -> int:
        """Join if need be; returns the relay's limit for one attachment, in bytes."""
        limit = self._blob_limit_bytes
        return self.join() if limit is None else limit


def require_relay(
    url: str, identity: Identity, *, opening_secret: str | None = None, patience_s: float | None = None
) -> Address:
    """Ask a relay for its health, which tells it nothing, before anything long begins; returns its address, read.

    Raises WireError for what is no address, RelayUnreachable (within ten seconds) with what to check, and RelayError
    where something else answers, or where a secret is needed to open rooms and there is none.
    """
    relay = _with_secret(Address.parse(url), opening_secret)
    connection = Connection(relay.url, identity, cert=relay.cert, patience_s=patience_s)

    def take(response: httpx.Response) -> tuple[Any, str]:
        return parse_json(read_answer(response, 65536)), response.headers.get(OPENING_HEADER, "")

    try:
        health, opening = connection.request("GET", "/healthz", take, EMPTY_SHA256, signed=False)
    finally:
        connection.close()
    if not isinstance(health, dict) or "draining" not in health:
        raise RelayError(f"What answers at {relay.url} is no fedart relay. Is the address right?")
    if opening == "secret" and relay.opening_secret is None:
        raise RelayError(
            f"The relay at {relay.url} opens rooms only for those who know its secret. Ask who runs it, and give it as "
            f"opening_secret, in {SECRET_VARIABLE}, or put #open=SECRET behind the relay's address."
        )
    return relay


def create_room(
    url: str,
    identity: Identity,
    room: str | None = None,
    *,
    opening_secret: str | None = None,
    patience_s: float | None = None,
    on_wait: OnWait | None = None,
    backoff_s: tuple[float, float] = (0.2, 5.0),
) -> Invite:
    """Open a room whose host is `identity` and return the invite to hand out.

    `url` is the relay's address as the relay prints it; #cert=... and #open=... (see Address) may stand behind it. The
    secret for opening rooms, where the relay asks for one, may also be given as `opening_secret` or in the environment
    variable FEDART_OPENING_SECRET.
    The token is made here; the relay learns only its sha256 (until somebody joins with it). `room` is a name of 1 to 64
    of A-Z a-z 0-9 _ -, by default a random one; a name that is taken raises RelayRefused with status 409.
    """
    relay = _with_secret(Address.parse(url), opening_secret)
    room = check_room(new_room_name() if room is None else room)
    invite = Invite(relay.url, room, new_token(), identity.id, relay.cert)
    asked = {"room": invite.room, "token_sha256": sha256_hex(invite.token.encode())}
    if relay.opening_secret is not None:
        asked["opening"] = relay.opening_secret
    secrets = (invite.token, *filter(None, [relay.opening_secret]))
    connection = Connection(
        relay.url,
        identity,
        cert=relay.cert,
        patience_s=patience_s,
        on_wait=on_wait,
        backoff_s=backoff_s,
        hidden=secrets,
    )
    if invite.caution:
        warnings.warn(invite.caution, stacklevel=2)
    try:
        connection.ask_json("POST", "/v1/rooms", asked)
    finally:
        connection.close()
    return invite


def _with_secret(relay: Address, given: str | None) -> Address:
    """The address with the secret: the one given, the one behind it, or the environment's."""
    secret = given or relay.opening_secret or os.environ.get(SECRET_VARIABLE, "").strip() or None
    return replace(relay, opening_secret=secret)


def new_room_name() -> str:
    """A random room name that says nothing about anybody."""
    return f"room-{new_token()[:10]}"


def _messages(answer: Any, after: int) -> list[tuple[int, bytes]]:
    try:
        messages = [(item["seq"], item["envelope"].encode()) for item in answer["messages"]]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise WireError(
            "The relay's inbox is not in the form expected; use the same fedart-nb on both sides."
        ) from error
    expected = after
    for seq, _ in messages:
        if type(seq) is not int or seq <= expected:
            raise WireError(f"The relay delivered message {seq!r} after {expected}; expected rising numbers.")
        expected = seq
    return messages
