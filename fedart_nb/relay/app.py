"""The relay as a Starlette app: the mailbox's rules over HTTP, with long-polling and signed requests.

    POST     /v1/rooms                        open a room                      {"room", "token_sha256"}
    POST     /v1/rooms/{room}/join            become a member                  {"token"}
    GET      /v1/rooms/{room}/inbox           ?after=seq&wait=seconds          waits up to 25 s for a message
    POST     /v1/rooms/{room}/outbox          a sealed envelope as body        answers {"seq"}
    PUT      /v1/rooms/{room}/blobs/{sha256}  upload; GET and HEAD to fetch
    GET      /v1/rooms/{room}/log             ?after=seq                       metadata of everything, host only
    GET      /healthz                         the only one without a signature

An error is {"error": what was wrong, "do": what helps} with status 400, 401, 403, 404, 409, 413 or 429.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from fedart_nb.errors import WireError
from fedart_nb.relay.limits import Limits, Refused
from fedart_nb.relay.mailbox import INBOX_PAGE, Mailbox
from fedart_nb.relay.signing import EMPTY_SHA256, SignedRequest, read_signature
from fedart_nb.relay.wire import HEADER_LIMIT_BYTES, parse_json, sha256_hex

__all__ = ["LOGGER_NAME", "WAIT_LIMIT_S", "app", "end_waiting"]

LOGGER_NAME = "fedart_nb.relay"
WAIT_LIMIT_S = 25.0  # proxies cut silent connections after 30 to 60 s

_CHUNK_BYTES = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(LOGGER_NAME)
_Handler = Callable[[Request], Awaitable[Response]]


def app(
    data_folder: str | os.PathLike[str] | Mailbox,
    limits: Limits | None = None,
    *,
    root_path: str = "",
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Return the ASGI app over the mailbox in `data_folder`.

    `root_path` is the prefix under which the relay is seen (e.g. "/services/fedart"): it answers there and, for proxies
    that cut the prefix off, without it. Raises RelayError when another relay uses the folder.
    """
    mailbox = data_folder if isinstance(data_folder, Mailbox) else Mailbox(data_folder, limits, clock=clock)

    @contextlib.asynccontextmanager
    async def lifespan(application: Starlette) -> Any:
        yield
        end_waiting(application)
        if mailbox is not data_folder:
            mailbox.close()

    room = "/v1/rooms/{room}"
    routes: list[BaseRoute] = [
        Route("/healthz", _healthz),
        Route("/v1/rooms", _handled(_create_room), methods=["POST"]),
        Route(f"{room}/join", _handled(_join), methods=["POST"]),
        Route(f"{room}/inbox", _handled(_inbox), methods=["GET"]),
        Route(f"{room}/outbox", _handled(_outbox), methods=["POST"]),
        Route(f"{room}/blobs/{{sha256}}", _handled(_put_blob), methods=["PUT"]),
        Route(f"{room}/blobs/{{sha256}}", _handled(_get_blob), methods=["GET", "HEAD"]),
        Route(f"{room}/log", _handled(_room_log), methods=["GET"]),
    ]
    root_path = root_path.rstrip("/")
    if root_path:
        routes = [Mount(root_path, routes=routes), *routes]
    application = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_error, Exception: _broken}
    )
    application.state.mailbox = mailbox
    application.state.prefix = root_path
    application.state.waiting = set()
    application.state.closing = False
    return application


def end_waiting(application: Starlette) -> None:
    """Answer all long-polls at once, now and from now on: the relay is going down. Call it from the event loop."""
    application.state.closing = True
    for bell in tuple(application.state.waiting):
        bell.set()


# --- routes -----------------------------------------------------------------------------------------------------


async def _healthz(_: Request) -> Response:
    return JSONResponse({"ok": True})


async def _create_room(request: Request) -> Response:
    body = await _small_body(request)
    signed = _signer(request, sha256_hex(body))
    fields = _fields(body, room=str, token_sha256=str)
    if not _SHA256.fullmatch(fields["token_sha256"]):
        raise Refused(400, "token_sha256 must be 64 hex digits.", "Send the sha256 of the room token, not the token.")
    mailbox = _mailbox(request)

    def work() -> dict[str, Any]:
        mailbox.admit(signed)
        mailbox.create_room(fields["room"], fields["token_sha256"], signed.public_key)
        return {"room": fields["room"], "host_id": signed.member_id}

    return JSONResponse(await run_in_threadpool(work), status_code=201)


async def _join(request: Request) -> Response:
    body = await _small_body(request)
    signed = _signer(request, sha256_hex(body))
    fields = _fields(body, token=str)
    mailbox, room = _mailbox(request), request.path_params["room"]

    def work() -> dict[str, Any]:
        mailbox.admit(signed)
        host_id = mailbox.join(room, fields["token"], signed.public_key)
        return {"room": room, "host_id": host_id, "blob_limit_bytes": mailbox.limits.blob_bytes}

    return JSONResponse(await run_in_threadpool(work))


async def _inbox(request: Request) -> Response:
    signed = _signer(request, EMPTY_SHA256)
    after, wait_s = int(_number(request, "after", 0)), min(_number(request, "wait", 0), WAIT_LIMIT_S)
    mailbox, room = _mailbox(request), request.path_params["room"]
    await run_in_threadpool(mailbox.admit, signed, room)
    loop, bell = asyncio.get_running_loop(), asyncio.Event()
    deadline = loop.time() + wait_s
    state = request.app.state

    def ring() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(bell.set)

    stop = mailbox.listen(room, ring)  # before looking: misses nothing
    state.waiting.add(bell)
    try:
        while True:
            bell.clear()
            messages = await run_in_threadpool(mailbox.inbox, room, signed.member_id, after)
            remaining_s = deadline - loop.time()
            if messages or remaining_s <= 0 or state.closing:
                break
            try:
                await asyncio.wait_for(bell.wait(), remaining_s)
            except TimeoutError:
                break
    finally:
        stop()
        state.waiting.discard(bell)
    listed = [{"seq": seq, "envelope": data.decode()} for seq, data in messages]
    return JSONResponse({"messages": listed, "more": len(listed) == INBOX_PAGE})


async def _outbox(request: Request) -> Response:
    body = await _small_body(request)
    signed = _signer(request, sha256_hex(body))
    mailbox, room = _mailbox(request), request.path_params["room"]

    def work() -> int:
        mailbox.admit(signed, room)
        return mailbox.post(room, signed.member_id, body)

    return JSONResponse({"seq": await run_in_threadpool(work)})


async def _put_blob(request: Request) -> Response:
    mailbox, room, sha256 = _mailbox(request), request.path_params["room"], _sha256_of(request)
    signed = _signer(request, sha256)  # the path names the body's checksum: nothing is read before this fits
    announced = _announced_bytes(request)
    await run_in_threadpool(mailbox.admit, signed, room)
    writer = await run_in_threadpool(mailbox.receive_blob, room, signed.member_id, sha256, announced)
    try:
        pending = bytearray()
        async for chunk in request.stream():
            pending += chunk
            if len(pending) >= _CHUNK_BYTES:
                await run_in_threadpool(writer.write, bytes(pending))
                pending.clear()
        await run_in_threadpool(writer.write, bytes(pending))
        await run_in_threadpool(writer.commit)
    except ClientDisconnect as error:
        raise Refused(400, "The upload broke off.", "Send the blob again.") from error
    finally:
        await run_in_threadpool(writer.abort)
    return JSONResponse({"sha256": sha256, "size_bytes": writer.size_bytes}, status_code=201)


async def _get_blob(request: Request) -> Response:
    mailbox, room, sha256 = _mailbox(request), request.path_params["room"], _sha256_of(request)
    signed = _signer(request, EMPTY_SHA256)
    await run_in_threadpool(mailbox.admit, signed, room)
    path, _ = await run_in_threadpool(mailbox.find_blob, room, signed.member_id, sha256)
    return FileResponse(path, media_type="application/octet-stream")


async def _room_log(request: Request) -> Response:
    signed = _signer(request, EMPTY_SHA256)
    after = int(_number(request, "after", 0))
    mailbox, room = _mailbox(request), request.path_params["room"]

    def work() -> dict[str, Any]:
        mailbox.admit(signed, room)
        return mailbox.log(room, signed.member_id, after)

    return JSONResponse(await run_in_threadpool(work))


# --- what every route needs -------------------------------------------------------------------------------------


def _handled(handler: _Handler) -> _Handler:
    """Turn refusals into answers and write one log line for each request."""

    async def handle(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except Refused as refusal:
            response = _refusal(refusal.status, refusal.error, refusal.do)
            if request.method in ("PUT", "POST"):
                response.headers["connection"] = "close"  # the rest of the body is not wanted
        _write_line(
            "request",
            method=request.method,
            route=handler.__name__.lstrip("_"),
            room=request.path_params.get("room", "")[:64],
            status=response.status_code,
            bytes_announced=request.headers.get("content-length", "")[:20],
            ms=round(1000 * (time.perf_counter() - started), 1),
        )
        return response

    return handle


def _signer(request: Request, body_sha256: str) -> SignedRequest:
    path: str = request.scope["path"]
    prefix: str = request.app.state.prefix
    if prefix and path.startswith(f"{prefix}/"):
        path = path.removeprefix(prefix)
    query = request.scope["query_string"].decode("latin-1")
    signed = read_signature(request.headers, request.method, f"{path}?{query}" if query else path, body_sha256)
    if signed is None:
        raise Refused(
            401,
            "The request has no signature that fits it.",
            "Use the RelayClient; if you do, something between you and the relay changes requests.",
        )
    return signed


async def _small_body(request: Request) -> bytes:
    """The body of a request that carries an envelope or less; refused as soon as it is known to be larger."""
    announced = _announced_bytes(request) or 0
    body = bytearray()
    try:
        if announced <= HEADER_LIMIT_BYTES:
            async for chunk in request.stream():
                body += chunk
                if len(body) > HEADER_LIMIT_BYTES:
                    announced = len(body)
                    break
    except ClientDisconnect as error:
        raise Refused(400, "The request broke off.", "Send it again.") from error
    if announced > HEADER_LIMIT_BYTES:
        raise Refused(
            413,
            f"A message of {announced} bytes or more arrived; a message may have {HEADER_LIMIT_BYTES}.",
            "Put large values into an attachment.",
        )
    return bytes(body)


def _announced_bytes(request: Request) -> int | None:
    value = request.headers.get("content-length")
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise Refused(400, f"Content-Length is {value[:40]!r}; expected a number of bytes.", "Send it again.")
    return int(value)


def _fields(body: bytes, **types: type) -> dict[str, Any]:
    try:
        fields = parse_json(body)
    except WireError as error:
        raise Refused(400, str(error), "Send a JSON object.") from error
    if not isinstance(fields, dict) or {name: type(value) for name, value in fields.items()} != types:
        expected = ", ".join(f"{name} ({kind.__name__})" for name, kind in types.items())
        raise Refused(400, "The request's fields are not those expected.", f"Send a JSON object with {expected}.")
    return fields


def _number(request: Request, name: str, default: float) -> float:
    value = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", value):
        raise Refused(400, f"{name} is {value[:40]!r}; expected a number from 0 on.", "Correct the address.")
    return float(value)


def _sha256_of(request: Request) -> str:
    sha256 = str(request.path_params["sha256"])
    if not _SHA256.fullmatch(sha256):
        raise Refused(400, f"{sha256[:80]!r} is no sha256; expected 64 hex digits.", "Correct the address.")
    return sha256


def _mailbox(request: Request) -> Mailbox:
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox


def _refusal(status: int, error: str, do: str) -> Response:
    return JSONResponse({"error": error, "do": do}, status_code=status)


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return _refusal(status, f"There is nothing at {request.method} {request.url.path[:120]}.", "See /v1/rooms.")


async def _broken(request: Request, error: Exception) -> Response:
    _write_line("error", method=request.method, type=type(error).__name__)
    return _refusal(500, "The relay has a fault.", "Try again; nothing that was stored is lost.")


def _write_line(event: str, **values: object) -> None:
    """One JSON line: routes, sizes, times. Never a token, a body, a name."""
    _log.info(json.dumps({"at": round(time.time(), 3), "event": event, **values}))
