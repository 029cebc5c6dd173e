"""The panels of noise, of the ledger and of style leakage, by keyboard, and on a page without a kernel."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import expect

STATIC = Path(__file__).parents[2] / "fedart_nb" / "widgets" / "static"
SLOW_MS = 120_000  # a machine that has other things to do
SETUP = """
from fedart_nb import ArtSet, LedgerPanel, NoisePanel, PicturePrivacy, Session, StyleLeakPanel, TrainConfig
session = Session("Me")
session.art = ArtSet.sample("rollandin", limit=16)
session.backbone
"""
NOISE = "noise = NoisePanel(session, steps=2, prompts=['cat'])\nnoise"
PAID = """
for event in session.train_personal(TrainConfig(steps=2, validate_every=0), privacy=PicturePrivacy(epsilon=3.0)):
    pass
LedgerPanel(session, room="personal")
"""
LEAK = "StyleLeakPanel(session, company=('lorelei', 'gameicons'))"
#: From a move of the slider to the change of the sheet, in milliseconds.
SLIDE = """async ([handle, sheet]) => {
    const times = [];
    for (const step of [1, -1, -1, 1]) {
        const changed = new Promise(done => {
            const watch = new MutationObserver(() => { watch.disconnect(); done(performance.now()); });
            watch.observe(sheet, {childList: true, subtree: true, attributes: true});
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
def test_noise_is_seen_computed_and_paid_for(page, lab, capsys):
    name = lab.write("privacy.ipynb", SETUP, NOISE, PAID)
    lab.open_notebook(page, name)
    lab.run_cell(page, "session = Session", timeout_s=120)
    lab.run_cell(page, "noise = NoisePanel", timeout_s=60)
    panel = lab.panel(page, "What noise costs")

    # the slider turns ready-made frames, by keyboard
    handle = panel.get_by_role("slider").first
    sheet = panel.locator(".fedart-card").nth(1)
    expect(panel.get_by_alt_text(re.compile("at epsilon 8$")).first).to_be_visible()
    expect(panel.get_by_alt_text(re.compile("reconstruction, SSIM"))).to_be_visible()
    expect(panel.get_by_text(re.compile("a guess without the update reaches"))).to_be_visible()
    assert lab.look(page, "noise-panel", panel) == []
    slid = page.evaluate(SLIDE, [handle.element_handle(), sheet.element_handle()])
    with capsys.disabled():
        print(f"\nnoise panel: slider {sorted(slid)[len(slid) // 2]:.0f} ms")
    handle.focus()
    page.keyboard.press("End")
    expect(panel.get_by_alt_text(re.compile("at no noise$")).first).to_be_visible()
    while handle.get_attribute("aria-valuetext") != "epsilon 8":
        page.keyboard.press("ArrowLeft")
    expect(panel.get_by_alt_text(re.compile("at epsilon 8$")).first).to_be_visible()

    # the same on one's own art, started by keyboard
    panel.get_by_role("button", name="Compute this exactly").press("Enter")
    expect(panel.get_by_text("your own art, computed here")).to_be_visible(timeout=SLOW_MS)
    expect(panel.get_by_alt_text("“cat” at epsilon 8")).to_be_visible()

    # what was spent
    lab.run_cell(page, "session.train_personal", timeout_s=120)
    ledger = lab.panel(page, "Privacy ledger")
    expect(ledger.get_by_text(re.compile("epsilon.*3")).first).to_be_visible()
    assert lab.look(page, "ledger-panel", ledger) == []

    # a page without a kernel shows every frame
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    html, _ = HTMLExporter().from_notebook_node(nbformat.read(lab.folder / name, as_version=4))
    shipped = json.loads((STATIC / "noise" / "frames.json").read_text(encoding="utf-8"))["frames"]
    named = [
        "no noise" if frame["epsilon"] in (None, "inf", math.inf) else f"epsilon {frame['epsilon']:g}"
        for frame in shipped
    ]
    assert len(named) > 4
    assert [name for name in named if f"at {name}&quot;" not in html and f'at {name}"' not in html] == []


@pytest.mark.timeout(420)
def test_style_leakage_is_measured_by_keyboard(page, lab):
    lab.open_notebook(page, lab.write("leak.ipynb", SETUP, LEAK))
    lab.run_cell(page, "session = Session", timeout_s=120)
    lab.run_cell(page, "StyleLeakPanel(session", timeout_s=60)
    panel = lab.panel(page, "How much of your hand shows")
    expect(panel.get_by_text("What this does not measure")).to_be_visible()
    panel.get_by_role("button", name="Measure on my art").press("Enter")
    found = panel.get_by_role("img", name=re.compile("How surely an attacker tells that you took part"))
    expect(found).to_be_visible(timeout=SLOW_MS)
    expect(panel.get_by_text(re.compile("Told from your published works")).first).to_be_visible()
    assert lab.look(page, "style-leak-panel", panel) == []
