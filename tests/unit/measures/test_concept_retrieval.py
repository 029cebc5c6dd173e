from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedart_nb.art import ArtSet
from fedart_nb.errors import MeasureError
from fedart_nb.metrics import ConceptRetrieval

CONCEPTS = ("accordion", "dragon", "maple leaf", "ambulance", "worm", "alembic")


class Means:
    """A stand-in for the extractor whose vectors can be worked out by hand: the first pixels of the picture."""

    def style(self, pictures: np.ndarray) -> np.ndarray:
        return pictures[:, 0, :3, 0].astype(np.float32)

    def head(self, pictures: np.ndarray) -> np.ndarray:
        return pictures[:, 1, :3, 0].astype(np.float32)


def picture(vector: tuple[int, int, int], style: int = 0) -> np.ndarray:
    out = np.zeros((3, 3, 3), np.uint8)
    out[0, :, 0] = out[1, :, 0] = np.array(vector) + style
    return out


GALLERY = {
    "one": (np.stack([picture(v) for v in ((90, 0, 0), (0, 90, 0), (0, 0, 90))]), ["red", "green", "blue"]),
    "two": (np.stack([picture(v, 50) for v in ((80, 0, 0), (0, 80, 0), (0, 0, 80))]), ["red", "green", "blue"]),
}
ASKED = np.stack([picture(v, 120) for v in ((60, 0, 0), (0, 60, 0), (0, 0, 60), (60, 0, 0))])


@pytest.fixture
def retrieval() -> ConceptRetrieval:
    fake: Any = Means()
    return ConceptRetrieval.fit(GALLERY, extractor=fake)


def test_a_concept_is_found_across_styles(retrieval: ConceptRetrieval) -> None:
    assert retrieval.rank(ASKED, ["red", "green", "blue", "red"]).tolist() == [1, 1, 1, 1]


def test_a_wrong_caption_ranks_behind_the_right_one(retrieval: ConceptRetrieval) -> None:
    ranks = retrieval.rank(ASKED, ["green", "green", "blue", "red"])
    assert ranks[0] > 1
    assert ranks[1:].tolist() == [1, 1, 1]
    assert retrieval.top(1, ASKED, ["green", "green", "blue", "red"]) == 0.75
    assert retrieval.top(3, ASKED, ["green", "green", "blue", "red"]) == 1.0


def test_features_that_say_nothing_rank_a_concept_neither_first_nor_at_random(retrieval: ConceptRetrieval) -> None:
    same = np.stack([picture((9, 9, 9))] * 4)
    assert retrieval.rank(same, ["red", "green", "blue", "red"]).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("pictures", "labels", "said"),
    [
        (ASKED, ["red"], "4 pictures and 1 concepts"),
        (ASKED, ["red", "green", "blue", "teal"], "'teal'"),
        (ASKED[:2], ["red", "green"], "2 pictures; expected 4"),
    ],
)
def test_questions_that_have_no_answer_are_refused(
    retrieval: ConceptRetrieval, pictures: np.ndarray, labels: list[str], said: str
) -> None:
    with pytest.raises(MeasureError, match=said):
        retrieval.rank(pictures, labels)


@pytest.mark.parametrize(("gallery", "said"), [({}, "empty"), ({"one": (ASKED, ["red"] * 4)}, "only")])
def test_a_gallery_needs_two_concepts(gallery: Any, said: str) -> None:
    fake: Any = Means()
    with pytest.raises(MeasureError, match=said):
        ConceptRetrieval.fit(gallery, extractor=fake)


def test_real_drawings_find_their_concept_in_another_hand() -> None:
    drawn = {}
    for name in ("openmoji", "fluent3d"):
        art = ArtSet.sample(name)
        chosen = [p for p in art.included() if p.caption in CONCEPTS]
        drawn[name] = (art.pixels(chosen), [p.caption for p in chosen])
    assert sorted(drawn["openmoji"][1]) == sorted(CONCEPTS)
    retrieval = ConceptRetrieval.fit({"fluent3d": drawn["fluent3d"]})
    assert retrieval.top(1, *drawn["openmoji"]) >= 0.5  # chance: 1 / 6
