"""Large uploads in pieces and downloads in parts: whatever breaks off goes on where it stopped."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from relay_fakes import HOST, JOINED, TOKEN, LyingRelay, assert_refused, stored_files
from starlette.testclient import TestClient

from fedart_nb.crypto.canonical_json import canonical_json
from fedart_nb.relay import Envelope, Invite, RelayClient
from fedart_nb.relay.app import app
from fedart_nb.relay.limits import Refused
from fedart_nb.relay.mailbox import Mailbox
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from relay_fakes import Caller, Clock

BLOB = bytes(range(250)) * 4
SHA = sha256_hex(BLOB)


def test_pieces_become_the_blob(host: Caller, artist: Caller) -> None:
    assert artist.head(SHA).status_code == 404
    first = artist.patch(SHA, BLOB[:400], 0, 1000)
    assert (first.status_code, first.json(), first.headers["upload-offset"]) == (200, {"offset": 400}, "400")
    standing = artist.head(SHA)
    assert (standing.status_code, standing.headers["upload-offset"]) == (404, "400")
    assert artist.patch(SHA, BLOB[400:], 400, 1000).status_code == 201
    assert artist.head(SHA).headers["content-length"] == "1000"
    assert artist.get(f"/v1/rooms/room/blobs/{SHA}").content == BLOB
    assert_refused(artist.patch(SHA, BLOB[:1], 0, 1000), 409, "is here already")


def test_a_piece_at_another_place_is_refused_with_where_it_stands(artist: Caller) -> None:
    assert_refused(artist.patch(SHA, BLOB[100:200], 100, 1000), 409, "stands at 0 bytes, not 100")
    artist.patch(SHA, BLOB[:400], 0, 1000)
    assert_refused(artist.patch(SHA, BLOB[:400], 0, 1000), 409, "stands at 400 bytes, not 0")
    assert_refused(artist.patch(SHA, BLOB[400:], 400, 999), 400, "had 1000 bytes before, now 999")


def test_a_piece_that_is_damaged_or_too_long_leaves_what_was_there(artist: Caller, http: Any) -> None:
    artist.patch(SHA, BLOB[:400], 0, 1000)
    piece_sha256 = sha256_hex(BLOB[400:])
    target = f"/v1/rooms/room/blobs/{SHA}?offset=400&size=1000&sha256={piece_sha256}"
    damaged = http.patch(target, content=BLOB[:600], headers=artist.signed("PATCH", target, piece_sha256))
    assert_refused(damaged, 400, "announced was")
    assert_refused(artist.patch(SHA, BLOB[400:] + b"!", 400, 1000), 413, "more than 600 bytes")
    assert_refused(artist.patch(SHA, b"", 400, 1000), 400, "is empty")
    assert artist.head(SHA).headers["upload-offset"] == "400"
    assert artist.patch(SHA, BLOB[400:], 400, 1000).status_code == 201


def test_pieces_that_together_are_another_blob_are_forgotten(tmp_path: Path, artist: Caller) -> None:
    artist.patch(SHA, BLOB[:400], 0, 1000)
    assert_refused(artist.patch(SHA, bytes(600), 400, 1000), 400, "together they do not have the sha256")
    assert artist.head(SHA).headers.get("upload-offset") is None
    assert stored_files(tmp_path) == []


def test_sizes_are_refused_by_their_announcement(tmp_path: Path, artist: Caller) -> None:
    assert_refused(artist.patch(SHA, BLOB, 0, 1001), 413, "A blob of 1001 bytes")
    response = artist.patch(SHA, BLOB, 0, 1000, **{"content-length": str(2**20 + 1)})
    assert_refused(response, 413, "a piece may have 1048576")
    assert stored_files(tmp_path) == []


def test_an_upload_is_its_members_own(host: Caller, artist: Caller) -> None:
    artist.patch(SHA, BLOB[:400], 0, 1000)
    assert host.head(SHA).headers.get("upload-offset") is None
    assert_refused(host.patch(SHA, BLOB[400:], 400, 1000), 409, "stands at 0 bytes")


def test_half_done_uploads_keep_their_space_until_they_are_forgotten(
    mailbox: Mailbox, tmp_path: Path, clock: Clock, artist: Caller
) -> None:
    for n in range(5):
        assert artist.patch(sha256_hex(bytes([n])), b"x", 0, 1000).status_code == 200
    assert_refused(artist.patch(sha256_hex(b"more"), b"x", 0, 1000), 413, "would hold 6000 bytes")
    clock.now += 3601
    mailbox.sweep()
    assert stored_files(tmp_path) == []
    assert artist.patch(sha256_hex(b"more"), b"x", 0, 1000).status_code == 200


def test_nobody_leaves_endless_uploads_half_done(tmp_path: Path, clock: Clock) -> None:
    with Mailbox(tmp_path, clock=clock) as box:
        box.create_room("room", "0" * 64, HOST.public_key)
        begin: dict[str, Any] = {"offset": 0, "size_bytes": 9, "piece_sha256": "0" * 64}
        for n in range(32):
            box.receive_piece("room", HOST.id, sha256_hex(bytes([n])), **begin).abort()
        with pytest.raises(Refused, match="32 uploads half done"):
            box.receive_piece("room", HOST.id, "f" * 64, **begin)


def test_two_requests_do_not_write_one_blob_at_once(mailbox: Mailbox, artist: Caller) -> None:
    begin: dict[str, Any] = {"offset": 0, "size_bytes": 1000, "piece_sha256": "0" * 64}
    running = mailbox.receive_piece("room", artist.identity.id, SHA, **begin)
    response = artist.patch(SHA, BLOB, 0, 1000)
    assert_refused(response, 503, "Another request is writing")
    assert response.headers["retry-after"] == "1"
    running.abort()
    assert artist.patch(SHA, BLOB, 0, 1000).status_code == 201


def test_after_a_crash_an_upload_goes_on_behind_its_last_whole_piece(
    mailbox: Mailbox, tmp_path: Path, clock: Clock, artist: Caller
) -> None:
    artist.patch(SHA, BLOB[:400], 0, 1000)
    mailbox.close()
    (half,) = stored_files(tmp_path)
    half.write_bytes(half.read_bytes() + b"of a piece that kill -9 cut off")
    (half.parent / "leftover").write_bytes(b"of an upload in one request")
    with Mailbox(tmp_path / "relay", clock=clock) as again, TestClient(app(again)) as later:
        artist.http = later
        assert stored_files(tmp_path) == [half]
        assert artist.head(SHA).headers["upload-offset"] == "400"
        assert artist.patch(SHA, BLOB[400:], 400, 1000).status_code == 201


@pytest.mark.parametrize(
    ("asked", "status", "start"),
    [("bytes=400-", 206, 400), ("bytes=0-", 200, 0), ("bytes=1000-", 200, 0), ("bytes=1-5,7-9", 200, 0), ("x", 200, 0)],
)
def test_a_download_goes_on_from_where_it_is_asked_to(
    artist: Caller, http: Any, asked: str, status: int, start: int
) -> None:
    target = f"/v1/rooms/room/blobs/{SHA}"
    artist.put(target, BLOB)
    response = http.get(target, headers={**artist.signed("GET", target), "range": asked})
    assert (response.status_code, response.content) == (status, BLOB[start:])
    assert response.headers["content-length"] == str(1000 - start)
    if status == 206:
        assert response.headers["content-range"] == "bytes 400-999/1000"


class BreakingRelay(LyingRelay):
    """Gives a blob away `step` bytes at a time, then breaks the connection; ignores Range when `whole`."""

    def __init__(self, blob: bytes, step: int, *, whole: bool = False) -> None:
        super().__init__()
        self.ranges: list[str | None] = []
        self.says("join", JOINED)
        outer, answer = self, self._server.RequestHandlerClass.do_GET  # type: ignore[attr-defined]

        def get(handler: Any) -> None:
            if "/blobs/" not in handler.path:
                answer(handler)
                return
            asked = handler.headers["range"]
            outer.ranges.append(asked)
            start = 0 if asked is None or whole else int(asked.removeprefix("bytes=").removesuffix("-"))
            handler.send_response(206 if start else 200)
            handler.send_header("Content-Length", str(len(blob) - start))
            handler.end_headers()
            end = len(blob) if whole and len(outer.ranges) > 1 else start + step
            handler.wfile.write(blob[start:end])
            handler.close_connection = True

        self._server.RequestHandlerClass.do_GET = get  # type: ignore[attr-defined]


@pytest.fixture
def artist_client() -> Iterator[Any]:
    made: list[RelayClient] = []

    def connect(url: str) -> RelayClient:
        invite = Invite(url, "room", TOKEN, HOST.id)
        made.append(RelayClient(invite, Identity.generate(), backoff_s=(0.01, 0.05), rng=random.Random(0)))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def announced(blob: bytes) -> Envelope:
    sent = Envelope(room="room", round=1, kind="result", sender=HOST.id, recipient="all", attachments={"shared": blob})
    return Envelope.opened(sent.sealed(HOST))


def test_the_client_fetches_only_what_is_missing(artist_client: Any) -> None:
    relay = BreakingRelay(BLOB, 300)
    assert artist_client(relay.url).fetch(announced(BLOB), 1000).attachments == {"shared": BLOB}
    assert relay.ranges == [None, "bytes=300-", "bytes=600-", "bytes=900-"]
    relay.stop()


def test_a_relay_that_knows_no_ranges_is_asked_for_the_whole_again(artist_client: Any) -> None:
    relay = BreakingRelay(BLOB, 300, whole=True)
    assert artist_client(relay.url).fetch(announced(BLOB), 1000).attachments == {"shared": BLOB}
    assert relay.ranges == [None, "bytes=300-"]
    relay.stop()


def with_three_pieces(sender: Identity) -> Envelope:
    """An update for the host, as large as three pieces."""
    attachments = {"u": bytes(3 * 2**20)}
    return Envelope(room="room", round=1, kind="update", sender=sender.id, recipient="host", attachments=attachments)


def test_a_relay_of_an_earlier_version_gets_the_blob_in_one_request(artist_client: Any) -> None:
    relay = LyingRelay()
    relay.says("join", JOINED | {"blob_limit_bytes": 2**24})
    relay.says("blobs", (404, b""), (201, b"{}"))
    relay.says("outbox", {"seq": 1})
    client = artist_client(relay.url)
    envelope = with_three_pieces(client.identity)
    assert client.send(envelope, client.identity) == 1
    assert relay.asked == ["join", "blobs", "blobs", "outbox"]
    relay.stop()


def test_a_conflict_that_does_not_move_is_not_asked_for_ever(artist_client: Any) -> None:
    relay = LyingRelay()
    relay.says("join", JOINED | {"blob_limit_bytes": 2**24, "piece_bytes": 2**20})
    relay.says("blobs", (404, b""), (409, canonical_json({"error": "No.", "do": "Ask."})), (404, b""))
    client = artist_client(relay.url)
    envelope = with_three_pieces(client.identity)
    with pytest.raises(Exception, match=r"No\. Ask\.") as caught:
        client.send(envelope, client.identity)
    assert caught.value.status == 409
    assert relay.asked == ["join", "blobs", "blobs", "blobs"]
    relay.stop()
