"""Fairness in a browser: the host asks for gains and weighs by loss; an artist measures their own gain, by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

SETUP = """
from fedart_nb import ArtSet, FairnessPanel, Host, HostPanel, Session
from fedart_nb.workshop.rehearsal import rehearse
session = Session("Ada")
session.art = ArtSet.sample("openmoji", limit=12)
studio = HostPanel(Host("Fair"), rounds=2, steps=1, min_artists=3)
studio
"""
ROUNDS = """
company = rehearse(studio.invite, ["fluent_ink", "gameicons"], limit=12)
session.join(str(studio.invite))
session.consent.stand()
studio.start_rounds()
for event in session.rounds():
    pass
print("rounds done")
"""
PANEL = "panel = FairnessPanel(session)\npanel"


@pytest.mark.timeout(420)
def test_who_gains_is_measured_and_told(page, lab):
    name = lab.write("fairness.ipynb", SETUP, ROUNDS, PANEL)
    lab.open_notebook(page, name)
    lab.run_cell(page, "from fedart_nb", timeout_s=120)
    host = lab.panel(page, "Host a room")
    host.get_by_label("Ask what artists gain, as sums").check()
    assert lab.look(page, "fairness-host", host) == []
    host.get_by_role("button", name="Open room").click()
    expect(host.get_by_role("button", name="Start rounds")).to_be_enabled(timeout=60_000)
    lab.run_cell(page, "company = rehearse", timeout_s=200)
    expect(page.get_by_text("rounds done", exact=True)).to_be_visible()
    lab.run_cell(page, "panel = FairnessPanel", timeout_s=60)
    panel = lab.panel(page, "Who gains?")
    button = panel.get_by_role("button", name="Measure")
    button.focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_text(re.compile("the shared adapter (lowers|raises|changes)")).first).to_be_visible(
        timeout=120_000
    )
    expect(panel.get_by_text("with the shared adapter less your updates")).to_be_visible()
    assert lab.look(page, "fairness", panel) == []
