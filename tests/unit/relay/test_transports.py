"""What every transport keeps to: the same tests over memory and over HTTP."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fedart_nb.errors import RelayRefused, RelayUnreachable, TooLarge, WireError
from fedart_nb.relay import Envelope, Limits, MemoryRelay, RelayClient, Transport, create_room, serve_in_thread
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HOST, ARTIST, OTHER = (Identity.generate() for _ in range(3))
LIMITS = Limits(blob_bytes=3_000_000, members=40)


@dataclass
class Room:
    """Connects members to one room, by whatever transport."""

    connect: Callable[[Identity], Transport]


@pytest.fixture(params=["memory", "http"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    opened: list[Transport] = []

    def remember(transport: Transport) -> Transport:
        opened.append(transport)
        return transport

    if request.param == "memory":
        with MemoryRelay(limits=LIMITS) as relay:
            relay.connect(HOST)
            yield Room(lambda identity: remember(relay.connect(identity)))
    else:
        with serve_in_thread(tmp_path, limits=LIMITS) as running:
            invite = create_room(running.url, HOST)
            yield Room(lambda identity: remember(RelayClient(invite, identity, patience_s=5)))
            for transport in opened:
                transport.close()


def envelope(transport: Transport, sender: Identity, recipient: str = "all", **fields: Any) -> Envelope:
    given: dict[str, Any] = {"room": transport.room, "round": 1, "kind": "note", "sender": sender.id, **fields}
    return Envelope(recipient=recipient, **given)


def test_it_is_a_transport_that_knows_room_and_host(room: Room) -> None:
    host, artist = room.connect(HOST), room.connect(ARTIST)
    assert isinstance(artist, Transport)
    assert host.host_id == artist.host_id == HOST.id
    assert host.room == artist.room


def test_an_update_travels_with_its_attachments(room: Room) -> None:
    host, artist = room.connect(HOST), room.connect(ARTIST)
    update = envelope(artist, ARTIST, "host", kind="update", attachments={"u": bytes(range(256)) * 8192, "empty": b""})
    assert artist.send(update, ARTIST) == 1
    (delivered,) = host.receive(after=0, wait_s=5)
    assert delivered.seq == 1
    assert delivered.envelope.attachments == {}
    assert host.fetch(delivered.envelope, limit_bytes=3_000_000) == update


def test_sending_again_gives_the_same_seq(room: Room) -> None:
    artist = room.connect(ARTIST)
    update = envelope(artist, ARTIST, "host", attachments={"u": b"x" * 1000})
    assert artist.send(update, ARTIST) == artist.send(update, ARTIST) == 1
    assert artist.send(envelope(artist, ARTIST), ARTIST) == 2


def test_a_message_for_one_is_for_nobody_else(room: Room) -> None:
    host, artist, other = (room.connect(identity) for identity in (HOST, ARTIST, OTHER))
    other.receive(0, 0)  # an HTTP member is one from its first use on
    artist.receive(0, 0)
    host.send(envelope(host, HOST, ARTIST.id), HOST)
    host.send(envelope(host, HOST, "all"), HOST)
    assert [delivered.seq for delivered in artist.receive(0, 5)] == [1, 2]
    assert [delivered.seq for delivered in other.receive(0, 5)] == [2]


def test_receive_returns_nothing_when_nothing_came(room: Room) -> None:
    assert room.connect(ARTIST).receive(after=0, wait_s=0) == []
    assert room.connect(ARTIST).receive(after=0, wait_s=0.05) == []


def test_everybody_who_waits_is_woken_at_once(room: Room) -> None:
    host = room.connect(HOST)
    artists = [(identity, room.connect(identity)) for identity in (Identity.generate() for _ in range(20))]
    seqs: list[int] = []
    ready = threading.Barrier(len(artists) + 1)

    def wait_for_it(transport: Transport) -> None:
        transport.receive(0, 0)
        ready.wait(10)
        seqs.extend(delivered.seq for delivered in transport.receive(after=0, wait_s=20))

    waiting = [threading.Thread(target=wait_for_it, args=(transport,)) for _, transport in artists]
    for thread in waiting:
        thread.start()
    ready.wait(10)
    started = time.monotonic()
    host.send(envelope(host, HOST), HOST)
    for thread in waiting:
        thread.join(10)
    assert seqs == [1] * len(artists)
    assert time.monotonic() - started < 8  # not their whole 20 s


def test_a_late_artist_finds_what_was_said_before(room: Room) -> None:
    host = room.connect(HOST)
    for n in range(3):
        host.send(envelope(host, HOST, body={"n": n}), HOST)
    assert [delivered.envelope.body["n"] for delivered in room.connect(OTHER).receive(0, 5)] == [0, 1, 2]


def test_nobody_sends_under_another_name(room: Room) -> None:
    artist = room.connect(ARTIST)
    with pytest.raises(WireError, match="cannot send for"):
        artist.send(envelope(artist, OTHER), OTHER)
    with pytest.raises(WireError, match="belongs to"):
        artist.send(envelope(artist, OTHER), ARTIST)


def test_more_than_expected_is_not_fetched(room: Room) -> None:
    host, artist = room.connect(HOST), room.connect(ARTIST)
    artist.send(envelope(artist, ARTIST, "host", attachments={"u": b"x" * 1000}), ARTIST)
    (delivered,) = host.receive(0, 5)
    with pytest.raises(TooLarge, match=r"announces 1000 bytes of attachments; at most 999"):
        host.fetch(delivered.envelope, limit_bytes=999)


def test_more_than_the_relay_takes_is_refused_with_413(room: Room) -> None:
    artist = room.connect(ARTIST)
    with pytest.raises(RelayRefused, match="3000001 bytes") as caught:
        artist.send(envelope(artist, ARTIST, "host", attachments={"u": bytes(3_000_001)}), ARTIST)
    assert caught.value.status == 413


def test_an_envelope_without_its_attachments_is_refused_with_409(room: Room) -> None:
    artist = room.connect(ARTIST)
    full = envelope(artist, ARTIST, "host", attachments={"u": b"never uploaded"})
    with pytest.raises(RelayRefused) as caught:
        artist.send(Envelope.opened(full.sealed(ARTIST)), ARTIST)
    assert caught.value.status == 409


def test_the_host_sees_what_the_relay_saw(room: Room) -> None:
    host, artist = room.connect(HOST), room.connect(ARTIST)
    for n in range(3):
        artist.send(envelope(artist, ARTIST, "host", body={"n": n}, attachments={"u": bytes([n])}), ARTIST)
    log = host.log()
    assert [entry["seq"] for entry in log["messages"]] == [1, 2, 3]
    assert [entry["size_bytes"] for entry in log["blobs"]] == [1, 1, 1]
    assert {entry["id"] for entry in log["members"]} == {HOST.id, ARTIST.id}
    with pytest.raises(RelayRefused) as caught:
        artist.log()
    assert caught.value.status == 403


def test_a_closed_connection_says_so(room: Room) -> None:
    artist = room.connect(ARTIST)
    artist.receive(0, 0)
    artist.close()
    with pytest.raises(RelayUnreachable, match="closed"):
        artist.receive(0, 5)


def test_a_long_log_and_backlog_come_whole(room: Room) -> None:
    host = room.connect(HOST)
    for n in range(70):
        host.send(envelope(host, HOST, body={"n": n}), HOST)
    seen: list[int] = []
    while part := host.receive(after=seen[-1] if seen else 0, wait_s=0):
        seen += [delivered.seq for delivered in part]
    assert seen == list(range(1, 71))
    assert len(host.log()["messages"]) == 70
