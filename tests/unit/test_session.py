"""One artist's session in rooms inside this process: who may enter, what leaves, what a reopened one still holds."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernels import in_thread

from fedart_nb.art import ArtSet
from fedart_nb.art.collecting import Picture
from fedart_nb.diffusion import Adapter, Backbone, TrainConfig, denoising_loss, initial_adapter
from fedart_nb.errors import (
    AdapterError,
    FedArtError,
    RelayRefused,
    RelayUnreachable,
    RoundError,
    StorageError,
    TrainingError,
)
from fedart_nb.events import Note, RoundClosed, RoundOpened, Step, Trained, UpdateSent
from fedart_nb.federated import rule_of, unpack
from fedart_nb.federated.client_memory import Masked
from fedart_nb.host import Host
from fedart_nb.relay import Invite, MemoryRelay
from fedart_nb.relay.server import serve_in_thread
from fedart_nb.session import Session

DEADLINE_S = 30.0
QUICK = TrainConfig(steps=6, batch=2, validate_every=2)

Open = Callable[..., Session]
Enter = Callable[[str], Session]


class WatchedArt(ArtSet):
    """An art set that remembers which pictures' pixels were asked for."""

    read: set[str]

    def pixels(self, pictures: Any) -> np.ndarray:
        asked = list(pictures)
        self.read |= {p.id if isinstance(p, Picture) else p for p in asked}
        return super().pixels(asked)


@pytest.fixture
def art() -> WatchedArt:
    art = WatchedArt.sample("openmoji", limit=10, size_px=32)
    assert isinstance(art, WatchedArt)
    art.read = set()
    return art


@pytest.fixture
def open_session(weights: Path, tmp_path: Path) -> Open:
    """A session with a backbone of its own, as in a kernel of its own; the same name finds the same folder."""

    def open_(name: str = "Ada", *, art: ArtSet | None = None) -> Session:
        session = Session(name, folder=tmp_path / name, backbone=Backbone.from_pretrained(weights, device="cpu"))
        if art is not None:
            session.art = art
        return session

    return open_


@pytest.fixture
def enter(relay: MemoryRelay, host: Host, open_session: Open) -> Enter:
    """A session with art of its own that has just entered the room."""

    def enter_(name: str) -> Session:
        session = open_session(name, art=ArtSet.sample("fluent_ink", limit=6, size_px=32))
        session.join(transport=relay.connect(session.identity))
        session.consent.stand()
        return session

    return enter_


class Kernels:
    """Runs generators of events, each in a thread, as kernels run cells."""

    def run(self, events: Iterator[Any], on_event: Callable[[Any], object] = lambda _: None) -> Any:
        def work() -> list[Any]:
            seen = []
            for event in events:
                seen.append(event)
                on_event(event)
            return seen

        return in_thread(work)


@pytest.fixture
def kernels() -> Kernels:
    return Kernels()


def done(future: Any) -> list[Any]:
    events: list[Any] = future.result(DEADLINE_S)
    return events


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and beside it the empty folder in which a notebook runs."""
    for name in ("me", "notebooks"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path / "me"


@pytest.fixture
def at_home(own_home: Path, weights: Path) -> Iterator[Session]:
    session = Session("Ada", folder="~/ada", backbone=Backbone.from_pretrained(weights, device="cpu"))
    session.personal = initial_adapter(session.backbone)
    yield session
    session.close()


def test_a_session_s_folder_may_begin_with_a_tilde(own_home: Path, at_home: Session) -> None:
    assert at_home.folder == own_home / "ada"
    assert (own_home / "ada" / "identity.key").exists()
    assert list(Path.cwd().iterdir()) == []


def test_an_adapter_is_saved_and_loaded_under_a_tilde(own_home: Path, at_home: Session) -> None:
    assert at_home.personal is not None
    assert at_home.personal.save("~/adapter").parent == own_home / "adapter"
    assert Adapter.load("~/adapter").digest == at_home.personal.digest
    assert list(Path.cwd().iterdir()) == []


def test_an_export_goes_under_a_tilde(own_home: Path, at_home: Session) -> None:
    assert at_home.export("~/exported", shared=0).parent == own_home / "exported"
    assert list((own_home / "exported").iterdir())
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("opened", [Session, Host])
def test_a_home_that_cannot_be_used_is_named_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[[str], object]
) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("FEDART_HOME", str(home))
        with pytest.raises(StorageError, match=re.escape(str(tmp_path / "file"))):
            opened("Ada")


@pytest.mark.parametrize("name", ["", "  ", "x" * 61, None])
def test_a_name_that_nobody_could_read_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(FedArtError, match="1 to 60 characters"):
        Session(name, folder=tmp_path / "s")


def test_joining_without_an_invite_says_whom_to_ask(open_session: Open) -> None:
    with pytest.raises(RoundError, match="Ask the host"):
        open_session().join()


def test_rounds_before_joining_say_what_to_call(open_session: Open) -> None:
    with pytest.raises(RoundError, match=r"Call session\.join"):
        next(open_session().rounds())


def test_training_without_pictures_says_how_to_get_some(open_session: Open) -> None:
    with pytest.raises(TrainingError, match=r"ArtSet\.from_folder"):
        next(open_session().train_personal(QUICK))


def test_a_wrong_room_token_is_refused_and_leaves_the_session_outside(
    open_session: Open, weights: Path, tmp_path: Path
) -> None:
    relay = serve_in_thread(tmp_path / "relay")
    host = Host("Studio", folder=tmp_path / "host", backbone=Backbone.from_pretrained(weights, device="cpu"))
    invite = host.open_room(relay.url)
    assert invite is not None
    session = open_session()
    wrong = Invite(invite.url, invite.room, "a-token-that-somebody-mistyped-0123", invite.host_id)
    with pytest.raises(RelayRefused, match="token does not open the room") as refused:
        session.join(str(wrong))
    assert refused.value.status == 403
    with pytest.raises(RoundError, match=r"Call session\.join"):
        next(session.rounds())
    with pytest.raises(RoundError, match="Ask the host"):
        open_session().join()
    session.join(str(invite))
    relay.stop()


def test_who_comes_late_takes_part_from_the_next_round_on(host: Host, enter: Enter, kernels: Kernels) -> None:
    ada, ben, dee = enter("Ada"), enter("Ben"), enter("Dee")
    training, late = threading.Event(), threading.Event()

    def hold(event: Any) -> None:
        if isinstance(event, Step):
            training.set()
            assert late.wait(DEADLINE_S)

    hosting = kernels.run(host.rounds())
    early = [kernels.run(ada.rounds(), hold), kernels.run(ben.rounds()), kernels.run(dee.rounds())]
    assert training.wait(DEADLINE_S)
    cy = enter("Cy")
    coming = kernels.run(cy.rounds(), lambda event: late.set() if isinstance(event, Note) else None)
    closed = of(RoundClosed, done(hosting))
    assert [(event.number, event.contributors) for event in closed] == [(1, 3), (2, 4)]
    events = done(coming)
    assert "next one on" in of(Note, events)[0].text
    assert [event.number for event in of(UpdateSent, events)] == [2]
    for future in early:
        done(future)
    assert host.shared is not None
    assert [s.shared and s.shared.digest for s in (ada, ben, cy, dee)] == [host.shared.digest] * 4


class Stumbling:
    """A transport whose first download of an attachment finds the relay away."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.stumbles = inner, 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def fetch(self, envelope: Any, limit_bytes: int) -> Any:
        if self.stumbles:
            self.stumbles -= 1
            raise RelayUnreachable("The relay does not answer.")
        return self.inner.fetch(envelope, limit_bytes)


def test_a_plan_whose_download_failed_is_asked_for_again(
    relay: MemoryRelay, host: Host, enter: Enter, open_session: Open, kernels: Kernels
) -> None:
    ada, dee = enter("Ada"), enter("Dee")
    ben = open_session("Ben", art=ArtSet.sample("fluent_ink", limit=6, size_px=32))
    ben.join(transport=Stumbling(relay.connect(ben.identity)))
    ben.consent.stand()
    hosting = kernels.run(host.rounds())
    futures = [kernels.run(session.rounds()) for session in (ada, ben, dee)]
    assert [event.contributors for event in of(RoundClosed, done(hosting))] == [3, 3]
    assert "does not answer" in of(Note, [done(future) for future in futures][1])[0].text


def test_a_round_skipped_by_consent_trains_nothing_and_sends_no_more_than_the_no(
    relay: MemoryRelay, host: Host, enter: Enter, kernels: Kernels
) -> None:
    asked: list[int] = []

    def second_only(plan: Any) -> bool:
        asked.append(plan.number)
        return plan.number == 2

    cy = enter("Cy")
    cy.consent.ask_again()
    hosting = kernels.run(host.rounds())
    skipping = kernels.run(cy.rounds(consent=second_only))
    others = [kernels.run(enter(name).rounds()) for name in ("Ada", "Ben", "Dee")]
    assert [event.contributors for event in of(RoundClosed, done(hosting))] == [3, 4]
    events = done(skipping)
    first = events[: events.index(of(RoundClosed, events)[0])]
    assert not of(Step, first)
    assert not of(UpdateSent, first)
    assert [event.number for event in of(UpdateSent, events)] == [2]
    assert asked == [1, 2]
    for future in others:
        done(future)
    messages = relay.connect(host.identity).log()["messages"]
    sent = [(m["kind"], m["round"]) for m in messages if m["sender"] == cy.identity.id and m["round"] < 2]
    assert sent == [("hello", 0), ("advertise", 1)]


def test_a_reopened_session_holds_both_adapters_and_the_same_identity(
    host: Host, enter: Enter, open_session: Open, kernels: Kernels
) -> None:
    ada, ben, dee = enter("Ada"), enter("Ben"), enter("Dee")
    hosting = kernels.run(host.rounds())
    for future in [kernels.run(session.rounds()) for session in (ada, ben, dee)]:
        done(future)
    done(hosting)
    *_, trained = ada.train_personal(QUICK)
    assert isinstance(trained, Trained)
    again = open_session("Ada")
    assert again.identity.id == ada.identity.id
    assert again.personal is not None
    assert again.personal.digest == trained.adapter.digest
    assert again.shared is not None
    assert host.shared is not None
    assert again.shared.digest == host.shared.digest
    assert again.resumable is None
    assert len(again.adapters()) == 2
    assert again.adapters(personal=0) == [(again.shared, 1.0)]


def test_no_byte_of_the_personal_adapter_reaches_the_relay(
    relay: MemoryRelay, host: Host, enter: Enter, kernels: Kernels
) -> None:
    ada, ben, dee = enter("Ada"), enter("Ben"), enter("Dee")
    *_, before = ada.train_personal(QUICK)
    hosting = kernels.run(host.rounds())

    def train_between(event: Any) -> None:
        if isinstance(event, RoundClosed) and event.number == 1:  # and goes into round 2 with it
            *_, between = ada.train_personal(replace(QUICK, apart=0.1))
            trained.append(between.adapter)
            *_, on_the_rest = ada.train_personal(QUICK, without_me=True)
            trained.append(on_the_rest.adapter)
            *_, spoken = ada.train_personal(replace(QUICK, style_tokens=3))
            trained.append(spoken.adapter)

    trained = [before.adapter]
    rounds = [kernels.run(ada.rounds(), train_between), *(kernels.run(one.rounds()) for one in (ben, dee))]
    for future in (*rounds, hosting):
        done(future)
    stored = b"".join(path.read_bytes() for path in Path(relay._folder.name).rglob("*") if path.is_file())

    def found(adapter: Any) -> int:
        arrays = list(adapter.tensors.values()) if adapter.token is None else [adapter.token]
        values = b"".join(array.tobytes() for array in arrays)
        windows = [values[i : i + 64] for i in range(0, len(values) - 63, 64)]
        return sum(window in stored for window in windows if len(set(window)) > 4)

    assert len(trained) == 4
    assert trained[-1].token.any()
    assert [found(adapter) for adapter in trained] == [0, 0, 0, 0]
    assert found(ada.shared) > 10, "the same search finds what was sent"


def test_the_rest_of_the_world_is_what_the_others_sent_in_the_mean(
    relay: MemoryRelay, host: Host, enter: Enter, kernels: Kernels
) -> None:
    people = [enter(name) for name in ("Ada", "Ben", "Dee")]
    before = [host.shared]
    others: list[dict[str, np.ndarray]] = []

    def remember(event: Any) -> None:
        if isinstance(event, RoundClosed):
            plan, updates = people[0]._sent.plan, [one._sent.update.astype(np.float64) for one in people[1:]]
            names = rule_of(plan.rule).trained(plan.number, unpack(before[-1].to_bytes()))
            shapes = [before[-1].tensors[name.removeprefix("unet.")] for name in names]
            flat = np.mean(updates, axis=0)
            parts = np.split(flat, np.cumsum([array.size for array in shapes])[:-1])
            named = zip(names, parts, shapes, strict=True)
            others.append({name.removeprefix("unet."): part.reshape(like.shape) for name, part, like in named})

    hosting = kernels.run(host.rounds())
    with_them = [kernels.run(people[0].rounds(), remember), *(kernels.run(one.rounds()) for one in people[1:])]
    for future in (*with_them, hosting):
        done(future)
    rest = people[0].rest_of_world()
    for name, array in rest.tensors.items():
        expected = before[0].tensors[name] + sum(step.get(name, 0) for step in others)
        np.testing.assert_allclose(array, expected, atol=2e-5)  # two rounds' rounding to half words
    assert rest.digest != people[0].shared.digest


def test_before_a_round_has_ended_there_is_no_rest_of_the_world(open_session: Open, art: WatchedArt) -> None:
    with pytest.raises(RoundError, match="Join a room first"):
        open_session(art=art).rest_of_world()


def test_both_adapters_are_exported_as_one_that_draws_the_same(
    relay: MemoryRelay, host: Host, enter: Enter, kernels: Kernels, tmp_path: Path
) -> None:
    ada, ben, dee = enter("Ada"), enter("Ben"), enter("Dee")
    hosting = kernels.run(host.rounds())
    for future in [*(kernels.run(one.rounds()) for one in (ada, ben, dee)), hosting]:
        done(future)
    list(ada.train_personal(replace(QUICK, style_tokens=2)))
    one = Adapter.load(ada.export(tmp_path / "both", personal=0.5))
    assert one.config.rank == ada.shared.config.rank + ada.personal.config.rank
    alone = denoising_loss(ada.backbone, ada.latents("train"), [(one, 1.0)])
    together = denoising_loss(ada.backbone, ada.latents("train"), ada.adapters(personal=0.5))
    assert alone == pytest.approx(together, rel=1e-5)
    with pytest.raises(AdapterError, match="cross terms that nobody trained"):
        ada.export(tmp_path / "no", how="linear")


def test_an_excluded_picture_is_never_read_by_training_nor_by_a_round(
    relay: MemoryRelay, host: Host, open_session: Open, enter: Enter, art: WatchedArt, kernels: Kernels
) -> None:
    ada = open_session(art=art)
    withheld = {art.included("train")[0].id, art.included("test")[0].id}
    for picture in withheld:
        art.include(picture, False)
    list(ada.train_personal(QUICK))
    ada.join(transport=relay.connect(ada.identity))
    ada.consent.stand()
    hosting = kernels.run(host.rounds())
    others = [kernels.run(enter(name).rounds()) for name in ("Ben", "Dee")]
    done(kernels.run(ada.rounds()))
    for future in (hosting, *others):
        done(future)
    assert art.read == {picture.id for picture in art.included()}
    assert not withheld & {*ada.latents("train").ids, *ada.latents("test").ids}


def test_consent_that_changes_between_two_trainings_counts_from_the_next_one_on(
    open_session: Open, art: WatchedArt
) -> None:
    ada = open_session(art=art)
    picture = art.included("train")[0].id
    assert picture in ada.latents("train").ids
    assert ada.latents("train") is ada.latents("train"), "encoded once"
    art.include(picture, False)
    assert picture not in ada.latents("train").ids
    art.include(picture)
    assert picture in ada.latents("train").ids


def test_cancelled_training_resumes_in_the_next_kernel_with_its_own_number_of_steps(
    open_session: Open, art: WatchedArt
) -> None:
    events = open_session(art=art).train_personal(QUICK)
    list(islice(events, 3))
    events.close()
    again = open_session(art=art)
    assert again.personal is None
    state = again.resumable
    assert state is not None
    assert state.step == 3, "also between two validations"
    *steps, trained = again.train_personal(resume=state)
    assert [step.index for step in of(Step, steps)] == [4, 5, 6]
    assert again.resumable is None
    assert again.personal is not None
    assert again.personal.digest == trained.adapter.digest


def test_training_state_is_kept_while_it_runs_even_without_held_out_pictures(open_session: Open) -> None:
    ada = open_session(art=ArtSet.sample("openmoji", limit=3, size_px=32))
    for picture in ada.art.included("test") if ada.art else ():
        ada.art.include(picture.id, False)
    events = ada.train_personal(QUICK)
    list(islice(events, 3))
    state = ada.resumable
    assert state is not None, "a kill -9 here loses one step"
    assert state.step == 2


def test_rounds_that_were_stopped_in_the_middle_of_training_go_on_at_the_next_call(
    host: Host, enter: Enter, kernels: Kernels
) -> None:
    ada, ben, dee = enter("Ada"), enter("Ben"), enter("Dee")
    hosting = kernels.run(host.rounds())
    others = [kernels.run(session.rounds()) for session in (ben, dee)]
    events = ada.rounds()
    assert any(isinstance(event, Step) for event in events)
    events.close()
    assert any(isinstance(event, RoundOpened | Step) for event in islice(ada.rounds(), 1, 2)), "nothing to wait for"
    done(kernels.run(ada.rounds()))
    assert [event.contributors for event in of(RoundClosed, done(hosting))] == [3, 3]
    for other in others:
        done(other)


def test_a_restarted_kernel_is_heard_although_it_says_what_the_former_one_said(
    relay: MemoryRelay, host: Host, enter: Enter, open_session: Open, kernels: Kernels
) -> None:
    ada, ben, dee = enter("Ada"), enter("Ben"), enter("Dee")
    hosting = kernels.run(host.rounds())
    others = [kernels.run(session.rounds()) for session in (ben, dee)]
    assert any(isinstance(event, Step) for event in ada.rounds())
    again = open_session("Ada", art=ArtSet.sample("fluent_ink", limit=6, size_px=32))
    again.join(transport=relay.connect(again.identity))
    again.consent.stand()
    done(kernels.run(again.rounds()))
    for future in (hosting, *others):
        done(future)
    messages = relay.connect(host.identity).log()["messages"]
    mine = [(m["kind"], m["round"]) for m in messages if m["sender"] == ada.identity.id]
    assert mine.count(("hello", 0)) == 2
    assert mine.count(("note", 1)) >= 2
    assert mine.count(("advertise", 1)) == mine.count(("update", 1)) == 1


def test_an_update_is_kept_for_the_next_attempt_unless_it_had_left_and_never_for_another_room(
    host: Host, enter: Enter
) -> None:
    ada, plan = enter("Ada"), host.plan
    assert plan is not None
    assert ada.side is not None
    first = ada._update_path(plan)
    first.write_bytes(b"trained in attempt 1")
    assert not ada._update_path(replace(plan, nonce="another room with the same first adapter")).exists()
    second = ada._update_path(replace(plan, attempt=2))
    assert second.read_bytes() == b"trained in attempt 1"
    assert not first.exists()
    ada.side.history.masked[plan.digest] = Masked(0, plan.number, plan.shared_sha256)
    ada.side._over.add(plan.digest)
    assert ada._update_path(replace(plan, attempt=2)) == second, "a restart in the same attempt"
    assert second.exists()
    assert not ada._update_path(replace(plan, attempt=3)).exists()
    assert not second.exists()


def test_the_room_learns_the_mean_of_the_artists_losses_when_the_plan_asks_for_it(
    relay: MemoryRelay, weights: Path, enter: Enter, kernels: Kernels, host: Host
) -> None:
    host.open_room(
        transport=host.transport,
        rounds=1,
        min_artists=3,
        local_steps=2,
        batch=2,
        metrics=["loss_before", "loss_after"],
    )
    losses: dict[str, list[float]] = {}
    sessions = {name: enter(name) for name in ("Ada", "Ben", "Dee")}
    hosting = kernels.run(host.rounds())
    taking = {name: kernels.run(session.rounds()) for name, session in sessions.items()}
    for name, future in taking.items():
        losses[name] = [event.loss for event in of(Step, done(future))]
    (closed,) = of(RoundClosed, done(hosting))
    assert closed.metrics["loss_before"] == pytest.approx(np.mean([own[0] for own in losses.values()]), abs=1e-5)
    assert closed.metrics["loss_after"] == pytest.approx(np.mean([own[-1] for own in losses.values()]), abs=1e-5)
    assert of(RoundClosed, taking["Ada"].result())[0].metrics == closed.metrics
    assert "mean loss before" in str(closed)


def test_a_wrong_invite_is_known_before_the_backbone_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backbone, "embedded", lambda **_: pytest.fail("the backbone was loaded"))
    session = Session("Ada", folder=tmp_path / "Ada")
    with pytest.raises(RelayUnreachable, match="Is it running"):
        session.join(f"fedart+http://127.0.0.1:1/room#token={'t' * 24}&host={'0' * 32}")
    assert session.invite is None
