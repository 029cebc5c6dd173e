"""The panel of fairness measures in its job, and says what is gained, by whom, and what is not known."""

from __future__ import annotations

import pytest

from fedart_nb.analysis import fairness
from fedart_nb.analysis.fairness import Fairness
from fedart_nb.errors import TrainingError
from fedart_nb.events import Note
from fedart_nb.federated.gains import Gains
from fedart_nb.widgets import FairnessPanel

FOUND = Fairness(1.1, 1.05, 1.0, 1.07, (1.2, 1.15, 1.14), room=Gains(0.02, 0.01, 4, 5))


def test_sentences_say_who_gains_and_what_ones_part_does():
    text = str(FOUND)
    assert "the shared adapter lowers the loss by 0.0500" in text
    assert "on your own pictures they lower the loss by 0.0200, on pictures in other hands they raise the loss" in text
    assert "4 of 5 artists gained" in text


def test_a_loss_is_called_a_loss_and_a_reason_is_given():
    found = Fairness(1.0, 1.03, None, None, (1.2, 1.15, None), why_not="Artists do not weigh the same.")
    assert "raises the loss by 0.0300" in str(found)
    assert "not known here. Artists do not weigh the same." in str(found)
    assert "the host did not ask" in str(found)
    assert found.worth_to_others is None


def test_the_panel_shows_what_was_found(make_session, fake_art, monkeypatch):
    def fake(session):
        yield Note("Judging")
        yield FOUND

    monkeypatch.setattr(fairness, "fairness", fake)
    session = make_session(art=fake_art())
    session.shared = None
    panel = FairnessPanel(session)
    with pytest.raises(TrainingError, match="Take part in a round first"):
        panel.measure()
    session.shared = object()
    panel.measure()
    assert panel.wait(10) is FOUND
    assert "with the shared adapter less your updates" in panel._result.value
    assert "4 of 5 artists gained" in panel._static_body()
