"""The mailbox's own rules: order, limits, blobs, and what a crash leaves behind."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import RelayError
from fedart_nb.relay.limits import Limits, Refused
from fedart_nb.relay.mailbox import INBOX_PAGE, Mailbox
from fedart_nb.relay.wire import Envelope, sha256_hex

if TYPE_CHECKING:
    from pathlib import Path

HOST, ARTIST = Identity.generate(), Identity.generate()
TOKEN = "a-token-that-opens-the-room"
BLOB = b"b" * 900


def sealed(sender: Identity, recipient: str = "all", **fields: Any) -> bytes:
    given: dict[str, Any] = {"room": "room", "round": 1, "kind": "note", "sender": sender.id, **fields}
    return Envelope(recipient=recipient, **given).sealed(sender)


def upload(box: Mailbox, sender: Identity, data: bytes, *, sha256: str = "", announced: int | None = None) -> None:
    with box.receive_blob("room", sender.id, sha256 or sha256_hex(data), announced) as writer:
        for start in range(0, len(data), 100):
            writer.write(data[start : start + 100])
        writer.commit()


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for name in ("blobs", "incoming") for path in (folder / name).rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "relay"


@pytest.fixture
def box(mailbox: Mailbox) -> Mailbox:
    mailbox.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
    mailbox.join("room", TOKEN, ARTIST.public_key)
    return mailbox


def test_seqs_count_from_one_without_gaps_whoever_posts(tmp_path: Path) -> None:
    with Mailbox(tmp_path) as box:
        box.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
        with ThreadPoolExecutor(6) as pool:
            seqs = list(pool.map(lambda n: box.post("room", HOST.id, sealed(HOST, body={"n": n})), range(60)))
        assert sorted(seqs) == list(range(1, 61))
        assert [message.seq for message in box.inbox("room", HOST.id, 0)] == list(range(1, 61))


def test_a_long_backlog_comes_in_pages(tmp_path: Path) -> None:
    with Mailbox(tmp_path) as box:
        box.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
        for n in range(INBOX_PAGE + 5):
            box.post("room", HOST.id, sealed(HOST, body={"n": n}))
        assert len(box.inbox("room", HOST.id, 0)) == INBOX_PAGE
        assert len(box.inbox("room", HOST.id, INBOX_PAGE)) == 5


def test_everything_is_there_after_a_restart(folder: Path, box: Mailbox) -> None:
    upload(box, ARTIST, BLOB)
    data = sealed(ARTIST, "host", attachments={"u": BLOB})
    assert box.post("room", ARTIST.id, data) == 1
    box.close()
    with Mailbox(folder) as again:
        assert again.inbox("room", HOST.id, 0) == [(1, data)]
        assert again.find_blob("room", HOST.id, sha256_hex(BLOB))[0].read_bytes() == BLOB
        assert again.post("room", ARTIST.id, data) == 1
        assert again.post("room", ARTIST.id, sealed(ARTIST)) == 2


def test_two_relays_do_not_share_a_folder(folder: Path, box: Mailbox) -> None:
    with pytest.raises(RelayError, match="Another relay is using"):
        Mailbox(folder)


def test_an_upload_that_breaks_off_leaves_nothing(folder: Path, box: Mailbox) -> None:
    with box.receive_blob("room", ARTIST.id, sha256_hex(BLOB), len(BLOB)) as writer:
        writer.write(BLOB[:100])
    assert files_of(folder) == []
    for _ in range(5):  # its reservation is gone, too: 5 × 900 bytes fit into 5000
        upload(box, ARTIST, BLOB, announced=len(BLOB))


def test_leftovers_of_a_crash_are_removed(folder: Path, box: Mailbox) -> None:
    box.close()
    (folder / "incoming" / "leftover").write_bytes(b"half a blob")
    with Mailbox(folder):
        assert files_of(folder) == []


@pytest.mark.parametrize("announced", [None, 900])
def test_a_blob_with_another_checksum_is_refused_and_forgotten(
    folder: Path, box: Mailbox, announced: int | None
) -> None:
    with pytest.raises(Refused, match="announced was") as caught:
        upload(box, ARTIST, BLOB, sha256=sha256_hex(b"other"), announced=announced)
    assert caught.value.status == 400
    assert files_of(folder) == []


@pytest.mark.parametrize("size", [899, 901])
def test_a_blob_of_another_size_than_announced_is_refused(box: Mailbox, size: int) -> None:
    with pytest.raises(Refused, match="announced"):
        upload(box, ARTIST, b"x" * size, announced=900)


def test_uploads_that_run_at_once_share_the_rooms_quota(box: Mailbox) -> None:
    running = [box.receive_blob("room", ARTIST.id, sha256_hex(bytes([n])), 1000) for n in range(5)]
    with pytest.raises(Refused, match="may hold 5000") as caught:
        box.receive_blob("room", ARTIST.id, sha256_hex(b"one more"), 1000)
    assert caught.value.status == 413
    for writer in running:
        writer.abort()
    upload(box, ARTIST, BLOB)


def test_an_unannounced_upload_is_counted_while_it_streams(folder: Path, box: Mailbox) -> None:
    with pytest.raises(Refused, match="more than 1000 bytes") as caught:
        upload(box, ARTIST, b"x" * 10_000)
    assert caught.value.status == 413
    assert files_of(folder) == []


def test_messages_count_against_the_rooms_limits(box: Mailbox) -> None:
    for n in range(10):
        box.post("room", ARTIST.id, sealed(ARTIST, body={"n": n}))
    with pytest.raises(Refused, match="10 messages") as caught:
        box.post("room", ARTIST.id, sealed(ARTIST, body={"n": 10}))
    assert caught.value.status == 429
    assert box.post("room", ARTIST.id, sealed(ARTIST, body={"n": 3})) == 4  # known ones still get their seq


def test_rooms_and_members_are_limited(box: Mailbox) -> None:
    box.join("room", TOKEN, Identity.generate().public_key)
    with pytest.raises(Refused, match="is full: it has 3 members") as caught:
        box.join("room", TOKEN, Identity.generate().public_key)
    assert caught.value.status == 429
    box.join("room", TOKEN, ARTIST.public_key)  # who is in stays in
    box.create_room("second", "0" * 64, HOST.public_key)
    with pytest.raises(Refused, match="2 rooms"):
        box.create_room("third", "0" * 64, HOST.public_key)


def test_a_room_is_opened_once_but_asking_again_is_no_error(box: Mailbox) -> None:
    box.create_room("room", sha256_hex(TOKEN.encode()), HOST.public_key)
    with pytest.raises(Refused, match="exists already") as caught:
        box.create_room("room", sha256_hex(TOKEN.encode()), ARTIST.public_key)
    assert caught.value.status == 409


def test_the_token_itself_is_not_stored(folder: Path, box: Mailbox) -> None:
    box.close()
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"room" in stored
    assert TOKEN.encode() not in stored
    with sqlite3.connect(folder / "relay.sqlite3") as database:
        assert database.execute("SELECT token_sha256 FROM rooms").fetchall() == [(sha256_hex(TOKEN.encode()),)]


def test_an_attachment_is_for_the_messages_recipients_only(box: Mailbox) -> None:
    other = Identity.generate()
    box.join("room", TOKEN, other.public_key)
    upload(box, ARTIST, BLOB)
    sha256 = sha256_hex(BLOB)
    with pytest.raises(Refused):
        box.find_blob("room", HOST.id, sha256)
    box.post("room", ARTIST.id, sealed(ARTIST, "host", attachments={"u": BLOB}))
    assert box.find_blob("room", HOST.id, sha256)[1] == len(BLOB)
    with pytest.raises(Refused) as caught:
        box.find_blob("room", other.id, sha256)
    assert caught.value.status == 404


def test_a_message_waits_for_its_attachments(box: Mailbox) -> None:
    data = sealed(ARTIST, "host", attachments={"u": BLOB})
    with pytest.raises(Refused, match="is not on the relay") as caught:
        box.post("room", ARTIST.id, data)
    assert caught.value.status == 409
    upload(box, HOST, BLOB)  # somebody else's upload proves nothing
    with pytest.raises(Refused):
        box.post("room", ARTIST.id, data)
    upload(box, ARTIST, BLOB)
    assert box.post("room", ARTIST.id, data) == 1


def test_a_room_never_sees_another_rooms_blobs(box: Mailbox) -> None:
    upload(box, ARTIST, BLOB)
    box.create_room("second", "0" * 64, ARTIST.public_key)
    with pytest.raises(Refused):
        box.find_blob("second", ARTIST.id, sha256_hex(BLOB))


def test_listeners_hear_of_their_room_until_they_stop(box: Mailbox) -> None:
    heard: list[str] = []
    stop = box.listen("room", lambda: heard.append("room"))
    box.listen("second", lambda: heard.append("second"))
    box.post("room", ARTIST.id, sealed(ARTIST))
    box.post("room", ARTIST.id, sealed(ARTIST))  # stored before: nothing new
    stop()
    box.post("room", HOST.id, sealed(HOST))
    assert heard == ["room"]


@pytest.mark.parametrize("limits", [{"members": 513}, {"rooms": 0}, {"blob_bytes": 1.5}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(RelayError):
        Limits(**limits)
