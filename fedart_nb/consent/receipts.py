"""Receipts: lines of a file, signed by the artist, each with the hash of the one before; `check` says where it broke.

A line is `{"body": …, "previous": hash, "hash": hash, "signature": hex}`. The hash covers the body and the former hash
(`privacy.chain.Link`), the Ed25519 signature covers the hash, and so everything before it. The first line holds the
artist's public key, whose hash is the artist's id.

What it shows: a line changed, taken out, put in or moved, by somebody without the artist's key. What it cannot show by
itself: lines cut off the end (keep an export: `check(lines, holds=...)` compares), and a chain that the artist signed
anew; a receipt binds its signer towards others, not the other way round.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedart_nb._system.files import write_private
from fedart_nb.crypto.hash_chain import Link
from fedart_nb.crypto.identity import Identity, identity_id, verify
from fedart_nb.errors import ConsentError

__all__ = [
    "FORMAT",
    "Fault",
    "Receipt",
    "check",
    "lines_of",
    "read_receipts",
    "room_name",
    "signed",
    "whole_part",
    "write_receipts",
]

FORMAT = 1
_DOMAIN = b"fedart-nb consent receipt 1\n"
_START = "0" * 64
_HOST_ID = re.compile(r"-[0-9a-f]{16}$")
#: What a line of each kind says at least, and of which type.
_SAYS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "opened": {"artist": str, "key": str, "time": str},
    "pictures": {"set": str, "marks": list},
    "choice": {"room": str, "round": int, "plan": str, "choice": str, "how": str, "time": str},
    "outcome": {"room": str, "round": int, "plan": str, "outcome": str, "pictures": str, "time": str},
}
_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """Where a chain of receipts is not what its artist signed: the line, counted from 1, and why."""

    line: int
    why: str

    def __str__(self) -> str:
        return f"Line {self.line}: {self.why}"


@dataclass(frozen=True)
class Receipt:
    """One signed line; `body` is what it says."""

    body: Mapping[str, Any] = field(repr=False)
    previous: str
    signature: str = field(repr=False)

    @property
    def hash(self) -> str:
        """SHA-256 over the former hash and the body, 64 hex digits."""
        return Link(self.body, self.previous).hash

    @property
    def kind(self) -> str:
        """What kind of line: "opened", "pictures", "choice" or "outcome"."""
        return str(self.body.get("kind"))

    def to_json(self) -> dict[str, Any]:
        """The line as JSON values."""
        return {"body": dict(self.body), "previous": self.previous, "hash": self.hash, "signature": self.signature}


def room_name(room: str) -> str:
    """A room in words for a person: as it stands in the invite, without the host's id that keeps it from namesakes.

    >>> room_name("studio-6be7b956ff920266"), room_name("studio")
    ('studio', 'studio')
    """
    return _HOST_ID.sub("", room)


def signed(body: Mapping[str, Any], after: Receipt | None, identity: Identity) -> Receipt:
    """The next receipt of a chain, or its first (`after=None`)."""
    link = Link(body, after.hash if after else _START)
    return Receipt(body, link.previous, identity.sign(_DOMAIN + link.hash.encode()).hex())


def check(
    lines: Iterable[Mapping[str, Any]],
    *,
    artist: str | None = None,
    holds: Iterable[Mapping[str, Any]] = (),
) -> Fault | None:
    """Where a chain was tampered with, or None where it is whole.

    Args:
        lines: as `Receipt.to_json` or the file has them.
        artist: the id that must have signed it; by default the one that its first line names.
        holds: lines of an earlier export, all of which must still be there.

    >>> me = Identity.generate()
    >>> first = signed({"kind": "opened", "format": 1, "artist": me.id, "key": me.public_key.hex()}, None, me)
    >>> second = signed({"kind": "choice", "choice": "skip"}, first, me)
    >>> check([first.to_json(), second.to_json()]) is None
    True
    >>> print(check([first.to_json(), second.to_json() | {"body": {"kind": "choice", "choice": "contribute"}}]))
    Line 2: what it says was changed, or put in later: its hash does not fit.
    """
    previous, key, number = _START, b"", 0
    hashes = []
    for number, line in enumerate(lines, start=1):
        try:
            body, told, claimed = line["body"], line["previous"], line["hash"]
            signature = bytes.fromhex(line["signature"])
            actual = Link(body, told).hash
            said = body.get("kind") is not None and _complete(body)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
            return Fault(number, "it is no receipt, or half of one.")
        if number == 1:
            try:
                key = bytes.fromhex(body["key"])
                owner = identity_id(key)
            except Exception:  # noqa: BLE001 - whatever stands there instead of a key is none
                return Fault(1, "it names no public key of the artist.")
            if owner != body.get("artist") or artist not in (None, owner):
                return Fault(1, f"it belongs to {owner}, not to {artist or body.get('artist')}.")
        if actual != claimed:
            return Fault(number, "what it says was changed, or put in later: its hash does not fit.")
        if told != previous:
            return Fault(number, "a line before it was taken out, put in or moved: it follows another one.")
        if not verify(key, signature, _DOMAIN + actual.encode()):
            return Fault(number, "it was not signed by the artist: the signature does not fit.")
        if not said:
            return Fault(number, f"it is signed, but says too little for a line of kind {body.get('kind')!r}.")
        previous = actual
        hashes.append(actual)
    if number == 0:
        return Fault(1, "it is missing; a chain has at least its first line.")
    missing = [line for line in holds if line.get("hash") not in set(hashes)]
    if missing:
        return Fault(number + 1, f"{len(missing)} lines of the earlier export are missing: the end was cut off.")
    return None


def _complete(body: Mapping[str, Any]) -> bool:
    """Whether a line says all that a line of its kind says."""
    return all(isinstance(body.get(name), kind) for name, kind in _SAYS.get(str(body.get("kind")), {"": str}).items())


def whole_part(path: Path, *, artist: str) -> list[Receipt]:
    """The receipts of a file before the first one that is damaged."""
    if path.stat().st_size > _LIMIT_BYTES:
        return []
    lines = lines_of(path)
    fault = check(lines, artist=artist)
    whole = lines[: fault.line - 1] if fault else lines
    return [Receipt(line["body"], line["previous"], line["signature"]) for line in whole]


def lines_of(path: Path) -> list[Any]:
    """The lines of a file as JSON values, unchecked; None for what is no JSON."""
    lines: list[Any] = []
    for text in path.read_bytes().splitlines():
        try:
            lines.append(json.loads(text))
        except (ValueError, RecursionError):
            lines.append(None)
    return lines


def read_receipts(path: Path, *, artist: str) -> list[Receipt]:
    """All receipts of a file; [] where there is none.

    Raises:
        ConsentError: it is not whole; the message says where.
    """
    if not path.exists():
        return []
    if path.stat().st_size > _LIMIT_BYTES:
        raise ConsentError(
            f"{path.name} has {path.stat().st_size:,} bytes; receipts never have more than {_LIMIT_BYTES:,}."
        )
    lines = lines_of(path)
    if fault := check(lines, artist=artist):
        raise ConsentError(
            f"The receipts in {str(path)!r} are not whole. {fault} Nothing is sent. Put the right file back, or move "
            "this one away and keep it: a new one begins, which knows nothing of the rounds before."
        )
    return [Receipt(line["body"], line["previous"], line["signature"]) for line in lines]


def write_receipts(path: Path, receipts: Sequence[Receipt]) -> None:
    """Write all of them, atomically."""
    lines = (json.dumps(one.to_json(), sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n" for one in receipts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, "".join(lines).encode())
