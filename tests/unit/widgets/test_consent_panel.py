"""Consent as a panel: one's word, its receipts, what a picture is in, and two steps to withdraw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from leavings import LEAVING

from fedart_nb.consent import Consent
from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import ConsentError, FedArtError
from fedart_nb.widgets import ConsentPanel

ROUND = replace(LEAVING, size_bytes=33_000, plan="plan 1")
PICTURES = [SimpleNamespace(id="picture-one", caption="a <fox>"), SimpleNamespace(id="picture-two", caption="a hen")]


@pytest.fixture
def session(tmp_path: Path) -> Any:
    consent = Consent(tmp_path, Identity.generate())
    consent.room = "studio"
    left: list[bool] = []
    return SimpleNamespace(
        name="Ada",
        folder=tmp_path,
        consent=consent,
        side=None,
        art=SimpleNamespace(included=lambda _split: PICTURES),
        leave=lambda *, withdraw: left.append(withdraw),
        left=left,
    )


@pytest.fixture
def panel(session: Any) -> Iterator[ConsentPanel]:
    panel = ConsentPanel(session)
    yield panel
    panel.close()


def finish(session: Any, number: int, *, counted: bool = True) -> None:
    """A round that was agreed to, sent, and closed."""
    one = replace(ROUND, number=number, plan=f"plan {number}")
    session.consent.choose("contribute", "asked", leaving=one, pictures=["picture-one"])
    session.consent.left(one, pictures=["picture-one"], size_bytes=33_000)
    session.consent.closed("studio", number, one.plan, counted=counted, shared=f"sha {number}", contributors=3)


def test_nothing_is_agreed_to_at_first_and_a_standing_consent_is_one_click_either_way(
    session: Any, panel: ConsentPanel
) -> None:
    assert "unless you are asked" in panel._state.value
    assert panel._ask.disabled
    panel._stand.click()
    assert session.consent.standing
    assert "Standing consent" in panel._state.value
    assert panel.value == 2, "the book's first line, and the choice"
    panel.ask_again()
    assert not session.consent.standing


def test_receipts_and_what_a_picture_is_in_are_shown_and_saved(
    session: Any, panel: ConsentPanel, tmp_path: Path
) -> None:
    with pytest.raises(FedArtError, match="no receipts"):
        panel.save()
    finish(session, 1)
    page = panel.look().to_html()
    assert "agreed to contribute, when asked" in page
    assert "33,000 bytes" in page
    assert "none was changed" in page
    assert "rounds 1" not in panel._influence.value
    assert "round 1 of studio" in panel._influence.value
    panel._picture.value = "picture-two"
    assert "No update that was trained on this picture" in panel._influence.value
    text, data = panel.save(tmp_path / "kept")
    assert "# What Ada agreed to" in text.read_text(encoding="utf-8")
    exported = json.loads(data.read_text(encoding="utf-8"))
    assert session.consent.check(exported) is None
    assert "picture-one" not in json.dumps(exported["receipts"]), "receipts name no picture"


def test_a_changed_mind_says_what_it_still_changes(session: Any, panel: ConsentPanel) -> None:
    with pytest.raises(ConsentError, match="No round that you agreed to"):
        panel.rethink()
    session.consent.choose("contribute", "asked", leaving=ROUND, pictures=["picture-one"])
    panel.look()
    panel._rethink.click()
    assert "nothing of it has left" in panel._told.value


def test_withdrawing_says_first_what_it_costs_and_takes_a_second_click(session: Any, panel: ConsentPanel) -> None:
    assert "nothing is trained again" in panel.cost()
    finish(session, 1, counted=False)
    finish(session, 2)
    finish(session, 3)
    panel.look()
    panel._withdraw.click()
    assert session.left == []
    assert "from round 2 on" in panel._cost.value
    assert "the others are asked to train 2 rounds again" in panel._cost.value
    assert "copies" in panel._cost.value
    panel._keep.click()
    assert panel._sure.layout.display == "none"
    panel._withdraw.click()
    panel._sure.click()
    assert session.left == [True]
    assert "left and withdrawn" in panel._cost.value


def test_rounds_that_were_rewound_are_not_counted(session: Any) -> None:
    finish(session, 1)
    finish(session, 2)
    session.consent.rewound("studio", 2, why="An artist withdrew.", plan="plan 2 again")
    assert session.consent.rounds_with("studio") == (1,)
    assert session.consent.rounds_since("studio", 1) == 1


def test_a_file_that_was_changed_is_told(session: Any, panel: ConsentPanel) -> None:
    finish(session, 1)
    text = session.consent.path.read_text(encoding="utf-8")
    session.consent.path.write_text(text.replace("33000", "33"), encoding="utf-8")
    with pytest.raises(ConsentError):
        panel.look()
    assert panel._error_area.value
