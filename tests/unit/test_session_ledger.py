"""A session's spending: what leaves without noise is infinite, and the same pictures spend together everywhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Backbone, PicturePrivacy, TrainConfig
from fedart_nb.errors import BudgetExceeded, LedgerError, PrivacyError
from fedart_nb.events import Note, RoundClosed, Step, UpdateSent
from fedart_nb.host import Host
from fedart_nb.privacy.ledger_report import statement
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session
from fedart_nb.widgets import LedgerPanel

pytestmark = pytest.mark.usefixtures("home")

DEADLINE_S = 60.0
EIGHT = PicturePrivacy(epsilon=8.0)
QUICK = TrainConfig(steps=4, batch=2, validate_every=2)

Open = Callable[..., Session]


@pytest.fixture
def enter(host: Host, enter: Open) -> Open:
    """Whoever enters finds the host's room open."""
    return enter


def named(weights: Path, name: str, art: ArtSet | None = None) -> Session:
    """A session in the default folder of its name, with the same eight pictures as everybody's."""
    session = Session(name, backbone=Backbone.from_pretrained(weights, device="cpu"))
    session.art = art or ArtSet.sample("fluent_ink", limit=8, size_px=32)
    return session


def notes(events: list[Any]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Note))


def test_a_round_without_noise_is_infinite_for_good_and_panel_and_statement_say_so(
    host: Host, enter: Open, run, weights: Path
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee", "Eve")]
    hosting = run(host.rounds())
    futures = [run(session.rounds(confirm="anyone")) for session in others]
    run(ada.rounds(until_round=1, confirm="anyone")).result(DEADLINE_S)
    ledger = ada.ledger()
    assert [(entry.purpose, entry.epsilon_after) for entry in ledger.entries] == [("round 1", math.inf)]
    ada.privacy = EIGHT
    events = run(ada.rounds(confirm="anyone")).result(DEADLINE_S)
    assert [event.contributors for event in hosting.result(DEADLINE_S) if isinstance(event, RoundClosed)] == [4, 3]
    assert not [event for event in events if isinstance(event, (Step, UpdateSent))]
    assert "Round 2 skipped. Of these pictures something has left without noise (round 1" in notes(events)
    assert ada.ledger().spent == math.inf
    told = statement(ada.ledger())
    assert "**Epsilon infinite spent" in told
    assert "nothing is promised about any picture, whatever noise comes later" in told
    panel = LedgerPanel(ada)
    assert panel.value == math.inf
    page = panel.to_html()
    assert "Epsilon of these pictures is infinite" in page
    assert "infinite epsilon: something left without noise of no limit" in page
    for future in futures:
        future.result(DEADLINE_S)
    again = Session("Somebody else", backbone=ada.backbone, throwaway=True)
    assert again.budgets.tally.spendings == (), "a lesson's session counts by itself"


def test_noise_from_now_on_is_possible_without_a_promise(host: Host, enter: Open, run) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    hosting = run(host.rounds())
    futures = [run(session.rounds(confirm="anyone")) for session in others]
    run(ada.rounds(until_round=1, confirm="anyone")).result(DEADLINE_S)
    with pytest.raises(PrivacyError, match="noise_multiplier"):
        PicturePrivacy(epsilon=None)
    ada.privacy = PicturePrivacy(epsilon=None, noise_multiplier=1.0)
    events = run(ada.rounds(confirm="anyone")).result(DEADLINE_S)
    assert any(isinstance(event, UpdateSent) for event in events)
    assert [entry.mechanism.noise_multiplier for entry in ada.ledger().entries] == [0.0, 1.0]
    assert ada.ledger().spent == math.inf
    for future in (hosting, *futures):
        future.result(DEADLINE_S)


def test_another_session_s_name_and_another_size_begin_with_what_the_pictures_spent(weights: Path) -> None:
    list(named(weights, "Ada").train_personal(QUICK, privacy=PicturePrivacy(epsilon=8.0, noise_multiplier=2.0)))
    spent = named(weights, "Ada").ledger("personal").spent
    assert 0 < spent < 8
    ben = named(weights, "Ben")
    payment = PicturePrivacy(epsilon=8.0).payment(ben._ledger_for(EIGHT, "personal"), pictures=7, batch=2, steps=4)
    assert payment.ledger.spent == pytest.approx(spent)
    assert payment.ledger.spent_here == 0
    larger = named(weights, "Cy", ArtSet.sample("fluent_ink", limit=8, size_px=64))
    assert larger.budgets.tally.of(larger._content())
    other = named(weights, "Dee", ArtSet.sample("openmoji", limit=8, size_px=32))
    assert other._ledger_for(EIGHT, "personal").spent == 0


def test_what_two_rooms_of_one_session_spend_adds_up_and_the_panel_names_the_other_room(
    relay: MemoryRelay, weights: Path, tmp_path: Path, open_session: Open, run
) -> None:
    ada, others = open_session("Ada"), [open_session(name) for name in ("Ben", "Dee")]
    ada.privacy = PicturePrivacy(epsilon=8.0, noise_multiplier=2.0)
    spent, rooms = [], []
    with MemoryRelay() as second:
        for number, place in enumerate((relay, second)):
            host = Host(
                f"H{number}", folder=tmp_path / f"h{number}", backbone=Backbone.from_pretrained(weights, device="cpu")
            )
            host.open_room(transport=place.connect(host.identity), rounds=1, min_artists=3, local_steps=2, batch=2)
            for one in (ada, *others):
                one.join(transport=place.connect(one.identity))
                one.consent.stand()
            hosting = run(host.rounds())
            for future in [run(one.rounds(confirm="anyone")) for one in (ada, *others)]:
                future.result(DEADLINE_S)
            hosting.result(DEADLINE_S)
            spent.append(ada.ledger().spent)
            rooms.append(place.room)
    ledger = ada.ledger()
    assert 0 < ledger.spent_here == pytest.approx(spent[0])
    assert spent[0] < spent[1] < math.inf
    assert len(ledger.elsewhere) == 1
    page = LedgerPanel(ada).to_html()
    row = page[page.index("elsewhere on this computer") :][:200]
    assert f"{rooms[0]} (1 entry)" in row
    assert rooms[1] not in row


def test_a_personal_adapter_without_noise_counts_when_it_is_handed_on_and_not_before(
    weights: Path, tmp_path: Path
) -> None:
    ada = named(weights, "Ada")
    list(ada.train_personal(QUICK))
    with pytest.raises(LedgerError, match="no ledger"):
        ada.ledger("personal")
    ada.export(tmp_path / "mine", handed_on=False)
    assert ada.budgets.tally.spendings == ()
    ada = named(weights, "Ada")
    ada.export(tmp_path / "theirs")
    ada.export(tmp_path / "again")
    (entry,) = ada.ledger("personal").entries
    assert (entry.purpose, entry.epsilon_after) == ("personal adapter, handed on", math.inf)
    with pytest.raises(BudgetExceeded, match="left without noise"):
        next(named(weights, "Ben").train_personal(QUICK, privacy=EIGHT))


def test_a_personal_adapter_with_noise_is_paid_for_once_and_can_be_handed_on(weights: Path, tmp_path: Path) -> None:
    ada = named(weights, "Ada")
    list(ada.train_personal(QUICK, privacy=EIGHT))
    spent = ada.ledger("personal").spent
    ada.export(tmp_path / "theirs")
    assert ada.ledger("personal").spent == spent < math.inf


def test_withdrawing_in_the_middle_of_a_round_leaves_nothing_of_the_update_here(
    relay: MemoryRelay, host: Host, enter: Open, run
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee", "Eve")]
    hosting = run(host.rounds())
    futures = [run(session.rounds(confirm="anyone")) for session in others]
    events = ada.rounds(confirm="anyone")
    assert any(isinstance(event, UpdateSent) for event in events)
    assert list((ada.folder / "rounds").glob("update-*"))
    told = ada.leave(withdraw=True)
    assert "updates in the clear" in told
    left = [path.name for path in ada.folder.rglob("*")]
    assert not [name for name in left if name.startswith("update-") or ".secret" in name]
    for path in ada.folder.rglob("*"):
        if path.is_file():
            assert not [one.id for one in ada.art if one.id.encode() in path.read_bytes()], path
    assert ada.ledger is not None
    assert ada.budgets.ledger(ada.consent.room, "picture").spent == math.inf, "nothing is paid back"
    events.close()
    for future in (hosting, *futures):
        future.result(DEADLINE_S)


def test_a_session_that_was_opened_again_in_a_second_tab_stops_and_says_so(host: Host, enter: Open, run) -> None:
    first = enter("Ada")
    second = enter("Ada")
    events = list(first.rounds(confirm="anyone"))
    assert "opened again in another tab" in notes(events)
    assert second.identity == first.identity
    assert second.store.is_newest
