"""The panel of style leakage measures in its job, shows figure and words, and says what it does not measure."""

from __future__ import annotations

import pytest

from fedart_nb.analysis import style_leakage as styleleak
from fedart_nb.analysis.style_leakage import StyleLeak
from fedart_nb.errors import AttackError, TrainingError
from fedart_nb.events import Note
from fedart_nb.widgets import StyleLeakPanel

LEAK = StyleLeak(
    {(False, 1): 1.0, (False, 3): 0.97, (True, 3): 0.55}, 8.0, 1e-3, ("lorelei", "gameicons"), 20, 5, 10, 100
)


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def fake(session, **options):
        calls.append(options)
        yield Note("Training the updates of you")
        yield LEAK

    monkeypatch.setattr(styleleak, "style_leak", fake)
    return calls


def test_what_was_found_is_the_value_and_shown_as_figure_and_sentence(make_session, fake_art, asked):
    panel = StyleLeakPanel(make_session(art=fake_art()), company=("lorelei", "gameicons"), epsilon=3.0)
    panel.measure()
    assert panel.wait(10) is LEAK
    assert asked[0]["company"] == ("lorelei", "gameicons")
    assert asked[0]["epsilon"] == 3.0
    assert "in the clear: 1.00 without noise" in panel._result.value
    assert "0.55 from a sum of 3 with noise" in panel._result.value


def test_without_art_it_says_what_to_do(make_session):
    panel = StyleLeakPanel(make_session())
    with pytest.raises(TrainingError, match="Choose pictures first"):
        panel.measure()


def test_a_refusal_is_shown_and_nothing_found_stays(make_session, fake_art, monkeypatch):
    def refuse(session, **options):
        raise AttackError("3 pictures of your own to train on; include 6 or more for this.")
        yield

    monkeypatch.setattr(styleleak, "style_leak", refuse)
    panel = StyleLeakPanel(make_session(art=fake_art()))
    panel.measure()
    with pytest.raises(AttackError):
        panel.wait(10)
    assert "include 6 or more" in panel._error_area.value
    assert panel.value is None


def test_the_static_page_holds_the_figure_and_what_is_not_measured(make_session, fake_art, asked):
    panel = StyleLeakPanel(make_session(art=fake_art()))
    panel.measure()
    panel.wait(10)
    page = panel.to_html()
    assert "How surely an attacker tells that you took part" in page
    assert "What this does not measure" in page
