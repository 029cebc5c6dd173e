"""Questions in a lesson: guess before you see (`Prediction`), and see whether you got it (`SelfCheck`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import ipywidgets

from fedart_nb.errors import FedArtError
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel

__all__ = ["Guess", "Prediction", "SelfCheck"]


@dataclass(frozen=True)
class Guess:
    """What a reader said.

    Attributes:
        choice: the option.
        right: whether it is what came out; None where nobody can say.
    """

    choice: str
    right: bool | None


class _Question(Panel):
    """A question with options, one button, and a place for what follows."""

    _asks = ""

    def __init__(self, question: str, options: Sequence[str]) -> None:
        if len(options) < 2 or len(set(options)) != len(options):
            raise FedArtError(f"The options are {list(options)!r}; expected two different texts or more.")
        super().__init__(self)
        self.question, self.options = question, tuple(options)
        choices = ipywidgets.RadioButtons(options=list(options), description=question, value=None)
        self._choices = parts.field(choices)
        self._choices.add_class("fedart-options")
        self._choices.observe(lambda _change: self._sync(), "value")
        self._go = self._button(self._asks, lambda: self._take(self._choices.value), icon="check", style="primary")
        self._answer = ipywidgets.HTML()
        self._after = ipywidgets.VBox()
        self._compose(self._choices, parts.row(self._go), self._answer, self._after)

    def _take(self, choice: str) -> Any:
        raise NotImplementedError

    def _known(self, choice: str) -> str:
        if choice not in self.options:
            raise FedArtError(f"{choice!r} is none of the options; they are {', '.join(map(repr, self.options))}.")
        return choice

    def _sync(self) -> None:
        self._go.disabled = self._choices.value is None

    def _summary(self) -> list[tuple[str, str]]:
        return [("question", self.question), ("you said", self.value.choice if self.value else "nothing yet")]

    def _static_body(self) -> str:
        items = "".join(f"<li>{escape(option)}</li>" for option in self.options)
        return f'<ul class="fedart-list">{items}</ul>{self._answer.value}'


class Prediction(_Question):
    """Ask for a guess, and show what is so only when it was made. A guess is made once; `value` is the `Guess`.

    Args:
        question: one sentence.
        options: what may be guessed, two or more.
        reveal: what is so: a text (an empty line begins a paragraph), or a function without arguments that is called
            after the guess and gives a text, a drawing (`Drawn`, or anything with `to_html`), or a widget. A function
            that gives None shows nothing.
        answer: the option that is right, if one is.

    Raises:
        FedArtError: fewer than two options, or an answer that is none of them.

    Example:
        >>> asked = Prediction("What does the relay see?", ["my picture", "noise"], "Noise.", answer="noise")
        >>> asked.guess("my picture").value
        Guess(choice='my picture', right=False)
    """

    title = "Predict"
    lead = "Say it before you see it: a wrong guess teaches more than a right answer."
    _asks = "This is my guess"

    def __init__(
        self,
        question: str,
        options: Sequence[str],
        reveal: str | Callable[[], Any] = "",
        *,
        answer: str | None = None,
    ) -> None:
        if answer is not None and answer not in options:
            raise FedArtError(
                f"The answer is {answer!r}; expected one of the options: {', '.join(map(repr, options))}."
            )
        self._reveal, self.answer = reveal, answer
        super().__init__(question, options)

    def guess(self, choice: str) -> Prediction:
        """Guess, as the button does, and see what is so."""
        return self._take(choice)

    def _take(self, choice: str) -> Prediction:
        with self._reporting():
            if self.value is not None:
                raise FedArtError(f"You guessed {self.value.choice!r} already. Run the cell again to guess anew.")
            self._known(choice)
            shown = self._reveal() if callable(self._reveal) else self._reveal
            with self._lock:
                self._clear_error()
                self._choices.value = choice
                self.value = Guess(choice, None if self.answer is None else choice == self.answer)
                self._answer.value = self._told(choice) + _html_of(shown)
                if isinstance(shown, ipywidgets.Widget):
                    self._after.children = (shown,)
                self._say(self._sentence(choice), now=True)
            self._sync()
        return self

    def _sentence(self, choice: str) -> str:
        if self.answer is None:
            return f"You guessed: {choice}."
        if choice == self.answer:
            return f"You guessed: {choice}. So it is."
        return f"You guessed: {choice}. It is: {self.answer}."

    def _told(self, choice: str) -> str:
        right = choice == self.answer
        title = "Your guess" if self.answer is None else "As you said" if right else "Surprised?"
        return parts.notice(self._sentence(choice), level="success" if self.answer and right else "info", title=title)

    def _sync(self) -> None:
        self._choices.disabled = self.value is not None
        self._go.disabled = self.value is not None or self._choices.value is None

    def _static_body(self) -> str:
        if self.value is None and isinstance(self._reveal, str) and self._reveal:
            hidden = f"<details><summary>What is so</summary>{_html_of(self._reveal)}</details>"
            return super()._static_body() + hidden
        return super()._static_body()


class SelfCheck(_Question):
    """A question to check oneself with, as often as one likes; each option explains itself. `value`: the last `Guess`.

    Args:
        question: one sentence.
        options: option to what is said about it when it is chosen.
        right: the right one.

    Raises:
        FedArtError: fewer than two options, or a right one that is none of them.

    Example:
        >>> check = SelfCheck(
        ...     "What bounds what a sum gives away?",
        ...     {"masks": "They hide whose, not what.", "noise": "It alone has a bound."},
        ...     right="noise",
        ... )
        >>> check.choose("masks").value.right
        False
    """

    title = "Check yourself"
    _asks = "Check"

    def __init__(self, question: str, options: Mapping[str, str], *, right: str) -> None:
        if right not in options:
            raise FedArtError(f"right is {right!r}; expected one of the options: {', '.join(map(repr, options))}.")
        self.right, self._because = right, dict(options)
        super().__init__(question, tuple(options))

    def choose(self, choice: str) -> SelfCheck:
        """Choose, as the button does, and read why."""
        return self._take(choice)

    def _take(self, choice: str) -> SelfCheck:
        with self._reporting():
            self._known(choice)
            right = choice == self.right
            title = "Right" if right else "Not quite"
            with self._lock:
                self._clear_error()
                self._choices.value = choice
                self.value = Guess(choice, right)
                level: parts.Level = "success" if right else "warning"
                self._answer.value = parts.notice(self._because[choice], level=level, title=f"{title}: {choice}")
                self._say(f"{title}. {self._because[choice]}", now=True)
            self._sync()
        return self


def _html_of(shown: Any) -> str:
    """A text as paragraphs; a drawing as its own HTML; nothing for a widget, which is shown by itself."""
    if shown is None or isinstance(shown, ipywidgets.Widget):
        return ""
    if isinstance(shown, str):
        return "".join(f"<p>{escape(part)}</p>" for part in shown.split("\n\n") if part)
    if hasattr(shown, "to_html"):
        return str(shown.to_html())
    return f"<p>{escape(str(shown))}</p>"
