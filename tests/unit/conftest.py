"""What tests of sessions share: a tiny backbone on disk, a relay in memory, a host, artists, threads for them."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from kernels import in_thread
from tiny import build

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Backbone
from fedart_nb.host import Host
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    build().save_pretrained(folder)
    return folder


@pytest.fixture
def relay() -> Iterator[MemoryRelay]:
    with MemoryRelay() as opened:
        yield opened


@pytest.fixture
def host(relay: MemoryRelay, weights: Path, tmp_path: Path) -> Host:
    host = Host("Studio", folder=tmp_path / "host", backbone=Backbone.from_pretrained(weights, device="cpu"))
    host.open_room(transport=relay.connect(host.identity), rounds=2, min_artists=3, local_steps=2, batch=2)
    return host


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder of the test's own, where ledgers have their second place."""
    monkeypatch.setenv("FEDART_HOME", str(tmp_path / "home"))


@pytest.fixture
def open_session(weights: Path, tmp_path: Path, home: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Session]:
    """A session with eight pictures and a backbone of its own; the same name finds the same folder.

    Everybody has the same pictures, so everybody has a computer of their own: what one spends is not the others'.
    """

    def open_(name: str = "Ada") -> Session:
        monkeypatch.setenv("FEDART_HOME", str(tmp_path / "home" / name))
        session = Session(name, folder=tmp_path / name, backbone=Backbone.from_pretrained(weights, device="cpu"))
        session.art = ArtSet.sample("fluent_ink", limit=8, size_px=32)
        return session

    return open_


@pytest.fixture
def enter(relay: MemoryRelay, open_session: Callable[..., Session]) -> Callable[..., Session]:
    """Such a session that has just entered the room, under a standing consent unless told otherwise."""

    def enter_(name: str, *, stand: bool = True) -> Session:
        session = open_session(name)
        session.join(transport=relay.connect(session.identity))
        if stand:
            session.consent.stand()
        return session

    return enter_


@pytest.fixture
def run() -> Callable[[Iterator[Any]], Future[list[Any]]]:
    """Runs generators of events, each in a thread, as kernels run cells."""
    return lambda events: in_thread(lambda: list(events))
