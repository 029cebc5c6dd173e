"""Notebook 5 in a browser: a round, the relay's bytes beside the true update, the slider, and a trick played."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

SLOW_MS = 150_000
NOTEBOOK = "05-what-the-relay-saw.ipynb"


@pytest.mark.timeout(420)
def test_the_relay_s_bytes_stand_beside_the_update_and_a_trick_is_noticed(page, lab):
    lab.open_notebook(page, lab.copy(NOTEBOOK, "saw.ipynb"))
    lab.run_all(page, timeout_s=SLOW_MS / 1000)
    view = lab.panel(page, "What the relay saw")
    expect(view.get_by_role("img", name=re.compile("What the relay holds of it"))).to_be_visible(timeout=SLOW_MS)
    expect(view.get_by_text(re.compile("Hidden among")).first).to_be_visible()
    slider = view.get_by_role("slider", name="Artists who collude with the relay")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(view.get_by_text("Hidden among 3, yours included", exact=True)).to_be_visible()
    assert lab.look(page, "relay-view", view) == []
    slider.focus()
    page.keyboard.press("End")
    expect(view.get_by_text("Your update lies open", exact=True)).to_be_visible()

    game = lab.panel(page, "Be the relay, and cheat")
    game.get_by_label("What do you do?").select_option(label="Give Ada a shared adapter of zeros in the second round")
    game.get_by_role("button", name="Play").click()
    expect(game.get_by_text("Noticed by Ada").first).to_be_visible()
    expect(game.get_by_text(re.compile("another shared adapter than the last result")).first).to_be_visible()
    assert lab.look(page, "relay-game", game) == []
