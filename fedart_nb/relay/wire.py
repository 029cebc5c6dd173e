"""The wire format: a signed envelope as canonical JSON, whose attachments travel beside it, named by their sha256."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.crypto.identity import Identity, identity_id, verify
from fedart_nb.errors import TooLarge, WireError

__all__ = [
    "HEADER_LIMIT_BYTES",
    "KINDS",
    "VERSION",
    "AttachmentRef",
    "Envelope",
    "check_id",
    "check_room",
    "parse_json",
    "sha256_hex",
]

VERSION = 1
HEADER_LIMIT_BYTES = 64 * 1024
KINDS = (
    *("hello", "plan", "advertise", "roster", "share", "update", "consistency", "unmask", "result"),  # in phase order
    *("refuse", "leave", "close", "note"),  # at any time
)

_DEPTH_LIMIT = 8
_ITEM_LIMIT = 4096
_ATTACHMENT_LIMIT = 32
_INTEGER_LIMIT = 2**63
_SIGNED_FOR = b"fedart-envelope-v1\n"  # an envelope's signature is good for nothing else
_ROOM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FIELDS = {"version", "room", "round", "kind", "sender", "recipient", "body", "attachments", "public_key", "signature"}


@dataclass(frozen=True, slots=True)
class AttachmentRef:
    """What an envelope says of one attachment: its name, checksum and size; the bytes are elsewhere."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Envelope:
    """One message of a room. It is checked when it is made: an Envelope that exists can be sent.

    `round` counts from 0 (before the first round). `sender` is an identity's id; `recipient` is "host", "all" or an id.
    `body` holds JSON values only (finite numbers, at most 8 levels). `attachments` maps names to bytes; an envelope
    that came off the wire has only `attachment_refs` until a transport's `fetch` fills them in.
    Raises WireError when a value does not fit.

    >>> me = Identity.generate()
    >>> hello = Envelope(room="demo", round=0, kind="hello", sender=me.id, recipient="all", body={"pictures": 12})
    >>> Envelope.opened(hello.sealed(me)) == hello
    True
    """

    room: str
    round: int
    kind: str
    sender: str
    recipient: str
    body: dict[str, Any] = field(default_factory=dict)
    attachments: dict[str, bytes] = field(default_factory=dict, repr=False)
    attachment_refs: tuple[AttachmentRef, ...] = ()
    version: int = VERSION

    def __post_init__(self) -> None:
        if type(self.version) is not int or self.version != VERSION:
            raise WireError(
                f"Envelope version {_shown(self.version)} arrived; this build speaks version {VERSION}. "
                "Install the same fedart-nb on both sides."
            )
        check_room(self.room)
        if type(self.round) is not int or not 0 <= self.round < 2**31:
            raise WireError(f"round is {_shown(self.round)}; expected a whole number from 0 on.")
        if self.kind not in KINDS:
            raise WireError(f"Unknown kind of message {_shown(self.kind)}; known are {', '.join(KINDS)}.")
        check_id(self.sender, "sender")
        if self.recipient not in ("host", "all"):
            check_id(self.recipient, 'recipient (neither "host" nor "all")')
        if not isinstance(self.body, Mapping):
            raise WireError(f"body is {_shown(self.body)}; expected a dict of JSON values.")
        object.__setattr__(self, "body", _Copier().copy(self.body, "body", 0))
        object.__setattr__(self, "attachments", _checked_attachments(self.attachments))
        refs = tuple(_checked_ref(ref) for ref in self.attachment_refs)
        if self.attachments:
            true_refs = _refs_of(self.attachments)
            if refs and refs != true_refs:
                raise WireError("The attachments are not those that the envelope lists (sha256 or size differ).")
            refs = true_refs
        if len(refs) > _ATTACHMENT_LIMIT:
            raise WireError(f"{len(refs)} attachments; at most {_ATTACHMENT_LIMIT} fit an envelope.")
        if [ref.name for ref in refs] != sorted({ref.name for ref in refs}):
            raise WireError("Attachments must be listed by name, each name once.")
        object.__setattr__(self, "attachment_refs", refs)

    @property
    def attachments_bytes(self) -> int:
        """Size of all attachments together, as announced."""
        return sum(ref.size_bytes for ref in self.attachment_refs)

    def sealed(self, identity: Identity) -> bytes:
        """Return the signed header as canonical JSON; the attachments' bytes are not in it.

        The same envelope gives the same bytes, so sending twice is harmless. Raises WireError when `identity` is not
        the sender, TooLarge above 64 KiB.
        """
        if identity.id != self.sender:
            raise WireError(f"Sender is {self.sender}, but the key that shall sign belongs to {identity.id}.")
        header = self._header(identity.public_key)
        header["signature"] = identity.sign(_SIGNED_FOR + canonical_json(header)).hex()
        data = canonical_json(header)
        if len(data) > HEADER_LIMIT_BYTES:
            raise TooLarge(
                f"This {self.kind} message has {len(data)} bytes; an envelope may have {HEADER_LIMIT_BYTES}. "
                "Put large values into an attachment."
            )
        return data

    @classmethod
    def opened(cls, data: bytes, limit_bytes: int = HEADER_LIMIT_BYTES) -> Envelope:
        """Check bytes that arrived and return the envelope (with `attachment_refs`, without attachments).

        Checked are: size (`limit_bytes`, never above 64 KiB), canonical form, every field, that the sender's id is the
        hash of the public key inside, and the signature. Raises TooLarge or WireError.
        """
        limit_bytes = min(limit_bytes, HEADER_LIMIT_BYTES)
        if len(data) > limit_bytes:
            raise TooLarge(f"An envelope of {len(data)} bytes arrived; the limit is {limit_bytes}.")
        header = parse_json(data)
        if not isinstance(header, dict) or set(header) != _FIELDS:
            found = sorted(header) if isinstance(header, dict) else type(header).__name__
            raise WireError(f"An envelope has the fields {sorted(_FIELDS)}; these bytes have {_shown(found)}.")
        attachments = header["attachments"]
        if not isinstance(attachments, list):
            raise WireError(f"attachments is {_shown(attachments)}; expected a list.")
        envelope = cls(
            **{name: header[name] for name in ("version", "room", "round", "kind", "sender", "recipient", "body")},
            attachment_refs=tuple(_ref_from_json(item) for item in attachments),
        )
        public_key, signature = _hex(header, "public_key", 32), _hex(header, "signature", 64)
        if identity_id(public_key) != envelope.sender:
            raise WireError(f"Sender is {envelope.sender}, but the key inside belongs to {identity_id(public_key)}.")
        signed = envelope._header(public_key)
        if canonical_json({**signed, "signature": header["signature"]}) != bytes(data):
            raise WireError("The envelope is not in canonical form (sorted keys, no spaces, each key once).")
        if not verify(public_key, signature, _SIGNED_FOR + canonical_json(signed)):
            raise WireError(f"The signature of {envelope.sender} does not fit this {envelope.kind} message.")
        return envelope

    def with_attachments(self, attachments: dict[str, bytes]) -> Envelope:
        """Return this envelope with its attachments filled in; raises WireError unless they are those that it lists."""
        listed = [ref.name for ref in self.attachment_refs]
        if sorted(attachments) != listed:
            raise WireError(f"The envelope lists the attachments {listed}; {_shown(sorted(attachments))} were given.")
        return dataclasses.replace(self, attachments=attachments)

    def _header(self, public_key: bytes) -> dict[str, Any]:
        return {
            "version": self.version,
            "room": self.room,
            "round": self.round,
            "kind": self.kind,
            "sender": self.sender,
            "recipient": self.recipient,
            "body": self.body,
            "attachments": [dataclasses.asdict(ref) for ref in self.attachment_refs],
            "public_key": public_key.hex(),
        }


def parse_json(data: bytes) -> Any:
    """Decode JSON that arrived; NaN, Infinity, bad UTF-8 and endless nesting are WireErrors."""
    try:
        return json.loads(bytes(data).decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise WireError(f"These {len(data)} bytes are not JSON: {error}.") from error


def check_room(room: object) -> str:
    """Return `room` when it can name a room (1 to 64 of A-Z a-z 0-9 _ -), else raise WireError."""
    if not isinstance(room, str) or not _ROOM.fullmatch(room):
        raise WireError(f"{_shown(room)} is no room name; expected 1 to 64 of the characters A-Z a-z 0-9 _ -.")
    return room


def check_id(value: object, what: str = "id") -> str:
    """Return `value` when it has the form of an identity's id, else raise WireError."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise WireError(f"{what} is {_shown(value)}; expected an identity's id of 32 hex digits.")
    return value


def sha256_hex(data: bytes) -> str:
    """sha256 of `data` as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


class _Copier:
    """Copies JSON values, counting what they hold, so that nothing unbounded or unsendable gets into an envelope."""

    def __init__(self) -> None:
        self.items = 0

    def copy(self, value: Any, where: str, depth: int) -> Any:
        self.items += 1
        if self.items > _ITEM_LIMIT:
            raise TooLarge(f"body has more than {_ITEM_LIMIT} values; put large data into an attachment.")
        if depth > _DEPTH_LIMIT:
            raise WireError(f"{where[:200]} is nested deeper than {_DEPTH_LIMIT} levels.")
        if value is None or isinstance(value, bool | str):
            return value
        if type(value) is int:
            if not -_INTEGER_LIMIT <= value < _INTEGER_LIMIT:
                raise WireError(f"{where} is an integer of {value.bit_length()} bits; send it as a string.")
            return value
        if type(value) is float:
            if not math.isfinite(value):
                raise WireError(f"{where} is {value}; only finite numbers can be sent.")
            return value
        if isinstance(value, list | tuple):
            return [self.copy(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str) or len(key) > 128:
                    raise WireError(f"{where} has the key {_shown(key)}; keys are strings of at most 128 characters.")
            return {key: self.copy(item, f"{where}[{_shown(key)}]", depth + 1) for key, item in value.items()}
        raise WireError(
            f"{where} is {_shown(value)} of type {type(value).__name__}; only None, True/False, int, float, str, "
            "lists and dicts can be sent. Convert it first, e.g. float(x)."
        )


def _checked_attachments(attachments: object) -> dict[str, bytes]:
    if not isinstance(attachments, Mapping):
        raise WireError(f"attachments is {_shown(attachments)}; expected a dict from name to bytes.")
    for name, data in attachments.items():
        _check_name(name)
        if not isinstance(data, bytes):
            raise WireError(f"Attachment {name!r} is of type {type(data).__name__}; expected bytes.")
    return {name: attachments[name] for name in sorted(attachments)}


def _refs_of(attachments: Mapping[str, bytes]) -> tuple[AttachmentRef, ...]:
    return tuple(AttachmentRef(name, sha256_hex(data), len(data)) for name, data in sorted(attachments.items()))


def _ref_from_json(item: object) -> AttachmentRef:
    if not isinstance(item, dict) or set(item) != {"name", "sha256", "size_bytes"}:
        raise WireError(f"An attachment is listed as {_shown(item)}; expected name, sha256 and size_bytes.")
    return AttachmentRef(item["name"], item["sha256"], item["size_bytes"])


def _checked_ref(ref: AttachmentRef) -> AttachmentRef:
    _check_name(ref.name)
    if type(ref.sha256) is not str or not _SHA256.fullmatch(ref.sha256):
        raise WireError(f"Attachment {ref.name!r} has the sha256 {_shown(ref.sha256)}; expected 64 hex digits.")
    if type(ref.size_bytes) is not int or not 0 <= ref.size_bytes < _INTEGER_LIMIT:
        raise WireError(f"Attachment {ref.name!r} has the size {_shown(ref.size_bytes)}; expected bytes, from 0 on.")
    return ref


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise WireError(f"An attachment is named {_shown(name)}; expected 1 to 64 of the characters A-Z a-z 0-9 _ . -.")


def _hex(header: dict[str, Any], name: str, size_bytes: int) -> bytes:
    value = header[name]
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * size_bytes}}}", value):
        raise WireError(f"{name} is {_shown(value)}; expected {2 * size_bytes} hex digits.")
    return bytes.fromhex(value)


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")


def _shown(value: object) -> str:
    """The offending value for an error message, at most 80 characters of it."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
