"""Rounds between real processes: artist, relay and host are killed with `kill -9`; then, what the relay holds."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from needles import matches, windows
from workshop import Kernel, Workshop

import fedart_nb
from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Adapter
from fedart_nb.relay import Invite

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX"),
]

ARTISTS = {"Ada": "openmoji", "Ben": "fluent_ink", "Cyan Quillfeather": "gerald_ink", "Dee": "gameicons"}
ADA, BEN, CY, DEE = ARTISTS
SAMPLES = Path(fedart_nb.__file__).parent / "art" / "samples"

OPEN_ROOM = """
host = Host("Studio", folder={folder!r}, backbone=backbone)
invite = host.open_room(
    {url!r}, rounds={rounds}, min_artists=4, local_steps=2, batch=4, join_s=120, patience_s={patience_s}, door="open"
)
print(f"<{{invite}}>")
for event in host.rounds():
    print(event, flush=True)
"""
GO_ON_HOSTING = """
host = Host("Studio", folder={folder!r})
for event in host.rounds():
    print(event, flush=True)
"""
JOIN = """
session = Session({name!r}, folder={folder!r}, backbone=backbone)
session.art = ArtSet.sample({art!r}, limit=10)
session.join({invite})
session.consent.stand()
"""
TAKE_PART = """
for event in session.rounds(confirm="anyone", ask=lambda question: True):
    print(event, flush=True)
    while isinstance(event, Step) and Path({held!r}).exists():
        threading.Event().wait(0.05)
"""
SAVE_LATENTS = """
with open({path!r}, "wb") as file:
    for split in ("train", "test"):
        file.write(session.latents(split).latents.numpy().tobytes())
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
        """All say hello before the first one agrees to the plan, so that nobody comes too late for round 1."""
        self._take_part(names, repr(str(self.invite)))

    def come_back(self, name: str) -> None:
        """After a restart: the session knows its room."""
        self._take_part((name,), "")

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

    def _take_part(self, names: tuple[str, ...], invite: str) -> None:
        for name in names:
            folder = str(self.folder / name)
            cell = JOIN.format(name=name, folder=folder, art=ARTISTS[name], invite=invite)
            self.workshop.kernel(name).run(cell)
        for name in names:
            self.workshop.kernel(name).finish()
        for name in names:
            self.workshop.kernel(name).run(TAKE_PART.format(held=str(self._gate(name))))


@pytest.fixture
def room(workshop: Workshop, tmp_path: Path) -> Iterator[Room]:
    yield Room(workshop, tmp_path)
    workshop.stop_what_still_runs()


def test_a_killed_artist_is_left_out_of_the_round_and_is_back_in_the_next_as_the_same_person(room: Room) -> None:
    workshop = room.workshop
    host = room.open(rounds=2, patience_s=12)
    room.hold(CY)
    room.enter(*ARTISTS)
    workshop.kernel(CY).expect("step 1 of 2")
    workshop.kill(CY)
    room.release(CY)
    workshop.start(CY)
    host.expect("round 1 of 2 is over: a new shared adapter from 3 artists")
    assert f"Round 1 went on without {CY}" in host.output
    room.come_back(CY)
    host.expect("round 2 of 2 is over: a new shared adapter from 4 artists")
    host.finish()
    assert "round 2: update sent" in workshop.kernel(CY).finish()
    for name in (ADA, BEN, DEE):
        output = workshop.kernel(name).finish()
        assert "ERROR" not in output
        assert output.count("update sent") == 2
    assert len(room.newest(rounds=2)) == 1
    ids = room.ids()
    assert sorted(room.stored("update")) == sorted(
        [*((1, ids[name]) for name in (ADA, BEN, DEE)), *((2, ids[name]) for name in ARTISTS)]
    )
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
    for name in (ADA, DEE):
        workshop.kernel(name).expect("update sent")
    before = {kind: room.stored(kind) for kind in ("hello", "plan", "advertise", "roster", "update")}
    workshop.relay.kill()
    for name in held:
        room.release(name)
    workshop.relay.start()
    host.expect("round 1 of 1 is over: a new shared adapter from 4 artists")
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
    assert [number for number, _ in before["update"]].count(2) == 3, "Ada's, Ben's and Dee's are in"
    workshop.kill("host")
    room.release(CY)
    workshop.kernel(CY).expect("round 2: update sent")
    assert room.stored("result") == before["result"], "without a host no round ends"
    host = room.go_on_hosting()
    host.expect("round 2 of 2 is over: a new shared adapter from 4 artists")
    host.finish()
    for name in ARTISTS:
        output = workshop.kernel(name).finish()
        assert "ERROR" not in output
        assert output.count("update sent") == 2
    for kind in ("plan", "roster", "result"):
        assert [number for number, _ in room.stored(kind)] == [1, 2], f"each {kind} once"
    assert len(room.newest(rounds=2)) == 1


def test_the_relay_holds_no_byte_of_any_picture_latent_caption_or_file_name(room: Room) -> None:
    host = room.open(rounds=1)
    room.enter(*ARTISTS)
    host.finish()
    latents = []
    for name in ARTISTS:
        kernel = room.workshop.kernel(name)
        kernel.finish()
        path = room.folder / f"latents-{name}"
        kernel.ask(SAVE_LATENTS.format(path=str(path)))
        latents.append(path.read_bytes())
    relay = room.workshop.relay
    stored = b"\0".join(path.read_bytes() for path in sorted(relay.data.rglob("*")) if path.is_file())
    seen = stored + relay.errors.read_bytes()
    art = {name: ArtSet.sample(name, limit=10) for name in ARTISTS.values()}
    pictures = [(name, picture, art[name]) for name in art for picture in art[name]]
    secrets = {
        "pixels": [art.pixels([picture]).tobytes() for _, picture, art in pictures],
        "PNG": [art.thumbnail_png(picture.id, art.size_px) for _, picture, art in pictures],
        "files": [(SAMPLES / name / picture.name).read_bytes() for name, picture, _ in pictures],
        "latents": latents,
    }
    for what, parts in secrets.items():
        assert all(windows(part) for part in parts), what
        secret = b"".join(parts)
        needles = windows(secret)
        assert not matches(needles, seen), what
        assert matches(needles, seen[:1001] + secret + seen[-1000:]) == needles, "planted, they are all found"
    words = {text.encode() for _, picture, _ in pictures for text in (picture.name, picture.caption) if len(text) > 5}
    assert len(words) > 30
    assert not {word for word in words if word in seen}
    shared = (room.folder / "host" / "shared-0002.safetensors").read_bytes()
    assert matches(windows(shared), stored) == windows(shared), "what was sent is found by the same search"
    for public in (CY, "lora_A.weight", '"route": "put_blob"'):
        assert public.encode() in seen, "and so is what the relay may know"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells what a process has loaded")
def test_the_relay_process_has_no_torch_in_it(workshop: Workshop) -> None:
    assert "libtorch" not in Path(f"/proc/{workshop.relay.process.pid}/maps").read_text()
    assert "libtorch" in Path(f"/proc/{workshop.kernel(ADA).pid}/maps").read_text()
