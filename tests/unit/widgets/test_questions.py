"""Questions of a lesson: a guess is made before anything is shown, and every answer explains itself."""

from __future__ import annotations

import ipywidgets
import pytest

from fedart_nb.errors import FedArtError
from fedart_nb.figures import Drawn
from fedart_nb.workshop.lessons import Guess, Prediction, SelfCheck

OPTIONS = ["my <picture>", "noise"]


def test_nothing_is_revealed_before_the_guess() -> None:
    asked: list[int] = []
    panel = Prediction("What does the relay see?", OPTIONS, lambda: asked.append(1) or "Uniform noise.", answer="noise")
    assert not asked
    assert panel._answer.value == ""
    panel.guess("noise")
    assert asked == [1]
    assert "Uniform noise." in panel._answer.value
    assert panel.value == Guess("noise", True)


def test_a_wrong_guess_is_told_in_words_beside_what_is_so() -> None:
    panel = Prediction("What does the relay see?", OPTIONS, "First.\n\nSecond.", answer="noise").guess("my <picture>")
    assert "You guessed: my &lt;picture&gt;. It is: noise." in panel._answer.value
    assert panel._answer.value.count("<p>") == 2
    assert panel.value == Guess("my <picture>", False)


def test_the_button_wakes_with_a_choice_and_sleeps_after_the_guess() -> None:
    panel = Prediction("?", OPTIONS, "!")
    assert panel._go.disabled
    panel._choices.value = "noise"
    assert not panel._go.disabled
    panel._go.click()
    assert panel.value == Guess("noise", None)
    assert panel._go.disabled
    assert panel._choices.disabled


def test_a_guess_is_made_once() -> None:
    panel = Prediction("?", OPTIONS, "!").guess("noise")
    with pytest.raises(FedArtError, match="guessed 'noise' already"):
        panel.guess("my <picture>")


def test_drawings_and_widgets_are_revealed_as_what_they_are() -> None:
    drawn = Prediction("?", OPTIONS, lambda: Drawn(alt="a flat line", svg="<svg></svg>")).guess("noise")
    assert 'aria-label="a flat line"' in drawn._answer.value
    widget = ipywidgets.HTML("below")
    assert Prediction("?", OPTIONS, lambda: widget).guess("noise")._after.children == (widget,)


def test_a_reveal_that_fails_says_so_and_may_be_tried_again() -> None:
    left = [ValueError("no file")]

    def reveal() -> str:
        if left:
            raise left.pop()
        return "done"

    panel = Prediction("?", OPTIONS, reveal)
    with pytest.raises(ValueError, match="no file"):
        panel.guess("noise")
    assert "no file" in panel._error_area.value
    assert "done" in panel.guess("noise")._answer.value
    assert panel._error_area.value == ""


def test_a_page_without_a_kernel_keeps_the_reveal_folded_away() -> None:
    told = Prediction("Who?", OPTIONS, "Nobody.").to_html()
    assert "<details><summary>What is so</summary><p>Nobody.</p></details>" in told
    assert "<li>my &lt;picture&gt;</li>" in told


def test_a_check_explains_each_choice_and_can_be_repeated() -> None:
    check = SelfCheck("?", {"masks": "They hide whose.", "noise": "It has a bound."}, right="noise")
    assert "Not quite: masks" in check.choose("masks")._answer.value
    assert "They hide whose." in check._answer.value
    assert "Right: noise" in check.choose("noise")._answer.value
    assert check.value == Guess("noise", True)
    assert not check._go.disabled


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prediction("?", ["one"], "!"),
        lambda: Prediction("?", OPTIONS, "!", answer="else"),
        lambda: SelfCheck("?", {"a": "", "b": ""}, right="c"),
        lambda: Prediction("?", OPTIONS, "!").guess("else"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_options(make) -> None:
    with pytest.raises(FedArtError, match="options"):
        make()
