"""Runs the relay: in a thread of this kernel, or as a process of its own (`python -m fedart_nb.relay`)."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette

from fedart_nb.errors import RelayError
from fedart_nb.relay.app import LOGGER_NAME, app, end_waiting
from fedart_nb.relay.limits import Limits

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
    allow_public_without_tls: bool = False,
) -> RunningRelay:
    """Start a relay in a daemon thread and return when it answers; port 0 takes a free one.

    Raises RelayError when the port is taken, the folder is in use, or `host` is public.
    """
    listener = _listen(host, port, allow_public_without_tls)
    server = _server(listener, data_folder, limits, root_path)
    thread = threading.Thread(target=server.run, args=([listener],), name="fedart-relay", daemon=True)
    thread.start()
    if not server.ready.wait(_START_LIMIT_S):
        raise RelayError(f"The relay did not start within {_START_LIMIT_S} s.")
    return RunningRelay(_url(listener) + root_path.rstrip("/"), server, thread)


def run(
    data_folder: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    limits: Limits | None = None,
    root_path: str = "",
    allow_public_without_tls: bool = False,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run a relay in this process until SIGTERM or Ctrl+C.

    When it answers, `on_ready(url)` is called, by default printing one JSON line {"url": ..., "pid": ...}. Log lines go
    to stderr. Raises RelayError as `serve_in_thread` does.
    """
    listener = _listen(host, port, allow_public_without_tls)
    url = _url(listener) + root_path.rstrip("/")
    server = _server(listener, data_folder, limits, root_path, on_ready=lambda: (on_ready or _print_ready)(url))
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

    def __init__(self, application: Starlette, *, on_ready: Callable[[], None] | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                loop="asyncio",  # no uvloop inside a kernel
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
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
        await super().shutdown(sockets)


def _server(
    listener: socket.socket,
    data_folder: str | os.PathLike[str],
    limits: Limits | None,
    root_path: str,
    on_ready: Callable[[], None] | None = None,
) -> _Server:
    try:
        return _Server(app(data_folder, limits, root_path=root_path), on_ready=on_ready)
    except BaseException:
        listener.close()
        raise


def _listen(host: str, port: int, allow_public_without_tls: bool) -> socket.socket:
    if not _is_loopback(host) and not allow_public_without_tls:
        raise RelayError(
            f"The relay would listen on {host!r}, where others can reach it and read along: it has no TLS yet. "
            "Listen on 127.0.0.1 behind a proxy that has, or say --allow-public-without-tls if your network is safe."
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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _print_ready(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
