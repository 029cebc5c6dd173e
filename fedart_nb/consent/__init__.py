"""Consent: what an artist chose, what came of it, and what a picture has influenced; signed, and kept.

Nothing of a round leaves unless the artist chose to contribute: to this round when asked, or to all of a room's rounds
by a standing consent, which is off unless given. Every choice is a receipt before anything follows from it, and what
came of it (sent, counted, withdrawn) is another one: `Consent`.
"""

from .book import Consent
from .choices import CHOICES, Choice, How, Outcome
from .disclosure import Leaving
from .influence import Influence, Touched, influence_of
from .question import Ask, Question, QuestionKind
from .receipt_report import statement
from .receipts import Fault, Receipt, check

__all__ = [
    "CHOICES",
    "Ask",
    "Choice",
    "Consent",
    "Fault",
    "How",
    "Influence",
    "Leaving",
    "Outcome",
    "Question",
    "QuestionKind",
    "Receipt",
    "Touched",
    "check",
    "influence_of",
    "statement",
]
