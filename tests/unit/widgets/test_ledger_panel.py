"""The ledger as a panel: a wish, what it means, what was spent, and a statement that can be kept."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedart_nb.errors import LedgerError, PrivacyError
from fedart_nb.figures import gradient_norms, spending
from fedart_nb.privacy import Budget, Gaussian, Ledger
from fedart_nb.widgets import LedgerPanel


@pytest.fixture
def session(tmp_path: Path) -> Any:
    def ledger(room: str | None = None) -> Ledger:
        return Ledger.open(tmp_path / f"{room}.jsonl", artist="ada", room=room or "studio")

    return SimpleNamespace(privacy=None, folder=tmp_path / "session", ledger=ledger)


@pytest.fixture
def spent(session: Any, tmp_path: Path) -> Ledger:
    ledger = Ledger.open(tmp_path / "None.jsonl", artist="ada", room="studio", budget=Budget(8.0, 1e-3))
    for number in (1, 2):
        ledger.spend(Gaussian(1.4, 0.16, 15), purpose=f"round {number} <b>", record={"pictures": 50})
    return ledger


def test_a_room_where_nothing_was_spent_shows_no_error_and_a_warning_that_nothing_is_noised(session: Any) -> None:
    panel = LedgerPanel(session)
    assert panel.value is None
    assert not panel._error_area.value
    assert "without noise" in panel._state.value
    assert panel._save.disabled
    with pytest.raises(LedgerError, match="no ledger"):
        panel.look()
    assert "no ledger" in panel._error_area.value


def test_what_was_spent_is_shown_with_its_unit_delta_and_accountant(session: Any, spent: Ledger) -> None:
    panel = LedgerPanel(session)
    assert panel.value == pytest.approx(spent.spent)
    page = panel.to_html()
    for said in (f"epsilon {spent.spent:.2f} of 8", "one picture, added or removed, at delta 0.001", "rdp", "<svg"):
        assert said in page
    assert "round 1 &lt;b&gt;" in page
    assert "<b>" not in page
    assert "<script" not in page
    spent.spend(Gaussian(1.4, 0.16, 15), purpose="round 3")
    assert panel.look().value == pytest.approx(spent.spent)


def test_protecting_sets_the_session_s_wish_and_says_what_it_means(session: Any) -> None:
    panel = LedgerPanel(session)
    assert panel._stop.disabled
    panel.protect(2.0)
    assert session.privacy.epsilon == 2.0
    assert "with noise" in panel._state.value
    assert "88.1 times in 100" in panel._meaning.value
    assert not panel._stop.disabled
    panel.stop_protecting()
    assert session.privacy is None
    with pytest.raises(PrivacyError, match="epsilon is -1"):
        panel.protect(-1.0)
    assert "epsilon is -1" in panel._error_area.value
    assert session.privacy is None


def test_the_slider_s_epsilon_is_taken_when_none_is_given(session: Any) -> None:
    panel = LedgerPanel(session)
    panel._epsilon.value = 13.0  # the place of 10 among the slider's
    panel._protect.click()
    assert session.privacy.epsilon == pytest.approx(10.0)


def test_saving_writes_a_statement_for_people_and_the_ledger_for_machines(
    session: Any, spent: Ledger, tmp_path: Path
) -> None:
    panel = LedgerPanel(session)
    text, data = panel.save(tmp_path / "records")
    assert "# Privacy statement: studio" in text.read_text(encoding="utf-8")
    spent.verify_export(json.loads(data.read_text(encoding="utf-8")))
    assert str(text) in panel._where.value
    assert panel.save()[0].parent == session.folder / "privacy"


def test_an_oddity_of_the_ledger_is_shown(session: Any, spent: Ledger) -> None:
    panel = LedgerPanel(session)
    assert panel.ledger is not None
    panel.ledger.warnings.append("One copy lacked entries.")
    panel._show()
    assert "One copy lacked entries." in panel._figure.value


def test_the_spending_figure_says_in_words_and_rows_what_it_shows() -> None:
    drawn = spending([("round 1", 3.0), ("round 2", float("inf"))], budget=8.0)
    assert "over 2 trainings: it went up to infinite. The budget is 8." in drawn.alt
    assert drawn.table[-1] == ("2", "round 2", "infinite")
    assert "nothing was paid for" in spending([], budget=None).alt


def test_the_histogram_of_norms_says_how_many_were_clipped() -> None:
    drawn = gradient_norms([0.01, 0.05, 0.2, 0.4], clip_norm=0.1)
    assert "50% were shortened" in drawn.alt
    assert drawn.svg is not None
    assert "no picture yet" in gradient_norms([], clip_norm=0.1).alt


def test_the_slider_begins_where_the_budget_of_the_ledger_lies(session: Any, tmp_path: Path) -> None:
    Ledger.open(tmp_path / "None.jsonl", artist="ada", room="studio", budget=Budget(3.0, 1e-3)).spend(
        Gaussian(1.4, 0.16, 5), purpose="a round"
    )
    panel = LedgerPanel(session)
    assert panel.epsilon == pytest.approx(3.0, rel=0.35), "the nearest place, and not the 8 of a panel without a ledger"
    assert "of 3" in panel.to_html()


def test_statements_of_two_rooms_with_long_names_lie_side_by_side(session: Any, tmp_path: Path) -> None:
    rooms = ["studio " + "o" * 70 + end for end in ("-one", "-two")]
    for room in rooms:
        budget = Budget(8.0, 1e-3)
        ledger = Ledger.open(tmp_path / f"{room}.jsonl", artist="ada", room=room, budget=budget)
        ledger.spend(Gaussian(1.4, 0.16, 15), purpose="round 1")
    texts = [LedgerPanel(session, room=room).save(tmp_path / "records")[0] for room in rooms]
    for room, text in zip(rooms, texts, strict=True):
        assert f"# Privacy statement: {room}\n" in text.read_text(encoding="utf-8")
