"""The relay as a real process: killed, restarted, asked to stop, announced too much."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fedart_nb.relay import Envelope, Invite, RelayClient, create_room
from fedart_nb.relay.signing import EMPTY_SHA256, signature_headers
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Relay

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 and SIGTERM are POSIX"),
]

HOST, ARTIST = Identity.generate(), Identity.generate()
DEADLINE_S = 20.0


def envelope(invite: Invite, sender: Identity, recipient: str = "all", **fields: Any) -> Envelope:
    given: dict[str, Any] = {"room": invite.room, "round": 1, "kind": "note", "sender": sender.id, **fields}
    return Envelope(recipient=recipient, **given)


def test_nothing_is_lost_when_the_relay_is_killed_and_who_waited_goes_on(start: Callable[..., Relay]) -> None:
    relay = start()
    assert relay.pid == relay.process.pid
    invite = create_room(relay.url, HOST)
    away = threading.Event()
    host = RelayClient(invite, HOST, backoff_s=(0.05, 0.2))
    artist = RelayClient(
        invite, ARTIST, backoff_s=(0.05, 0.2), on_wait=lambda sentence: away.set() if sentence else None
    )
    attachments = {"u": os.urandom(2_000_000)}
    update = envelope(invite, ARTIST, "host", kind="update", attachments=attachments)
    sent = [artist.send(update, ARTIST)]
    sent += [host.send(envelope(invite, HOST, body={"n": n}), HOST) for n in range(20)]
    got: list[int] = []
    waiting = threading.Thread(
        target=lambda: got.extend(delivered.seq for delivered in artist.receive(sent[-1], 60)), daemon=True
    )
    waiting.start()
    relay.kill()
    assert away.wait(DEADLINE_S), "the long-poll did not notice"
    start(port=relay.port)
    received = host.receive(0, DEADLINE_S)
    assert [delivered.seq for delivered in received] == sent == list(range(1, 22))
    assert host.fetch(received[0].envelope, 3_000_000).attachments == attachments
    assert artist.send(update, ARTIST) == 1, "sent again after the crash, it is still the same message"
    last = host.send(envelope(invite, HOST, body={"after": "restart"}), HOST)
    waiting.join(DEADLINE_S)
    assert got == [last]
    artist.close()
    host.close()


def test_what_was_answered_before_a_kill_is_never_lost(start: Callable[..., Relay]) -> None:
    relay = start()
    invite = create_room(relay.url, HOST)
    answered: list[int] = []
    some, stop = threading.Event(), threading.Event()

    def send_on() -> None:
        client = RelayClient(invite, ARTIST, backoff_s=(0.02, 0.1))
        n = 0
        while not stop.is_set():
            answered.append(client.send(envelope(invite, ARTIST, "host", body={"n": n}), ARTIST))
            n += 1
            if n % 15 == 0:
                some.set()
        client.close()

    sender = threading.Thread(target=send_on, daemon=True)
    sender.start()
    for _ in range(2):
        assert some.wait(DEADLINE_S)
        relay.kill()
        some.clear()
        relay = start(port=relay.port)
    assert some.wait(DEADLINE_S)
    stop.set()
    sender.join(DEADLINE_S)
    host = RelayClient(invite, HOST)
    stored: list[tuple[int, int]] = []
    while part := host.receive(stored[-1][0] if stored else 0, 0):
        stored += [(delivered.seq, delivered.envelope.body["n"]) for delivered in part]
    host.close()
    assert stored == [(seq, n) for n, seq in enumerate(answered)], "each once, in order"
    assert answered == list(range(1, len(answered) + 1))


def raw_request(identity: Identity, url: str, method: str, target: str, body_sha256: str, *more: str) -> bytes:
    signed = signature_headers(identity, method, target, body_sha256, time.time(), relay=url)
    headers = ["host: relay", *(f"{name}: {value}" for name, value in signed.items()), *more]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode()


def read_until(raw: socket.socket, end: bytes) -> bytes:
    data = b""
    while end not in data and (chunk := raw.recv(65536)):
        data += chunk
    return data


def test_sigterm_ends_it_well_although_somebody_waits(start: Callable[..., Relay]) -> None:
    relay = start()
    invite = create_room(relay.url, HOST)
    waiting = raw_request(HOST, relay.url, "GET", f"/v1/rooms/{invite.room}/inbox?after=0&wait=25", EMPTY_SHA256)
    with socket.create_connection(("127.0.0.1", relay.port), timeout=DEADLINE_S) as raw:
        raw.sendall(b"GET /healthz HTTP/1.1\r\nhost: relay\r\n\r\n" + waiting)
        assert b"200 OK" in read_until(raw, b"}")  # once this is answered, the one behind it is being worked on
        relay.process.send_signal(signal.SIGTERM)
        assert b'{"messages":[],"more":false}' in read_until(raw, b"}")
    assert relay.process.wait(8) == 0, "and not only when the time to drain (10 s) was over"
    assert "Traceback" not in relay.errors.read_text()


def test_an_answer_to_a_request_whose_body_is_broken_is_dropped_quietly(start: Callable[..., Relay]) -> None:
    relay = start()
    with socket.create_connection(("127.0.0.1", relay.port), timeout=DEADLINE_S) as raw:
        raw.sendall(b"POST /nowhere HTTP/1.1\r\nhost: relay\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n")
        assert read_until(raw, b"\r\n0\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert raw.recv(1) == b""
    relay.process.send_signal(signal.SIGTERM)
    relay.process.wait(DEADLINE_S)
    assert "Traceback" not in relay.errors.read_text()


@pytest.mark.parametrize(("method", "place"), [("PUT", f"blobs/{'0' * 64}"), ("POST", "outbox"), ("POST", "join")])
def test_ten_gib_announced_are_refused_although_not_a_byte_was_sent(
    start: Callable[..., Relay], tmp_path: Path, method: str, place: str
) -> None:
    relay = start()
    invite = create_room(relay.url, HOST)
    announced = f"content-length: {10 * 2**30}"
    request = raw_request(HOST, relay.url, method, f"/v1/rooms/{invite.room}/{place}", "0" * 64, announced)
    with socket.create_connection(("127.0.0.1", relay.port), timeout=DEADLINE_S) as raw:
        raw.sendall(request)
        answer = read_until(raw, b"}")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"10737418240 bytes" in answer
    assert [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.stat().st_size > 10**6] == []


def test_the_process_imports_neither_torch_nor_numpy_and_its_log_is_json_without_secrets(
    start: Callable[..., Relay],
) -> None:
    relay = start(flags=("-v",))  # -v: python writes every import to stderr
    invite = create_room(relay.url, HOST)
    client = RelayClient(invite, ARTIST)
    client.send(
        envelope(invite, ARTIST, "host", body={"caption": "a red door"}, attachments={"frida.webp": b"bytes"}), ARTIST
    )
    client.close()
    relay.process.send_signal(signal.SIGTERM)
    relay.process.wait(DEADLINE_S)
    text = relay.errors.read_text()
    imported = {line.split("'")[1].split(".")[0] for line in text.splitlines() if line.startswith("import '")}
    assert {"starlette", "sqlite3"} <= imported
    assert not imported & {"torch", "numpy", "diffusers", "PIL", "ipywidgets"}
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert {"create_room", "join", "outbox", "put_blob"} <= {line["route"] for line in lines}
    for secret in (invite.token, "a red door", "frida.webp"):
        assert secret not in text


def test_a_second_relay_on_the_same_folder_is_refused_with_a_sentence(
    start: Callable[..., Relay], tmp_path: Path
) -> None:
    start()
    command = [sys.executable, "-m", "fedart_nb.relay", "--data", str(tmp_path / "data")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert second.returncode == 2
    assert "Another relay is using" in second.stderr
    assert "Traceback" not in second.stderr
