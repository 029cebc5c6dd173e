"""A round between real processes, in the middle of which an artist, the relay or the host is killed with `kill -9`."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from workshop import Kernel, Workshop

from fedart_nb.diffusion import Adapter
from fedart_nb.relay import Invite

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX"),
]

ARTISTS = {"Ada": "openmoji", "Ben": "fluent_ink", "Cyan Quillfeather": "gerald_ink"}
ADA, BEN, CY = ARTISTS

OPEN_ROOM = """
host = Host("Studio", folder={folder!r}, backbone=backbone)
invite = host.open_room({url!r}, rounds={rounds}, min_artists=2, local_steps=2, batch=4, join_s=120, patience_s={patience_s})
print(f"<{{invite}}>")
for event in host.rounds():
    print(event, flush=True)
"""
GO_ON_HOSTING = """
host = Host("Studio", folder={folder!r})
for event in host.rounds():
    print(event, flush=True)
"""
TAKE_PART = """
session = Session({name!r}, folder={folder!r}, backbone=backbone)
session.art = ArtSet.sample({art!r}, limit=10)
session.join({invite})
for event in session.rounds():
    print(event, flush=True)
    while isinstance(event, Step) and Path({held!r}).exists():
        threading.Event().wait(0.05)
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    try:
        workshop.start("host", *ARTISTS)
        yield workshop
    finally:
        workshop.close()


@dataclass
class Room:
    """One room of the workshop: who is in it runs a cell that ends with the room's last round."""

    workshop: Workshop
    folder: Path
    invite: Invite | None = None

    def open(self, *, rounds: int, patience_s: float = 120.0) -> Kernel:
        host = self.workshop.kernel("host")
        url = self.workshop.relay.url
        host.run(OPEN_ROOM.format(folder=str(self.folder / "host"), url=url, rounds=rounds, patience_s=patience_s))
        host.expect(">\n")
        link = re.search(r"<(.+)>\n", host.output)
        assert link
        self.invite = Invite.parse(link[1])
        return host

    def enter(self, *names: str) -> None:
        for name in names:
            self._take_part(name, repr(str(self.invite)))

    def come_back(self, name: str) -> None:
        """After a restart: the session knows its room."""
        self._take_part(name, "")

    def go_on_hosting(self) -> Kernel:
        host = self.workshop.kernel("host")
        host.run(GO_ON_HOSTING.format(folder=str(self.folder / "host")))
        return host

    def hold(self, name: str) -> None:
        """Let an artist's kernel stand still after its next training step, until `release`."""
        self._gate(name).touch()

    def release(self, name: str) -> None:
        self._gate(name).unlink()

    def stored(self, kind: str) -> list[tuple[int, str]]:
        assert self.invite is not None
        return self.workshop.relay.stored(self.invite.room, kind)

    def ids(self) -> dict[str, str]:
        """The identity of each name, as the artist's own kernel tells it."""
        return {name: self.workshop.kernel(name).ask("print(session.identity.id)") for name in ARTISTS}

    def newest(self, rounds: int) -> set[str]:
        """Digests of the shared adapter after `rounds` rounds, in the host's folder and in every artist's."""
        host = Adapter.load(self.folder / "host" / f"shared-{rounds + 1:04d}.safetensors")
        return {host.digest, *(Adapter.load(self.folder / name / "shared").digest for name in ARTISTS)}

    def _gate(self, name: str) -> Path:
        return self.folder / f"held-{name}"

    def _take_part(self, name: str, invite: str) -> None:
        held, folder = str(self._gate(name)), str(self.folder / name)
        cell = TAKE_PART.format(name=name, folder=folder, art=ARTISTS[name], invite=invite, held=held)
        self.workshop.kernel(name).run(cell)


@pytest.fixture
def room(workshop: Workshop, tmp_path: Path) -> Room:
    return Room(workshop, tmp_path)


def test_a_killed_artist_is_left_out_of_the_round_and_is_back_in_the_next_as_the_same_person(room: Room) -> None:
    workshop = room.workshop
    host = room.open(rounds=2, patience_s=10)
    room.hold(CY)
    room.enter(*ARTISTS)
    workshop.kernel(CY).expect("step 1 of 2")
    workshop.kill(CY)
    room.release(CY)
    workshop.start(CY)
    host.expect("round 1 of 2 is over: a new shared adapter from 2 artists")
    assert f"Round 1 went on without {CY}" in host.output
    room.come_back(CY)
    host.expect("round 2 of 2 is over: a new shared adapter from 3 artists")
    host.finish()
    assert "round 2: update sent" in workshop.kernel(CY).finish()
    for name in (ADA, BEN):
        output = workshop.kernel(name).finish()
        assert "ERROR" not in output
        assert output.count("update sent") == 2
    assert len(room.newest(rounds=2)) == 1
    ids = room.ids()
    assert sorted(room.stored("update")) == sorted([(1, ids[ADA]), (1, ids[BEN]), *((2, ids[name]) for name in ARTISTS)])
    assert {sender for _, sender in room.stored("hello")} == set(ids.values()), "nobody came as somebody else"


def test_a_round_in_which_the_relay_is_killed_completes_and_nothing_is_lost(room: Room) -> None:
    workshop = room.workshop
    host = room.open(rounds=1)
    held = (BEN, CY)
    for name in held:
        room.hold(name)
    room.enter(*ARTISTS)
    for name in held:
        workshop.kernel(name).expect("step 1 of 2")
    workshop.kernel(ADA).expect("update sent")
    before = {kind: room.stored(kind) for kind in ("hello", "plan", "advertise", "roster", "update")}
    workshop.relay.kill()
    for name in held:
        room.release(name)
        workshop.kernel(name).expect("step 2 of 2")
    workshop.relay.start()
    host.expect("round 1 of 1 is over: a new shared adapter from 3 artists")
    host.finish()
    for name in ARTISTS:
        output = workshop.kernel(name).finish()
        assert "ERROR" not in output
        assert output.count("update sent") == 1
    for kind, messages in before.items():
        assert room.stored(kind)[: len(messages)] == messages
    assert sorted(room.stored("update")) == sorted((1, sender) for sender in room.ids().values())
    assert len(room.newest(rounds=1)) == 1


def test_a_round_in_which_the_host_is_killed_is_finished_by_its_next_kernel(room: Room) -> None:
    workshop = room.workshop
    host = room.open(rounds=2)
    room.hold(ADA)
    room.enter(*ARTISTS)
    workshop.kernel(CY).expect("round 1: update sent")
    room.hold(CY)
    room.release(ADA)
    workshop.kernel(CY).expect("round 1 of 2 is over")
    host.expect(f"Waiting for updates of {CY}.")
    before = {kind: room.stored(kind) for kind in ("plan", "roster", "result", "update")}
    assert [number for number, _ in before["result"]] == [1]
    assert [number for number, _ in before["update"]].count(2) == 2, "Ada's and Ben's are in"
    workshop.kill("host")
    room.release(CY)
    workshop.kernel(CY).expect("round 2: update sent")
    assert room.stored("result") == before["result"], "without a host no round ends"
    host = room.go_on_hosting()
    host.expect("round 2 of 2 is over: a new shared adapter from 3 artists")
    host.finish()
    for name in ARTISTS:
        output = workshop.kernel(name).finish()
        assert "ERROR" not in output
        assert output.count("update sent") == 2
    for kind in ("plan", "roster", "result"):
        assert [number for number, _ in room.stored(kind)] == [1, 2], f"each {kind} once"
    assert len(room.newest(rounds=2)) == 1
