"""How the relay answers: refusals as JSON, files as streams, one log line and some counting for each request."""

from __future__ import annotations

import errno
import json
import logging
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from fedart_nb.relay.admission_control import Buckets
from fedart_nb.relay.limits import Limits, Refused

__all__ = ["LOGGER_NAME", "RequestLog", "broken", "file_response", "handled", "http_error", "is_full", "write_line"]

LOGGER_NAME = "fedart_nb.relay"

_READ_BYTES = 2**18
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
_DISK_FULL_S = 30.0
_log = logging.getLogger(LOGGER_NAME)
_Handler = Callable[[Request], Awaitable[Response]]


def handled(handler: _Handler) -> _Handler:
    """Turn refusals into answers; count the request, and write a log line for it."""
    route = handler.__name__.lstrip("_")

    async def handle(request: Request) -> Response:
        started = time.perf_counter()
        try:
            response = await handler(request)
        except Refused as refusal:
            response = _refused(request, refusal)
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
            full = Refused(503, "The relay's disk is full.", "Tell who runs it.", retry_after_s=_DISK_FULL_S)
            response = _refused(request, full)
        length = int(response.headers.get("content-length", 0)) if request.method != "HEAD" else 0
        request.app.state.metrics.count("requests_total", route=route, status=str(response.status_code))
        request.app.state.metrics.count("bytes_total", length, direction="out")
        request.app.state.log.write(
            "request",
            method=request.method,
            route=route,
            room=request.path_params.get("room", "")[:64],
            status=response.status_code,
            bytes_announced=request.headers.get("content-length", "")[:20],
            ms=round(1000 * (time.perf_counter() - started), 1),
        )
        return response

    return handle


def is_full(error: Exception) -> bool:
    """Whether a fault says that the disk takes nothing more, be it a file's or the database's."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _SQLITE_FULL
    return isinstance(error, OSError) and error.errno in _DISK_FULL


class RequestLog:
    """The log's lines about requests, no more a second than the limits say; what is left out is counted."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        per_s = limits.log_lines_per_s
        self._bucket = Buckets(per_s=per_s, burst=10 * per_s, clock=clock)
        self._left_out = 0

    def write(self, event: str, **values: object) -> None:
        """Write a line, or count it."""
        if self._bucket.wait_s(""):
            self._left_out += 1
            return
        if self._left_out:
            left_out, self._left_out = self._left_out, 0
            write_line("left_out", lines=left_out)
        write_line(event, **values)


async def file_response(path: Path, size_bytes: int, start: int | None, *, with_body: bool) -> Response:
    """A file from `start` on (None: all of it, with status 200), read while it is sent."""
    headers = {"content-length": str(size_bytes - (start or 0)), "accept-ranges": "bytes"}
    if start is not None:
        headers["content-range"] = f"bytes {start}-{size_bytes - 1}/{size_bytes}"
    media_type = "application/octet-stream"
    if not with_body:
        return Response(headers=headers, media_type=media_type)
    try:
        file = await run_in_threadpool(path.open, "rb")
    except FileNotFoundError as error:
        raise Refused(404, "This blob has just been deleted.", "Its room has expired.") from error
    file.seek(start or 0)
    return StreamingResponse(_chunks(file), 200 if start is None else 206, headers=headers, media_type=media_type)


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        while chunk := await run_in_threadpool(file.read, _READ_BYTES):
            yield chunk


def _refused(request: Request, refusal: Refused) -> Response:
    request.app.state.metrics.count("refused_total", reason=refusal.reason)
    response = JSONResponse({"error": refusal.error, "do": refusal.do}, status_code=refusal.status)
    if refusal.retry_after_s is not None:
        response.headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after_s)))
    if refusal.status == 401:
        response.headers["www-authenticate"] = "Fedart-Signature"
    if request.method in ("PUT", "POST", "PATCH"):
        response.headers["connection"] = "close"  # the rest of the body is not wanted
    return response


async def http_error(request: Request, error: Exception) -> Response:
    """No such route, or another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    request.app.state.metrics.count("requests_total", route="none", status=str(status))
    sentence = f"There is nothing at {request.method[:20]} {request.url.path[:120]}."
    return JSONResponse({"error": sentence, "do": "See /v1/rooms."}, status_code=status)


async def broken(request: Request, error: Exception) -> Response:
    """A fault of ours."""
    request.app.state.metrics.count("requests_total", route="none", status="500")
    write_line("error", method=request.method, type=type(error).__name__)
    answer = {"error": "The relay has a fault.", "do": "Try again; nothing that was stored is lost."}
    return JSONResponse(answer, status_code=500)


def write_line(event: str, **values: object) -> None:
    """One JSON line: routes, sizes, times. Never a token, a body, a name."""
    _log.info(json.dumps({"at": round(time.time(), 3), "event": event, **values}))
