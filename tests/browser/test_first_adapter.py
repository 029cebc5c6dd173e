"""Notebook 1 as a person goes through it: choose art, train, cancel, go on, look, and come back to the page."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

SLOW_MS = 90_000  # a step of training on a machine that has other things to do
SAMPLE = "Thin-line ink drawings of food and animals, by Gerald G. (Open Clip Art Library) (82 pictures)"


@pytest.mark.timeout(420)  # half a minute to a minute and a half, unless the machine is busy
def test_art_is_chosen_an_adapter_trained_cancelled_and_resumed_and_the_page_reloaded(page, lab):
    lab.open_notebook(page, "01-first-adapter.ipynb")
    lab.run_cell(page, "import ArtPanel", timeout_s=90)
    lab.run_cell(page, "ArtPanel(session)")
    lab.run_cell(page, "TrainPanel(session", timeout_s=90)
    art, training = lab.panel(page, "Your art"), lab.panel(page, "Train your own adapter")

    # art: a set by mouse, one picture out by keyboard
    art.get_by_label("Sample art").select_option(label=SAMPLE)
    art.get_by_role("button", name="Load sample").click()
    expect(art.get_by_text("82 of 82 pictures included").first).to_be_visible(timeout=SLOW_MS)
    first = art.get_by_role("checkbox").first
    first.focus()
    page.keyboard.press("Space")
    expect(art.get_by_text("81 of 82 pictures included").first).to_be_visible()
    expect(first).not_to_be_checked()
    assert lab.look(page, "art-panel", art) == []

    # training: started, cancelled in the middle, resumed to the end
    steps = training.get_by_label("Steps", exact=True)
    steps.fill("400")
    steps.press("Tab")
    training.get_by_role("checkbox", name=re.compile("^Learn a style token")).check()
    training.get_by_role("button", name="Start").click()
    running = training.get_by_text(re.compile(r"step (\d+) of 400")).first
    expect(running).to_be_visible(timeout=SLOW_MS)
    assert lab.look(page, "train-panel-running", training) == []
    training.get_by_role("button", name="Cancel").click()
    stopped = training.get_by_text(re.compile(r"Stopped after (\d+) of 400 steps")).last
    expect(stopped).to_be_visible(timeout=SLOW_MS)
    done = int(re.search(r"after (\d+)", stopped.inner_text())[1])
    steps.fill(str(done + 2))
    steps.press("Tab")
    training.get_by_role("button", name="Resume").click()
    expect(training.get_by_text("Your adapter is trained")).to_be_visible(timeout=SLOW_MS)
    expect(training.get_by_text(f"{done + 2} steps in").last).to_be_visible()
    for model in ("Backbone alone", "With your adapter"):
        expect(training.get_by_alt_text(f"“cat”, drawn by: {model}")).to_be_visible()
    assert lab.look(page, "train-panel-done", training) == []

    # the page is reloaded: same kernel, same panels, and they still answer
    lab.save_and_reload(page)
    expect(training.get_by_text("Your adapter is trained")).to_be_visible(timeout=SLOW_MS)
    expect(training.get_by_alt_text("“cat”, drawn by: With your adapter")).to_be_visible()
    expect(training.get_by_label("Steps", exact=True)).to_have_value(str(done + 2))
    expect(art.get_by_role("checkbox").first).not_to_be_checked()
    art.locator(".fedart-tile").first.click()  # all of a tile belongs to its checkbox
    expect(art.get_by_text("82 of 82 pictures included").first).to_be_visible()
