"""Bars of how surely an artist is found: every number is in the picture's alt text and in its table."""

from __future__ import annotations

from fedart_nb.figures import linkage_bars

CURVES = {(False, 1): 1.0, (False, 5): 0.97, (True, 1): 0.61, (True, 5): 0.52}


def test_the_alt_text_and_the_table_say_every_number():
    drawn = linkage_bars(CURVES, epsilon=8)
    assert (
        "in the clear: 1.00 without noise, 0.61 with noise; sum of 5: 0.97 without noise, 0.52 with noise" in drawn.alt
    )
    assert drawn.table == (
        ("what the attacker sees", "no noise", "with noise"),
        ("in the clear", "1.00", "0.61"),
        ("sum of 5", "0.97", "0.52"),
    )


def test_bars_with_noise_are_hatched_so_that_colour_alone_tells_nothing():
    assert "<pattern" in linkage_bars(CURVES, epsilon=8).svg
    assert "<pattern" not in linkage_bars({(False, 1): 1.0}, epsilon=8).svg


def test_what_was_not_measured_is_left_empty():
    assert linkage_bars({(False, 1): 1.0, (True, 3): 0.5}, epsilon=1).table[1:] == (
        ("in the clear", "1.00", ""),
        ("sum of 3", "", "0.50"),
    )
