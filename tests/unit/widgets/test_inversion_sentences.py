"""What stands under a table of findings is made from its figures."""

from __future__ import annotations

from fedart_nb.attack_lab import Finding, OwnRound
from fedart_nb.widgets.inversion_views import round_html


def told(on_top: int) -> str:
    finding = Finding(first=1, own=8, candidates=16, on_top=on_top)
    return round_html(OwnRound(1, 4, (("the sum of all", finding),)))


def test_four_of_eight_where_chance_gives_four_is_called_chance() -> None:
    page = told(4)
    assert "4 of your 8 pictures in front, 4.0 by chance. No more than chance gives" in page
    assert "not evidence of safety" in page
    assert "gives away that your pictures took part" not in page


def test_eight_of_eight_is_no_accident_and_says_how_rare_it_is() -> None:
    page = told(8)
    assert "No more than chance" not in page
    assert "your pictures show" in page
    assert "0.0% of random orders" in page


def test_an_attack_that_was_not_done_says_nothing() -> None:
    page = round_html(OwnRound(1, 4, (("one masked share", Finding()),)))
    assert "which says nothing" in page
