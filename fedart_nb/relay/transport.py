"""How a round engine or an artist reaches a room, whatever lies between: the same verbs everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import TooLarge, WireError
from fedart_nb.relay.wire import Envelope

__all__ = ["Delivered", "Transport", "check_fetch", "check_sender", "open_messages"]


class Delivered(NamedTuple):
    """A message as the relay delivered it; `seq` is its place in the room's log, counted from 1: keep it as cursor."""

    seq: int
    envelope: Envelope


@runtime_checkable
class Transport(Protocol):
    """One member's connection to one room.

    All verbs may be called again after any failure: sending the same envelope twice gives the same seq, and `receive`
    starts wherever its cursor says. Errors: RelayUnreachable, RelayRefused (with `status`), WireError, TooLarge.
    """

    @property
    def room(self) -> str:
        """The room's name, for the `room` field of envelopes."""

    @property
    def host_id(self) -> str:
        """The id of the room's host: obey plans and results from nobody else."""

    def send(self, envelope: Envelope, identity: Identity) -> int:
        """Upload the attachments, then post the sealed envelope; returns its seq."""

    def receive(self, after: int, wait_s: float) -> list[Delivered]:
        """Return the messages for this member with seq > `after`, oldest first, attachments not fetched.

        Waits up to `wait_s` seconds for the first one; then the list may be empty. A long backlog comes in parts.
        """

    def fetch(self, envelope: Envelope, limit_bytes: int) -> Envelope:
        """Return `envelope` with its attachments, each checked against its checksum.

        Raises TooLarge when they announce more than `limit_bytes` together, before any byte is asked for.
        """

    def drop(self) -> int:
        """Delete every attachment that this member uploaded to the room; returns how many. Messages stay."""

    def log(self) -> dict[str, Any]:
        """What the relay saw (host only): {"members": [...], "messages": [...], "blobs": [...]}, metadata only."""

    def close(self) -> None:
        """Let go of connections; a waiting `receive` ends soon."""


def open_messages(
    messages: Iterable[tuple[int, bytes]], *, room: str, member_id: str, host_id: str
) -> tuple[list[Delivered], list[tuple[int, str]]]:
    """Check what a relay delivered; returns the good messages, and (seq, reason) of those that nobody should read.

    A relay that is honest never delivers a bad one; one that is not must not be able to stop a room with it.
    """
    good: list[Delivered] = []
    bad: list[tuple[int, str]] = []
    for seq, data in messages:
        try:
            envelope = Envelope.opened(data)
        except WireError as error:
            bad.append((seq, str(error)))
            continue
        for_me = envelope.recipient in ("all", member_id) or (envelope.recipient == "host" and member_id == host_id)
        if envelope.room == room and for_me:
            good.append(Delivered(seq, envelope))
        else:
            bad.append(
                (seq, f"A message to {envelope.recipient} in room {envelope.room!r} was delivered to {member_id}.")
            )
    return good, bad


def check_sender(identity: Identity, member: Identity) -> None:
    """Raise WireError unless the identity that seals is the one that is connected."""
    if identity != member:
        raise WireError(f"This connection belongs to {member.id}; it cannot send for {identity.id}.")


def check_fetch(envelope: Envelope, limit_bytes: int) -> None:
    """Raise TooLarge when the attachments announce more than `limit_bytes` together."""
    if envelope.attachments_bytes > limit_bytes:
        raise TooLarge(
            f"The {envelope.kind} message of {envelope.sender} announces {envelope.attachments_bytes} bytes of "
            f"attachments; at most {limit_bytes} are expected here. Nothing was fetched."
        )
