"""Rounds whose sums are noised: a core is trained, the ledger pays before anything leaves, wishes are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedart_nb.diffusion import AdapterConfig, Backbone, PicturePrivacy
from fedart_nb.errors import LedgerError, PrivacyError
from fedart_nb.events import Note, RoundClosed, Step, UpdateSent
from fedart_nb.host import Host
from fedart_nb.privacy import ArtistPrivacy, epsilon
from fedart_nb.privacy.distributed import SkellamSum
from fedart_nb.privacy.ledger_report import statement
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session

pytestmark = pytest.mark.usefixtures("home")

DEADLINE_S = 60.0
CORE = AdapterConfig(rank=2, alpha=2.0, core_seed=1)

Open = Callable[..., Session]
Run = Callable[[Iterator[Any]], "Future[list[Any]]"]


@pytest.fixture
def noisy(relay: MemoryRelay, weights: Path, tmp_path: Path) -> Callable[..., Host]:
    def open_(**changes: Any) -> Host:
        host = Host("Loud", folder=tmp_path / "loud", backbone=Backbone.from_pretrained(weights, device="cpu"))
        settings = {"rounds": 2, "min_artists": 3, "local_steps": 2, "batch": 2, "adapter": CORE, "artist_epsilon": 8.0}
        host.open_room(transport=relay.connect(host.identity), **{**settings, **changes})
        return host

    return open_


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def notes(events: list[Any]) -> str:
    return " ".join(note.text for note in of(Note, events))


def test_two_noised_rounds_of_a_core_cost_what_the_host_had_solved_for(
    noisy: Callable[..., Host], enter: Open, run: Run
) -> None:
    host = noisy()
    people = [enter(name) for name in ("Ada", "Ben", "Dee")]
    people[0].privacy = ArtistPrivacy(epsilon=8.0)
    promise = host.promise
    assert promise is not None
    assert promise.against(1).epsilon == pytest.approx(8.0, rel=1e-3)
    hosting, futures = run(host.rounds()), [run(person.rounds()) for person in people]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3, 3]
    assert len(of(UpdateSent, events)) == 2
    ledger = people[0].ledger()
    assert (ledger.budget.unit, ledger.budget.epsilon, ledger.budget.delta) == ("artist", 8.0, 1e-3)
    assert [entry.purpose for entry in ledger.entries] == ["round 1", "round 2"]
    assert 7.9 < ledger.spent <= 8
    assert ledger.entries[0].record["colluders"] == 1
    assert "per artist" in statement(ledger)
    assert all(step.norms is None for step in of(Step, events))
    futures[1].result(DEADLINE_S)
    counted = people[1].ledger()
    assert counted.budget.epsilon is None, "who wished for nothing has a ledger that keeps count"
    assert counted.spent == pytest.approx(ledger.spent)
    assert people[0].shared is not None
    assert people[0].shared.core is None, "an ordinary adapter for everything that comes after"
    assert host.shared is not None
    assert host.shared.digest == people[0].shared.digest
    assert people[0].relay_view(people[1:]).relay_correlation() == pytest.approx(0, abs=0.5)


def test_a_budget_that_does_not_reach_skips_the_round_before_anything_is_trained(
    noisy: Callable[..., Host], enter: Open, run: Run
) -> None:
    host = noisy(artist_epsilon=20.0)
    people = [enter(name) for name in ("Ada", "Ben", "Dee", "Eve")]
    people[0].privacy = ArtistPrivacy(epsilon=15.0)
    hosting, futures = run(host.rounds()), [run(person.rounds()) for person in people]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [4, 3]
    assert len(of(Step, events)) == 2, "of the first round alone"
    assert "Round 2 skipped" in notes(events)
    assert "your budget is 15" in notes(events)
    assert people[0].ledger().spent <= 15


@pytest.mark.parametrize(
    ("wish", "changes", "why"),
    [
        (ArtistPrivacy(noise_multiplier=50.0), {}, "you want at least 50"),
        (ArtistPrivacy(), {"artist_epsilon": None}, "this room's sums have none"),
        (ArtistPrivacy(colluders=3), {}, "no noise is certain to be left"),
    ],
)
def test_a_room_that_does_not_give_what_was_wished_for_is_skipped(
    noisy: Callable[..., Host], enter: Open, run: Run, wish: ArtistPrivacy, changes: dict[str, Any], why: str
) -> None:
    host = noisy(rounds=1, **changes)
    people = [enter(name) for name in ("Ada", "Ben", "Dee", "Eve")]
    people[0].privacy = wish
    hosting, futures = run(host.rounds()), [run(person.rounds()) for person in people]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3]
    assert of(Step, events) == []
    assert why in notes(events)


def test_a_kernel_killed_between_paying_and_sending_pays_once_and_says_the_same(
    noisy: Callable[..., Host], enter: Open, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = noisy(rounds=1)
    people = [enter(name) for name in ("Ada", "Ben", "Dee")]
    hosting, futures = run(host.rounds()), [run(person.rounds()) for person in people[1:]]
    sent: list[bytes] = []
    send = people[0]._send

    def killed(envelope: Any) -> None:
        if envelope.kind == "update":
            sent.append(envelope.attachments["update"])
            if len(sent) == 1:
                raise KeyboardInterrupt
        send(envelope)

    monkeypatch.setattr(people[0], "_send", killed)
    with pytest.raises(KeyboardInterrupt):
        list(people[0].rounds())
    assert len(people[0].ledger().entries) == 1
    people[0].side.task = None  # type: ignore[union-attr]
    again = enter("Ada")
    monkeypatch.setattr(
        again,
        "_send",
        lambda envelope: (
            sent.append(envelope.attachments.get("update")),
            again.transport.send(envelope, again.identity),
        ),
    )
    run(again.rounds()).result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3]
    assert [data for data in sent if data] == [sent[0]] * 2
    assert len(again.ledger().entries) == 1
    for future in futures:
        future.result(DEADLINE_S)


def test_every_attempt_whose_words_left_is_paid_for_and_has_noise_of_its_own(
    noisy: Callable[..., Host], enter: Open
) -> None:
    ada = enter("Ada")
    code = SkellamSum(size=64, artists=3, survivors=3, clip_norm=1.0, noise_multiplier=2.0, seed=bytes(32))
    plan = noisy().plan
    assert plan is not None
    for attempt in ("1", "2"):
        ada._pay_for_noise(replace(plan, attempt=int(attempt)), code, "words " + attempt)
    assert len(ada.ledger().entries) == 2
    part = code.mechanism(colluders=1)
    assert ada.ledger().spent == pytest.approx(epsilon([part, part], delta=plan.delta))


def test_noise_on_pictures_and_on_artists_are_kept_in_two_ledgers(
    noisy: Callable[..., Host], enter: Open, run: Run
) -> None:
    host = noisy(rounds=1)
    people = [enter(name) for name in ("Ada", "Ben", "Dee")]
    people[0].privacy = PicturePrivacy(epsilon=8.0)
    hosting, futures = run(host.rounds()), [run(person.rounds()) for person in people]
    assert all(step.norms is not None for step in of(Step, futures[0].result(DEADLINE_S)))
    hosting.result(DEADLINE_S)
    assert people[0].ledger().budget.unit == "picture"
    assert people[0].ledger(unit="artist").budget.unit == "artist"
    assert people[0].ledger(unit="artist").spent > 0


def test_another_wish_than_the_ledger_was_begun_with_is_refused(noisy: Callable[..., Host], enter: Open) -> None:
    ada, plan = enter("Ada"), noisy().plan
    assert plan is not None
    ada._artist_ledger(ArtistPrivacy(epsilon=4.0), plan)
    with pytest.raises(LedgerError, match="change_budget"):
        ada._artist_ledger(ArtistPrivacy(epsilon=9.0), plan)
    with pytest.raises(LedgerError, match=r"at 0\.5"):
        ada._artist_ledger(ArtistPrivacy(epsilon=4.0, delta=0.5), plan)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"epsilon": -1.0}, "epsilon is -1"),
        ({"delta": 2.0}, "delta is 2"),
        ({"colluders": -1}, "colluders is -1"),
        ({"noise_multiplier": -0.1}, "noise_multiplier is -0.1"),
    ],
)
def test_impossible_wishes_are_refused_at_once(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PrivacyError, match=sentence):
        ArtistPrivacy(**wrong)


def test_a_host_says_beforehand_how_loud_the_noise_will_be(noisy: Callable[..., Host]) -> None:
    promise = noisy(rounds=5).promise
    assert promise is not None
    assert "At 3 artists this noise is" in promise.sentence
    assert promise.noise_to_signal > 3
    assert np.isfinite([group.epsilon for group in promise.groups]).all()
    with pytest.raises(PrivacyError, match="up to 2"):
        noisy(colluders=3)
