"""Fixtures for every test: a home of its own, one thread, no network beyond this computer."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Set before anything imports torch or a Hugging Face library; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(
    FEDART_FAST="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_OFFLINE="1",
    MPLBACKEND="agg",
    TOKENIZERS_PARALLELISM="false",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: Playwright leaves an event loop running in this thread."""
    items.sort(key=lambda item: "browser" in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Settings, caches and identities of this run go to a temporary folder, never to the person's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDART_HOME", str(tmp_path_factory.mktemp("fedart-home")))
        yield


@pytest.fixture(scope="session", autouse=True)
def loopback_only() -> Iterator[None]:
    """A test that reaches for another computer fails with the address that it asked for."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            host = str(address[0]).split("%")[0]
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                message = f"a test tried to reach {address!r}; only this computer is allowed"
                raise RuntimeError(message)
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield
