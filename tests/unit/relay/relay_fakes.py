"""Fakes for relay tests: a clock that stands still, a person who signs requests, a server with a script."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.crypto.identity import Identity
from fedart_nb.relay import Envelope, Invite, RelayClient
from fedart_nb.relay.signing import EMPTY_SHA256, signature_headers

if TYPE_CHECKING:
    from pathlib import Path

HOST, ARTIST = Identity.generate(), Identity.generate()
TOKEN = "token-for-tests-0123456789"
JOINED = {"room": "room", "host_id": HOST.id, "blob_limit_bytes": 1000}

Answer = tuple[int, bytes]


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Caller:
    """Signs and makes requests; `signed` gives the headers alone, to be tampered with."""

    http: Any
    clock: Clock
    identity: Identity = field(default_factory=Identity.generate)
    relay: str = "http://relay.example"

    def signed(self, method: str, target: str, body_sha256: str = EMPTY_SHA256) -> dict[str, str]:
        return signature_headers(self.identity, method, target, body_sha256, self.clock(), relay=self.relay)

    def get(self, target: str) -> Any:
        return self.http.get(target, headers=self.signed("GET", target))

    def post(self, target: str, body: bytes | dict[str, Any]) -> Any:
        data = body if isinstance(body, bytes) else canonical_json(body)
        headers = self.signed("POST", target, hashlib.sha256(data).hexdigest())
        return self.http.post(target, content=data, headers=headers)

    def put(self, target: str, data: Any, **headers: str) -> Any:
        sha256 = target.rpartition("/")[2]
        return self.http.put(target, content=data, headers={**self.signed("PUT", target, sha256), **headers})

    def patch(self, sha256: str, piece: bytes, offset: int, size: int, **other: str) -> Any:
        piece_sha256 = hashlib.sha256(piece).hexdigest()
        target = f"/v1/rooms/room/blobs/{sha256}?offset={offset}&size={size}&sha256={piece_sha256}"
        headers = {**self.signed("PATCH", target, piece_sha256), **other}
        return self.http.patch(target, content=piece, headers=headers)

    def head(self, sha256: str) -> Any:
        target = f"/v1/rooms/room/blobs/{sha256}"
        return self.http.head(target, headers=self.signed("HEAD", target))

    def create(self, room: str = "room", **more: str) -> Any:
        token_sha256 = hashlib.sha256(TOKEN.encode()).hexdigest()
        return self.post("/v1/rooms", {"room": room, "token_sha256": token_sha256, **more})

    def join(self, room: str = "room", token: str = TOKEN) -> Any:
        return self.post(f"/v1/rooms/{room}/join", {"token": token})

    def envelope(self, recipient: str = "all", **fields: Any) -> Envelope:
        given: dict[str, Any] = {"room": "room", "round": 1, "kind": "note", "sender": self.identity.id, **fields}
        return Envelope(recipient=recipient, **given)

    def send(self, recipient: str = "all", **fields: Any) -> Any:
        return self.post("/v1/rooms/room/outbox", self.envelope(recipient, **fields).sealed(self.identity))


def assert_refused(response: Any, status: int, words: str) -> None:
    assert response.status_code == status, response.text
    answer = response.json()
    assert set(answer) == {"error", "do"}
    assert answer["do"]
    assert words in answer["error"], answer


def stored_files(tmp_path: Path) -> list[Path]:
    return [path for name in ("blobs", "incoming") for path in (tmp_path / "relay" / name).rglob("*") if path.is_file()]


class LyingRelay:
    """A server that answers from a script: path → answers, the last one for ever."""

    def __init__(self) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                verb = self.path.partition("?")[0].split("/")[
                    min(self.path.count("/"), 4 if self.path.count("/") > 3 else 2)
                ]
                outer.asked.append(verb)
                answers = outer.script[verb]
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = _answer  # noqa: N815 - the names that http.server calls

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def says(self, verb: str, *answers: Any) -> None:
        self.script[verb] = [
            answer if isinstance(answer, tuple) else (200, canonical_json(answer)) for answer in answers
        ]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def impatient(url: str, **settings: Any) -> RelayClient:
    """A client that asks again after hundredths of a second."""
    return RelayClient(
        Invite(url, "room", TOKEN, HOST.id), ARTIST, backoff_s=(0.01, 0.05), rng=random.Random(0), **settings
    )


class StandingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until a test moves it: deadlines without waiting."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__()

    def time(self) -> float:
        return self.now

    async def pass_by(self, seconds: float) -> None:
        """Let so many seconds pass; whatever is due then is done."""
        await settled()
        self.now += seconds
        await settled()


async def settled() -> None:
    """Let everything run that waits for nothing but its turn."""
    for _ in range(20):
        await asyncio.sleep(0)


@dataclass(eq=False)
class SilentSocket:
    """A connection that says nothing; `is_over` once it was hung up on."""

    number: int
    is_over: bool = False

    def fileno(self) -> int:
        return self.number

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_RDWR
        self.is_over = True

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.9", 443

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", self.number
