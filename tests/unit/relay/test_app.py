"""The relay over HTTP: every request proves who asks, and gets no more than is theirs."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import TOKEN, assert_refused, stored_files
from starlette.testclient import TestClient

from fedart_nb import __version__
from fedart_nb.relay.app import LOGGER_NAME, app
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.signing import WINDOW_S
from fedart_nb.relay.wire import Envelope, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from relay_fakes import Caller, Clock

BLOB = b"picture-free bytes of an update"
BLOB_TARGET = f"/v1/rooms/room/blobs/{sha256_hex(BLOB)}"
TEN_GIB = str(10 * 2**30)


def seqs(response: Any) -> list[int]:
    assert response.status_code == 200, response.text
    return [message["seq"] for message in response.json()["messages"]]


def test_health_needs_no_signature(http: Any) -> None:
    assert http.get("/healthz").json() == {"ok": True, "version": __version__, "draining": False}


def test_a_message_arrives_as_it_was_sealed(host: Caller, artist: Caller) -> None:
    assert artist.send("host", body={"pictures": 12}).json() == {"seq": 1}
    (message,) = host.get("/v1/rooms/room/inbox?after=0").json()["messages"]
    assert Envelope.opened(message["envelope"].encode()) == artist.envelope("host", body={"pictures": 12})


def test_sent_twice_is_stored_once(host: Caller, artist: Caller) -> None:
    assert [artist.send("host").json()["seq"] for _ in range(3)] == [1, 1, 1]
    assert seqs(host.get("/v1/rooms/room/inbox?after=0")) == [1]


def test_everybody_gets_only_what_is_theirs(host: Caller, artist: Caller, caller: Callable[[], Caller]) -> None:
    other = caller()
    other.join()
    artist.send("host")
    artist.send("all")
    host.send(artist.identity.id)
    artist.send(other.identity.id)
    inbox = "/v1/rooms/room/inbox?after=0"
    assert seqs(host.get(inbox)) == [1, 2]
    assert seqs(artist.get(inbox)) == [2, 3]
    assert seqs(other.get(inbox)) == [2, 4]
    assert seqs(other.get("/v1/rooms/room/inbox?after=2")) == [4]


def test_a_message_to_nobody_in_the_room_is_refused(artist: Caller) -> None:
    assert_refused(artist.send("0" * 32), 404, "is not in the room")


def test_a_wrong_token_opens_nothing(host: Caller, caller: Callable[[], Caller]) -> None:
    stranger = caller()
    assert_refused(stranger.join(token="a-wrong-token-0123456789"), 403, "does not open the room 'room'")
    assert_refused(stranger.get("/v1/rooms/room/inbox?after=0"), 403, "is not in the room")


def test_a_room_that_does_not_exist_is_said_so(caller: Callable[[], Caller]) -> None:
    assert_refused(caller().join("nowhere"), 404, "no room 'nowhere'")
    assert_refused(caller().get("/v1/rooms/nowhere/inbox"), 404, "no room 'nowhere'")


def test_who_is_not_a_member_can_do_nothing(host: Caller, caller: Callable[[], Caller]) -> None:
    stranger = caller()
    assert_refused(stranger.send("host"), 403, "is not in the room")
    assert_refused(stranger.put(BLOB_TARGET, BLOB), 403, "is not in the room")
    assert_refused(stranger.get(BLOB_TARGET), 403, "is not in the room")
    assert_refused(stranger.get("/v1/rooms/room/log"), 403, "is not in the room")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/rooms"),
        ("POST", "/v1/rooms/room/join"),
        ("GET", "/v1/rooms/room/inbox"),
        ("POST", "/v1/rooms/room/outbox"),
        ("PUT", BLOB_TARGET),
        ("GET", BLOB_TARGET),
        ("GET", "/v1/rooms/room/log"),
    ],
)
def test_a_request_without_a_signature_is_refused(http: Any, host: Caller, method: str, target: str) -> None:
    assert_refused(http.request(method, target), 401, "no signature that fits")


def test_a_signature_fits_nothing_but_its_request(http: Any, artist: Caller) -> None:
    inbox = "/v1/rooms/room/inbox?after=0"
    headers = artist.signed("GET", inbox)
    assert_refused(http.get("/v1/rooms/room/inbox?after=1", headers=headers), 401, "no signature")
    assert_refused(http.get("/v1/rooms/room/log?after=0", headers=headers), 401, "no signature")
    assert_refused(http.get(inbox, headers={**headers, "fedart-nonce": "0" * 32}), 401, "no signature")
    assert_refused(http.get(inbox, headers={**headers, "fedart-signature": "0" * 128}), 401, "no signature")
    body = artist.envelope("all").sealed(artist.identity)
    signed = artist.signed("POST", "/v1/rooms/room/outbox", hashlib.sha256(body).hexdigest())
    assert_refused(http.post("/v1/rooms/room/outbox", content=body + b" ", headers=signed), 401, "no signature")
    assert http.post("/v1/rooms/room/outbox", content=body, headers=signed).status_code == 200


def test_a_request_that_is_replayed_is_refused(http: Any, artist: Caller) -> None:
    headers = artist.signed("GET", "/v1/rooms/room/inbox")
    assert http.get("/v1/rooms/room/inbox", headers=headers).status_code == 200
    assert_refused(http.get("/v1/rooms/room/inbox", headers=headers), 401, "was made before")


def test_a_replay_is_noticed_after_a_restart(
    tmp_path: Path, mailbox: Mailbox, http: Any, artist: Caller, clock: Clock
) -> None:
    headers = artist.signed("GET", "/v1/rooms/room/inbox")
    assert http.get("/v1/rooms/room/inbox", headers=headers).status_code == 200
    mailbox.close()
    with Mailbox(tmp_path / "relay", clock=clock) as restarted, TestClient(app(restarted)) as later:
        assert_refused(later.get("/v1/rooms/room/inbox", headers=headers), 401, "was made before")


@pytest.mark.parametrize("age_s", [-WINDOW_S - 1, WINDOW_S + 1])
def test_a_stale_timestamp_is_refused(http: Any, artist: Caller, clock: Clock, age_s: float) -> None:
    headers = artist.signed("GET", "/v1/rooms/room/inbox")
    clock.now += age_s
    assert_refused(http.get("/v1/rooms/room/inbox", headers=headers), 401, "the relay's clock says")


def test_nobody_sends_for_somebody_else(host: Caller, artist: Caller) -> None:
    stolen = host.envelope("all").sealed(host.identity)
    assert_refused(artist.post("/v1/rooms/room/outbox", stolen), 403, "cannot send for")


def test_an_envelope_for_another_room_is_refused(artist: Caller) -> None:
    sealed = artist.envelope("all", room="elsewhere").sealed(artist.identity)
    assert_refused(artist.post("/v1/rooms/room/outbox", sealed), 400, "for room 'elsewhere'")


def test_a_damaged_envelope_is_refused_with_its_fault(artist: Caller) -> None:
    sealed = artist.envelope("all", body={"x": 17.25}).sealed(artist.identity)
    assert_refused(artist.post("/v1/rooms/room/outbox", sealed.replace(b"17.25", b"NaN")), 400, "NaN")
    assert_refused(artist.post("/v1/rooms/room/outbox", sealed.replace(b"17.25", b"17.26")), 400, "signature")
    assert_refused(artist.post("/v1/rooms/room/outbox", b"not json"), 400, "not JSON")


def test_a_blob_comes_back_for_who_may_have_it(host: Caller, artist: Caller, http: Any) -> None:
    assert artist.put(BLOB_TARGET, BLOB).json() == {"sha256": sha256_hex(BLOB), "size_bytes": len(BLOB)}
    assert_refused(host.get(BLOB_TARGET), 404, "No blob")
    artist.send("host", attachments={"update": BLOB})
    assert host.get(BLOB_TARGET).content == BLOB
    head = http.head(BLOB_TARGET, headers=host.signed("HEAD", BLOB_TARGET))
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(BLOB)), b"")


def test_a_blob_that_does_not_match_its_address_is_refused(tmp_path: Path, artist: Caller) -> None:
    assert_refused(artist.put(BLOB_TARGET, BLOB + b"!"), 400, "announced was")
    assert_refused(artist.put("/v1/rooms/room/blobs/abc", BLOB), 400, "no sha256")
    assert stored_files(tmp_path) == []


def test_ten_gib_announced_are_refused_before_a_byte_is_taken(tmp_path: Path, artist: Caller) -> None:
    read: list[bytes] = []

    def body() -> Iterator[bytes]:
        read.append(b"x")
        yield b"x"

    response = artist.put(BLOB_TARGET, body(), **{"content-length": TEN_GIB})
    assert_refused(response, 413, f"A blob of {TEN_GIB} bytes was announced; this relay takes 1000.")
    assert response.headers["connection"] == "close"
    assert stored_files(tmp_path) == []


def test_a_blob_of_unannounced_size_is_counted_as_it_comes(tmp_path: Path, artist: Caller) -> None:
    data = b"x" * 3000
    target = f"/v1/rooms/room/blobs/{sha256_hex(data)}"
    assert_refused(artist.put(target, iter([data[:1500], data[1500:]])), 413, "more than 1000 bytes")
    assert stored_files(tmp_path) == []
    small = f"/v1/rooms/room/blobs/{sha256_hex(b'ab')}"
    assert artist.put(small, iter([b"a", b"b"])).status_code == 201


@pytest.mark.parametrize("length", ["-1", "many", "9" * 30])
def test_a_length_that_is_no_length_is_refused(artist: Caller, length: str) -> None:
    assert_refused(artist.put(BLOB_TARGET, BLOB, **{"content-length": length}), 400, "Content-Length")


def test_a_message_above_64_kib_is_refused(artist: Caller, http: Any) -> None:
    assert_refused(artist.post("/v1/rooms/room/outbox", b"x" * 70_000), 413, "a message may have 65536")
    signed = artist.signed("POST", "/v1/rooms/room/outbox")
    response = http.post("/v1/rooms/room/outbox", content=b"", headers={**signed, "content-length": TEN_GIB})
    assert_refused(response, 413, TEN_GIB)


def test_a_strangers_message_is_refused_before_it_is_read(host: Caller, caller: Callable[[], Caller]) -> None:
    stranger = caller()
    signed_for_another_body = stranger.signed("POST", "/v1/rooms/room/outbox", "0" * 64)
    response = stranger.http.post("/v1/rooms/room/outbox", content=b"x" * 999, headers=signed_for_another_body)
    assert_refused(response, 403, "is not in the room")  # had it been read, the signature would be what is wrong


def test_an_attachment_too_large_for_the_relay_is_refused_by_its_announcement(artist: Caller) -> None:
    assert_refused(artist.send("host", attachments={"u": b"x" * 1001}), 413, "announces 1001 bytes")


def test_only_the_host_reads_what_the_relay_saw(host: Caller, artist: Caller, clock: Clock) -> None:
    artist.put(BLOB_TARGET, BLOB)
    artist.send("host", kind="update", body={"secret": "text"}, attachments={"u": BLOB})
    assert_refused(artist.get("/v1/rooms/room/log"), 403, "Only the host")
    log = host.get("/v1/rooms/room/log").json()
    assert {entry["id"] for entry in log["members"]} == {host.identity.id, artist.identity.id}
    (message,) = log["messages"]
    size = len(
        artist.envelope("host", kind="update", body={"secret": "text"}, attachments={"u": BLOB}).sealed(artist.identity)
    )
    assert message == {
        "seq": 1,
        "kind": "update",
        "round": 1,
        "sender": artist.identity.id,
        "recipient": "host",
        "size_bytes": size,
        "at": clock.now,
    }
    assert log["blobs"] == [
        {"sha256": sha256_hex(BLOB), "sender": artist.identity.id, "size_bytes": len(BLOB), "at": clock.now}
    ]


@pytest.mark.parametrize("query", ["after=-1", "after=x", "wait=inf", "after=" + "9" * 40])
def test_a_cursor_that_is_no_number_is_refused(artist: Caller, query: str) -> None:
    assert_refused(artist.get(f"/v1/rooms/room/inbox?{query}"), 400, "expected a number")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"token":1}', b'{"token":"t","more":1}', b"\xff"])
def test_fields_that_are_not_those_expected_are_refused(host: Caller, body: bytes) -> None:
    assert host.post("/v1/rooms/room/join", body).status_code == 400


def test_half_a_character_is_no_token(host: Caller) -> None:
    assert_refused(host.post("/v1/rooms/room/join", b'{"token":"\\ud800"}'), 400, "surrogates not allowed")


def test_nobody_is_sent_on_to_where_a_host_header_points(http: Any) -> None:
    response = http.get("/healthz/", headers={"host": "evil.example"}, follow_redirects=False)
    assert_refused(response, 404, "nothing at GET /healthz/")


def test_a_place_that_does_not_exist_is_answered_in_json(http: Any) -> None:
    assert_refused(http.get("/v2/anything"), 404, "nothing at GET /v2/anything")
    assert_refused(http.delete("/v1/rooms/room/inbox"), 405, "nothing at DELETE")


def test_it_works_under_a_prefix_whether_or_not_a_proxy_cuts_it_off(
    mailbox: Mailbox, clock: Clock, caller: Any
) -> None:
    with TestClient(app(mailbox, root_path="/services/fedart/")) as http:
        person = caller()
        person.http = http
        person.create()
        target = "/v1/rooms/room/inbox"
        assert http.get(target, headers=person.signed("GET", target)).status_code == 200
        assert http.get(f"/services/fedart{target}", headers=person.signed("GET", target)).status_code == 200
        assert http.get("/services/fedart/healthz").status_code == 200
        assert_refused(http.get(f"/services/other{target}", headers=person.signed("GET", target)), 404, "nothing")


def test_log_lines_are_json_without_secrets(artist: Caller, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, LOGGER_NAME):
        artist.join()
        artist.send("host", body={"name": "Frida", "caption": "a red door"})
    lines = [json.loads(record.message) for record in caplog.records if record.name == LOGGER_NAME]
    assert [line["route"] for line in lines] == ["join", "outbox"]
    assert all(line["status"] == 200 and line["room"] == "room" for line in lines)
    for secret in (TOKEN, "Frida", "red door", artist.identity.id):
        assert secret not in caplog.text


def test_a_fault_of_the_relay_is_a_500_in_json(mailbox: Mailbox, http: Any, artist: Caller) -> None:
    mailbox.close()
    assert_refused(artist.get("/v1/rooms/room/inbox"), 500, "The relay has a fault.")
