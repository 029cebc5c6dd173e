"""The style panel as a person uses it: by keyboard and by mouse, in a wide page and in a narrow one."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from fedart_nb import read_recipe

SLOW_MS = 120_000  # pictures on a machine that has other things to do
SETUP = """
import numpy as np
from fedart_nb import Session, StylePanel
from fedart_nb.diffusion import initial_adapter
session = Session("Me")
session.shared, session.personal = (initial_adapter(session.backbone, seed=seed) for seed in (1, 2))
rng = np.random.default_rng(0)
for adapter in (session.shared, session.personal):  # as if they had learnt something
    for name, values in adapter.tensors.items():
        if "lora_B" in name:
            values[...] = rng.normal(0, 0.02, values.shape)
"""
PANEL = 'StylePanel(session, "cat", steps=4, ahead=6)'
PLAIN = 'StylePanel(session, "cat", steps=4, ahead=0, seeds=[1], plain_controls=True)'


@pytest.mark.timeout(420)  # half a minute, unless the machine is busy
def test_a_mix_is_drawn_wiped_turned_by_keyboard_and_saved(page, lab):
    lab.open_notebook(page, lab.write("style.ipynb", SETUP, PANEL))
    lab.run_cell(page, "session = Session", timeout_s=120)
    lab.run_cell(page, "StylePanel(session, ", timeout_s=60)
    panel = lab.panel(page, "Mix your style")
    expect(panel.get_by_text("Nothing drawn yet")).to_be_visible()

    # drawn: the large picture, its comparison, and the seeds
    panel.get_by_label("What to draw").fill("red cat zeppelin")
    panel.get_by_role("button", name="Draw").click()
    expect(panel.get_by_text("✓ Exact")).to_be_visible(timeout=SLOW_MS)
    expect(panel.get_by_alt_text("“red cat zeppelin”, seed 4, drawn by shared 1 + personal 1")).to_be_visible(
        timeout=SLOW_MS
    )
    expect(panel.get_by_text(re.compile("of 6 neighbouring pictures are ready"))).to_be_visible(timeout=SLOW_MS)
    expect(panel.get_by_text("zeppelin").first).to_be_visible()

    # the wipe: arrow keys and mouse move the edge
    edge = panel.get_by_role("slider", name="Edge between backbone alone and shared 1 + personal 1")
    expect(panel.get_by_role("slider")).to_have_count(3, timeout=SLOW_MS)
    edge.focus()
    page.keyboard.press("ArrowRight")
    expect(edge).to_have_value("51")
    expect(edge).to_have_attribute("aria-valuetext", "51 % backbone alone, 49 % shared 1 + personal 1")
    box = edge.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50, steps=4)
    page.mouse.up()
    expect(edge).to_have_value(re.compile(r"^2[3-7]$"))
    assert lab.look(page, "style-panel", panel) == []

    # the sliders: the nearest mix at once, with its weights, and then the exact one
    personal = panel.get_by_role("slider", name="Personal adapter")
    personal.focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(personal).to_have_value("0.85")
    expect(panel.get_by_text("You asked for shared 1 + personal 0.85")).to_be_visible(timeout=SLOW_MS)
    lab.screenshot(page, "style-panel-nearest")
    expect(panel.get_by_text("Shown: shared 1 + personal 0.85.")).to_be_visible(timeout=SLOW_MS)
    expect(panel.get_by_text("✓ Exact")).to_be_visible(timeout=SLOW_MS)

    # without keeping to the words: what was drawn until the adapters alone have drawn
    panel.get_by_role("checkbox", name="Keep to the words (slower)").focus()
    page.keyboard.press("Space")
    expect(panel.get_by_text("Shown: shared 1 + personal 0.85, kept to the words.")).to_be_visible(timeout=SLOW_MS)
    expect(panel.get_by_text("✓ Exact")).to_be_visible(timeout=SLOW_MS)

    # the seeds: another one large, one kept, the others new
    panel.get_by_role("button", name="Show seed 3").press("Enter")
    expect(panel.get_by_role("button", name="Showing seed 3")).to_be_visible()
    panel.get_by_role("checkbox", name="Keep seed 3").check()
    panel.get_by_role("button", name="New seeds for those not kept").click()
    expect(panel.get_by_role("button", name="Show seed 1", exact=True)).to_have_count(0)
    expect(panel.get_by_role("button", name="Showing seed 3")).to_be_visible()

    expect(panel.get_by_text("Shown: shared 1 + personal 0.85.")).to_be_visible(timeout=SLOW_MS)

    # saved, with its recipe
    panel.get_by_label("File (empty").fill("mine.png")
    panel.get_by_role("button", name="Save picture").click()
    expect(panel.get_by_text("The recipe with the prompt is inside the file.")).to_be_visible(timeout=SLOW_MS)
    recipe = read_recipe(lab.folder / "mine.png")
    assert (recipe.prompt, recipe.seed, recipe.personal, recipe.artist) == ("red cat zeppelin", 3, 0.85, "")
    assert not recipe.anchored

    # a narrow page
    page.set_viewport_size({"width": 700, "height": 1000})
    expect(panel.get_by_text(re.compile("neighbouring pictures are ready"))).to_be_visible(timeout=SLOW_MS)
    assert lab.look(page, "style-panel-narrow", panel) == []
    overflow = panel.evaluate("node => node.scrollWidth - node.clientWidth")
    assert overflow <= 1

    # the page is reloaded when all is drawn: same kernel, same pictures
    expect(panel.get_by_text("6 of 6 neighbouring pictures are ready")).to_be_visible(timeout=SLOW_MS)
    lab.save_and_reload(page)
    expect(panel.get_by_role("slider", name="Personal adapter")).to_have_value("0.85", timeout=SLOW_MS)
    expect(panel.get_by_role("slider", name=re.compile("Edge between backbone alone"))).to_be_visible()


@pytest.mark.timeout(300)
def test_stock_controls_do_the_same_where_no_custom_widget_is_shown(page, lab):
    lab.open_notebook(page, lab.write("plain.ipynb", SETUP, PLAIN))
    lab.run_cell(page, "session = Session", timeout_s=120)
    lab.run_cell(page, "StylePanel(session, ", timeout_s=60)
    panel = lab.panel(page, "Mix your style")
    panel.get_by_role("button", name="Draw").click()
    picture = panel.get_by_alt_text(re.compile(r"^Left 50%: “cat”, seed 1, drawn by backbone alone\. Right: "))
    expect(picture).to_be_visible(timeout=SLOW_MS)
    edge = panel.get_by_label("Edge between the two")
    edge.fill("20")
    edge.press("Tab")
    expect(panel.get_by_alt_text(re.compile(r"^Left 20%"))).to_be_visible()
    personal = panel.get_by_label("Personal adapter")
    personal.fill("0.5")
    personal.press("Tab")
    expect(panel.get_by_text("Shown: shared 1 + personal 0.5.")).to_be_visible(timeout=SLOW_MS)
    assert lab.look(page, "style-panel-plain", panel) == []
