"""Requests that nobody should ever make, against a relay that runs: broken HTTP, broken signatures, broken messages.

Each request begins as one that a member could make, and is then spoilt somewhere, or not. It is written to the socket
byte by byte as it is, so that nothing between here and the relay repairs it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from _fuzz_wire import ODD_VALUES, changed_bytes, changed_json

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.relay import Envelope
from fedart_nb.relay.signing import EMPTY_SHA256, signature_headers
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

__all__ = ["RELAY_OPTIONS", "Answers", "fuzz_relay"]

#: A relay that takes much in a short time, but little of everything.
RELAY_OPTIONS = (
    *("--max-knocks-per-minute", "1000000", "--max-requests-per-s", "100000", "--max-rooms", "40"),
    *("--max-members", "20", "--max-blob-bytes", "20000", "--max-room-bytes", "4000000", "--max-messages", "2000"),
)
_TIMEOUT_S = 20.0
_METHODS = ("GET", "POST", "PUT", "PATCH", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "X" * 300, "G\x00T")
_ODD_TARGETS = (
    *("*", "/", "//", "/v1", "/v1/rooms/", "/v1/rooms//inbox", "/v1/rooms/%00/inbox", "/v1/rooms/%ff%fe/log"),
    *(
        "/v1/rooms/../../etc/passwd",
        "/v1/rooms/a/blobs/..%2f..%2frelay.sqlite3",
        "/metrics",
        "/healthz?x=" + "y" * 3000,
    ),
    *("/v1/rooms/room/inbox?after=1&after=2", "/v1/rooms/room/inbox?wait=nan", "http://127.0.0.1/healthz", "/%", "/é"),
)
_ODD_HEADERS = (
    *("range: bytes=0-", "range: bytes=-5", "range: bytes=5-2", "range: bytes=" + "0-1," * 500, "range: \x00"),
    *("content-length: -1", "content-length: 5, 6", "content-length: 999999999999", "content-length: 0x10"),
    *("transfer-encoding: chunked", "transfer-encoding: gzip, chunked", "expect: 100-continue", "upgrade: h2c"),
    *("connection: upgrade", "connection: close", "host: \xff", "fedart-key: " + "0" * 64, "x: " + "y" * 9000),
    *("x-forwarded-for: ::1, " + "a" * 500, "authorization: Bearer \xff", "no colon", ": empty", "cookie: a=b\x0bc"),
)
_ODD_NUMBERS = ("-1", "1.5", "1e9", "inf", "9" * 15, "9" * 40, "", "0x1", "٣", "%00")


@dataclass
class Answers:
    """What came back: how often each status (0: the connection was closed without one), and what must not be."""

    statuses: Counter[int] = field(default_factory=Counter)
    wall_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many were made."""
        return self.statuses.total()


class _People:
    """A host, a member and a stranger; what they have uploaded."""

    def __init__(self, rng: random.Random, room: str, url: str) -> None:
        self.rng = rng
        self.url = url
        self.room = room
        self.everybody = [Identity.generate() for _ in range(3)]
        self.host, self.member, self.stranger = self.everybody
        self.blobs = [rng.randbytes(rng.choice((0, 1, 100, 5000, 19_000))) for _ in range(20)]
        self.token = "t" * 24
        self.earlier: list[dict[str, str]] = []

    def request(self) -> tuple[str, str, bytes, str]:
        """Method, target, body and the body's checksum for the signature."""
        rng = self.rng
        room = rng.choice((*[self.room] * 4, f"room{rng.randrange(60)}", "ü", "a" * 100))
        blob = rng.choice(self.blobs)
        sha256 = sha256_hex(blob)
        at = f"/v1/rooms/{room}"
        where = rng.randrange(10)
        if where == 0:
            fields = {"room": room, "token_sha256": sha256_hex(self.token.encode())}
            return self.json("POST", "/v1/rooms", fields)
        if where == 1:
            return self.json("POST", f"{at}/join", {"token": self.token})
        if where == 2:
            return (
                "GET",
                f"{at}/inbox?after={self.number(50)}&wait={self.number(0).replace('9' * 15, '0.01')}",
                b"",
                EMPTY_SHA256,
            )
        if where in (3, 4):
            return self.body("POST", f"{at}/outbox", self.envelope(room, blob))
        if where == 5:
            body = blob if rng.random() < 0.8 else changed_bytes(rng, blob)
            return "PUT", f"{at}/blobs/{sha256}", body, sha256
        if where in (6, 7):
            start = rng.choice((0, 0, len(blob) // 2, rng.randrange(20_000)))
            piece = blob[start : start + rng.choice((1, 100, 20_000))]
            piece_sha256 = sha256_hex(piece) if rng.random() < 0.9 else sha256
            query = f"offset={self.number(start)}&size={self.number(len(blob))}&sha256={piece_sha256}"
            return "PATCH", f"{at}/blobs/{sha256}?{query}", piece, piece_sha256
        if where == 8:
            return rng.choice(("GET", "HEAD")), f"{at}/blobs/{sha256}", b"", EMPTY_SHA256
        return "GET", f"{at}/log?after={self.number(10)}", b"", EMPTY_SHA256

    def number(self, usual: int) -> str:
        return str(usual) if self.rng.random() < 0.85 else self.rng.choice(_ODD_NUMBERS)

    def json(self, method: str, target: str, value: Any) -> tuple[str, str, bytes, str]:
        chance = self.rng.random()
        if chance < 0.5:
            return self.body(method, target, canonical_json(value))
        if chance < 0.8:
            key = self.rng.choice(list(value))
            return self.body(method, target, json.dumps({**value, key: self.rng.choice(ODD_VALUES)}).encode())
        return self.body(method, target, json.dumps(changed_json(self.rng, value)).encode())

    def body(self, method: str, target: str, body: bytes) -> tuple[str, str, bytes, str]:
        if self.rng.random() < 0.1:
            body = changed_bytes(self.rng, body)
        return method, target, body, sha256_hex(body)

    def envelope(self, room: str, blob: bytes) -> bytes:
        rng = self.rng
        sender = rng.choice(self.everybody)
        recipient = rng.choice(("all", "host", self.member.id, self.stranger.id))
        fields: dict[str, Any] = {"room": room if room.isascii() and len(room) < 64 else self.room, "round": 1}
        attachments = {"u": blob} if rng.random() < 0.3 else {}
        envelope = Envelope(
            **fields,
            kind="note",
            sender=sender.id,
            recipient=recipient,
            body={"n": rng.randrange(10**6)},
            attachments=attachments,
        )
        data = envelope.sealed(sender)
        if rng.random() < 0.3:
            return json.dumps(changed_json(rng, json.loads(data))).encode()
        return data

    def whole(self) -> tuple[bytes, str, bool]:
        """The bytes of a request, its method, and whether nobody may be let in with it."""
        rng = self.rng
        method, target, body, body_sha256 = self.request()
        late_s = rng.choice((-1e6, -130, 130)) if rng.random() < 0.03 else 0
        who = rng.choice((self.host, self.host, self.member, self.member, self.stranger))
        headers = signature_headers(who, method, target, body_sha256, time.time() + late_s, relay=self.url)
        if rng.random() < 0.1:
            name = rng.choice(list(headers))
            headers[name] = changed_bytes(rng, headers[name].encode()).decode("latin-1")
        if rng.random() < 0.05 and self.earlier:
            headers, late_s = rng.choice(self.earlier), 0
        self.earlier = [*self.earlier[-20:], headers]
        if rng.random() < 0.04:
            headers = {}
        closed = (not headers or late_s != 0) and target.startswith("/v1/")
        if rng.random() < 0.04:
            target, closed = rng.choice(_ODD_TARGETS), False
        if rng.random() < 0.03:
            method = rng.choice(_METHODS)
        lines = [f"{method} {target} HTTP/1.1", "host: relay", *(f"{name}: {value}" for name, value in headers.items())]
        chance = rng.random()
        if body and chance < 0.9:
            lines.append(f"content-length: {len(body)}")
        elif body and chance < 0.95:
            lines.append("transfer-encoding: chunked")
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif body:
            lines.append(f"content-length: {rng.choice((len(body) + 1, max(0, len(body) - 1), 10**10))}")
        if rng.random() < 0.08:
            lines.insert(rng.randrange(1, len(lines) + 1), rng.choice(_ODD_HEADERS))
        data = "\r\n".join((*lines, "", "")).encode("utf-8", "replace") + body
        if rng.random() < 0.03:
            data = changed_bytes(rng, data)
        return data, method, closed


class _Wire:
    """One connection at a time; a new one whenever the relay, or broken HTTP, has ended the last."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._socket: socket.socket | None = None

    def ask(self, data: bytes, method: str, *, last: bool) -> int:
        """The status that came back; 0 when the relay closed the connection without an answer."""
        fresh = self._socket is None
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=_TIMEOUT_S)
        try:
            self._socket.sendall(data)
            if last:
                self._socket.shutdown(socket.SHUT_WR)  # what was announced and never comes is not waited for
        except OSError:
            pass  # it may have answered before it closed
        try:
            response = http.client.HTTPResponse(self._socket, method=method)
            response.begin()
            response.read()
        except TimeoutError:
            raise
        except (http.client.HTTPException, OSError, ValueError):
            self.close()
            return 0 if fresh else self.ask(data, method, last=last)  # an idle connection may have been closed
        if last or response.will_close or response.status == 400:
            self.close()
        return response.status

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def fuzz_relay(url: str, requests: int, *, seed: int = 0) -> Answers:
    """Make `requests` requests; nothing is raised, what must not be is in the result's `faults`.

    The relay must never answer 5xx (but for 503, which says that a limit holds), never fall silent, and never let
    anybody in without a signature or with an old one.
    """
    rng = random.Random(seed)
    people, wire, answers = _People(rng, f"room-{seed}", url), _Wire(url), Answers()
    started = time.perf_counter()
    for setup in ("/v1/rooms", f"/v1/rooms/{people.room}/join"):
        who = people.host if setup == "/v1/rooms" else people.member
        opening = {"room": people.room, "token_sha256": sha256_hex(people.token.encode())}
        fields = opening if who is people.host else {"token": people.token}
        body = canonical_json(fields)
        signed = signature_headers(who, "POST", setup, hashlib.sha256(body).hexdigest(), time.time(), relay=url)
        lines = [f"POST {setup} HTTP/1.1", "host: relay", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in signed.items()]
        assert wire.ask("\r\n".join((*lines, "", "")).encode() + body, "POST", last=False) in (200, 201)
    for _ in range(requests):
        data, method, closed = people.whole()
        try:
            status = wire.ask(data, method, last=not _is_plain(data))
        except TimeoutError:
            wire.close()
            answers.faults.append(f"no answer within {_TIMEOUT_S:g} s to {data[:300]!r}")
            continue
        answers.statuses[status] += 1
        if status >= 500 and status != 503:
            answers.faults.append(f"{status} to {data[:600]!r}")
        if closed and 200 <= status < 300:
            answers.faults.append(f"{status} without a signature that holds, to {data[:600]!r}")
    wire.close()
    answers.wall_s = time.perf_counter() - started
    return answers


def _is_plain(data: bytes) -> bool:
    """Whether a request is whole and unambiguous, so that another one may follow on the same connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")[1:]
    lengths = [line.partition(b":")[2].strip() for line in lines if line.startswith(b"content-length:")]
    odd = any(
        line.split(b":")[0].strip() in (b"transfer-encoding", b"expect", b"upgrade", b"connection") for line in lines
    )
    if odd or len(lengths) > 1 or b"\r\n\r\n" not in data:
        return False
    return (lengths or [b"0"])[0] == str(len(body)).encode()
