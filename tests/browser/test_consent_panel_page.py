"""Consent in a browser: a real round in a kernel, its receipts, and an artist who withdraws from it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

SLOW_MS = 120_000
SETUP = """
from fedart_nb import ArtSet, ConsentPanel, Host, HostPanel, Session
from fedart_nb.workshop.rehearsal import rehearse
session = Session("Ada")
session.art = ArtSet.sample("openmoji", limit=12)
studio = HostPanel(Host("Withdrawals"), rounds=2, steps=1, min_artists=3)
studio.open_room()
company = rehearse(studio.invite, ["fluent_ink", "gameicons", "lorelei"], limit=12)
session.join(str(studio.invite))
studio.start_rounds()
"""
PANEL = "panel = ConsentPanel(session)\npanel"
ROUND = """
for event in session.rounds(until_round=1):
    pass
panel.look();
print("looked again")
"""
AFTER = """
if await studio.asked():
    studio.go_back()
studio.wait(100)
for member in company:
    member.job.wait(60)
print("rewound", studio.host.plan.rewound, "times;", len({m.session.shared.digest for m in company}), "shared adapter")
"""


@pytest.mark.timeout(420)
def test_consent_is_given_shown_and_taken_back(page, lab):
    name = lab.write("consent.ipynb", SETUP, PANEL, ROUND, AFTER)
    lab.open_notebook(page, name)
    lab.run_cell(page, "from fedart_nb", timeout_s=120)
    lab.run_cell(page, "panel = ConsentPanel", timeout_s=60)
    panel = lab.panel(page, "Consent")
    expect(panel.get_by_text("Nothing leaves this kernel unless you are asked")).to_be_visible()
    stand = panel.get_by_role("button", name="Agree to every round")
    stand.focus()
    page.keyboard.press("Enter")
    expect(panel.get_by_text("Every round of this room is contributed to")).to_be_visible()
    lab.run_cell(page, "for event in session.rounds", timeout_s=120)
    expect(panel.get_by_text(re.compile("agreed to contribute, by a standing consent")).first).to_be_visible()
    expect(panel.get_by_text(re.compile("It is in the sum of round 1"))).to_be_visible()
    assert lab.look(page, "consent", panel) == []
    panel.get_by_role("button", name="Withdraw me").click()
    expect(panel.get_by_text(re.compile("the room goes back to before round 1")).first).to_be_visible()
    assert lab.look(page, "consent-withdrawing", panel) == []
    panel.get_by_role("button", name="Yes, withdraw me").click()
    expect(panel.get_by_text(re.compile("You have left and withdrawn")).first).to_be_visible(timeout=SLOW_MS)
    lab.run_cell(page, "studio.wait", timeout_s=150)
    expect(page.get_by_text("rewound 1 times; 1 shared adapter")).to_be_visible()
