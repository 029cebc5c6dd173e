"""A session's rounds under a privacy budget: paid before training, refused when it is spent, never paid back."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from fedart_nb.diffusion import Backbone, PicturePrivacy, TrainConfig
from fedart_nb.errors import BudgetExceeded, LedgerError, PrivacyError
from fedart_nb.events import Note, RoundClosed, Step, Trained, UpdateSent
from fedart_nb.host import Host
from fedart_nb.privacy.ledger_report import statement
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session

pytestmark = pytest.mark.usefixtures("home")

DEADLINE_S = 60.0
EIGHT = PicturePrivacy(epsilon=8.0)
QUICK = TrainConfig(steps=6, batch=2, validate_every=2)

Open = Callable[..., Session]


@pytest.fixture
def enter(host: Host, enter: Open) -> Open:
    """Whoever enters finds the host's room open."""
    return enter


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_two_private_rounds_use_the_budget_up_and_not_more(host: Host, enter: Open, run) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    ada.privacy = EIGHT
    hosting = run(host.rounds())
    futures = [run(session.rounds()) for session in (ada, *others)]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3, 3]
    assert all(step.norms is not None for step in of(Step, events))
    ledger = ada.ledger()
    assert [entry.purpose for entry in ledger.entries] == ["round 1", "round 2"]
    assert 7.9 < ledger.spent <= 8
    assert ledger.budget.delta == pytest.approx(1e-3)
    told = [note.text for note in of(Note, events) if "noise multiplier" in note.text]
    assert len(told) == 2
    assert f"epsilon {ledger.spent:.2f} of 8 afterwards, per picture" in told[-1]
    assert "a masked update of" in statement(ledger)
    for future in futures[1:]:
        assert all(step.norms is None for step in of(Step, future.result(DEADLINE_S)))
    unnoised = others[0].ledger()
    assert [entry.purpose for entry in unnoised.entries] == ["round 1", "round 2"]
    assert unnoised.spent == math.inf, "what left without noise is entered as that"


def test_a_budget_that_is_spent_skips_the_round_before_anything_is_trained(host: Host, enter: Open, run) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee", "Eve")]
    ada.privacy = PicturePrivacy(epsilon=8.0, noise_multiplier=0.8)
    first = ada.privacy.payment(
        ada._ledger_for(ada.privacy, ada._room_id()), pictures=len(ada.latents("train")), batch=2, steps=2
    )
    while first.ledger.cost(first.mechanism, first.mechanism) <= 8:
        first.ledger.spend(first.mechanism, purpose="some cell, again and again")
    hosting = run(host.rounds())
    futures = [run(session.rounds()) for session in (ada, *others)]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [4, 3]
    assert len(of(UpdateSent, events)) == 1
    assert {step.total for step in of(Step, events)} == {2}
    assert len(of(Step, events)) == 2, "of the first round alone"
    skipped = next(note for note in of(Note, events) if "Round 2 skipped" in note.text)
    assert "your budget is 8" in skipped.text
    assert skipped.level == "warning"
    assert first.ledger.spent <= 8


def test_a_round_stopped_in_training_is_paid_and_paid_again_when_it_is_trained_again(
    host: Host, enter: Open, run
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    ada.privacy = EIGHT
    hosting = run(host.rounds())
    futures = [run(session.rounds()) for session in others]
    events = ada.rounds()
    assert any(isinstance(event, Step) for event in events)
    events.close()
    assert len(ada.ledger().entries) == 1
    spent = ada.ledger().spent
    run(ada.rounds()).result(DEADLINE_S)
    assert [entry.purpose for entry in ada.ledger().entries] == ["round 1", "round 1", "round 2"]
    assert spent < ada.ledger().spent <= 8
    for future in (hosting, *futures):
        future.result(DEADLINE_S)


def test_personal_training_pays_from_its_own_ledger_over_restarts(open_session: Open) -> None:
    *_, trained = open_session().train_personal(QUICK, privacy=EIGHT)
    assert isinstance(trained, Trained)
    again = open_session()
    assert 7.9 < again.ledger("personal").spent <= 8
    with pytest.raises(BudgetExceeded, match="Nothing was trained"):
        next(again.train_personal(QUICK, privacy=EIGHT))
    with pytest.raises(LedgerError, match="change_budget"):
        next(again.train_personal(QUICK, privacy=PicturePrivacy(epsilon=50.0)))
    again.ledger("personal").change_budget(50.0, why="for the test")
    *_, trained = open_session().train_personal(QUICK, privacy=PicturePrivacy(epsilon=50.0))
    assert isinstance(trained, Trained)


def test_resumed_personal_training_stays_private_and_pays_again(open_session: Open) -> None:
    loud = PicturePrivacy(epsilon=8.0, noise_multiplier=3.0)
    events = open_session().train_personal(QUICK, privacy=loud)
    list(islice(events, 3))
    events.close()
    again = open_session()
    state = again.resumable
    assert state is not None
    *steps, _ = again.train_personal(resume=state)
    assert all(step.norms is not None for step in of(Step, steps))
    assert [part.steps for part in again.ledger("personal").mechanisms] == [6, 3]


def test_a_deleted_session_folder_does_not_give_the_budget_back(open_session: Open, tmp_path: Path) -> None:
    list(open_session().train_personal(QUICK, privacy=EIGHT))
    (tmp_path / "Ada" / "ledgers" / "personal.jsonl").unlink()
    with pytest.raises(BudgetExceeded):
        next(open_session().train_personal(QUICK, privacy=EIGHT))


def test_an_impossible_wish_is_refused_at_once() -> None:
    with pytest.raises(PrivacyError, match="epsilon is -1"):
        PicturePrivacy(epsilon=-1)
    with pytest.raises(PrivacyError, match="clip_norm is 0"):
        PicturePrivacy(clip_norm=0)


def test_a_plan_that_asks_for_losses_is_not_answered_under_a_budget(
    relay: MemoryRelay, weights: Path, tmp_path: Path, open_session: Open, run
) -> None:
    host = Host("Curious", folder=tmp_path / "curious", backbone=Backbone.from_pretrained(weights, device="cpu"))
    host.open_room(
        transport=relay.connect(host.identity),
        rounds=1,
        min_artists=3,
        local_steps=2,
        batch=2,
        metrics=("loss_after",),
    )
    people = [open_session(name) for name in ("Ada", "Ben", "Dee", "Eve")]
    for person in people:
        person.join(transport=relay.connect(person.identity))
        person.consent.stand()
    people[0].privacy = EIGHT
    hosting = run(host.rounds())
    futures = [run(person.rounds()) for person in people]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3]
    assert of(Step, events) == []
    assert any("loss_after" in note.text and "no noise covers" in note.text for note in of(Note, events))
