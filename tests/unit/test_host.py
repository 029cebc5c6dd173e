"""The host's session: it hears everybody, and restarted it neither forgets nor contradicts what it had said."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import build

from fedart_nb.crypto.identity import Identity
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import FedArtError, RelayError, RelayUnreachable, RoundError, WireError
from fedart_nb.events import Joined, RoundClosed, RoundOpened, Waiting
from fedart_nb.federated import ArtistSide, rule_of
from fedart_nb.host import Host
from fedart_nb.relay import Envelope, Invite, RelayClient
from fedart_nb.relay.server import RunningRelay, serve_in_thread


class Artist:
    """Someone who says what an artist's kernel says, with an update made of one number."""

    def __init__(self, name: str, invite: Invite, backbone: Backbone) -> None:
        self.identity = Identity.generate()
        self.transport = RelayClient(invite, self.identity)
        self.side = ArtistSide(
            room=invite.room,
            host=invite.host_id,
            identity=self.identity,
            name=name,
            backbone_sha256=backbone.sha256,
        )
        self._cursor = 0
        self._send(self.side.hello())

    def hear(self, wait_s: float = 5) -> None:
        """Read what the host said so far; agree to a plan."""
        for seq, envelope in self.transport.receive(self._cursor, wait_s):
            for answer in self.side.feed(self.transport.fetch(envelope, 10**8)):
                self._send(answer)
            self._cursor = seq
        if self.side.needs_answer():
            self._send(self.side.answer(contribute=True))

    def update(self, value: float) -> None:
        assert self.side.task is not None
        trained = rule_of(self.side.task.plan.rule).trained(self.side.task.plan.number, self.side.task.shared)
        update = {k: np.full_like(v, value * (k in trained)) for k, v in self.side.task.shared.items()}
        self._send(self.side.submit(update, pictures=5))

    def _send(self, envelope: Any) -> None:
        self.transport.send(envelope, self.identity)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("tiny")
    build().save_pretrained(folder)
    return Backbone.from_pretrained(folder, device="cpu")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[RunningRelay]:
    relay = serve_in_thread(tmp_path / "relay")
    yield relay
    relay.stop()


def until(events: Iterator[Any], kind: type, **fields: Any) -> Any:
    """Let the host run until it tells of such an event."""
    for event in islice(events, 30):
        if isinstance(event, kind) and all(getattr(event, name) == value for name, value in fields.items()):
            return event
    message = f"no {kind.__name__} with {fields} among the host's next 30 events"
    raise AssertionError(message)


def opened(
    host: Host, relay: RunningRelay, backbone: Backbone, names: str, **settings: Any
) -> tuple[Any, list[Artist]]:
    """A room whose round 1 waits for the updates of all `names`; returns the host's events and the artists."""
    invite = host.open_room(relay.url, min_artists=3, door="open", **settings)
    assert invite is not None
    events = host.rounds()
    artists = [Artist(name, invite, backbone) for name in names]
    until(events, Waiting)
    for artist in artists:
        artist.hear()
    roster = until(events, RoundOpened).artists
    assert set(roster) == set(names)
    for artist in artists:  # the roster arrives, shares leave
        artist.hear()
    until(events, Waiting, reason=f"Waiting for updates of {', '.join(sorted_names(host))}.")
    for artist in artists:  # shares arrive: the task
        artist.hear()
    return events, artists


def sorted_names(host: Host) -> list[str]:
    return [host.members[i].name for i in sorted(host.members)]


def finish(events: Any, artists: list[Artist]) -> Any:
    """Let everybody sign and unmask; returns the end of the round."""
    for event in islice(events, 60):
        if isinstance(event, RoundClosed):
            return event
        for artist in artists:
            artist.hear(0)
    message = "the round did not end"
    raise AssertionError(message)


def test_rounds_without_a_room_say_what_to_call(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="open_room"):
        next(Host("Studio", folder=tmp_path / "host").rounds())


def test_a_host_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FedArtError, match="1 to 60 characters"):
        Host(" ", folder=tmp_path / "host")


def test_who_says_hello_right_behind_the_last_update_is_in_the_next_round(
    relay: RunningRelay, backbone: Backbone, tmp_path: Path
) -> None:
    host = Host("Studio", folder=tmp_path / "host", backbone=backbone)
    events, artists = opened(host, relay, backbone, "ABC", rounds=2)
    for value, artist in enumerate(artists):
        artist.update(value / 10)
    until(events, Waiting, reason=f"Waiting for signatures of {', '.join(sorted_names(host))}.")
    for artist in artists:
        artist.hear()
    until(events, Waiting, reason=f"Waiting for shares of {', '.join(sorted_names(host))}.")
    for artist in artists:
        artist.hear()
    assert host.invite is not None
    Artist("Dee", host.invite, backbone)  # the host reads the last shares and this hello in one go
    assert until(events, RoundClosed).contributors == 3
    assert until(events, Joined).name == "Dee"


def test_a_host_killed_after_it_announced_the_survivors_says_nothing_else_although_a_late_update_lies_before_it(
    relay: RunningRelay, backbone: Backbone, tmp_path: Path
) -> None:
    folder = tmp_path / "host"
    host = Host("Studio", folder=folder, backbone=backbone)
    events, artists = opened(host, relay, backbone, "ABCD", rounds=1)
    *quick, late = artists
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for artist in quick:
        artist.update(0.1)
    until(events, Waiting, reason="Waiting for updates of D.")
    assert host.engine is not None
    host.members[late.identity.id].state = "dropped"
    late.update(0.9)  # arrives between the host's decision and its announcement
    for envelope in host.engine.tick():
        host._send(envelope)
    events.close()
    for path, data in before.items():  # killed before it could save
        path.write_bytes(data)
    again = Host("Studio", folder=folder)
    closed = finish(again.rounds(), artists)
    assert (closed.number, closed.contributors) == (1, 3)
    assert again.transport is not None
    kinds = [message["kind"] for message in again.transport.log()["messages"]]
    assert kinds.count("result") == kinds.count("plan") == kinds.count("roster") == kinds.count("consistency") - 3 == 1
    assert late.side.warnings[-1:] == ["Round 1 goes on without your update; it came too late or not at all."]


def test_a_host_stopped_in_the_middle_of_a_round_goes_on_at_the_next_call(
    relay: RunningRelay, backbone: Backbone, tmp_path: Path
) -> None:
    host = Host("Studio", folder=tmp_path / "host", backbone=backbone)
    events, artists = opened(host, relay, backbone, "ABC", rounds=1)
    artists[0].update(0.1)
    events.close()
    for artist in artists[1:]:
        artist.update(0.3)
    closed = finish(host.rounds(), artists)
    assert (closed.number, closed.contributors) == (1, 3)
    assert [artist.side.needs_answer() for artist in artists] == [False] * 3


def test_a_restarted_host_whose_rounds_are_over_closes_the_room_and_no_more(
    relay: RunningRelay, backbone: Backbone, tmp_path: Path
) -> None:
    host = Host("Studio", folder=tmp_path / "host", backbone=backbone)
    events, artists = opened(host, relay, backbone, "ABC", rounds=1)
    for artist in artists:
        artist.update(0.1)
    finish(events, artists)
    events.close()
    ada = artists[0]
    again = Host("Studio", folder=tmp_path / "host")
    assert [type(event) for event in islice(again.rounds(), 5)] == [Joined]
    ada.hear()
    assert ada.side.closed
    assert again.shared is not None
    assert host.shared is not None
    assert again.shared.digest == host.shared.digest


class CountingTransport:
    """A transport that counts the attachments that its owner fetches."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.fetched: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def fetch(self, envelope: Any, limit_bytes: int) -> Any:
        self.fetched.append(envelope.sender)
        return self._inner.fetch(envelope, limit_bytes)


def test_a_host_downloads_one_update_of_each_roster_member_however_many_messages_name_one(
    relay: RunningRelay, backbone: Backbone, tmp_path: Path
) -> None:
    host = Host("Studio", folder=tmp_path / "host", backbone=backbone)
    events, artists = opened(host, relay, backbone, "ABC", rounds=1)
    assert host.invite is not None
    assert host.engine is not None
    assert host.plan is not None
    outsider = Artist("Dee", host.invite, backbone)
    host.transport = counting = CountingTransport(host.transport)
    junk = bytes(host.engine.limit_bytes)

    def claim(artist: Artist, number: int, **changes: Any) -> None:
        body = {"plan_digest": host.plan.digest, "number": number} | changes  # type: ignore[union-attr]
        fields: dict[str, Any] = {"room": host.plan.room, "round": 1, "kind": "update", "recipient": "host"}  # type: ignore[union-attr]
        message = Envelope(sender=artist.identity.id, body=body, attachments={"update": junk}, **fields)
        artist.transport.send(message, artist.identity)

    for number in range(10):
        claim(outsider, number)  # in the room, not in the roster
        claim(artists[0], number, plan_digest="0" * 64)  # of another attempt
    for artist in artists:
        artist.update(0.1)
    for number in range(10):
        claim(artists[1], number)  # a second, third, ... one
    closed = finish(events, artists)
    assert (closed.number, closed.contributors) == (1, 3)
    assert sorted(counting.fetched) == sorted(artist.identity.id for artist in artists)


def test_a_wrong_relay_is_known_before_the_backbone_is_loaded(
    relay: RunningRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backbone, "embedded", lambda **_: pytest.fail("the backbone was loaded"))
    host = Host("Studio", folder=tmp_path / "host")
    with pytest.raises(RelayUnreachable, match="Is it running"):
        host.open_room("http://127.0.0.1:1")
    with pytest.raises(WireError, match="no relay address"):
        host.open_room("127.0.0.1:8765")
    closed = serve_in_thread(tmp_path / "secret", opening_secret="open sesame")
    with closed, pytest.raises(RelayError, match="those who know its secret"):
        host.open_room(closed.url)
    assert host.plan is None


def test_a_host_gives_the_relays_secret(backbone: Backbone, tmp_path: Path) -> None:
    with serve_in_thread(tmp_path / "secret", opening_secret="open sesame") as closed:
        host = Host("Studio", folder=tmp_path / "host", backbone=backbone)
        invite = host.open_room(closed.url, opening_secret="open sesame")
        assert "sesame" not in f"{invite}{invite!r}"
        assert host.transport is not None
        host.transport.close()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"[]", b'{"invite": "x", "plan": 5}', b"[" * 100_000])
@pytest.mark.parametrize("name", ["room.json", "identity.key"])
def test_a_host_whose_file_is_damaged_opens_and_keeps_it(
    weights: Path, tmp_path: Path, name: str, damage: bytes
) -> None:
    backbone = Backbone.from_pretrained(weights, device="cpu")
    before = Host("Studio", folder=tmp_path / "host", backbone=backbone).identity
    (tmp_path / "host" / name).write_bytes(damage)
    again = Host("Studio", folder=tmp_path / "host", backbone=backbone)
    assert (tmp_path / "host" / f"{name}.damaged-1").read_bytes() == damage
    assert (again.identity == before) == (name == "room.json")
