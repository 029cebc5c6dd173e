"""The protocol's nine messages as bytes: fixed layouts, each signed, read strictly or refused.

    kind (1) | context (32) | body | Ed25519 signature (64)

The signature covers everything before it and a label of this protocol. `context` is the round's binding (hash of plan
and shared adapter) until the roster is known, and the hash of binding and roster from then on, so that no message of
another round, plan, adapter or roster is ever taken for one of this.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fedart_nb.crypto.identity import Identity, identity_id, verify
from fedart_nb.errors import SecAggError
from fedart_nb.secagg.graph import neighbours, quorum_of, threshold_of

__all__ = [
    "COMMITMENT_BYTES",
    "MIN_ARTISTS",
    "NO_HOLDER",
    "Draft",
    "Entry",
    "Kind",
    "Roster",
    "bitmap",
    "commitment",
    "members_of",
    "opened",
    "signed",
    "split_fixed",
]

MIN_ARTISTS = 3  #: with two, each would learn the other's update by subtracting its own
COMMITMENT_BYTES = 32
NO_HOLDER = 2**16 - 1  # in a commitment to the secret itself
_LABEL = b"fedart-secagg-v1\n"
_HEAD_BYTES, _SIGNATURE_BYTES = 33, 64
_ENTRY_BYTES = 32 + 32 + 32 + 64


class Kind(IntEnum):
    """The messages in the protocol's order; odd steps are an artist's, even ones the server's."""

    ADVERTISE = 1
    ROSTER = 2
    SHARE = 3
    DELIVERY = 4
    MASKED = 5
    SURVIVORS = 6
    CONFIRM = 7
    CONFIRMED = 8
    UNMASK = 9


def signed(identity: Identity, kind: Kind, context: bytes, body: bytes | memoryview) -> bytes:
    """A message of ours. A long body (the masked vector) is signed by its hash, like every other one."""
    head = bytes([kind]) + context
    return b"".join((head, body, identity.sign(_to_sign(head, body))))


class Draft:
    """A message whose body is written in place: a masked vector exists once, as the message that leaves."""

    def __init__(self, kind: Kind, context: bytes, words: int) -> None:
        self._head = bytes([kind]) + context
        self._file = io.BytesIO()
        self._file.seek(_HEAD_BYTES + 4 * words + _SIGNATURE_BYTES - 1)
        self._file.write(b"\0")
        self._file.seek(0)
        self._file.write(self._head)

    @property
    def body(self) -> NDArray[np.uint32]:
        """The words, uint32 (d,); let go of it before `signed`. They do not begin at a multiple of four bytes."""
        return np.frombuffer(self._file.getbuffer()[_HEAD_BYTES:-_SIGNATURE_BYTES], "<u4")

    def signed(self, identity: Identity) -> bytes:
        """The message, as `signed` makes it; nothing is copied."""
        with self._file.getbuffer() as view:
            view[-_SIGNATURE_BYTES:] = identity.sign(_to_sign(self._head, view[_HEAD_BYTES:-_SIGNATURE_BYTES]))
        return self._file.getvalue()


def opened(public_key: bytes, kind: Kind, context: bytes, data: bytes) -> memoryview:
    """The body of a message that must be of this `kind` and `context`, signed with the private half of `public_key`.

    Raises SecAggError, whichever byte differs.
    """
    view = memoryview(data)
    if len(view) < _HEAD_BYTES + _SIGNATURE_BYTES:
        raise SecAggError(f"A {kind.name.lower()} message of {len(view)} bytes was cut short.")
    head, body = view[:_HEAD_BYTES], view[_HEAD_BYTES:-_SIGNATURE_BYTES]
    if head[0] != kind:
        raise SecAggError(f"A message of kind {head[0]} arrived where {kind.name.lower()} ({kind.value}) was due.")
    if head[1:] != context:
        raise SecAggError(
            f"This {kind.name.lower()} message was made for another plan, shared adapter or roster. Somebody shows "
            "different artists different things, or it is from another round. It was not taken."
        )
    if not verify(public_key, bytes(view[-_SIGNATURE_BYTES:]), _to_sign(bytes(head), body)):
        raise SecAggError(
            f"The signature of {identity_id(public_key)[:8]} does not fit this {kind.name.lower()} message."
        )
    return body


def _to_sign(head: bytes, body: bytes | memoryview) -> bytes:
    return _LABEL + head + hashlib.sha256(body).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One artist of a roster: identity key, keys for boxes and masks of this round, and its own signature over them."""

    identity: bytes
    box: bytes
    mask: bytes
    signature: bytes

    @property
    def id(self) -> str:
        """The id that the artist has on the wire."""
        return identity_id(self.identity)

    def message(self, binding: bytes) -> bytes:
        """The advertise message that this entry came in."""
        return bytes([Kind.ADVERTISE]) + binding + self.identity + self.box + self.mask + self.signature

    @classmethod
    def read(cls, binding: bytes, data: bytes) -> Entry:
        """Read an advertise message; raises SecAggError unless its own key signed it for this binding."""
        if len(data) != _HEAD_BYTES + _ENTRY_BYTES:
            raise SecAggError(f"An advertise message of {len(data)} bytes; expected {_HEAD_BYTES + _ENTRY_BYTES}.")
        identity = bytes(data[_HEAD_BYTES : _HEAD_BYTES + 32])
        body = bytes(opened(identity, Kind.ADVERTISE, binding, data))
        return cls(identity, body[32:64], body[64:96], bytes(data[-_SIGNATURE_BYTES:]))


@dataclass(frozen=True, slots=True)
class Roster:
    """Who takes part, with which keys: the same for everybody, or nothing fits.

    Attributes:
        binding: 32 bytes, hash of plan and shared adapter.
        entries: in the order of their ids.
        degree: how many neighbours everybody has; 0 for the complete graph.
        context: 32 bytes, hash of binding and roster; every key and message of the round hangs on it.
        threshold: shares that it takes to rebuild a secret; quorum: signatures that it takes to unmask.
    """

    binding: bytes
    entries: tuple[Entry, ...]
    degree: int
    context: bytes
    threshold: int
    quorum: int
    index: dict[str, int]
    neighbours: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, binding: bytes, entries: Iterable[Entry], degree: int = 0) -> Roster:
        """Check and order `entries`; raises SecAggError for fewer than three, or a key that occurs twice."""
        ordered = tuple(sorted(entries, key=lambda e: e.id))
        if len(ordered) < MIN_ARTISTS:
            raise SecAggError(
                f"{len(ordered)} artists; a secure sum needs at least {MIN_ARTISTS}. The sum of two shows each of them "
                "the other's update."
            )
        keys = [key for e in ordered for key in (e.identity, e.box, e.mask)]
        if len(set(keys)) != len(keys):
            raise SecAggError(
                "A key occurs twice in the roster; every artist has an identity and fresh keys of its own."
            )
        body = _roster_body(ordered, degree)
        context = hashlib.sha256(_LABEL + b"context" + binding + body).digest()
        return cls(
            binding,
            ordered,
            degree,
            context,
            threshold_of(len(ordered), degree),
            quorum_of(len(ordered), degree),
            {e.id: i for i, e in enumerate(ordered)},
            neighbours(len(ordered), degree, context),
        )

    def message(self, host: Identity) -> bytes:
        """The roster message, signed by the host."""
        return signed(host, Kind.ROSTER, self.binding, _roster_body(self.entries, self.degree))

    @classmethod
    def read(cls, host_public_key: bytes, binding: bytes, data: bytes) -> Roster:
        """Read a roster message: the host's signature, and every artist's signature over its own keys."""
        body = bytes(opened(host_public_key, Kind.ROSTER, binding, data))
        if len(body) < 2 or (len(body) - 2) % _ENTRY_BYTES:
            raise SecAggError(f"A roster of {len(body)} bytes is not made of whole entries.")
        head = bytes([Kind.ADVERTISE]) + binding
        entries: list[Entry] = []
        for raw in split_fixed(memoryview(body)[2:], _ENTRY_BYTES):
            try:
                entries.append(Entry.read(binding, head + raw))
            except SecAggError as error:
                raise SecAggError(
                    f"The keys in the roster under the id {identity_id(raw[:32])[:8]} are not signed by "
                    "that artist for this plan and shared adapter. Somebody replaced them, or shows that artist "
                    "another plan or model."
                ) from error
        roster = cls.of(binding, entries, int.from_bytes(body[:2], "big"))
        if _roster_body(roster.entries, roster.degree) != body:
            raise SecAggError("The roster is not in the order of its artists' ids.")
        return roster

    def position(self, artist: str) -> int:
        """An artist's place in the roster; raises SecAggError for a stranger."""
        if artist not in self.index:
            raise SecAggError(f"{artist[:8]} is not in this round's roster.")
        return self.index[artist]


def _roster_body(entries: Sequence[Entry], degree: int) -> bytes:
    return degree.to_bytes(2, "big") + b"".join(e.identity + e.box + e.mask + e.signature for e in entries)


def commitment(context: bytes, dealer: int, holder: int, label: bytes, share: bytes) -> bytes:
    """SHA-256 that binds a dealer to one share: a changed one is noticed, and a random one stays hidden."""
    places = dealer.to_bytes(2, "big") + holder.to_bytes(2, "big")
    return hashlib.sha256(_LABEL + b"commitment" + context + places + label + share).digest()


def bitmap(members: Iterable[int], size: int) -> bytes:
    """A set of positions as ceil(size / 8) bytes."""
    value = sum(1 << i for i in set(members))
    return value.to_bytes((size + 7) // 8, "big")


def members_of(data: bytes | memoryview, size: int) -> tuple[int, ...]:
    """The positions in a bitmap, ascending; raises SecAggError for a wrong length or positions beyond `size`."""
    value = int.from_bytes(data, "big")
    if len(data) != (size + 7) // 8 or value >> size:
        raise SecAggError(f"A set of artists in {len(data)} bytes does not fit a roster of {size}.")
    return tuple(i for i in range(size) if value >> i & 1)


def split_fixed(data: bytes | memoryview, size: int) -> list[bytes]:
    """Cut into records of `size` bytes; raises SecAggError when something is left over."""
    if len(data) % size:
        raise SecAggError(f"{len(data)} bytes are not made of whole records of {size}.")
    return [bytes(data[i : i + size]) for i in range(0, len(data), size)]
