"""Runs the relay: in a thread of this kernel, or as a process of its own (`python -m fedart_nb.relay`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedart_nb._system.files import write_private
from fedart_nb.errors import RelayError
from fedart_nb.relay.address import is_loopback
from fedart_nb.relay.answering import write_line
from fedart_nb.relay.app import LOGGER_NAME, app, end_waiting
from fedart_nb.relay.connections import Connections, GuardedListener, GuardedProtocol
from fedart_nb.relay.invite import new_token
from fedart_nb.relay.limits import Limits
from fedart_nb.relay.store import made_folder
from fedart_nb.relay.tls import Certificate

__all__ = ["RunningRelay", "run", "serve_in_thread"]

_START_LIMIT_S = 30.0
_FAULT_S, _FAULT_KINDS = 60.0, 100
_FILES = 512  # descriptors for blobs, the database, and connections that are being closed
_FILES_WANTED = 8192
_PROXIES = 16
_DRAIN_LIMIT_S = 10  # running uploads may take so long when the relay is asked to stop


class RunningRelay:
    """A relay in a thread of this process: `url` to hand out, `stop()` when the workshop is over.

    Also a context manager. The data stays in its folder; the same folder and port continue where it stopped.
    """

    def __init__(self, url: str, server: _Server, thread: threading.Thread) -> None:
        self.url = url  #: what a host needs: behind # the certificate's fingerprint, and a secret that was made here
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
        return f"RunningRelay(url={self.url.partition('#')[0]!r}, running={self.running})"


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

    `metrics_token` and `trusted_proxies` are those of `app`. `opening_secret`: who opens a room has to know it. Where
    strangers can reach the relay (another address than loopback, or proxies before it) one is made and kept in the
    folder, unless it is given; "" lets anybody open rooms.
    Raises RelayError when the port is taken, the folder is in use, or `host` is public and there is no `tls`.
    """
    listener = _listen(host, port, allow_public_without_tls or tls is not None)
    secret, made = _opening(listener, data_folder, host, trusted_proxies, opening_secret)
    server = _server(
        listener,
        data_folder,
        limits,
        tls,
        root_path=root_path,
        opening_secret=secret,
        metrics_token=metrics_token,
        trusted_proxies=trusted_proxies,
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="fedart-relay", daemon=True)
    thread.start()
    if not server.ready.wait(_START_LIMIT_S):
        raise RelayError(f"The relay did not start within {_START_LIMIT_S} s.")
    return RunningRelay(_url(listener, root_path, tls, made), server, thread)


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

    When it answers, `on_ready(url)` is called, by default printing one JSON line {"url": ..., "pid": ...}. Where a
    secret for opening rooms was made, the address ends in it: give it to hosts, artists need their invite alone. Log
    lines go to stderr. Raises RelayError as `serve_in_thread` does.
    """
    _more_files()
    listener = _listen(host, port, allow_public_without_tls or tls is not None)
    secret, made = _opening(listener, data_folder, host, trusted_proxies, opening_secret)
    url = _url(listener, root_path, tls, made)
    server = _server(
        listener,
        data_folder,
        limits,
        tls,
        on_ready=lambda: (on_ready or _print_ready)(url),
        root_path=root_path,
        opening_secret=secret,
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
        connections: Connections,
        tls: Certificate | None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        protocol = type("_Protocol", (GuardedProtocol,), {"guard": connections})
        super().__init__(
            uvicorn.Config(
                _deaf_to_broken_connections(application),
                loop="asyncio",  # no uvloop inside a kernel
                http=protocol,  # of h11, the strict one, whatever else is installed; it is what was fuzzed
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the app believes X-Forwarded-For only as far as it is told to
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                timeout_keep_alive=connections.limits.idle_s,  # longer than the client keeps idle connections
                timeout_graceful_shutdown=_DRAIN_LIMIT_S,
            )
        )
        self.ready = threading.Event()
        self._application = application
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_Faults())
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


class _Faults:
    """One line for each kind of fault of the event loop, at most every minute: no disk is filled by a flood of them."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        kind = type(error).__name__ if error is not None else str(context.get("message"))[:80]
        if loop.time() - self._told.get(kind, -_FAULT_S) < _FAULT_S or len(self._told) > _FAULT_KINDS:
            return
        self._told[kind] = loop.time()
        what = "no file descriptors left" if getattr(error, "errno", 0) in (errno.EMFILE, errno.ENFILE) else kind
        write_line("fault", what=what)


def _deaf_to_broken_connections(application: Starlette) -> ASGIApp:
    """The app, whose answer is dropped when uvicorn has refused the rest of the request and is closing already."""

    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_if_possible(message: Message) -> None:
            with contextlib.suppress(h11.LocalProtocolError):
                await send(message)

        await application(scope, receive, send_if_possible)

    return deaf


def _server(
    listener: GuardedListener,
    data_folder: str | os.PathLike[str],
    limits: Limits | None,
    tls: Certificate | None,
    on_ready: Callable[[], None] | None = None,
    **settings: Any,
) -> _Server:
    limits = limits or Limits()
    _require_proxies(listener, settings.get("trusted_proxies", 0))
    proxies: int = settings.get("trusted_proxies", 0)
    connections = listener.connections = Connections(limits, most=_most_connections(), per_address=not proxies)
    try:
        return _Server(app(data_folder, limits, **settings), connections, tls, on_ready)
    except BaseException:
        listener.close()
        raise


def _require_proxies(listener: GuardedListener, proxies: int) -> None:
    if type(proxies) is not int or not 0 <= proxies <= _PROXIES:
        listener.close()
        raise RelayError(
            f"trusted_proxies is {proxies!r}; expected how many proxies of yours there are, 0 to {_PROXIES}."
        )


def _most_connections() -> int | None:
    """How many connections the process has file descriptors for; None: nobody knows."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return None
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if files == resource.RLIM_INFINITY else max(16, files - min(_FILES, files // 2))


def _more_files() -> None:
    """Raise this process's soft limit of file descriptors, as far as it may."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _listen(host: str, port: int, may_be_public: bool) -> GuardedListener:
    if type(port) is not int or not 0 <= port < 2**16:
        raise RelayError(f"The port is {port!r}; expected a whole number from 0 to 65535 (0 takes a free one).")
    if not may_be_public and not is_loopback(host):
        raise RelayError(
            f"The relay would listen on {host!r}, where others can reach it and read along. Say --tls-self-signed, or "
            "--tls-cert and --tls-key; or listen on 127.0.0.1 behind a proxy that has TLS; or say "
            "--allow-public-without-tls if your network is safe."
        )
    listener: GuardedListener | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = GuardedListener(family, kind, protocol)
        if os.name == "posix":  # a restarted relay takes its port back at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except (OSError, OverflowError, ValueError) as error:
        if listener is not None:
            listener.close()
        raise RelayError(f"The relay cannot listen on {host}:{port}: {error}. Choose another port.") from error
    return listener


def _opening(
    listener: GuardedListener, folder: str | os.PathLike[str], host: str, proxies: int, given: str | None
) -> tuple[str | None, str | None]:
    """The secret that opens rooms (None: anybody does), and the same if it was made here."""
    if given is not None:
        return given or None, None
    if is_loopback(host) and not proxies:
        return None, None
    try:
        made_folder(Path(folder))
        path = Path(folder) / "opening-secret"
        if not path.exists():
            write_private(path, new_token().encode())
        secret = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        listener.close()
        message = f"The relay's opening secret in {str(folder)!r} cannot be kept ({error})."
        raise RelayError(f"{message} Give one with --open-rooms-with.") from error
    except RelayError:
        listener.close()
        raise
    return secret, secret


def _url(listener: socket.socket, root_path: str, tls: Certificate | None, made_secret: str | None = None) -> str:
    """The address for hosts: with a fingerprint when nobody else vouches for the certificate, and the secret made."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    fields = {"cert": tls.pin if tls else None, "open": made_secret}
    behind = "&".join(f"{name}={value}" for name, value in fields.items() if value)
    where = f"[{host}]" if ":" in host else host
    return f"{scheme}://{where}:{port}{root_path.rstrip('/')}{'#' if behind else ''}{behind}"


def _print_ready(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
