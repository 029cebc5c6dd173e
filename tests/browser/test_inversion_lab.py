"""The inversion lab and the look before sending, as a person uses them."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import expect

SLOW_MS = 120_000  # a machine that has other things to do
SETUP = "from fedart_nb import ArtSet, InversionPanel, Session\nsession = Session('Me')\nsession.backbone"
PANEL = "lab = InversionPanel(session, art=ArtSet.sample('openmoji', limit=30), picture=1, budget_s=60)\nlab"
QUESTION = (
    "from fedart_nb.workshop.lessons import Prediction\n"
    "Prediction('What does the relay see?', ['my picture', 'noise'], 'Uniform noise.', answer='noise')"
)
ROOM = """
from fedart_nb import ArtSet, Host, RoomPanel, Session
from fedart_nb.workshop.rehearsal import rehearse
from fedart_nb.jobs import Job
host, session = Host("Before"), Session("Ada")
invite = host.open_room("{relay}", rounds=1, min_artists=3, local_steps=2, patience_s=120.0)
hosting = Job(host.rounds(), name="hosting").start()
session.art = ArtSet.sample("fluent3d", limit=10)
company = rehearse(invite, ["fluent_ink", "gameicons"], backbone=session.backbone, limit=6)
"""
#: From a key on a slider to the change of the linked views, in milliseconds.
SLIDE = """async ([handle, views]) => {
    const times = [];
    for (const step of [1, 1, 1, -1, -1, -1]) {
        const changed = new Promise(done => {
            const watch = new MutationObserver(() => { watch.disconnect(); done(performance.now()); });
            watch.observe(views, {childList: true, subtree: true, attributes: true});
        });
        const began = performance.now();
        handle.value = Number(handle.value) + step;
        handle.dispatchEvent(new Event('input', {bubbles: true}));
        times.push(await changed - began);
        await new Promise(done => setTimeout(done, 400));
    }
    return times;
}"""


@pytest.mark.timeout(420)
def test_the_lab_runs_scrubs_cancels_and_slides(page, lab, capsys):
    lab.open_notebook(page, lab.write("inversion.ipynb", SETUP, PANEL, QUESTION))
    lab.run_cell(page, "session = Session", timeout_s=120)
    lab.run_cell(page, "lab = InversionPanel", timeout_s=60)
    panel = lab.panel(page, "The inversion lab")

    # the switchboard greys what cannot be, and says why
    captions = panel.get_by_role("button", name=re.compile("captions: the captions"))
    expect(captions).to_be_disabled()
    expect(panel.get_by_text("In the first round B is zero, so A's gradient is exactly zero")).to_be_visible()
    panel.get_by_role("button", name="it is the first round (B is zero)").click()
    panel.get_by_role("button", name="a list of captions that may have been used").click()
    expect(captions).to_be_enabled()
    panel.get_by_role("button", name="it is the first round (B is zero)").click()
    panel.get_by_role("button", name="a list of captions that may have been used").click()

    # replay, scrub, then live: first frame, pause, cancel
    panel.get_by_role("button", name="Replay").click()
    last = panel.get_by_alt_text(re.compile(r"^reconstruction, SSIM 0\.[678]"))
    expect(last.first).to_be_visible(timeout=SLOW_MS)
    assert lab.look(page, "inversion-panel", panel) == []
    waits = []
    for _ in range(3):
        began = time.monotonic()
        panel.get_by_title("Run", exact=True).click()
        expect(panel.locator("progress")).to_be_visible(timeout=SLOW_MS)
        expect(panel.get_by_text(re.compile(r"^after [0-9] tries$"))).to_be_visible(timeout=SLOW_MS)
        waits.append(time.monotonic() - began)
        expect(panel.get_by_text(re.compile(r"^after [1-9]\d* tries$"))).to_be_visible(timeout=SLOW_MS)
        panel.get_by_role("button", name="Pause").click()
        expect(panel.get_by_role("button", name="Go on")).to_be_visible()
        panel.get_by_role("button", name="Cancel").click()
        expect(panel.get_by_text("what was reached is kept")).to_be_visible(timeout=20_000)
        expect(panel.get_by_title("Run", exact=True)).to_be_enabled()

    # one slider, three views
    handle = panel.get_by_role("slider", name="Noise")
    views = panel.locator(".fedart-linked")
    expect(views.get_by_alt_text(re.compile("^reconstruction, SSIM"))).to_be_visible()
    linked = panel.locator(".widget-html:has(.fedart-linked)").element_handle()
    slid = page.evaluate(SLIDE, [handle.element_handle(), linked])
    with capsys.disabled():  # beside other work no measure of this program: promised are 2 s and 100 ms on idle cores
        print(f"\ninversion lab: first frame {min(waits):.2f} s (of 3), slider {sorted(slid)[len(slid) // 2]:.0f} ms")

    # a prediction beside it
    lab.run_cell(page, "Prediction(", timeout_s=60)
    asked = lab.panel(page, "Predict")
    guess = asked.get_by_role("button", name="This is my guess")
    expect(guess).to_be_disabled()
    asked.get_by_label("my picture").check()
    guess.click()
    expect(asked.get_by_text("You guessed: my picture. It is: noise.").first).to_be_visible()
    assert lab.look(page, "prediction", asked) == []


@pytest.mark.timeout(420)
def test_an_update_is_looked_at_and_sent_by_a_person(page, lab, relay):
    lab.open_notebook(
        page,
        lab.write(
            "before.ipynb",
            ROOM.format(relay=relay),
            "room = RoomPanel(session, invite=str(invite), preflight=True)\nroom",
        ),
    )
    lab.run_cell(page, "hosting = Job", timeout_s=120)
    lab.run_cell(page, "room = RoomPanel", timeout_s=60)
    room = lab.panel(page, "The room")
    expect(room.get_by_label("Attack my update here first, before it leaves")).to_be_checked()
    seconds = room.get_by_label("Seconds for the attacks")
    seconds.fill("40")
    seconds.press("Tab")
    room.get_by_role("button", name="Join").click()
    room.get_by_role("button", name="Contribute").click(timeout=SLOW_MS)
    expect(room.get_by_role("heading", name="Before it leaves")).to_be_visible(timeout=SLOW_MS)
    expect(room.get_by_text("Nothing has left yet.")).to_be_visible(timeout=SLOW_MS)
    expect(room.get_by_text("There is no noise in it: nothing bounds").locator("visible=true").first).to_be_visible()
    expect(room.get_by_text("nothing", exact=True).first).to_be_visible()  # what was sent so far, in the table
    assert lab.look(page, "preflight", room) == []
    room.get_by_role("button", name="Send it").click()
    expect(room.get_by_text("The host has closed the room.").first).to_be_visible(timeout=SLOW_MS)
    expect(room.get_by_role("table").get_by_role("row").filter(has_text="KiB").first).to_contain_text("sent")
