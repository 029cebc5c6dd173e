"""A stranger who does their worst, with small limits: the relay goes on for everybody else."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from fedart_nb.errors import RelayRefused
from fedart_nb.relay import Envelope, Invite, RelayClient, create_room
from fedart_nb.relay.signing import EMPTY_SHA256, signature_headers
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Relay

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="the guard counts sockets as POSIX accepts them"),
]

HOST, ARTIST, STRANGER = Identity.generate(), Identity.generate(), Identity.generate()
DEADLINE_S = 30.0
HALF_A_LINE = b"GET /v1/rooms/room/in"


@contextlib.contextmanager
def sockets(port: int, count: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say `first` and no more."""
    with contextlib.ExitStack() as held:
        made = []
        for _ in range(count):
            raw = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S))
            with contextlib.suppress(OSError):  # hung up on already
                raw.sendall(first)
            made.append(raw)
        yield made


def over(raw: socket.socket) -> bool:
    """Wait until the relay hangs up."""
    try:
        return raw.recv(65536) == b""
    except ConnectionError:
        return True


def asked(url: str, who: Identity, method: str, target: str, sha256: str = EMPTY_SHA256, *more: str) -> bytes:
    signed = signature_headers(who, method, target, sha256, time.time(), relay=url)
    lines = [f"{method} {target} HTTP/1.1", "host: relay", *(f"{name}: {value}" for name, value in signed.items())]
    return "\r\n".join([*lines, *more, "", ""]).encode()


def answer(raw: socket.socket) -> bytes:
    data = b""
    while b"}" not in data and (chunk := raw.recv(65536)):
        data += chunk
    return data


def talk(relay: Relay) -> None:
    """Open a room, say something, hear it: as a host and an artist do, each with connections of their own."""
    host, artist = Identity.generate(), Identity.generate()
    invite = create_room(relay.url, host)
    to_room, from_room = RelayClient(invite, host), RelayClient(invite, artist)
    fields: dict[str, Any] = {"room": invite.room, "round": 1, "kind": "note", "sender": artist.id}
    assert from_room.send(Envelope(recipient="host", body={"n": 1}, **fields), artist) == 1
    assert [seq for seq, _ in to_room.receive(0, 5)] == [1]
    to_room.close()
    from_room.close()


@pytest.mark.parametrize(
    "first", [b"", HALF_A_LINE, b"POST /v1/rooms HTTP/1.1\r\nhost: relay\r\ncontent-length: 9\r\n\r\n{"]
)
def test_silent_connections_keep_nobody_out_and_are_hung_up_on(start: Callable[..., Relay], first: bytes) -> None:
    limits = ("--max-connections", "24", "--max-stranger-connections", "12", "--max-head-s", "2", "--max-body-s", "2")
    relay = start(*limits)
    with sockets(relay.port, 60, first) as silent:
        talk(relay)
        for raw in silent:
            assert over(raw) or first, "a request that began may be told 408 before"
    assert "Traceback" not in relay.errors.read_text()


def test_a_connection_that_answered_once_may_not_rest_in_half_a_request(start: Callable[..., Relay]) -> None:
    relay = start("--max-head-s", "1")
    with socket.create_connection(("127.0.0.1", relay.port), timeout=DEADLINE_S) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n")
        assert b"200 OK" in answer(raw)
        raw.sendall(HALF_A_LINE)
        assert over(raw)


def test_without_file_descriptors_the_relay_is_quiet_and_goes_on(tmp_path: Path) -> None:
    command = f"ulimit -n 96; exec {sys.executable} -m fedart_nb.relay --data {tmp_path / 'data'} --max-head-s 2"
    with (tmp_path / "stderr").open("w") as log:
        process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        with sockets(int(url.rpartition(":")[2]), 300) as silent:
            assert httpx.get(f"{url}/healthz", trust_env=False, timeout=DEADLINE_S).json()["ok"] is True
            assert all(over(raw) for raw in silent)
        text = (tmp_path / "stderr").read_text()
        assert "Traceback" not in text
        assert len(text) < 5_000, "no flood"
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()


def test_an_upload_that_trickles_is_ended_and_a_member_has_few_at_once(start: Callable[..., Relay]) -> None:
    relay = start("--max-body-s", "2", "--max-member-uploads", "3")
    invite = create_room(relay.url, STRANGER)
    with contextlib.ExitStack() as held:
        raws = [
            held.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=DEADLINE_S))
            for _ in range(4)
        ]
        for n, raw in enumerate(raws):
            sha256 = sha256_hex(bytes([n]))
            target = f"/v1/rooms/{invite.room}/blobs/{sha256}"
            raw.sendall(asked(relay.url, STRANGER, "PUT", target, sha256, "content-length: 100000") + b"x")
        answers = sorted(answer(raw).split(b"\r\n")[0] for raw in raws)
        talk(relay)
    assert [line.split()[1] for line in answers] == [b"408", b"408", b"408", b"503"]


def test_an_answer_that_nobody_reads_is_given_up(start: Callable[..., Relay]) -> None:
    relay = start("--max-body-s", "1")
    invite = create_room(relay.url, STRANGER)
    client, blob = RelayClient(invite, STRANGER), os.urandom(20_000_000)
    fields: dict[str, Any] = {"room": invite.room, "round": 1, "kind": "note", "sender": STRANGER.id}
    client.send(Envelope(recipient="all", attachments={"u": blob}, **fields), STRANGER)
    client.close()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(DEADLINE_S)
        raw.connect(("127.0.0.1", relay.port))
        raw.sendall(asked(relay.url, STRANGER, "GET", f"/v1/rooms/{invite.room}/blobs/{sha256_hex(blob)}"))
        received = len(raw.recv(1))
        while blobs_open(relay.pid) > 0:  # the test's time limit ends this
            assert httpx.get(f"{relay.url}/healthz", trust_env=False).is_success
        with contextlib.suppress(ConnectionError):
            while chunk := raw.recv(65536):
                received += len(chunk)
    assert received < len(blob)
    talk(relay)


def blobs_open(pid: int) -> int:
    """How many blobs the relay is sending."""
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(str(entry.readlink()))
    return sum("/blobs/" in name for name in names)


def test_rooms_of_one_address_and_of_one_host_are_counted(start: Callable[..., Relay]) -> None:
    relay = start("--max-identity-rooms", "2", "--max-address-rooms", "3")
    create_room(relay.url, STRANGER)
    create_room(relay.url, STRANGER)
    with pytest.raises(RelayRefused, match="as many as a host may") as caught:
        create_room(relay.url, STRANGER)
    assert caught.value.status == 429
    create_room(relay.url, Identity.generate())
    with pytest.raises(RelayRefused, match="from your address"):
        create_room(relay.url, Identity.generate())


def test_a_request_signed_for_one_relay_is_worth_nothing_at_another(
    start: Callable[..., Relay], tmp_path: Path
) -> None:
    first, second = start(), start("--data", str(tmp_path / "second"))
    clients = []
    for relay in (first, second):
        invite = create_room(relay.url, HOST, "studio")
        clients.append(RelayClient(invite, ARTIST))
        fields: dict[str, Any] = {"room": "studio", "round": 1, "kind": "note", "sender": ARTIST.id}
        clients[-1].send(Envelope(recipient="all", attachments={"u": b"an update"}, **fields), ARTIST)
    headers = signature_headers(ARTIST, "DELETE", "/v1/rooms/studio/blobs", EMPTY_SHA256, time.time(), relay=first.url)
    replayed = httpx.delete(f"{second.url}/v1/rooms/studio/blobs", headers=headers, trust_env=False)
    assert replayed.status_code == 401
    assert "was signed for the relay at" in replayed.json()["error"]
    altered = {**headers, "fedart-relay": second.url}
    assert httpx.delete(f"{second.url}/v1/rooms/studio/blobs", headers=altered, trust_env=False).status_code == 401
    assert [client.drop() for client in clients] == [1, 1], "nothing had been deleted"
    for client in clients:
        client.close()


def test_on_a_full_disk_the_relay_says_so_and_can_still_be_read(tmp_path: Path) -> None:
    command = f"ulimit -f 600; exec {sys.executable} -m fedart_nb.relay --data {tmp_path / 'data'}"
    with (tmp_path / "stderr").open("w") as log:
        process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        invite = create_room(url, HOST)
        host, artist = RelayClient(invite, HOST, patience_s=0.5), RelayClient(invite, ARTIST, patience_s=0.5)
        artist.join()
        sent = fill(artist, invite)
        assert len(host.receive(0, 0)) == min(sent, 64), "what is there can be read"
        with pytest.raises(RelayRefused, match="disk is full"):
            create_room(url, Identity.generate(), patience_s=0.5)
        fields: dict[str, Any] = {"room": invite.room, "round": 1, "kind": "note", "sender": ARTIST.id}
        large = Envelope(recipient="host", attachments={"u": os.urandom(900_000)}, **fields)
        with pytest.raises(RelayRefused, match="disk is full"):
            artist.send(large, ARTIST)
        assert len(host.receive(0, 0)) == min(sent, 64)
        host.close()
        artist.close()
        assert "Traceback" not in (tmp_path / "stderr").read_text()
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()


def fill(client: RelayClient, invite: Invite) -> int:
    """Send until the relay's disk is full; returns how many messages it took."""
    for n in range(100):
        fields: dict[str, Any] = {"room": invite.room, "round": 1, "kind": "note", "sender": ARTIST.id}
        try:
            client.send(Envelope(recipient="host", body={"n": n, "pad": "x" * 20_000}, **fields), ARTIST)
        except RelayRefused as refusal:
            if "disk is full" in str(refusal):
                return n
            raise
    raise AssertionError("the disk was never full")
