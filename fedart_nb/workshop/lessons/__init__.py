"""Lessons: things to play with, to predict and to break, around the same code that the rooms run on."""

from fedart_nb.widgets.questions import Guess, Prediction, SelfCheck
from fedart_nb.workshop.lessons.dishonest_relay import TRICKS, Played, Trick, play
from fedart_nb.workshop.lessons.lesson import Lesson
from fedart_nb.workshop.lessons.relay_game import RelayGamePanel

__all__ = ["TRICKS", "Guess", "Lesson", "Played", "Prediction", "RelayGamePanel", "SelfCheck", "Trick", "play"]
