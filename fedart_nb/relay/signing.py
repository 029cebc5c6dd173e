"""Signed requests: who asks, which relay, for exactly what, when, and only once.

`fedart-relay` is the relay's address as the sender knows it. A relay cannot know by what addresses people reach it, so
it keeps the one that a member joined with and takes this member's requests under no other: what was signed for one
relay is worth nothing at another, whose room may have the same name.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from fedart_nb.crypto.identity import Identity, identity_id, verify

__all__ = ["EMPTY_SHA256", "OPENING_HEADER", "WINDOW_S", "SignedRequest", "read_signature", "signature_headers"]

WINDOW_S = 120.0  # how far the clocks of a kernel and the relay may differ
OPENING_HEADER = "fedart-opening"  # of /healthz: who opens rooms, "anybody" or those who know the "secret"
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_SIGNED_FOR = "fedart-request-v2"
_NAMES = ("fedart-key", "fedart-relay", "fedart-time", "fedart-nonce", "fedart-signature")
_FORMS = (r"[0-9a-f]{64}", r"https?://[\x21-\x7e]{1,500}", r"[0-9]{1,12}", r"[0-9a-f]{32}", r"[0-9a-f]{128}")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose signature fits: the key that made it, its id, the relay meant, the sender's clock, the nonce."""

    public_key: bytes
    member_id: str
    relay: str
    time_s: int
    nonce: str


def signature_headers(
    identity: Identity, method: str, target: str, body_sha256: str, time_s: float, *, relay: str
) -> dict[str, str]:
    """Return the five headers that sign a request; a fresh nonce each time.

    `target` is the path from /v1 on with its query (a proxy may have cut off what stands before); `body_sha256` is the
    checksum of the body, for blobs the one in the path; `relay` the address that the request goes to.
    """
    stamp, nonce = str(int(time_s)), secrets.token_hex(16)
    signature = identity.sign(_message(relay, method, target, body_sha256, stamp, nonce))
    return dict(zip(_NAMES, (identity.public_key.hex(), relay, stamp, nonce, signature.hex()), strict=True))


def read_signature(headers: Mapping[str, str], method: str, target: str, body_sha256: str) -> SignedRequest | None:
    """Return who signed this request, or None when a header is missing, malformed or does not fit."""
    values = [headers.get(name, "") for name in _NAMES]
    if not all(re.fullmatch(form, value) for form, value in zip(_FORMS, values, strict=True)):
        return None
    key, relay, stamp, nonce, signature = values
    public_key = bytes.fromhex(key)
    if not verify(public_key, bytes.fromhex(signature), _message(relay, method, target, body_sha256, stamp, nonce)):
        return None
    return SignedRequest(public_key, identity_id(public_key), relay, int(stamp), nonce)


def _message(relay: str, method: str, target: str, body_sha256: str, stamp: str, nonce: str) -> bytes:
    return f"{_SIGNED_FOR}\n{relay}\n{method}\n{target}\n{body_sha256}\n{stamp}\n{nonce}".encode()
