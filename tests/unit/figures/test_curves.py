"""The loss curve is legible on any page and says in words and numbers what it shows."""

from __future__ import annotations

import math
import subprocess
import sys
from xml.etree import ElementTree as ET

from fedart_nb.events import Step
from fedart_nb.figures import loss_curve, smoothed


def steps(count: int, *, every: int = 5) -> list[Step]:
    return [Step(i, count, 1 / i, 2 / i if i % every == 0 else None, seconds=i * 0.1) for i in range(1, count + 1)]


def test_the_curve_is_one_svg_element_without_foreign_ids():
    drawn = loss_curve(steps(20))
    root = ET.fromstring(drawn.svg)
    assert root.tag.endswith("svg")
    assert root.get("width") == "100%"
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_two_curves_on_one_page_share_no_id():
    first, second = (
        {e.get("id") for e in ET.fromstring(loss_curve(steps(n)).svg).iter() if e.get("id")} for n in (10, 20)
    )
    assert first
    assert not first & second


def test_ink_takes_the_colour_of_the_page():
    svg = loss_curve(steps(20)).svg
    assert "currentColor" in svg
    assert "#010203" not in svg


def test_the_alt_text_says_where_the_losses_began_and_ended():
    alt = loss_curve(steps(20), total=40).alt
    assert "after 20 of 40 steps" in alt
    assert "0.400 (step 5) to 0.100 (step 20)" in alt
    assert "fell at every check" in alt


def test_the_table_has_every_check_and_at_most_a_screenful_of_rows():
    table = loss_curve(steps(400, every=50)).table
    assert table[0] == ("step", "training loss", "smoothed", "held-out loss")
    assert {row[0] for row in table} >= {"1", "50", "400"}
    assert len(table) <= 24


def test_a_curve_of_no_steps_can_be_drawn():
    drawn = loss_curve([])
    assert "no step taken yet" in drawn.alt
    assert len(drawn.table) == 1


def test_smoothing_is_not_pulled_down_by_its_start():
    assert smoothed([3.0] * 4) == [3.0] * 4


def test_html_holds_picture_alt_and_table():
    html = loss_curve(steps(10)).to_html()
    assert 'role="img" aria-label="Loss curve after 10' in html
    assert "<details>" in html
    assert "<th scope=" in html


def test_pyplot_is_never_imported():
    code = (
        "import sys; from fedart_nb.figures import loss_curve; loss_curve([]);"
        "assert 'matplotlib.figure' in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_private_step_with_an_empty_sample_leaves_no_gap() -> None:
    steps = [Step(1, 3, 1.0, None, 0.1), Step(2, 3, math.nan, None, 0.2), Step(3, 3, 0.5, None, 0.3)]
    drawn = loss_curve(steps)
    assert "nan" not in drawn.alt
    assert "no picture in the sample" in str(steps[1])
