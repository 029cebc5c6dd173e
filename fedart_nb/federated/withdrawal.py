"""The one fact that lets a room go back: an artist's signed word that what they sent shall be taken out.

Each has a random number of its own: one word lets a room go back once, and an artist who came again may withdraw again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ..crypto.identity import Identity, identity_id, verify
from ..errors import RoundError

__all__ = ["withdrawal", "withdrawn"]

_DOMAIN = "fedart-nb withdrawal 2"
_NONCE_BYTES = 16


def withdrawal(room: str, host: str, identity: Identity) -> dict[str, str]:
    """The signed fact, as JSON values: who, and that it is about this host's room. It says nothing else."""
    nonce = secrets.token_hex(_NONCE_BYTES)
    signature = identity.sign(_message(room, host, identity.id, nonce))
    return {"artist": identity.id, "key": identity.public_key.hex(), "nonce": nonce, "signature": signature.hex()}


def withdrawn(fact: Any, room: str, host: str) -> tuple[str, str]:
    """Who withdrew, by id, and the word's own number.

    Raises:
        RoundError: it was not signed by that artist for this room and host.

    >>> me = Identity.generate()
    >>> withdrawn(withdrawal("studio", "host", me), "studio", "host")[0] == me.id
    True
    """
    try:
        if not isinstance(fact, Mapping):
            raise TypeError
        artist, key, nonce = str(fact["artist"]), bytes.fromhex(fact["key"]), str(fact["nonce"])
        good = verify(key, bytes.fromhex(fact["signature"]), _message(room, host, artist, nonce))
        good = good and identity_id(key) == artist and len(bytes.fromhex(nonce)) == _NONCE_BYTES
    except Exception:  # noqa: BLE001 - whatever is no fact is none
        good, artist, nonce = False, "", ""
    if not good:
        raise RoundError(
            "A withdrawal arrived that its artist has not signed for this room. Nothing is taken out because of it."
        )
    return artist, nonce


def _message(room: str, host: str, artist: str, nonce: str) -> bytes:
    return f"{_DOMAIN}\n{room}\n{host}\n{artist}\n{nonce}".encode()
