"""The relay as a Starlette app: the mailbox's rules over HTTP, with long-polling and signed requests.

    POST     /v1/rooms                        open a room                      {"room", "token_sha256", "opening"?}
    POST     /v1/rooms/{room}/join            become a member                  {"token"}
    GET      /v1/rooms/{room}/inbox           ?after=seq&wait=seconds          waits up to 25 s for a message
    POST     /v1/rooms/{room}/outbox          a sealed envelope as body        answers {"seq"}
    PUT      /v1/rooms/{room}/blobs/{sha256}  upload in one request
    PATCH    /v1/rooms/{room}/blobs/{sha256}  ?offset=&size=&sha256=           one piece of a large upload
    HEAD     /v1/rooms/{room}/blobs/{sha256}  200, or 404 with Upload-Offset   where an upload goes on
    GET      /v1/rooms/{room}/blobs/{sha256}  fetch; Range: bytes=N- goes on
    GET      /v1/rooms/{room}/log             ?after=seq                       metadata of everything, host only
    GET      /healthz                         {"ok", "version", "draining"}    no signature; 503 while draining
    GET      /metrics                         Authorization: Bearer TOKEN      only if the relay was given a token

Pieces are what tus and IETF's resumable uploads do, except that offset, size and the piece's checksum stand in the
query, where the signature covers them. An error is {"error": what was wrong, "do": what helps} with status 400, 401,
403, 404, 408, 409, 413, 429 or 503; where it has a Retry-After, the same request will be taken later.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from fedart_nb import __version__
from fedart_nb.relay import reading
from fedart_nb.relay.admission_control import Gate
from fedart_nb.relay.answering import (
    LOGGER_NAME,
    RequestLog,
    broken,
    file_response,
    handled,
    http_error,
    is_full,
    write_line,
)
from fedart_nb.relay.blobs import BlobWriter, PieceWriter
from fedart_nb.relay.limits import PIECE_BYTES, Limits, Refused
from fedart_nb.relay.mailbox import INBOX_PAGE, Mailbox
from fedart_nb.relay.metrics import Metrics
from fedart_nb.relay.signing import EMPTY_SHA256, OPENING_HEADER, SignedRequest
from fedart_nb.relay.wire import sha256_hex

__all__ = ["LOGGER_NAME", "WAIT_LIMIT_S", "app", "end_waiting"]

WAIT_LIMIT_S = 25.0  # proxies cut silent connections after 30 to 60 s

_SWEEP_S = 60.0
_CHUNK_BYTES = 2**16


def app(
    data_folder: str | os.PathLike[str] | Mailbox,
    limits: Limits | None = None,
    *,
    root_path: str = "",
    opening_secret: str | None = None,
    metrics_token: str | None = None,
    trusted_proxies: int = 0,
    sweep_s: float = _SWEEP_S,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Return the ASGI app over the mailbox in `data_folder`.

    `root_path` is the prefix under which the relay is seen (e.g. "/services/fedart"): it answers there and, for proxies
    that cut the prefix off, without it. With an `opening_secret` only who knows it opens rooms; without a
    `metrics_token` there are no metrics. `trusted_proxies`: see Gate. Every `sweep_s` seconds it looks for rooms that
    have expired. Raises RelayError when another relay uses the folder.
    """
    mailbox = data_folder if isinstance(data_folder, Mailbox) else Mailbox(data_folder, limits, clock=clock)

    @contextlib.asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep_now_and_then(mailbox, sweep_s))
        yield
        end_waiting(application)
        sweeping.cancel()
        if mailbox is not data_folder:
            mailbox.close()

    room = "/v1/rooms/{room}"
    blob = f"{room}/blobs/{{sha256}}"
    routes: list[BaseRoute] = [
        Route("/healthz", _healthz),
        Route("/v1/rooms", handled(_create_room), methods=["POST"]),
        Route(f"{room}/join", handled(_join), methods=["POST"]),
        Route(f"{room}/inbox", handled(_inbox), methods=["GET"]),
        Route(f"{room}/outbox", handled(_outbox), methods=["POST"]),
        Route(blob, handled(_put_blob), methods=["PUT"]),
        Route(blob, handled(_patch_blob), methods=["PATCH"]),
        Route(blob, handled(_get_blob), methods=["GET", "HEAD"]),
        Route(f"{room}/blobs", handled(_drop_blobs), methods=["DELETE"]),
        Route(f"{room}/log", handled(_room_log), methods=["GET"]),
    ]
    if metrics_token:
        routes.append(Route("/metrics", handled(_metrics)))
    root_path = root_path.rstrip("/")
    if root_path:
        routes = [Mount(root_path, routes=routes), *routes]
    application = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: http_error, Exception: broken}
    )
    application.router.redirect_slashes = False  # nobody is sent on to an address that a stranger's Host header names
    state = application.state
    state.mailbox = mailbox
    state.prefix = root_path
    state.gate = Gate(mailbox.limits, mailbox.clock, trusted_proxies=trusted_proxies)
    state.metrics = Metrics()
    state.log = RequestLog(mailbox.limits)
    state.opening_secret, state.metrics_token = opening_secret, metrics_token
    state.waiting = set()
    state.closing = False
    return application


def end_waiting(application: Starlette) -> None:
    """Answer all long-polls at once, now and from now on: the relay is going down. Call it from the event loop."""
    application.state.closing = True
    for bell in tuple(application.state.waiting):
        bell.set()


async def _sweep_now_and_then(mailbox: Mailbox, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            rooms = await run_in_threadpool(mailbox.sweep)
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
            write_line("disk_full", at="sweep")
            continue
        if rooms:
            write_line("expired", rooms=rooms)


# --- routes -----------------------------------------------------------------------------------------------------


async def _healthz(request: Request) -> Response:
    draining: bool = request.app.state.closing
    answer = {"ok": not draining, "version": __version__, "draining": draining}
    opening = "anybody" if request.app.state.opening_secret is None else "secret"
    return JSONResponse(answer, 503 if draining else 200, headers={OPENING_HEADER: opening})


async def _metrics(request: Request) -> Response:
    state = request.app.state
    if not _same(request.headers.get("authorization", ""), f"Bearer {state.metrics_token}"):
        raise Refused(401, "The metrics need their token.", "Send Authorization: Bearer, and the token.")
    gauges = await run_in_threadpool(state.mailbox.totals)
    gauges |= {name: state.gate.taken(name) for name in ("waiting", "uploads")} | {"draining": int(state.closing)}
    return PlainTextResponse(state.metrics.text(gauges), media_type="text/plain; version=0.0.4")


async def _create_room(request: Request) -> Response:
    request.app.state.gate.knock(request)
    body = await reading.small_body(request)
    signed = reading.signer(request, sha256_hex(body))
    fields = reading.fields(body, room=str, token_sha256=str, opening=str, optional="opening")
    secret = request.app.state.opening_secret
    if secret is not None and not _same(fields["opening"], secret):
        message = "This relay opens rooms only for those who know its secret."
        raise Refused(403, message, "Ask who runs it, and put #open=SECRET behind the relay's address.")
    reading.sha256(fields["token_sha256"])
    mailbox, address = _mailbox(request), request.app.state.gate.peer(request)

    def work() -> dict[str, Any]:
        mailbox.admit(signed)
        known = {"relay": signed.relay, "address": address}
        mailbox.create_room(fields["room"], fields["token_sha256"], signed.public_key, **known)
        return {"room": fields["room"], "host_id": signed.member_id}

    answer = await run_in_threadpool(work)
    _connection_belongs_to(request, signed)
    return JSONResponse(answer, status_code=201)


async def _join(request: Request) -> Response:
    request.app.state.gate.knock(request)
    body = await reading.small_body(request)
    signed = reading.signer(request, sha256_hex(body))
    fields = reading.fields(body, token=str)
    mailbox, room = _mailbox(request), request.path_params["room"]

    def work() -> dict[str, Any]:
        mailbox.admit(signed)
        host_id = mailbox.join(room, fields["token"], signed.public_key, relay=signed.relay)
        limit = mailbox.limits.blob_bytes
        return {"room": room, "host_id": host_id, "blob_limit_bytes": limit, "piece_bytes": PIECE_BYTES}

    answer = await run_in_threadpool(work)
    _connection_belongs_to(request, signed)
    return JSONResponse(answer)


async def _inbox(request: Request) -> Response:
    wait_s = min(reading.number(request, "wait", 0), WAIT_LIMIT_S)
    if wait_s:
        request.app.state.gate.require_place("waiting", reading.claimed_id(request))
    mailbox, room, signed = await _member(request, EMPTY_SHA256)
    after = int(reading.number(request, "after", 0))
    with _place(request, "waiting", signed) if wait_s else contextlib.nullcontext():
        messages = await _wait_for_messages(request, mailbox, room, signed.member_id, after, wait_s)
    listed = [{"seq": seq, "envelope": data.decode()} for seq, data in messages]
    return JSONResponse({"messages": listed, "more": len(listed) == INBOX_PAGE})


async def _wait_for_messages(
    request: Request, mailbox: Mailbox, room: str, member_id: str, after: int, wait_s: float
) -> list[Any]:
    loop, bell = asyncio.get_running_loop(), asyncio.Event()
    deadline = loop.time() + wait_s
    state = request.app.state

    def ring() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(bell.set)

    stop = mailbox.listen(room, ring, member_id)  # before looking: misses nothing
    state.waiting.add(bell)
    try:
        while True:
            bell.clear()
            messages = await run_in_threadpool(mailbox.inbox, room, member_id, after)
            remaining_s = deadline - loop.time()
            if messages or remaining_s <= 0 or state.closing:
                return list(messages)
            try:
                await asyncio.wait_for(bell.wait(), remaining_s)
            except TimeoutError:
                return []
    finally:
        stop()
        state.waiting.discard(bell)


async def _outbox(request: Request) -> Response:
    room, claimed_id = request.path_params["room"], reading.claimed_id(request)
    await run_in_threadpool(_mailbox(request).require_member, room, claimed_id)  # before a stranger's body is kept
    body = await reading.small_body(request)
    gate: Gate = request.app.state.gate
    async with gate.turn(room):
        mailbox, room, signed = await _member(request, sha256_hex(body))
        return JSONResponse({"seq": await run_in_threadpool(mailbox.post, room, signed.member_id, body)})


async def _put_blob(request: Request) -> Response:
    sha256 = reading.sha256(request.path_params["sha256"])
    announced = reading.announced_bytes(request)
    # The path names the body's checksum: nothing is read before the signature over it fits.
    mailbox, room, signed = await _member(request, sha256)
    with _place(request, "uploads", signed):
        writer = await run_in_threadpool(mailbox.receive_blob, room, signed.member_id, sha256, announced)
        await _take_body(request, writer)
    return JSONResponse({"sha256": sha256, "size_bytes": writer.size_bytes}, status_code=201)


async def _patch_blob(request: Request) -> Response:
    sha256 = reading.sha256(request.path_params["sha256"])
    offset, size = int(reading.number(request, "offset")), int(reading.number(request, "size"))
    piece_sha256 = reading.sha256(request.query_params.get("sha256", ""))
    announced = reading.announced_bytes(request)
    if (announced or 0) > PIECE_BYTES:
        raise Refused(413, f"A piece of {announced} bytes; a piece may have {PIECE_BYTES}.", "Send smaller ones.")
    mailbox, room, signed = await _member(request, piece_sha256)

    def begin() -> PieceWriter:
        return mailbox.receive_piece(
            room, signed.member_id, sha256, offset=offset, size_bytes=size, piece_sha256=piece_sha256
        )

    with _place(request, "uploads", signed):
        received = await _take_body(request, await run_in_threadpool(begin))
    headers = {"upload-offset": str(received)}
    return JSONResponse({"offset": received}, 201 if received == size else 200, headers=headers)


async def _get_blob(request: Request) -> Response:
    sha256 = reading.sha256(request.path_params["sha256"])
    mailbox, room, signed = await _member(request, EMPTY_SHA256)
    if request.method == "HEAD":
        received = await run_in_threadpool(mailbox.received_bytes, room, signed.member_id, sha256)
        if received:
            return Response(status_code=404, headers={"upload-offset": str(received)})
    path, size_bytes = await run_in_threadpool(mailbox.find_blob, room, signed.member_id, sha256)
    start = reading.range_start(request, size_bytes)
    return await file_response(path, size_bytes, start, with_body=request.method != "HEAD")


async def _drop_blobs(request: Request) -> Response:
    """Whoever uploaded something may have it deleted; nobody else may."""
    mailbox, room, signed = await _member(request, EMPTY_SHA256)
    return JSONResponse({"dropped": await run_in_threadpool(mailbox.drop_blobs, room, signed.member_id)})


async def _room_log(request: Request) -> Response:
    mailbox, room, signed = await _member(request, EMPTY_SHA256)
    after = int(reading.number(request, "after", 0))
    return JSONResponse(await run_in_threadpool(mailbox.log, room, signed.member_id, after))


# --- what the routes share --------------------------------------------------------------------------------------


async def _member(request: Request, body_sha256: str) -> tuple[Mailbox, str, SignedRequest]:
    """Let a signed request of a member pass: mailbox, room, signer."""
    gate: Gate = request.app.state.gate
    gate.require_waited(reading.claimed_id(request))
    signed = reading.signer(request, body_sha256)
    gate.admit(signed.member_id, request.path_params["room"])
    mailbox, room = _mailbox(request), request.path_params["room"]
    await run_in_threadpool(mailbox.admit, signed, room)
    _connection_belongs_to(request, signed)
    return mailbox, room, signed


def _connection_belongs_to(request: Request, signed: SignedRequest) -> None:
    """The connection is no stranger's any more; served by something else than our server, it is not counted."""
    protocol = request.scope.get("state", {}).get("protocol")
    if protocol is not None:
        protocol.belongs_to(signed.member_id)


def _place(request: Request, name: str, signed: SignedRequest) -> contextlib.AbstractContextManager[None]:
    gate: Gate = request.app.state.gate
    place = gate.place(name, signed.member_id, request.path_params["room"], gate.peer(request))
    return cast(contextlib.AbstractContextManager[None], place)


async def _take_body(request: Request, writer: BlobWriter | PieceWriter) -> int:
    """Write the body as it comes and commit it; whatever goes wrong, nothing is left of it."""
    try:
        pending = bytearray()
        async for chunk in reading.body_chunks(request):
            pending += chunk
            if len(pending) >= _CHUNK_BYTES:
                await run_in_threadpool(writer.write, bytes(pending))
                pending.clear()
        await run_in_threadpool(writer.write, bytes(pending))
        return await run_in_threadpool(writer.commit) or 0
    finally:
        await run_in_threadpool(writer.abort)


def _same(given: str, expected: str) -> bool:
    """Compare secrets in constant time."""
    return hmac.compare_digest(sha256_hex(given.encode(errors="replace")), sha256_hex(expected.encode()))


def _mailbox(request: Request) -> Mailbox:
    mailbox: Mailbox = request.app.state.mailbox
    return mailbox
