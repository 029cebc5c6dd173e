"""What strangers and members can make the relay do for others: little, counted, and never in other rooms."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import ARTIST, HOST, TOKEN, Caller, assert_refused
from starlette.testclient import TestClient

from fedart_nb.errors import RelayError, RelayRefused
from fedart_nb.relay import Envelope, Limits, Mailbox, RelayClient, create_room
from fedart_nb.relay.__main__ import main
from fedart_nb.relay.answering import RequestLog
from fedart_nb.relay.app import LOGGER_NAME, app
from fedart_nb.relay.limits import Refused
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay_fakes import Clock

MINUTE_S = 60.0


def note(sender: Identity, recipient: str, number: int, room: str = "room") -> bytes:
    fields: dict[str, Any] = {"room": room, "round": 1, "kind": "note", "sender": sender.id, "recipient": recipient}
    return Envelope(body={"n": number}, **fields).sealed(sender)


@pytest.fixture
def box(tmp_path: Path, clock: Clock) -> Any:
    with Mailbox(tmp_path / "relay", clock=clock) as opened:
        opened.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
        opened.join("room", TOKEN, ARTIST.public_key)
        yield opened


def test_what_lies_in_other_inboxes_costs_a_reader_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [0]

    def counting(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        made = connect(*arguments, **settings)
        made.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 10)  # after every ten steps of SQLite
        return made

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", counting)

    def cost(messages: int) -> int:
        with Mailbox(tmp_path / str(messages)) as box:
            box.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
            box.join("room", TOKEN, ARTIST.public_key)
            for number in range(messages):
                box.post("room", ARTIST.id, note(ARTIST, ARTIST.id, number))
            steps[0] = 0
            assert box.inbox("room", HOST.id, 0) == []
            box.post("room", HOST.id, note(HOST, "host", 0))
            assert len(box.inbox("room", HOST.id, 0)) == 1
            return steps[0]

    assert cost(1500) < 2 * cost(10)


def test_a_message_wakes_the_one_it_is_for(box: Mailbox) -> None:
    heard: list[str] = []
    other = Identity.generate()
    box.join("room", TOKEN, other.public_key)
    people = {"host": HOST.id, "artist": ARTIST.id, "other": other.id}
    stops = [box.listen("room", lambda name=name: heard.append(name), who) for name, who in people.items()]  # type: ignore[misc]
    for number, (recipient, woken) in enumerate(
        [(ARTIST.id, ["artist"]), ("host", ["host"]), (other.id, ["other"]), ("all", ["artist", "host", "other"])]
    ):
        heard.clear()
        box.post("room", ARTIST.id, note(ARTIST, recipient, number))
        assert sorted(heard) == woken
    for stop in stops:
        stop()
    heard.clear()
    box.post("room", ARTIST.id, note(ARTIST, "all", 9))
    assert heard == []


def test_a_member_sends_no_more_messages_than_one_may_and_the_host_is_bound_by_the_room_alone(
    tmp_path: Path, clock: Clock
) -> None:
    with Mailbox(tmp_path, Limits(member_messages=3), clock=clock) as box:
        box.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
        box.join("room", TOKEN, ARTIST.public_key)
        for number in range(3):
            box.post("room", ARTIST.id, note(ARTIST, "host", number))
        with pytest.raises(Refused, match=r"3 messages and attachments.*as many as a member may") as caught:
            box.post("room", ARTIST.id, note(ARTIST, "host", 3))
        assert caught.value.status == 429
        assert box.post("room", ARTIST.id, note(ARTIST, "host", 2)) == 3, "the same message again takes no place"
        assert [box.post("room", HOST.id, note(HOST, "all", number)) for number in range(4)] == [4, 5, 6, 7]
        assert len(box.inbox("room", HOST.id, 0)) == 7


def test_a_members_messages_fill_no_more_bytes_than_one_may(tmp_path: Path, clock: Clock) -> None:
    with Mailbox(tmp_path, Limits(member_bytes=1000), clock=clock) as box:
        box.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
        box.join("room", TOKEN, ARTIST.public_key)
        size_bytes = len(note(ARTIST, "host", 0))
        for number in range(1000 // size_bytes):
            box.post("room", ARTIST.id, note(ARTIST, "host", number))
        with pytest.raises(Refused, match="a member may hold 1000"):
            box.post("room", ARTIST.id, note(ARTIST, "host", 9))


def test_places_are_shared_by_member_room_and_address(tmp_path: Path) -> None:
    limits = Limits(waiting=9, member_waiting=2, room_waiting=4, address_waiting=6)
    with Mailbox(tmp_path, limits) as box, contextlib.ExitStack() as held:
        gate = app(box).state.gate

        def take(member: str, room: str, address: str) -> str:
            try:
                held.enter_context(gate.place("waiting", member, room, address))
            except Refused as refusal:
                return (
                    f"{refusal.status} {refusal.retry_after_s}"
                    if refusal.status != 503
                    else refusal.error.removeprefix("The relay is busy.").strip().partition(" has")[0]
                )
            return "taken"

        assert [take("ada", "one", "here") for _ in range(3)] == ["taken", "taken", "You have all places that it may."]
        assert [take(name, "one", "here") for name in "bcd"] == ["taken", "taken", "Your room"]
        assert [take(name, "two", "here") for name in "efg"] == ["taken", "taken", "Your address"]
        assert [take(name, "two", "there") for name in "hij"] == ["taken", "taken", "Your room"]
        assert take("k", "three", "there") == "taken"
        assert take("l", "four", "elsewhere") == ""
        assert gate.taken("waiting") == 9
    assert gate.taken("waiting") == 0


def test_a_room_in_which_its_host_is_alone_expires_in_an_hour(box: Mailbox, clock: Clock) -> None:
    box.create_room("alone", "0" * 64, HOST.public_key)
    clock.now += 59 * MINUTE_S
    assert box.sweep() == 0
    clock.now += 2 * MINUTE_S
    assert box.sweep() == 1
    assert box.totals()["rooms"] == 1, "the room with an artist in it stays"
    box.create_room("alone", "0" * 64, HOST.public_key)


def test_a_host_who_waits_keeps_the_room(tmp_path: Path, clock: Clock) -> None:
    with Mailbox(tmp_path, clock=clock) as box, TestClient(app(box)) as http:
        host = Caller(http, clock)
        host.create()
        for _ in range(8):
            clock.now += 20 * MINUTE_S
            assert host.get("/v1/rooms/room/inbox").status_code == 200
            assert box.sweep() == 0


def test_the_disk_keeps_a_floor_and_the_relay_a_ceiling(tmp_path: Path, clock: Clock) -> None:
    for limits, words in ((Limits(free_bytes=2**50), "disk is full"), (Limits(total_bytes=1000), "relay is full")):
        with Mailbox(tmp_path / words.split()[0], limits, clock=clock) as box, TestClient(app(box)) as http:
            host = Caller(http, clock)
            assert host.create().status_code == 201
            blob = b"x" * 1001
            response = host.put(f"/v1/rooms/room/blobs/{sha256_hex(blob)}", blob)
            assert_refused(response, 503, words)
            assert response.headers["retry-after"] == "30"
            assert_refused(host.patch(sha256_hex(blob), blob, 0, 1001), 503, words)


def test_the_log_has_no_more_lines_than_it_may_and_counts_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = RequestLog(Limits(log_lines_per_s=2), clock=lambda: now[0])
    with caplog.at_level(logging.INFO, LOGGER_NAME):
        for _ in range(1000):
            log.write("request")
        now[0] = 0.5
        log.write("request")
    lines = [json.loads(record.message) for record in caplog.records if record.name == LOGGER_NAME]
    assert [line["event"] for line in lines] == ["request"] * 20 + ["left_out", "request"]
    assert lines[20]["lines"] == 980


def test_every_app_has_such_a_log(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with (
        Mailbox(tmp_path, Limits(log_lines_per_s=1), clock=clock) as box,
        TestClient(app(box)) as http,
        caplog.at_level(logging.INFO, LOGGER_NAME),
    ):
        stranger = Caller(http, clock)
        for _ in range(100):
            stranger.join("nowhere")
    assert '"left_out"' in caplog.text or len(caplog.records) < 50


def test_where_strangers_come_a_secret_opens_rooms_and_the_folder_keeps_it(
    tmp_path: Path, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    public = {"host": "0.0.0.0", "allow_public_without_tls": True}
    running = serve(tmp_path / "relay", **public)
    address, _, fragment = running.url.replace("0.0.0.0", "127.0.0.1").partition("#")
    secret = fragment.removeprefix("open=")
    assert len(secret) >= 30
    assert secret not in repr(running)
    with pytest.raises(RelayRefused, match="those who know its secret"):
        create_room(address, HOST)
    with pytest.raises(RelayRefused, match="those who know its secret"):
        create_room(address, HOST, opening_secret="another secret")
    invites = [create_room(f"{address}#{fragment}", HOST), create_room(address, HOST, opening_secret=secret)]
    monkeypatch.setenv("FEDART_OPENING_SECRET", secret)
    invites.append(create_room(address, HOST))
    assert not any(secret in str(invite) for invite in invites)
    client = RelayClient(invites[0], ARTIST)
    assert client.receive(0, 0) == [], "artists need none"
    client.close()
    running.stop()
    assert serve(tmp_path / "relay", **public).url.endswith(fragment)
    assert (tmp_path / "relay" / "opening-secret").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({}, False),
        ({"trusted_proxies": 1}, True),
        ({"host": "0.0.0.0", "allow_public_without_tls": True, "opening_secret": ""}, False),
        ({"host": "0.0.0.0", "allow_public_without_tls": True, "opening_secret": "given by hand"}, False),
    ],
)
def test_a_secret_is_made_only_where_it_is_needed(
    tmp_path: Path, serve: Callable[..., Any], settings: dict[str, Any], secret: bool
) -> None:
    assert ("#open=" in serve(tmp_path, **settings).url) is secret


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "blobs").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "blobs"):
        assert main(["--data", str(folder)]) == 2
        said = capsys.readouterr().err
        assert str(folder) in said
        assert "--data" in said
    with pytest.raises(RelayError, match="cannot be used"):
        Mailbox(tmp_path / "file")


def test_a_data_folder_whose_obstacle_was_taken_away_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(RelayError, match="cannot be used") as refused:
        Mailbox(tmp_path)
    (tmp_path / "blobs").unlink()
    with Mailbox(tmp_path) as box:
        assert box.totals()["rooms"] == 0, "its folder is not locked any more"
    assert refused.tb is not None, "though a notebook keeps the traceback"


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, b""])
def test_a_damaged_database_is_named_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    with Mailbox(tmp_path) as box:
        box.create_room("room", "0" * 64, HOST.public_key)
    path = tmp_path / "relay.sqlite3"
    data = damage or path.read_bytes()[:5000] + b"\xff" * 4000 + path.read_bytes()[9000:]
    path.write_bytes(data)
    with pytest.raises(RelayError, match=r"relay\.sqlite3' cannot be used"):
        Mailbox(tmp_path)
    assert path.read_bytes() == data
    path.unlink()
    with Mailbox(tmp_path) as box:
        assert box.totals()["rooms"] == 0, "and its folder is not locked any more"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "99999"],
        ["--port", "65536"],
        ["--port", "-1"],
        ["--port", "nan"],
        ["--port", "8e3"],
        ["--trusted-proxies", "-1"],
        ["--trusted-proxies", "17"],
        ["--max-rooms", "0"],
        ["--max-rooms", "-5"],
        ["--max-rooms", "nan"],
        ["--max-rooms", "1.5"],
        ["--max-blob-bytes", "9" * 40],
        ["--keep-days", "9" * 400],
        ["--min-free-bytes", "-1"],
    ],
)
def test_numbers_that_cannot_be_are_refused_with_their_range(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["--data", str(tmp_path), *arguments])
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 2
    said = capsys.readouterr().err
    assert "expected" in said or "invalid int value" in said


@pytest.mark.parametrize("port", [99_999, -1, True, 1.5, "80"])
def test_a_port_beyond_range_is_refused_in_python_too(tmp_path: Path, serve: Callable[..., Any], port: Any) -> None:
    with pytest.raises(RelayError, match="expected a whole number from 0 to 65535"):
        serve(tmp_path, port=port)


def test_a_hubs_address_that_is_none_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_URL", "http://127.0.0.1:99999")
    assert main([]) == 2
    assert "JUPYTERHUB_SERVICE_URL" in capsys.readouterr().err
