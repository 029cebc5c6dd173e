"""Attachments to and from a relay: whatever breaks off goes on where it stopped, and nothing is held twice."""

from __future__ import annotations

import hashlib
import io
import re

import httpx

from fedart_nb.errors import RelayRefused, TooLarge, WireError
from fedart_nb.relay.connection import Connection
from fedart_nb.relay.signing import EMPTY_SHA256
from fedart_nb.relay.wire import AttachmentRef

__all__ = ["download", "upload"]

_PIECE_BYTES = 2**20  # proxies often take no more in one request


def upload(connection: Connection, target: str, ref: AttachmentRef, data: bytes, piece_bytes: int | None) -> None:
    """Bring a blob to the relay, as far as it is not there yet: in one request, or in pieces.

    `piece_bytes` is the largest piece that the relay takes, None for one that takes none.
    """
    offset = _offset(connection, target)
    if offset is None:
        return
    if piece_bytes is None or (offset == 0 and len(data) <= piece_bytes):
        connection.ask("PUT", target, body=data, sha256=ref.sha256)
        return
    view = memoryview(data)
    while offset is not None and offset < len(view):
        piece = view[offset : offset + min(piece_bytes, _PIECE_BYTES)]
        sha256 = hashlib.sha256(piece).hexdigest()
        try:
            connection.ask("PATCH", f"{target}?offset={offset}&size={len(view)}&sha256={sha256}", body=piece)
            offset += len(piece)
        except RelayRefused as refusal:  # 409: an answer was lost, or another thread sends the same
            stands_at = _offset(connection, target) if refusal.status == 409 else offset
            if stands_at == offset:
                raise
            offset = stands_at


def download(connection: Connection, target: str, ref: AttachmentRef) -> bytes:
    """Fetch the blob that `ref` describes; raises WireError or TooLarge when the relay has other or more bytes."""
    buffer, digest = io.BytesIO(), hashlib.sha256()

    def take(response: httpx.Response) -> None:
        nonlocal digest
        if response.status_code != 206 and buffer.tell():  # a relay that always sends the whole
            buffer.seek(0)
            buffer.truncate()
            digest = hashlib.sha256()
        have = buffer.tell()
        announced = response.headers.get("content-length")
        if announced != str(ref.size_bytes - have):
            behind = f" behind the first {have}" if have else ""
            raise WireError(
                f"Attachment {ref.name!r} has {ref.size_bytes} bytes; the relay announces {announced}{behind}."
            )
        try:
            for chunk in response.iter_raw():
                if buffer.tell() + len(chunk) > ref.size_bytes:
                    raise TooLarge(f"The relay sends more than the {ref.size_bytes} bytes of {ref.name!r}.")
                buffer.write(chunk)
                digest.update(chunk)
        except httpx.TransportError:
            if buffer.tell() == have:
                raise  # nothing came: wait; otherwise the rest is asked for at once

    def rest() -> dict[str, str]:
        return {"range": f"bytes={buffer.tell()}-"} if buffer.tell() else {}

    while True:
        connection.request("GET", target, take, EMPTY_SHA256, more_headers=rest)
        if buffer.tell() == ref.size_bytes:
            break
    if digest.hexdigest() != ref.sha256:
        raise WireError(f"The bytes of attachment {ref.name!r} do not have the checksum that its sender signed.")
    return buffer.getvalue()  # BytesIO hands out its own buffer: no second copy


def _offset(connection: Connection, target: str) -> int | None:
    """How many bytes of a blob the relay has; None when it has all of it."""

    def take(response: httpx.Response) -> int | None:
        text = response.headers.get("upload-offset", "")
        if response.status_code < 300:
            return None
        return int(text) if re.fullmatch("[0-9]{1,15}", text) else 0

    offset: int | None = connection.request("HEAD", target, take, EMPTY_SHA256, taken=(404,))
    return offset
