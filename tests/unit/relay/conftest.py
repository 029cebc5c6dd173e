"""A mailbox, the app over it, and people in a room, for every test of the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import Caller, Clock
from starlette.testclient import TestClient

from fedart_nb.relay.app import app
from fedart_nb.relay.limits import Limits
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.server import RunningRelay, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


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


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningRelay]]:
    """`serve_in_thread` whose relays end with the test."""
    running: list[RunningRelay] = []

    def start(*arguments: Any, **settings: Any) -> RunningRelay:
        running.append(serve_in_thread(*arguments, **settings))
        return running[-1]

    yield start
    for relay in running:
        relay.stop()
