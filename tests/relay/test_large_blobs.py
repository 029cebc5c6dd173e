"""A hundred megabytes through a real relay: broken off, gone on with, and never in its memory."""

from __future__ import annotations

import os
import random
import socket
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fedart_nb.relay import Envelope, Invite, RelayClient, connection, create_room
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Relay

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="kill -9 is POSIX, the peak of memory is read from /proc"),
]

HOST, ARTIST = Identity.generate(), Identity.generate()
MIB = 2**20
SIZE = 100 * MIB


def update(invite: Invite, size: int) -> Envelope:
    blob = random.Random(0).randbytes(size)
    return Envelope(
        room=invite.room, round=1, kind="update", sender=ARTIST.id, recipient="host", attachments={"u": blob}
    )


def peak_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - not a file
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_after_kill_9_in_the_middle_nothing_is_sent_twice(
    start: Callable[..., Relay], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = start()
    invite = create_room(relay.url, HOST)
    sent: list[int] = []
    requests = 0
    real = connection._pieces

    def pieces(body: Any) -> Iterator[bytes]:
        nonlocal requests
        requests += len(body) == MIB
        for n, chunk in enumerate(real(body)):
            if requests == 40 and n == 2 and relay.process.poll() is None:
                relay.kill()  # in the middle of the fortieth piece
            sent.append(len(chunk))
            yield chunk

    def restart(sentence: str) -> None:
        if sentence and not restarted:
            restarted.append(start(port=relay.port))

    restarted: list[Relay] = []
    monkeypatch.setattr(connection, "_pieces", pieces)
    artist = RelayClient(invite, ARTIST, backoff_s=(0.05, 0.2), on_wait=restart)
    envelope = update(invite, SIZE)
    assert artist.send(envelope, ARTIST) == 1
    assert restarted
    assert SIZE < sum(sent) < SIZE + 1.2 * MIB, "the broken piece again, and the message; nothing else"
    host = RelayClient(invite, HOST)
    (delivered,) = host.receive(0, 5)
    assert host.fetch(delivered.envelope, SIZE) == envelope
    assert list((tmp_path / "data" / "incoming").iterdir()) == []
    host.close()
    artist.close()


def test_a_download_goes_on_after_kill_9(start: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch) -> None:
    relay = start()
    invite = create_room(relay.url, HOST)
    artist = RelayClient(invite, ARTIST)
    envelope = update(invite, SIZE)
    artist.send(envelope, ARTIST)
    artist.close()
    seen = 0
    restarted: list[Relay] = []
    iter_raw = connection.httpx.Response.iter_raw

    def killing(response: Any) -> Iterator[bytes]:
        nonlocal seen
        for chunk in iter_raw(response):
            seen += len(chunk)
            if seen > 30 * MIB and relay.process.poll() is None:
                relay.kill()
            yield chunk

    def restart(sentence: str) -> None:
        if sentence and not restarted:
            restarted.append(start(port=relay.port))

    host = RelayClient(invite, HOST, backoff_s=(0.05, 0.2), on_wait=restart)
    (delivered,) = host.receive(0, 5)
    monkeypatch.setattr(connection.httpx.Response, "iter_raw", killing)
    assert host.fetch(delivered.envelope, SIZE) == envelope
    assert restarted
    assert seen == SIZE, "nothing twice"
    host.close()


def test_memory_stays_flat_on_both_sides(start: Callable[..., Relay]) -> None:
    relay = start()
    invite = create_room(relay.url, HOST)
    artist, host = RelayClient(invite, ARTIST), RelayClient(invite, HOST)
    artist.send(update(invite, 2 * MIB), ARTIST)
    (small,) = host.receive(0, 5)
    host.fetch(small.envelope, SIZE)  # everything that is loaded once is loaded
    before = psutil.Process(relay.pid).memory_info().rss
    envelope = update(invite, SIZE)
    tracemalloc.start()
    artist.send(envelope, ARTIST)
    sending = tracemalloc.get_traced_memory()[1]
    (large,) = host.receive(small.seq, 5)
    fetched = host.fetch(large.envelope, SIZE)
    fetching = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fetched == envelope
    assert peak_bytes(relay.pid) - before < 20 * MIB
    assert sending < 4 * MIB
    assert fetching < 1.2 * SIZE, "the attachment itself, once"
    host.close()
    artist.close()


def test_jupyterhubs_environment_is_enough(start: Callable[..., Relay]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/services/fedart",
        "JUPYTERHUB_SERVICE_PREFIX": "/services/fedart/",
    }
    relay = start(port=None, environment=environment)
    assert relay.url == f"http://127.0.0.1:{port}/services/fedart"
    invite = create_room(relay.url, HOST)
    client = RelayClient(invite, ARTIST)
    assert client.receive(0, 0) == []
    client.close()


def test_one_command_is_a_relay_with_a_certificate_and_secrets(start: Callable[..., Relay], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("open sesame\n")
    options = ["--host", "0.0.0.0", "--tls-self-signed", "--open-rooms-with", str(tmp_path / "secret")]
    relay = start(*options, "--metrics-with", "METRICS_TOKEN", environment={"METRICS_TOKEN": "a metrics token"})
    url = relay.url.replace("0.0.0.0", "127.0.0.1")
    assert url.startswith("https://127.0.0.1:")
    with pytest.raises(Exception, match="those who know its secret"):
        create_room(url, HOST)
    client = RelayClient(str(create_room(f"{url}&open=open+sesame", HOST)), ARTIST)
    assert client.receive(0, 0) == []
    client.close()
    assert "sesame" not in relay.errors.read_text()
    assert os.stat(tmp_path / "data" / "certificate-key.pem").st_mode & 0o077 == 0  # noqa: PTH116
