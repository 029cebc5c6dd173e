"""One question to a person before something happens that standing consent does not cover, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["Ask", "Question", "QuestionKind"]

#: What is asked about: an artist's further attempt at a round, an artist's round trained again after a rollback, a
#: room opened anew in which an artist's update has left before, a roster with ids that nobody confirmed; and, asked of
#: a host, whether the room goes back because somebody withdrew.
QuestionKind = Literal["attempt", "rollback", "reopening", "roster", "withdrawal"]


@dataclass(frozen=True)
class Question:
    """What a person is asked, as a value: a panel shows it, a script reads it.

    Attributes:
        kind: what is asked about; number: of which round.
        title: the question in a few words; sentences: what to know before answering, one thing a sentence.
        yes, no: what the two answers are called.

    >>> print(Question("attempt", 2, "Send once more?", ("Your update left in attempt 1.",)))
    Send once more? Your update left in attempt 1.
    """

    kind: QuestionKind
    number: int
    title: str
    sentences: tuple[str, ...]
    yes: str = "Yes"
    no: str = "No"

    def __str__(self) -> str:
        return " ".join((self.title, *self.sentences))


#: Answers a question: True for yes. It may wait for a person.
Ask = Callable[[Question], bool]
