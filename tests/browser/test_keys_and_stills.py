"""Keys pressed inside a panel stay there; a notebook that is opened without its kernel still shows its panels."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, expect

KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext"
CELLS = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
SAVE = "() => window.jupyterapp.shell.currentWidget.context.save()"
SHUT_DOWN = f"() => {KERNEL}.shutdown()"
FIRST = """from fedart_nb import *
from fedart_nb.workshop.lessons import Prediction, RelayGamePanel, SelfCheck
session = Session("Ada", folder="keys-session")
session.art = ArtSet.sample("openmoji", limit=12)
ArtPanel(session)"""
SELF_CHECK = """\
from fedart_nb.workshop.lessons import SelfCheck
SelfCheck('Who?', {'one': 'No.', 'two': 'Yes.'}, right='two')"""
PANELS = (
    "TrainPanel(session)",
    "StylePanel(session)",
    "NoisePanel(session)",
    "InversionPanel(session)",
    "RoomPanel(session)",
    "HostPanel(Host('Studio', folder='keys-host'))",
    "ConsentPanel(session)",
    "LedgerPanel(session, room='personal')",
    "FairnessPanel(session)",
    "StyleLeakPanel(session)",
    "RelayViewPanel(session)",
    "RelayGamePanel()",
    "Prediction('Who?', ['one', 'two'], 'Both.')",
    "SelfCheck('Who?', {'one': 'No.', 'two': 'Yes.'}, right='two')",
)
#: All that can be focused and used, in the order of the page.
CONTROLS = ".fedart-panel :is(button, input, select, textarea, summary, [tabindex='0']):not([disabled])"
KEYS_ARE_GUARDED = "() => window.fedartKeys"
FOCUS = """e => e === document.activeElement ? 'here'
    : `${document.activeElement.outerHTML.slice(0, 200)}, disabled ${e.disabled}, in the page ${e.isConnected}`"""
#: Texts that are wider than the place that shows them, and do not scroll.
CUT = """() => [...document.querySelectorAll('.fedart-panel *')].filter(e => {
    const scrolls = ['visible', 'auto', 'scroll'].includes(getComputedStyle(e).overflowX);
    return !scrolls && e.clientWidth && e.scrollWidth > e.clientWidth + 1 && e.textContent.trim()
        && e.tagName !== 'SELECT' && !e.closest('.fedart-hidden, svg');
}).map(e => `${e.closest('.fedart-panel').querySelector('h3').textContent}: ${e.textContent.trim().slice(0, 80)}`)"""
TAKES_TEXT = "e => e.matches('input[type=text]')"
KIND = """e => !e.isConnected ? '' : [e.closest('.fedart-panel').querySelector('h3').textContent,
    e.tagName, e.type, e.className.slice(0, 40)].join(' | ')"""


def test_no_key_pressed_in_a_panel_changes_the_notebook(lab, page: Page) -> None:
    lab.open_notebook(page, lab.write("keys.ipynb", FIRST, *PANELS))
    lab.run_all(page, timeout_s=240)
    expect(page.locator(".jp-Notebook .fedart-panel")).to_have_count(len(PANELS) + 1)
    page.wait_for_function(KEYS_ARE_GUARDED)
    cells = page.evaluate(CELLS)
    tried = set()
    controls = page.locator(CONTROLS).element_handles()
    controls.sort(key=lambda control: control.evaluate(TAKES_TEXT))  # what is typed there may start a drawing
    for control in controls:
        kind = control.evaluate(KIND)
        if not kind or kind in tried or not control.is_visible() or control.is_disabled():
            continue
        tried.add(kind)
        control.focus()
        for key in ("b", "a", "d", "d", "x", "m", "Shift+m"):
            page.keyboard.press(key)
            told = "here" if control.evaluate(TAKES_TEXT) else control.evaluate(FOCUS)
            assert told == "here", f"{key} took the focus from {kind}: {told}"
        assert page.evaluate(CELLS) == cells, f"a key pressed in {kind} changed the notebook"
    assert len({kind.split(" | ")[0] for kind in tried}) >= len(PANELS) - 2, "but for panels with nothing to press yet"


@pytest.mark.parametrize("width_px", [760, 1350])
def test_no_label_of_a_panel_is_cut_on_a_narrow_page_or_a_wide_one(lab, page: Page, width_px: int) -> None:
    lab.open_notebook(page, lab.write("labels.ipynb", FIRST, *PANELS))
    lab.run_all(page, timeout_s=240)
    page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    page.set_viewport_size({"width": width_px, "height": 1000})
    expect(page.locator(".jp-Notebook .fedart-panel")).to_have_count(len(PANELS) + 1)
    assert page.evaluate(CUT) == []


def test_enter_presses_the_button_in_focus_and_ctrl_s_still_saves(lab, page: Page) -> None:
    cell = SELF_CHECK
    lab.open_notebook(page, lab.write("enter.ipynb", cell))
    lab.run_all(page)
    page.wait_for_function(KEYS_ARE_GUARDED)
    panel = lab.panel(page, "Check yourself")
    panel.get_by_label("two").check()
    panel.get_by_role("button", name="Check").focus()
    page.keyboard.press("Enter")
    lab.wait_for_text(page, "Right: two")
    page.keyboard.press("Control+s")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")


def test_a_notebook_opened_without_its_kernel_shows_every_panel_as_it_was(lab, page: Page) -> None:
    cells = (
        FIRST,
        "check = SelfCheck('Who?', {'one': 'No.', 'two': 'Yes.'}, right='two')\ncheck",
        "NoisePanel(session)",
    )
    name = lab.write("tomorrow.ipynb", *cells, "check.choose('two');")
    lab.open_notebook(page, name)
    lab.run_all(page, timeout_s=120)
    expect(page.locator(".jp-Notebook .fedart-panel")).to_have_count(3)
    expect(page.locator(".fedart-still:visible")).to_have_count(0)
    page.evaluate(SAVE)
    page.evaluate(SHUT_DOWN)
    lab.open_notebook(page, name)
    stills = page.locator(".fedart-still:visible")
    expect(stills).to_have_count(3)
    expect(page.get_by_text("Error displaying widget").locator("visible=true")).to_have_count(0)
    expect(stills.nth(0).locator("img").first).to_be_visible()
    expect(stills.nth(1)).to_contain_text("Right: two")
    assert lab.axe(page, ".fedart-still") == []
    lab.screenshot(page, "opened-tomorrow")


def test_a_button_that_no_kernel_hears_says_so_and_what_to_do(lab, page: Page) -> None:
    cell = SELF_CHECK
    lab.open_notebook(page, lab.write("restarted.ipynb", cell))
    lab.run_all(page)
    page.wait_for_function(KEYS_ARE_GUARDED)
    panel = lab.panel(page, "Check yourself")
    panel.get_by_label("two").check()
    kernel = page.evaluate(f"() => {KERNEL}.session.kernel.id")
    httpx.post(f"{lab.url}/api/kernels/{kernel}/restart", headers={"Authorization": f"token {lab.token}"}, timeout=60)
    panel.get_by_role("button", name="Check").click()
    expect(panel.get_by_role("alert").filter(has_text="Reload the page")).to_be_visible(timeout=30_000)
