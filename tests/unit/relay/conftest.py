"""Fakes for relay tests: a clock that stands still, and a person who signs requests to a TestClient."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from fedart_nb.relay.app import app
from fedart_nb.relay.limits import Limits
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.signing import EMPTY_SHA256, signature_headers
from fedart_nb.relay.wire import Envelope, canonical_json
from fedart_nb.secagg.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "token-for-tests-0123456789"


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

    def signed(self, method: str, target: str, body_sha256: str = EMPTY_SHA256) -> dict[str, str]:
        return signature_headers(self.identity, method, target, body_sha256, self.clock())

    def get(self, target: str) -> Any:
        return self.http.get(target, headers=self.signed("GET", target))

    def post(self, target: str, body: bytes | dict[str, Any]) -> Any:
        data = body if isinstance(body, bytes) else canonical_json(body)
        headers = self.signed("POST", target, hashlib.sha256(data).hexdigest())
        return self.http.post(target, content=data, headers=headers)

    def put(self, target: str, data: Any, **headers: str) -> Any:
        sha256 = target.rpartition("/")[2]
        return self.http.put(target, content=data, headers={**self.signed("PUT", target, sha256), **headers})

    def create(self, room: str = "room") -> Any:
        return self.post("/v1/rooms", {"room": room, "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()})

    def join(self, room: str = "room", token: str = TOKEN) -> Any:
        return self.post(f"/v1/rooms/{room}/join", {"token": token})

    def envelope(self, recipient: str = "all", **fields: Any) -> Envelope:
        given: dict[str, Any] = {"room": "room", "round": 1, "kind": "note", "sender": self.identity.id, **fields}
        return Envelope(recipient=recipient, **given)

    def send(self, recipient: str = "all", **fields: Any) -> Any:
        return self.post("/v1/rooms/room/outbox", self.envelope(recipient, **fields).sealed(self.identity))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small_limits() -> Limits:
    return Limits(blob_bytes=1000, room_bytes=5000, rooms=2, members=3, messages=10)


@pytest.fixture
def mailbox(tmp_path: Path, clock: Clock, small_limits: Limits) -> Iterator[Mailbox]:
    with Mailbox(tmp_path / "relay", small_limits, clock=clock) as opened:
        yield opened


@pytest.fixture
def http(mailbox: Mailbox) -> Iterator[Any]:
    with TestClient(app(mailbox), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def caller(http: Any, clock: Clock) -> Callable[[], Caller]:
    return lambda: Caller(http, clock)


@pytest.fixture
def host(caller: Callable[[], Caller]) -> Caller:
    person = caller()
    assert person.create().status_code == 201
    return person


@pytest.fixture
def artist(caller: Callable[[], Caller], host: Caller) -> Caller:
    person = caller()
    assert person.join().status_code == 200
    return person
