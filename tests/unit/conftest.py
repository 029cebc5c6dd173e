"""Fixtures that sessions share: a tiny backbone on disk, a relay in memory, a host with a room of two rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tiny import build

from fedart_nb.diffusion import Backbone
from fedart_nb.host import Host
from fedart_nb.relay import MemoryRelay

if TYPE_CHECKING:
    from collections.abc import Iterator
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
