"""Bytes of the sum protocol in a message's JSON body: base64 text under "data"."""

from __future__ import annotations

import base64

from ..errors import RoundError
from ..relay.wire import Envelope

__all__ = ["bytes_in", "text_of"]


def text_of(data: bytes) -> str:
    """What goes into a body.

    >>> text_of(b"ok")
    'b2s='
    """
    return base64.b64encode(data).decode()


def bytes_in(envelope: Envelope) -> bytes:
    """What a message carries.

    Raises:
        RoundError: there is no base64 text.
    """
    try:
        return base64.b64decode(envelope.body.get("data"), validate=True)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # binascii.Error is a ValueError
        raise RoundError(f"The {envelope.kind} message carries no base64 text in 'data'.") from None
