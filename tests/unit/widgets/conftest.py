"""Small stand-ins with the methods that panels use: an art set, a session, a host. They open when a test says so."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import ipywidgets
import numpy as np
import pytest
from leavings import LEAVING
from PIL import Image

from fedart_nb.art import Problem
from fedart_nb.consent import Leaving
from fedart_nb.diffusion.prompts import Lexicon
from fedart_nb.errors import ArtError
from fedart_nb.events import (
    Joined,
    Note,
    RoomPaused,
    RoundClosed,
    RoundOpened,
    Sampled,
    SampleStep,
    Step,
    Trained,
    UpdateSent,
    Waiting,
)
from fedart_nb.host.admission import Admission
from fedart_nb.privacy import ArtistPromise, SkellamSum
from fedart_nb.widgets import art_panel


@dataclass(frozen=True)
class FakePicture:
    id: str
    name: str
    caption: str
    split: str = "train"
    licence: str = "CC0"
    included: bool = True


class FakeArt:
    """An art set of flat colours, with the interface of `fedart_nb.art.ArtSet`."""

    def __init__(self, count: int = 30, name: str = "fake", problems: tuple[Any, ...] = ()) -> None:
        self.name, self.size_px, self.revision, self.problems = name, 128, 0, problems
        self.is_sample = False
        self.pictures = tuple(
            FakePicture(
                f"id{i:03d}", f"secret-name-{i}.png", f"a fox number {i} <b>", "test" if i % 5 == 0 else "train"
            )
            for i in range(count)
        )

    def __len__(self) -> int:
        return len(self.pictures)

    def restore_consent(self, excluded_ids: Any) -> None:
        excluded = set(excluded_ids)
        self.pictures = tuple(replace(p, included=p.id not in excluded) for p in self.pictures)
        self.revision += 1

    def include(self, picture: str, included: bool = True) -> None:
        if picture not in {p.id for p in self.pictures}:
            raise ArtError(f"There is no picture {picture!r} in this set; ids are in art.pictures.")
        self.pictures = tuple(replace(p, included=included) if p.id == picture else p for p in self.pictures)
        self.revision += 1

    def included(self, split: str | None = None) -> tuple[FakePicture, ...]:
        return tuple(p for p in self.pictures if p.included and split in (None, p.split))

    def thumbnail_png(self, picture: str, size_px: int = 64) -> bytes:
        hue = int(picture[2:]) * 23 % 255
        out = io.BytesIO()
        Image.new("HSV", (size_px, size_px), (hue, 160, 220)).convert("RGB").save(out, "PNG")
        return out.getvalue()

    @classmethod
    def samples(cls) -> dict[str, Any]:
        info = SimpleNamespace(title="Open & Moji", artist="many", licence="CC BY-SA 4.0", count=30, share_alike=True)
        return {"openmoji": info, "second": SimpleNamespace(**{**vars(info), "share_alike": False, "title": "Second"})}

    @classmethod
    def sample(cls, name: str, limit: int | None = None, *, size_px: int = 128) -> FakeArt:
        if name not in cls.samples():
            raise ArtError(f"There is no sample art {name!r}; choose one of openmoji, second.")
        art = cls(name=name)
        art.is_sample = True
        return art

    @classmethod
    def from_folder(cls, path: Any, *, size_px: int = 128, limit: int = 2000) -> FakeArt:
        if "empty" in str(path):
            raise ArtError(f"{str(path)!r} holds no picture. Choose a folder with JPEG, PNG, WebP or GIF files.")
        problem = Problem("broken<1>.png", "it ends too early", "broken", todo="Copy it again")
        return cls(count=7, name=str(path), problems=(problem,))

    @classmethod
    def from_files(cls, files: list[Any], *, size_px: int = 128, limit: int = 2000) -> FakeArt:
        return cls(count=len(files), name="files")


class FakeSession:
    """A session whose training takes one step each time the test opens the gate (or all, ungated)."""

    def __init__(self, *, art: Any = None, gated: bool = False, fail_at: int | None = None) -> None:
        self.art, self.fail_at, self.resumable = art, fail_at, None
        self.gate = threading.Semaphore(0) if gated else None
        self.stepped = threading.Semaphore(0)
        self.trained_with: list[tuple[Any, Any, Any]] = []
        self.drawn: list[tuple[float, float, tuple[int, ...]]] = []
        self.backbone = SimpleNamespace(understand=Lexicon(frozenset({"a", "tree"}), {"fox": "tree"}).understand)

    def train_personal(self, config: Any, *, adapter: Any = None, resume: Any = None, on_shared: bool = True) -> Any:
        self.trained_with.append((config, adapter, resume))
        first = resume.step if resume else 0
        for i in range(first + 1, config.steps + 1):
            if self.gate is not None:
                assert self.gate.acquire(timeout=20)
            if i == self.fail_at:
                raise ValueError("the paint ran out")
            held_out = 1 / i if i % 5 == 0 else None
            yield Step(i, config.steps, 2 / i, held_out, i * 0.5, SimpleNamespace(step=i))
            self.stepped.release()
        yield Trained("adapter", config.steps, 1.0, 0.5, config.steps * 0.5)

    def pictures(self, prompts: Any, *, seeds: Any, shared: float = 1, personal: float = 1, **_settings: Any) -> Any:
        self.drawn.append((shared, personal, tuple(seeds)))
        yield SampleStep(1, 2)
        yield SampleStep(2, 2)
        shade = int(80 + 100 * personal)
        yield Sampled(np.full((len(prompts), 32, 32, 3), shade, np.uint8), tuple(prompts), tuple(seeds), 0.1)


@pytest.fixture
def fake_art(monkeypatch):
    monkeypatch.setattr(art_panel, "ArtSet", FakeArt)
    return FakeArt


@pytest.fixture
def session(fake_art):
    return FakeSession()


@pytest.fixture
def make_session(fake_art):
    return FakeSession


@pytest.fixture
def open_widgets():
    """The number of widgets that are open in this process."""
    return lambda: len(ipywidgets.widgets.widget._instances)


PLAN = SimpleNamespace(
    number=1, total=2, local_steps=5, batch=8, rank=4, join_s=30.0, min_artists=3, protection="none", door="lobby"
)
PROMISE = ArtistPromise(
    SkellamSum(size=896, artists=10, survivors=7, clip_norm=0.3, noise_multiplier=1.6, seed=bytes(32)), 2, 1e-3
)


def leaving_of(plan: Any, name: str, url: str) -> Leaving:
    """What a round of a fake room would take out of the kernel."""
    return replace(
        LEAVING,
        number=plan.number,
        total=plan.total,
        plan=f"plan {plan.number}",
        size_bytes=33_000,
        pictures=8,
        steps=plan.local_steps,
        name=name,
        goes_to=url,
        key=plan,
    )


class FakeConsent:
    """Remembers whether there is a standing consent, and changes of mind."""

    def __init__(self) -> None:
        self.room, self.standing, self.leaving = "studio", False, None
        self.changes: list[str] = []

    def stand(self) -> None:
        self.standing = True

    def ask_again(self) -> None:
        self.standing = False

    def change(self, choice: str) -> str:
        self.changes.append(choice)
        return "Round 1: nothing of it has left, and nothing will."


class FakeRoomSession(FakeSession):
    """A session in a room of two rounds; asks for consent, trains, sends, and gets a result."""

    name, short_id = "Ada <b>", "aaaa aaaa"

    def __init__(self, *, rounds: int = 2, fail: Exception | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.total, self.fail = rounds, fail
        self.question: Any = None  # asked before the first round, if given
        self.agreed_again: list[bool] = []
        self.paused = ""
        self.joined: list[Any] = []
        self.answers: list[bool] = []
        self.decisions: list[Any] = []
        self.left = 0
        self.consent = FakeConsent()
        self.safety_number: Any = None
        self.roster = self.side = self.people = None
        self.plan = PLAN
        self.invite = SimpleNamespace(url="http://127.0.0.1:8765")

    def join(self, invite: Any = None) -> None:
        if self.fail is not None:
            raise self.fail
        self.joined.append(invite)

    def leave(self) -> None:
        self.left += 1

    def promise(self, plan: Any) -> Any:
        return PROMISE if plan.protection == "artist" else None

    def held_out_loss(self, *, shared: float = 1.0, personal: float = 1.0) -> float:
        return 0.5 if not shared else 0.4

    def rounds(self, *, consent: Any = None, ask: Any = None, preflight: Any = None, confirm: Any = None) -> Any:
        yield Joined("studio", self.name)
        if self.question is not None:
            self.agreed_again.append(ask(self.question))
        if self.paused:
            yield RoomPaused(self.paused)
        for number in range(1, self.total + 1):
            plan = SimpleNamespace(**{**vars(self.plan), "number": number, "total": self.total})
            leaving = leaving_of(plan, self.name, self.invite.url)
            agreed = self.consent.standing or consent(leaving)
            self.answers.append(agreed)
            if agreed:
                self.consent.leaving = leaving
                yield RoundOpened(number, self.total)
                for i in range(1, plan.local_steps + 1):
                    if self.gate is not None:
                        assert self.gate.acquire(timeout=20)
                    yield Step(i, plan.local_steps, 1 / i, None, i * 0.1)
                self.decisions.append((yield from preflight(plan, None)) if preflight else "send")
                yield UpdateSent(number, 33_000, 1.25)
            else:
                yield Note(f"Round {number} skipped.")
            yield Waiting("Waiting for the others.")
            yield RoundClosed(number, self.total, 3, "adapter")


@dataclass
class FakeMember:
    id: str
    name: str
    state: str = "joined"
    progress: float = 0.0
    heard_at: float = 1.0


class FakeHost:
    """A host whose rounds go on each time the test opens the gate."""

    name = "Studio"

    def __init__(self, folder: Any = None, *, gated: bool = False, fail: Exception | None = None) -> None:
        self.folder, self.fail = folder, fail
        self.plan: Any = None
        self.invite: Any = None
        self.members: dict[str, FakeMember] = {}
        self.opened_with: list[tuple[Any, dict[str, Any]]] = []
        self.safety_number: Any = None
        self.promise: Any = None
        self.closed = 0
        self.question: Any = None  # asked before the first round, if given
        self.went_back: bool | None = None
        self.gate = threading.Semaphore(0) if gated else None
        self.admission = Admission(folder / "admission.json")
        self.admission.bind("studio", "0" * 32)

    @property
    def guests(self) -> tuple[Any, ...]:
        return self.admission.guests

    @property
    def tickets(self) -> tuple[Any, ...]:
        return self.admission.tickets

    def invite_one(self, label: str = "") -> str:
        return f"{self.invite}&once={self.admission.ticket(label).secret}"

    def revoke(self, label: str) -> None:
        self.admission.revoke(label)

    def admit(self, who: Any) -> Any:
        return self.admission.admit(who)

    def admit_all(self) -> Any:
        return self.admission.admit_all()

    def remove(self, who: str) -> str:
        return self.admission.remove(who)

    def open_room(self, relay: str, **settings: Any) -> Any:
        if self.fail is not None:
            raise self.fail
        self.opened_with.append((relay, settings))
        self.promise = PROMISE if "artist_epsilon" in settings else None
        self.plan = SimpleNamespace(
            room="studio", number=1, total=settings["rounds"], door=settings.get("door", "lobby")
        )
        self.invite = f"fedart+{relay}/studio#token=very-secret&host=0"
        return self.invite

    def close(self) -> None:
        self.closed += 1

    def rounds(self, *, ask: Any = None) -> Any:
        yield Joined("studio", self.name)
        while self.question is not None and self.went_back is None:
            self.went_back = ask(self.question)
            yield Waiting("The rounds go on.")
        for number in range(1, self.plan.total + 1):
            yield RoundOpened(number, self.plan.total)
            for i, name in enumerate(("Ada", "Bo <script>")):
                self.members[str(i)] = FakeMember(str(i), name, ("training", "sent")[i], (0.4, 1.0)[i])
                yield Joined("studio", name, i + 1)
            if self.gate is not None:
                assert self.gate.acquire(timeout=20)
            yield Waiting("Waiting for updates of Ada.")
            yield RoundClosed(number, self.plan.total, 2, "adapter")


@pytest.fixture
def room_session(fake_art):
    return lambda **options: FakeRoomSession(art=fake_art(10), **options)


@pytest.fixture
def make_host(tmp_path):
    return lambda **options: FakeHost(tmp_path, **options)
