"""A verdict goes by what the attack set out to find, and by nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.attack_lab.runs import Shot, verdict
from fedart_nb.attacks import Frame
from fedart_nb.attacks.scoring import Score, Truth, score

TRUTH = Truth(captions=("a red fox",), timesteps=(552.0,), members=(3,))


def reading(*captions: str) -> Frame:
    """The captions attack's end: it ranks a list of thirty captions, the right one at place 12 of that list."""
    ranking = tuple((index, 0.0) for index in (12, *range(12), *range(13, 30)))
    return Frame("captions", 30, 30, 0.1, 1.0, captions=captions, ranking=ranking, ranks="captions")


def test_a_caption_that_was_read_right_is_recovered_whatever_its_place_on_the_list() -> None:
    scored = score(reading("a red fox"), TRUTH)
    assert scored.captions == 1
    assert scored.rank == 0, "a place on a list of captions is no place in the line-up of pictures"
    found, sentence = verdict(Shot(reading("a red fox"), scored))
    assert found
    assert sentence.startswith("Recovered")
    assert "place" not in sentence


def test_a_wrong_caption_is_not_recovered_even_where_its_number_is_that_of_a_member() -> None:
    frame = Frame("captions", 30, 30, 0.1, 1.0, captions=("a hen",), ranking=((3, 0.0), (1, 0.0)), ranks="captions")
    assert not verdict(Shot(frame, score(frame, TRUTH)))[0]


@pytest.mark.parametrize(
    ("scored", "found", "begins"),
    [
        (Score(captions=1.0, rank=20, of=30), True, "Recovered"),
        (Score(timesteps=1.0, rank=7, of=12), True, "Recovered"),
        (Score(captions=0.5), True, "Partly recovered"),
        (Score(captions=0.25), False, "Not recovered"),
        (Score(captions=0.0, rank=1, of=12), False, "Not recovered"),
        (Score(rank=1, of=12), True, "Recovered"),
        (Score(rank=2, of=12), False, "Not recovered"),
        (Score((24.0,), (0.9,), rank=9, of=12), True, "Recovered"),
        (Score((9.0,), (0.2,), rank=1, of=12), False, "Not recovered"),
        (Score(), False, "Not recovered"),
    ],
)
def test_the_verdict_goes_by_the_pictures_then_the_words_and_last_by_a_place(
    scored: Score, found: bool, begins: str
) -> None:
    got, sentence = verdict(Shot(Frame("any", 1, 1, 0.5, 1.0), scored))
    assert got is found
    assert sentence.startswith(begins)


def test_a_place_in_the_line_up_still_counts_for_attacks_that_pick_pictures() -> None:
    frame = Frame("identify", 12, 12, np.nan, 1.0, ranking=((5, 2.0), (3, 1.0), (0, 0.0)))
    assert (score(frame, TRUTH).rank, score(frame, TRUTH).of) == (2, 3)
