"""What the relay saw, as a panel: the columns, the slider, and a session that has nothing to show yet."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fedart_nb.errors import RoundError
from fedart_nb.federated import RelayView
from fedart_nb.widgets import RelayViewPanel

SIZE = 4000


@pytest.fixture
def session():
    rng = np.random.default_rng(0)
    known = {name: rng.normal(0, 0.05, SIZE) for name in ("Ada", "Ben", "Cy", "Dee", "Eli")}
    mean = np.mean(list(known.values()), axis=0)
    held = rng.integers(0, 2**32, SIZE, dtype=np.uint32)
    own = known.pop("Ada")
    view = RelayView(number=2, update=own, held=held, mean=mean, contributors=5, roster=5, others=known)
    return SimpleNamespace(can_look_back=True, relay_view=lambda _others: view)


def test_a_finished_round_is_shown_at_once_with_three_columns_and_their_alt_text(session):
    panel = RelayViewPanel(session)
    assert "What the relay holds of it: from" in panel._figure.value
    assert "The mean of all 5" in panel._figure.value
    assert panel._slider.max == 4
    assert "chance: within" in panel._facts.value


def test_the_slider_says_what_lies_open_at_each_number(session):
    panel = RelayViewPanel(session)
    said = []
    for colluders in range(5):
        panel.collude(colluders)
        said.append((panel.value.exposed, "fedart-danger" in panel._sentence.value))
    assert said == [(False, False)] * 4 + [(True, True)]
    panel.collude(3, foul=True)
    assert panel.value.exposed
    assert "lie about who has dropped out" in panel._sentence.value


def test_an_opened_update_of_a_noised_round_is_said_to_keep_the_artists_own_noise(session):
    view = replace(session.relay_view(()), noise_std=0.15)
    panel = RelayViewPanel(SimpleNamespace(can_look_back=True, relay_view=lambda _others: view))
    panel.collude(4)
    assert panel.value.values is None
    assert panel.value.correlation == pytest.approx(0.05 / (0.05**2 + 0.15**2) ** 0.5, abs=0.01)
    assert "your own share of the noise" in panel._sentence.value
    assert "noise before masking" in panel._facts.value


def test_more_colluders_than_others_are_refused_with_the_range(session):
    panel = RelayViewPanel(session)
    with pytest.raises(RoundError, match="0 to 4"):
        panel.collude(9)
    assert "0 to 4" in panel._error_area.value


def test_before_a_round_the_panel_says_what_to_do(session):
    def nothing(_others):
        raise RoundError("No round has ended with an update of this kernel in it yet. Take part in one first.")

    panel = RelayViewPanel(SimpleNamespace(can_look_back=False, relay_view=nothing))
    with pytest.raises(RoundError, match="Take part in one first"):
        panel.look()
    assert panel._body.layout.display == "none"
    assert "Take part in one first" in panel._error_area.value


def test_the_static_page_holds_the_figure_and_no_script(session):
    page = RelayViewPanel(session).to_html()
    assert "<svg" in page
    assert "<script" not in page
