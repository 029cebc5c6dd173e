"""Strangers and members who ask too much: told when to come back, before anything is kept for them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from relay_fakes import ARTIST, HOST, JOINED, Caller, LyingRelay, assert_refused, impatient, settled, stored_files
from starlette.testclient import TestClient

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.relay import Limits, RelayClient, create_room, reading
from fedart_nb.relay.admission_control import Buckets, Gate
from fedart_nb.relay.app import app, end_waiting
from fedart_nb.relay.limits import Refused
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.wire import sha256_hex

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from relay_fakes import Clock

INBOX = "/v1/rooms/room/inbox"
DAY_S = 86_400


def relay(tmp_path: Path, clock: Clock, limits: Limits | None = None, **settings: Any) -> TestClient:
    application = app(tmp_path / "relay", limits, clock=clock, **settings)
    return TestClient(application, raise_server_exceptions=False)


def test_a_bucket_fills_again_and_forgets_who_has_not_asked_for_long() -> None:
    clock = [0.0]
    buckets = Buckets(per_s=2, burst=3, clock=lambda: clock[0])
    assert [buckets.wait_s("ada") for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.wait_s("bob") == 0
    clock[0] = 0.5
    assert [buckets.wait_s("ada"), buckets.wait_s("ada")] == [0, 0.5]
    clock[0] = -100.0  # a clock that was set back takes nothing away
    assert buckets.wait_s("ada") == 0.5
    for n in range(20_000):
        buckets.wait_s(str(n))
    assert len(buckets._levels) == 10_000


def test_a_stranger_who_knocks_too_often_is_told_when_to_come_back(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, Limits(knocks_per_minute=3)) as http:
        stranger = Caller(http, clock)
        assert stranger.create().status_code == 201
        assert [stranger.join(token="wrong" * 4).status_code for _ in range(2)] == [403, 403]
        response = stranger.join(token="wrong" * 4)
        assert_refused(response, 429, "Too many requests from your address")
        assert response.headers["retry-after"] == "20"
        assert_refused(Caller(http, clock).create("another"), 429, "Too many")
        clock.now += 20
        assert stranger.join().status_code == 200


def test_a_member_who_asks_too_often_does_not_slow_the_others(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, Limits(requests_per_s=1)) as http:
        host, artist = Caller(http, clock), Caller(http, clock)
        host.create()
        artist.join()
        assert {artist.get(INBOX).status_code for _ in range(4)} == {200}
        assert_refused(artist.get(INBOX), 429, "ask too often")
        assert host.get(INBOX).status_code == 200


def test_an_address_is_believed_only_from_a_trusted_proxy(tmp_path: Path, clock: Clock) -> None:
    for proxies, statuses in ((0, [404, 404, 429]), (1, [404, 404, 404])):
        with relay(tmp_path / str(proxies), clock, Limits(knocks_per_minute=2), trusted_proxies=proxies) as http:
            answers = []
            for n in range(3):
                person = Caller(http, clock)
                body = canonical_json({"token": "t" * 20})
                headers = person.signed("POST", "/v1/rooms/room/join", sha256_hex(body))
                headers["x-forwarded-for"] = f"forged, 192.0.2.{n}"
                answers.append(http.post("/v1/rooms/room/join", content=body, headers=headers).status_code)
            assert answers == statuses


def test_a_household_with_ipv6_is_one_address(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, Limits(knocks_per_minute=1), trusted_proxies=1) as http:
        for address, status in (("2001:db8::1", 401), ("2001:db8::ffff:2", 429), ("2001:db8:0:1::1", 401)):
            assert http.post("/v1/rooms", headers={"x-forwarded-for": address}).status_code == status


def test_places_for_those_who_wait_are_counted(tmp_path: Path, clock: Clock) -> None:
    async def scene() -> None:
        box = Mailbox(tmp_path / "relay", Limits(waiting=2), clock=clock)
        application = app(box)
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://relay") as http:
            people = [Caller(http, clock) for _ in range(3)]
            await people[0].create()
            await people[1].join()
            await people[2].join()
            waiting = [asyncio.create_task(person.get(f"{INBOX}?wait=20")) for person in people[:2]]
            while len(application.state.waiting) < 2:
                await asyncio.to_thread(int)  # lets the others go on
            refused = await people[2].get(f"{INBOX}?wait=20")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert (await people[2].get(INBOX)).status_code == 200, "who does not wait needs no place"
            end_waiting(application)
            assert [response.status_code for response in await asyncio.gather(*waiting)] == [200, 200]
            assert (await people[2].get(f"{INBOX}?wait=20")).status_code == 200, "the places are free again"
            health = await http.get("/healthz")
            assert (health.status_code, health.json()["draining"]) == (503, True)
        box.close()

    asyncio.run(scene())


def test_a_member_gets_no_more_than_its_part_of_the_places(mailbox: Mailbox) -> None:
    gate = app(mailbox).state.gate
    with contextlib.ExitStack() as held:
        for _ in range(8):
            held.enter_context(gate.place("uploads", "ada"))
        with pytest.raises(Refused, match="busy") as caught:
            held.enter_context(gate.place("uploads", "ada"))
        assert caught.value.status == 503
        held.enter_context(gate.place("uploads", "bob"))
        assert gate.taken("uploads") == 9
    assert gate.taken("uploads") == 0


def test_a_room_that_asks_too_often_is_slowed_and_no_other_room(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, Limits(requests_per_s=100, room_requests_per_s=1)) as http:
        host, artist, elsewhere = (Caller(http, clock) for _ in range(3))
        host.create()
        artist.join()
        elsewhere.create("other")
        assert [host.get(INBOX).status_code for _ in range(3)] == [200] * 3
        response = artist.get(INBOX)
        assert_refused(response, 429, "Your room asks too often")
        assert response.headers["retry-after"] == "1"
        assert elsewhere.get("/v1/rooms/other/inbox").status_code == 200
        clock.now += 1
        assert artist.get(INBOX).status_code == 200


def test_few_requests_of_one_room_are_worked_on_at_once_and_those_of_others_meanwhile() -> None:
    async def scene() -> None:
        gate, go_on, at_work = Gate(Limits(), lambda: 0.0), asyncio.Event(), []

        async def work(room: str) -> None:
            async with gate.turn(room):
                at_work.append(room)
                await go_on.wait()

        tasks = [asyncio.create_task(work(room)) for room in ["busy"] * 5 + ["quiet"]]
        await settled()
        assert at_work == ["busy", "busy", "quiet"]
        go_on.set()
        await asyncio.gather(*tasks)
        assert at_work == ["busy", "busy", "quiet", "busy", "busy", "busy"]

    asyncio.run(scene())


def test_a_turn_that_was_given_up_while_waiting_is_no_turn_less() -> None:
    async def scene() -> None:
        gate, go_on, done = Gate(Limits(), lambda: 0.0), asyncio.Event(), []

        async def work(name: str) -> None:
            async with gate.turn("room"):
                await go_on.wait()
                done.append(name)

        tasks = [asyncio.create_task(work(name)) for name in "abcd"]
        await settled()
        tasks[2].cancel()  # it waits
        tasks[0].cancel()  # it works
        await settled()
        go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await work("e")
        assert sorted(done) == ["b", "d", "e"]

    asyncio.run(scene())


def test_messages_of_one_room_take_turns(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    turn = Gate.turn

    def noted(gate: Gate, room: str) -> Any:
        taken.append(room)
        return turn(gate, room)

    monkeypatch.setattr(Gate, "turn", noted)
    with relay(tmp_path, clock) as http:
        host = Caller(http, clock)
        host.create()
        assert host.send().status_code == 200
    assert taken == ["room"]


def test_who_was_told_to_wait_is_refused_before_a_signature_is_checked(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = counted_signatures(monkeypatch)
    with relay(tmp_path, clock, Limits(requests_per_s=1)) as http:
        host, other = Caller(http, clock), Caller(http, clock)
        host.create()
        other.join()
        while host.get(INBOX).status_code == 200:
            pass
        before = len(checked)
        response = host.get(INBOX)
        assert_refused(response, 429, "You were asked to wait")
        assert response.headers["retry-after"] == "2"
        assert len(checked) == before
        assert other.get(INBOX).status_code == 200, "nobody else was told so"
        clock.now += 2
        assert host.get(INBOX).status_code == 200


def test_nobody_is_made_to_wait_by_requests_that_another_one_forged(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, Limits(requests_per_s=1)) as http:
        host = Caller(http, clock)
        host.create()
        forged = host.signed("GET", INBOX) | {"fedart-signature": "0" * 128}
        assert {http.get(INBOX, headers=forged).status_code for _ in range(20)} == {401}
        assert host.get(INBOX).status_code == 200


def test_who_has_all_places_for_waiting_is_refused_before_a_signature_is_checked(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = counted_signatures(monkeypatch)
    with Mailbox(tmp_path / "relay", Limits(member_waiting=1), clock=clock) as box:
        application = app(box)
        with TestClient(application, raise_server_exceptions=False) as http:
            host, other = Caller(http, clock), Caller(http, clock)
            host.create()
            other.join()
            before = len(checked)
            with application.state.gate.place("waiting", host.identity.id):
                assert_refused(host.get(f"{INBOX}?wait=20"), 503, "You have all places that it may")
                assert len(checked) == before
            assert host.get(f"{INBOX}?wait=0.001").status_code == 200
            assert len(checked) == before + 1


def counted_signatures(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """A list that grows with every signature that the relay checks."""
    checked: list[None] = []
    check = reading.read_signature

    def counting(*arguments: Any) -> Any:
        checked.append(None)
        return check(*arguments)

    monkeypatch.setattr(reading, "read_signature", counting)
    return checked


def test_a_member_has_a_quota_and_the_host_has_the_rooms(tmp_path: Path, clock: Clock) -> None:
    limits = Limits(member_bytes=1000, room_bytes=4000, member_messages=3)
    with relay(tmp_path, clock, limits) as http:
        host, artist = Caller(http, clock), Caller(http, clock)
        host.create()
        artist.join()

        def put(person: Caller, data: bytes) -> Any:
            return person.put(f"/v1/rooms/room/blobs/{sha256_hex(data)}", data)

        assert put(artist, b"a" * 900).status_code == 201
        assert_refused(put(artist, b"b" * 101), 413, "a member may hold 1000")
        assert_refused(artist.patch(sha256_hex(b"c"), b"c", 0, 101), 413, "a member may hold 1000")
        assert put(artist, b"d").status_code == 201
        assert put(artist, b"e").status_code == 201
        assert_refused(put(artist, b"f"), 429, "as many as a member may")
        for n in range(4):
            assert put(host, bytes([n]) * 700).status_code == 201
        assert_refused(put(host, b"g" * 700), 413, "it may hold 4000")


def test_a_room_that_nobody_uses_is_deleted_with_its_blobs(tmp_path: Path, clock: Clock) -> None:
    limits = Limits(keep_days=2, keep_empty_minutes=10_000)
    with relay(tmp_path, clock, limits, sweep_s=0.01) as http:
        host, other = Caller(http, clock), Caller(http, clock)
        host.create()
        other.create("other")
        shared, own = b"in both rooms", b"in one"
        for data in (shared, own):
            assert host.put(f"/v1/rooms/room/blobs/{sha256_hex(data)}", data).status_code == 201
        assert other.put(f"/v1/rooms/other/blobs/{sha256_hex(shared)}", shared).status_code == 201
        clock.now += 1.5 * DAY_S
        assert other.get("/v1/rooms/other/inbox").status_code == 200, "reading is using"
        clock.now += 1.0 * DAY_S
        while len(stored_files(tmp_path)) > 1:  # it looks every hundredth of a second; the test's time limit ends this
            assert http.get("/healthz").status_code == 200
        assert host.get(INBOX).status_code == 404
        assert other.get(f"/v1/rooms/other/blobs/{sha256_hex(shared)}").content == shared
        assert [path.name for path in stored_files(tmp_path)] == [sha256_hex(shared)]
        assert host.create().status_code == 201, "the name is free again"
        assert host.get(f"/v1/rooms/room/blobs/{sha256_hex(own)}").status_code == 404


def test_expired_rooms_are_gone_when_the_relay_starts(tmp_path: Path, clock: Clock) -> None:
    with Mailbox(tmp_path, clock=clock) as box:
        box.create_room("room", "0" * 64, HOST.public_key)
    clock.now += 31 * DAY_S
    with Mailbox(tmp_path, clock=clock) as box:
        assert box.totals() == {"rooms": 0, "members": 0, "messages": 0, "blobs": 0, "bytes": 0}


def test_strangers_open_no_room_where_a_secret_is_asked_for(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, opening_secret="open sesame") as http:
        person = Caller(http, clock)
        assert_refused(person.create(), 403, "those who know its secret")
        assert_refused(person.create(opening="open, barley"), 403, "those who know its secret")
        assert person.create(opening="open sesame").status_code == 201
        assert Caller(http, clock).join().status_code == 200, "joining needs the invite alone"


def test_metrics_count_and_name_nobody(tmp_path: Path, clock: Clock) -> None:
    with relay(tmp_path, clock, metrics_token="metrics-token") as http:
        host = Caller(http, clock)
        host.create("room")
        host.send("all", body={"x": 1})
        host.get("/v1/rooms/nowhere/inbox")
        assert_refused(http.get("/metrics"), 401, "need their token")
        assert_refused(http.get("/metrics", headers={"authorization": "Bearer guess"}), 401, "need their token")
        response = http.get("/metrics", headers={"authorization": "Bearer metrics-token"})
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = response.text.splitlines()
        for line in (
            'fedart_relay_requests_total{route="create_room",status="201"} 1',
            'fedart_relay_requests_total{route="outbox",status="200"} 1',
            'fedart_relay_refused_total{reason="unknown"} 1',
            "fedart_relay_rooms 1",
            "fedart_relay_messages 1",
            "fedart_relay_waiting 0",
            "# TYPE fedart_relay_requests_total counter",
            "# TYPE fedart_relay_rooms gauge",
        ):
            assert line in lines
        for private in ("nowhere", "metrics-token", host.identity.id):
            assert private not in response.text


def test_without_a_token_there_are_no_metrics(http: Any) -> None:
    assert http.get("/metrics").status_code == 404


def test_the_client_waits_as_long_as_it_is_asked_to_and_then_goes_on() -> None:
    liar = LyingRelay()
    busy = {"error": "The relay is busy.", "do": "Wait."}
    liar.says("join", (429, canonical_json(busy)), JOINED)
    liar.headers = {"Retry-After": "1"}
    heard: list[str] = []
    client = impatient(liar.url, on_wait=heard.append)
    client.join()
    client.close()
    liar.stop()
    assert liar.asked == ["join", "join"]
    assert ["asks to wait 1 s. The relay is busy. Wait." in heard[0], heard[1:]] == [True, [""]]


def test_the_clients_patience_ends_with_the_relays_own_reason() -> None:
    liar = LyingRelay()
    liar.says("join", (429, canonical_json({"error": "Too many.", "do": "Wait."})))
    liar.headers = {"Retry-After": "30"}
    client = impatient(liar.url, patience_s=0.05)
    with pytest.raises(Exception, match=r"Too many\. Wait\.") as caught:
        client.join()
    assert caught.value.status == 429
    client.close()
    liar.stop()


def test_the_hosts_secret_travels_behind_the_relays_address(tmp_path: Path, serve: Callable[..., Any]) -> None:
    running = serve(tmp_path, opening_secret="open sesame", limits=Limits(knocks_per_minute=5))
    with pytest.raises(Exception, match="put #open=SECRET behind"):
        create_room(running.url, HOST)
    invite = create_room(f"{running.url}#open=open+sesame", HOST)
    assert "sesame" not in str(invite)
    client = RelayClient(str(invite), ARTIST)
    assert client.receive(0, 0) == []
    client.close()
