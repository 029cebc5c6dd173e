"""The one fact that lets a room go back: an artist's signed word that what they sent shall be taken out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RoundError
from ..secagg.identity import Identity, identity_id, verify

__all__ = ["withdrawal", "withdrawn"]

_DOMAIN = "fedart-nb withdrawal 1"


def withdrawal(room: str, host: str, identity: Identity) -> dict[str, str]:
    """The signed fact, as JSON values: who, and that it is about this host's room. It says nothing else."""
    signature = identity.sign(_message(room, host, identity.id))
    return {"artist": identity.id, "key": identity.public_key.hex(), "signature": signature.hex()}


def withdrawn(fact: Any, room: str, host: str) -> str:
    """Who withdrew, by id.

    Raises:
        RoundError: it was not signed by that artist for this room and host.

    >>> me = Identity.generate()
    >>> withdrawn(withdrawal("studio", "host", me), "studio", "host") == me.id
    True
    """
    try:
        if not isinstance(fact, Mapping):
            raise TypeError
        artist, key = str(fact["artist"]), bytes.fromhex(fact["key"])
        good = verify(key, bytes.fromhex(fact["signature"]), _message(room, host, artist))
        good = good and identity_id(key) == artist
    except Exception:  # noqa: BLE001 - whatever is no fact is none
        good, artist = False, ""
    if not good:
        raise RoundError(
            "A withdrawal arrived that its artist has not signed for this room. Nothing is taken out because of it."
        )
    return artist


def _message(room: str, host: str, artist: str) -> bytes:
    return f"{_DOMAIN}\n{room}\n{host}\n{artist}".encode()
