"""What every route reads from a request: its signature, its small or streamed body, the values in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from fedart_nb.crypto.identity import identity_id
from fedart_nb.errors import WireError
from fedart_nb.relay.limits import Limits, Refused
from fedart_nb.relay.signing import SignedRequest, read_signature
from fedart_nb.relay.wire import HEADER_LIMIT_BYTES, parse_json

__all__ = [
    "announced_bytes",
    "body_chunks",
    "claimed_id",
    "fields",
    "number",
    "range_start",
    "sha256",
    "signer",
    "small_body",
]

_SHA256 = re.compile(r"[0-9a-f]{64}")


def signer(request: Request, body_sha256: str) -> SignedRequest:
    """Who signed this request with a body of that checksum."""
    path: str = request.scope["path"]
    prefix: str = request.app.state.prefix
    if prefix and path.startswith(f"{prefix}/"):
        path = path.removeprefix(prefix)
    query = request.scope["query_string"].decode("latin-1")
    signed = read_signature(request.headers, request.method, f"{path}?{query}" if query else path, body_sha256)
    if signed is None:
        raise _unsigned()
    return signed


def claimed_id(request: Request) -> str:
    """Who a request says that it is from. Nothing is proved by it, but strangers are sent away before they say more."""
    key = request.headers.get("fedart-key", "")
    if not _SHA256.fullmatch(key):
        raise _unsigned()
    return identity_id(bytes.fromhex(key))


def _unsigned() -> Refused:
    return Refused(
        401,
        "The request has no signature that fits it.",
        "Use the RelayClient; if you do, something between you and the relay changes requests.",
    )


async def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. It must come at a least rate, some seconds aside: the whole of it has a deadline."""
    limits: Limits = request.app.state.mailbox.limits
    loop = asyncio.get_running_loop()
    chunks = aiter(request.stream())
    left_s = float(limits.body_s)
    while True:
        started = loop.time()
        try:
            async with asyncio.timeout(left_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            sentence = f"The body came slower than {limits.rate_bytes} bytes a second."
            raise Refused(408, sentence, "Send it again over a faster network.") from error
        except ClientDisconnect as error:
            raise Refused(400, "The request broke off.", "Send it again.", reason="broken_off") from error
        left_s += len(chunk) / limits.rate_bytes - (loop.time() - started)
        request.app.state.metrics.count("bytes_total", len(chunk), direction="in")
        yield chunk


async def small_body(request: Request) -> bytes:
    """The body of a request that carries an envelope or less; refused as soon as it is known to be larger."""
    announced = announced_bytes(request) or 0
    body = bytearray()
    if announced <= HEADER_LIMIT_BYTES:
        async for chunk in body_chunks(request):
            body += chunk
            if len(body) > HEADER_LIMIT_BYTES:
                announced = len(body)
                break
    if announced > HEADER_LIMIT_BYTES:
        raise Refused(
            413,
            f"A message of {announced} bytes or more arrived; a message may have {HEADER_LIMIT_BYTES}.",
            "Put large values into an attachment.",
        )
    return bytes(body)


def announced_bytes(request: Request) -> int | None:
    """The body's size as announced, if it was."""
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise Refused(400, f"Content-Length is {value[:40]!r}; expected a number of bytes.", "Send it again.")
    return int(value)


def fields(body: bytes, *, optional: str = "", **types: type) -> dict[str, Any]:
    """The values of a JSON object that has exactly these names and types; one may be `optional`, and is "" then."""
    try:
        found = parse_json(body)
    except WireError as error:
        raise Refused(400, str(error), "Send a JSON object.") from error
    if optional and isinstance(found, dict):
        found.setdefault(optional, "")
    if not isinstance(found, dict) or {name: type(value) for name, value in found.items()} != types:
        expected = ", ".join(f"{name} ({kind.__name__})" for name, kind in types.items())
        raise Refused(400, "The request's fields are not those expected.", f"Send a JSON object with {expected}.")
    try:
        "".join(value for value in found.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:  # JSON can name half a character
        raise Refused(400, f"The request's fields hold text that is none ({error.reason}).", "Correct it.") from error
    return found


def number(request: Request, name: str, default: float | None = None) -> float:
    """A number from the query, from 0 on."""
    value = request.query_params.get(name, "" if default is None else str(default))
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", value):
        raise Refused(400, f"{name} is {value[:40]!r}; expected a number from 0 on.", "Correct the address.")
    return float(value)


def sha256(value: str) -> str:
    """A checksum in an address."""
    if not _SHA256.fullmatch(value):
        raise Refused(400, f"{value[:80]!r} is no sha256; expected 64 hex digits.", "Correct the address.")
    return value


def range_start(request: Request, size_bytes: int) -> int | None:
    """Where `Range: bytes=N-` wants to go on, or None: whatever else stands there is answered with the whole."""
    match = re.fullmatch(r"bytes=([0-9]{1,15})-", request.headers.get("range", ""))
    start = int(match[1]) if match else 0
    return start if 0 < start < size_bytes else None
