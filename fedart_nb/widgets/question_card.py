"""A card that asks a person one question, with what to know before answering and two buttons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from fedart_nb.consent import Question
from fedart_nb.errors import RoundError
from fedart_nb.widgets import parts

__all__ = ["QuestionCard"]

_LOOK_S = 0.2


class QuestionCard(ipywidgets.VBox):
    """Part of a panel. `ask` is called from a job's thread until it answers; the buttons answer.

    Args:
        button: the panel's way to make a button; lock: the panel's.
        on_change: called when a question opens or closes, with what a screen reader should say.
    """

    def __init__(self, *, button: Callable[..., Any], lock: Any, on_change: Callable[[str], object]) -> None:
        self.question: Question | None = None
        self._answer: bool | None = None
        self._answered = threading.Event()
        self._lock, self._on_change = lock, on_change
        self._text = ipywidgets.HTML()
        self._yes = button("Yes", lambda: self.answer(yes=True), icon="check", style="primary")
        self._no = button("No", lambda: self.answer(yes=False), icon="times")
        super().__init__([self._text, parts.row(self._yes, self._no)])
        self.add_class("fedart-card")
        self.add_class("fedart-raised")
        self.layout.display = "none"

    def answer(self, *, yes: bool) -> None:
        """Answer the question that is open.

        Raises:
            RoundError: none is.
        """
        if self.question is None:
            raise RoundError("No question waits for an answer now.")
        self._answer = yes
        self._answered.set()

    def ask(self, question: Question) -> bool | None:
        """Show a question, if it is not there yet; the answer once there is one, else None."""
        if self.question is None or str(self.question) != str(question):
            self._open(question)
        if self._answer is None:
            return None
        answer = self._answer
        self.close_question()
        return answer

    def wait(self) -> None:
        """Let a moment pass, or less if somebody answers."""
        self._answered.wait(_LOOK_S)

    def close_question(self) -> None:
        """Ask no more."""
        with self._lock:
            was, self.question, self._answer = self.question, None, None
            self._answered.clear()
            self.layout.display = "none"
        if was is not None:
            self._on_change("")

    def _open(self, question: Question) -> None:
        sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in question.sentences)
        with self._lock:
            self.question, self._answer = question, None
            self._answered.clear()
            self._text.value = f'{parts.heading(question.title, level=4)}<ul class="fedart-list">{sentences}</ul>'
            self._yes.description, self._no.description = question.yes, question.no
            self.layout.display = ""
        self._on_change(str(question))
