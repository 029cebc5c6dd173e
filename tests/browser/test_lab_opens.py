"""The browser fixtures themselves: JupyterLab opens, a widget answers, axe sees, the theme changes."""

from __future__ import annotations

import os

BUTTON = """
import ipywidgets as w
button, answer = w.Button(description="Ask"), w.HTML("<p role='status'>waiting</p>")
button.on_click(lambda _: setattr(answer, "value", "<p role='status'>the kernel answers</p>"))
w.VBox([button, answer])
"""
PICTURE = """
import ipywidgets as w
w.Image(value=bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b"), format="gif")
"""


def test_a_click_reaches_the_kernel_and_its_answer_comes_back(page, lab):
    lab.open_notebook(page, lab.write("button.ipynb", BUTTON))
    lab.run_all(page)
    lab.wait_for_text(page, "waiting")
    lab.output(page).get_by_role("button", name="Ask").click()
    lab.wait_for_text(page, "the kernel answers")
    assert lab.axe(page) == []
    lab.dark_theme(page)
    assert lab.screenshot(page, "lab-opens").stat().st_size > 0


def test_axe_sees_a_picture_without_alternative_text(page, lab):
    lab.open_notebook(page, lab.write("picture.ipynb", PICTURE))
    lab.run_all(page)
    lab.output(page).locator("img").wait_for()
    assert [line.split()[0] for line in lab.axe(page)] == ["image-alt"]


def test_kernels_know_the_relay_and_have_a_home_of_their_own(page, lab, relay):
    lab.open_notebook(
        page, lab.write("where.ipynb", "import os; print(os.environ['FEDART_RELAY'], os.environ['HOME'])")
    )
    lab.run_all(page)
    lab.wait_for_text(page, relay)
    assert os.environ["HOME"] not in lab.output(page).all_inner_texts()[0].split()
