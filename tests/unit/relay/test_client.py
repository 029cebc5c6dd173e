"""The HTTP client: patient with a relay that is away, short with one that lies."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import ARTIST, HOST, JOINED, TOKEN, LyingRelay, impatient

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.errors import RelayError, RelayRefused, RelayUnreachable, TooLarge, WireError
from fedart_nb.relay import Envelope, Invite, RelayClient, create_room, serve_in_thread
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def liar() -> Iterator[LyingRelay]:
    relay = LyingRelay()
    relay.says("join", JOINED)
    yield relay
    relay.stop()


@pytest.fixture
def client(liar: LyingRelay) -> Iterator[RelayClient]:
    made = impatient(liar.url, patience_s=5)
    yield made
    made.close()


def envelope(sender: Identity = HOST, recipient: str = "all", **fields: Any) -> Envelope:
    given: dict[str, Any] = {"room": "room", "round": 1, "kind": "note", "sender": sender.id, **fields}
    return Envelope(recipient=recipient, **given)


def inbox(*envelopes: tuple[int, bytes]) -> dict[str, Any]:
    return {"messages": [{"seq": seq, "envelope": data.decode()} for seq, data in envelopes], "more": False}


def test_a_server_error_is_asked_again_and_waiting_is_told(liar: LyingRelay) -> None:
    heard: list[str] = []
    liar.says("join", (503, b"busy"), (502, b""), JOINED)
    client = impatient(liar.url, on_wait=heard.append)
    client.join()
    client.close()
    assert ["it answers 503" in heard[0], "it answers 502" in heard[1], heard[2:]] == [True, True, [""]]
    assert "is not reachable" in heard[0]


def test_a_refusal_is_final(liar: LyingRelay, client: RelayClient) -> None:
    liar.says("join", (403, canonical_json({"error": "No.", "do": "Ask."})))
    with pytest.raises(RelayRefused, match=r"No\. Ask\.") as caught:
        client.join()
    assert caught.value.status == 403
    assert liar.asked == ["join"]


def test_a_stranger_at_the_address_is_recognised(liar: LyingRelay, client: RelayClient) -> None:
    liar.says("join", (404, b"<html>not found</html>"))
    with pytest.raises(RelayRefused, match="is the address that of a fedart relay"):
        client.join()
    liar.says("join", (200, b"<html>welcome</html>"))
    with pytest.raises(WireError, match="not JSON"):
        client.join()


def test_patience_ends(liar: LyingRelay) -> None:
    liar.stop()
    client = impatient(liar.url, patience_s=0.1)
    with pytest.raises(RelayUnreachable, match=r"did not answer for 0\.1 s .*Is it running"):
        client.receive(0, 20)


def test_whoever_waits_may_give_up_from_on_wait(liar: LyingRelay) -> None:
    class Enough(Exception):
        pass

    def give_up(_: str) -> None:
        raise Enough

    liar.stop()
    client = impatient(liar.url, on_wait=give_up)
    with pytest.raises(Enough):
        client.receive(0, 20)


def test_another_host_than_the_invites_is_not_trusted(liar: LyingRelay, client: RelayClient) -> None:
    liar.says("join", {**JOINED, "host_id": "f" * 32})
    with pytest.raises(RelayError, match="Do not trust this relay"):
        client.join()


def test_messages_that_fail_their_checks_are_left_out_and_listed(liar: LyingRelay, client: RelayClient) -> None:
    good = envelope().sealed(HOST)
    forged = good.replace(b'"round":1', b'"round":2')
    elsewhere = envelope(room="elsewhere").sealed(HOST)
    private = envelope(recipient="host").sealed(HOST)
    liar.says("inbox", inbox((3, forged), (4, elsewhere), (5, private)), inbox((6, good)))
    assert [delivered.seq for delivered in client.receive(0, 5)] == [6]
    assert [seq for seq, _ in client.damaged] == [3, 4, 5]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"messages": 1},
        {"messages": [{"seq": 1}]},
        {"messages": [{"seq": "1", "envelope": "{}"}]},
        inbox((0, b"{}")),
    ],
)
def test_an_inbox_in_another_form_is_a_wire_error(liar: LyingRelay, client: RelayClient, answer: Any) -> None:
    liar.says("inbox", answer)
    with pytest.raises(WireError):
        client.receive(0, 5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"other bytes", "do not have the checksum"),
        (b"longer than it should be", "the relay announces 24"),
        (b"", "announces 0"),
    ],
)
def test_attachments_that_are_not_those_announced_are_refused(
    liar: LyingRelay, client: RelayClient, body: bytes, message: str
) -> None:
    sent = Envelope.opened(envelope(attachments={"u": b"these bytes"}).sealed(HOST))
    liar.says("blobs", (200, body))
    with pytest.raises(WireError, match=message):
        client.fetch(sent, 1000)


def test_an_answer_without_end_is_cut_off(liar: LyingRelay, client: RelayClient) -> None:
    liar.says("inbox", (200, b" " * (64 * 2**20 + 1)))
    with pytest.raises(TooLarge, match="the rest was not read"):
        client.receive(0, 5)


@pytest.mark.parametrize("answer", [{}, {"seq": 0}, {"seq": "1"}, []])
def test_a_seq_that_is_none_is_a_wire_error(liar: LyingRelay, client: RelayClient, answer: Any) -> None:
    liar.says("outbox", answer)
    with pytest.raises(WireError, match="expected its seq"):
        client.send(envelope(ARTIST), ARTIST)


def test_close_ends_the_waiting_of_another_thread(liar: LyingRelay) -> None:
    liar.stop()
    waiting, ended = threading.Event(), threading.Event()

    def tell(_: str) -> None:
        waiting.set()

    client = RelayClient(
        Invite(liar.url, "room", TOKEN, HOST.id), ARTIST, on_wait=tell, patience_s=60, backoff_s=(30.0, 30.0)
    )

    def wait() -> None:
        with pytest.raises(RelayUnreachable):
            client.receive(0, 20)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    assert waiting.wait(10)
    client.close()
    assert ended.wait(10)


def test_a_wrong_clock_is_set_by_the_relays(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path) as relay:
        client = RelayClient(create_room(relay.url, HOST), ARTIST, clock=lambda: 1_000_000.0, patience_s=5)
        assert client.receive(0, 0) == []
        client.close()


def test_a_wrong_token_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path) as relay:
        invite = create_room(relay.url, HOST, "demo")
        wrong = Invite(invite.url, invite.room, "x" * 32, HOST.id)
        client = RelayClient(str(wrong), ARTIST)
        with pytest.raises(RelayRefused, match=r"does not open the room 'demo'\. Ask the host") as caught:
            client.receive(0, 0)
        client.close()
        assert caught.value.status == 403
        with pytest.raises(RelayRefused, match="exists already"):
            create_room(relay.url, HOST, "demo")


def test_a_relay_that_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    heard: list[str] = []
    away, back = threading.Event(), threading.Event()

    def told(sentence: str) -> None:
        heard.append(sentence)
        (away if sentence else back).set()

    first = serve_in_thread(tmp_path)
    invite = create_room(first.url, HOST)
    host = RelayClient(invite, HOST)
    artist = RelayClient(invite, ARTIST, on_wait=told, backoff_s=(0.01, 0.05))
    host.send(envelope(room=invite.room, body={"n": 1}), HOST)
    assert [delivered.seq for delivered in artist.receive(0, 5)] == [1]
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.extend(artist.receive(1, 30)), daemon=True)
    thread.start()
    first.stop()
    assert away.wait(10)
    with serve_in_thread(tmp_path, port=int(first.url.rpartition(":")[2])):
        host.send(envelope(room=invite.room, body={"n": 2}), HOST)
        thread.join(20)
        assert [delivered.seq for delivered in got] == [2]
        assert back.is_set()
        artist.close()
        host.close()


def test_repr_shows_no_secret(client: RelayClient) -> None:
    assert TOKEN not in repr(client) + repr(client.invite)
