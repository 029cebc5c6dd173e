"""Runs the relay: in a thread of this kernel, or as a process of its own (`python -m fedart_nb.relay`)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedart_nb.errors import RelayError
from fedart_nb.relay.app import LOGGER_NAME, app, end_waiting
from fedart_nb.relay.invite import is_loopback
from fedart_nb.relay.limits import Limits
from fedart_nb.relay.tls import Certificate

__all__ = ["RunningRelay", "run", "serve_in_thread"]

_START_LIMIT_S = 30.0
_DRAIN_LIMIT_S = 10  # running uploads may take so long when the relay is asked to stop


class RunningRelay:
    """A relay in a thread of this process: `url` to hand out, `stop()` when the workshop is over.

    Also a context manager. The data stays in its folder; the same folder and port continue where it stopped.
    """

    def __init__(self, url: str, server: _Server, thread: threading.Thread) -> None:
        self.url = url
        self._server = server
        self._thread = thread

    @property
    def running(self) -> bool:
        """True while the relay answers."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float = 15.0) -> None:
        """Finish running requests, answer those that wait, and end the thread. Twice is no error."""
        self._server.should_exit = True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise RelayError(f"The relay at {self.url} did not stop within {timeout_s} s.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"RunningRelay(url={self.url!r}, running={self.running})"


def serve_in_thread(
    data_folder: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    limits: Limits | None = None,
    root_path: str = "",
    tls: Certificate | None = None,
    opening_secret: str | None = None,
    metrics_token: str | None = None,
    trusted_proxies: int = 0,
    allow_public_without_tls: bool = False,
) -> RunningRelay:
    """Start a relay in a daemon thread and return when it answers; port 0 takes a free one.

    `opening_secret`, `metrics_token` and `trusted_proxies` are those of `app`.
    Raises RelayError when the port is taken, the folder is in use, or `host` is public and there is no `tls`.
    """
    listener = _listen(host, port, allow_public_without_tls or tls is not None)
    server = _server(
        listener,
        data_folder,
        limits,
        tls,
        root_path=root_path,
        opening_secret=opening_secret,
        metrics_token=metrics_token,
        trusted_proxies=trusted_proxies,
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="fedart-relay", daemon=True)
    thread.start()
    if not server.ready.wait(_START_LIMIT_S):
        raise RelayError(f"The relay did not start within {_START_LIMIT_S} s.")
    return RunningRelay(_url(listener, root_path, tls), server, thread)


def run(
    data_folder: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    limits: Limits | None = None,
    root_path: str = "",
    tls: Certificate | None = None,
    opening_secret: str | None = None,
    metrics_token: str | None = None,
    trusted_proxies: int = 0,
    allow_public_without_tls: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run a relay in this process until SIGTERM or Ctrl+C.

    When it answers, `on_ready(url)` is called, by default printing one JSON line {"url": ..., "pid": ...}. Log lines go
    to stderr. Raises RelayError as `serve_in_thread` does.
    """
    listener = _listen(host, port, allow_public_without_tls or tls is not None)
    url = _url(listener, root_path, tls)
    server = _server(
        listener,
        data_folder,
        limits,
        tls,
        on_ready=lambda: (on_ready or _print_ready)(url),
        root_path=root_path,
        opening_secret=opening_secret,
        metrics_token=metrics_token,
        trusted_proxies=trusted_proxies,
    )
    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger(LOGGER_NAME)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    # uvicorn raises the signal again once it has drained; stopping as asked is no failure
    previous = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        server.run([listener])
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
        logger.removeHandler(handler)


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, and that ends long-polls before it drains."""

    def __init__(
        self,
        application: Starlette,
        connections: int,
        tls: Certificate | None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                _deaf_to_broken_connections(application),
                loop="asyncio",  # no uvloop inside a kernel
                http="h11",  # the strict one, whatever else is installed; it is what was fuzzed
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the app believes X-Forwarded-For only as far as it is told to
                limit_concurrency=connections,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                timeout_keep_alive=30,  # longer than the client keeps idle connections
                timeout_graceful_shutdown=_DRAIN_LIMIT_S,
            )
        )
        self.ready = threading.Event()
        self._application = application
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
        if self._on_ready is not None:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end_waiting(self._application)
        if self.config.is_ssl:  # a client that is idle would be waited for until it says goodbye, which it does not
            for connection in tuple(self.server_state.connections):
                cycle = getattr(connection, "cycle", None)
                if cycle is None or cycle.response_complete:
                    connection.transport.abort()
        await super().shutdown(sockets)


def _deaf_to_broken_connections(application: Starlette) -> ASGIApp:
    """The app, whose answer is dropped when uvicorn has refused the rest of the request and is closing already."""

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_if_possible(message: Message) -> None:
            with contextlib.suppress(h11.LocalProtocolError):
                await send(message)

        await application(scope, receive, send_if_possible)

    return deaf


def _server(
    listener: socket.socket,
    data_folder: str | os.PathLike[str],
    limits: Limits | None,
    tls: Certificate | None,
    on_ready: Callable[[], None] | None = None,
    **settings: Any,
) -> _Server:
    limits = limits or Limits()
    try:
        return _Server(app(data_folder, limits, **settings), limits.connections, tls, on_ready)
    except BaseException:
        listener.close()
        raise


def _listen(host: str, port: int, may_be_public: bool) -> socket.socket:
    if not may_be_public and not is_loopback(host):
        raise RelayError(
            f"The relay would listen on {host!r}, where others can reach it and read along. Say --tls-self-signed, or "
            "--tls-cert and --tls-key; or listen on 127.0.0.1 behind a proxy that has TLS; or say "
            "--allow-public-without-tls if your network is safe."
        )
    listener: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":  # a restarted relay takes its port back at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        if listener is not None:
            listener.close()
        raise RelayError(f"The relay cannot listen on {host}:{port}: {error}. Choose another port.") from error
    return listener


def _url(listener: socket.socket, root_path: str, tls: Certificate | None) -> str:
    """The address to hand to hosts; a fingerprint behind it when nobody else vouches for the certificate."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    pin = f"#cert={tls.pin}" if tls and tls.pin else ""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{root_path.rstrip('/')}{pin}"


def _print_ready(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
