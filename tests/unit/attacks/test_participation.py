"""Who took part is found by the direction in which published works pull, and lost in noise."""

from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.attacks.participation import Shadows, Suspects, auc, flat
from fedart_nb.errors import AttackError

NAMES = ("ada", "ben", "cy", "dot")
SIZE = 400


def update(index: int, rng: np.random.Generator, noise: float = 0.3) -> dict[str, np.ndarray]:
    """What all share, the artist's own direction, and chance."""
    own = np.random.default_rng(100 + index).normal(size=SIZE)
    shared = np.random.default_rng(99).normal(size=SIZE)
    return {"x.lora_B.weight": (2 * shared + own + noise * rng.normal(size=SIZE)).astype(np.float32).reshape(20, 20)}


def suspects() -> Suspects:
    rng = np.random.default_rng(0)
    return Suspects.of({name: [update(i, rng)] for i, name in enumerate(NAMES)})


def shadows(noise: float) -> Shadows:
    rng = np.random.default_rng(1)
    members = {name: [[flat(update(i, rng, noise))] for _ in range(2)] for i, name in enumerate(NAMES)}
    return Shadows(suspects(), members)


def test_an_update_is_likest_to_its_own_artist():
    rng = np.random.default_rng(2)
    for index, name in enumerate(NAMES):
        likeness = suspects().likeness(update(index, rng))
        assert max(likeness, key=likeness.__getitem__) == name


def test_those_in_a_sum_score_above_those_who_are_not():
    rng = np.random.default_rng(3)
    two = [update(0, rng)["x.lora_B.weight"], update(2, rng)["x.lora_B.weight"]]
    likeness = suspects().likeness({"x.lora_B.weight": np.mean(two, axis=0)})
    assert min(likeness["ada"], likeness["cy"]) > max(likeness["ben"], likeness["dot"])


def test_one_update_gives_its_artist_away_and_noise_hides_it():
    rng = np.random.default_rng(4)
    clear = shadows(0.3).auc("ada", 1, cohorts=100, rng=rng)
    noised = shadows(60.0).auc("ada", 1, cohorts=100, rng=rng)
    assert clear > 0.99
    assert 0.2 < noised < 0.8


def test_a_federation_without_the_target_cannot_be_larger_than_the_members_beside_it():
    full = shadows(0.3)
    assert full.largest("ada") == 6
    with pytest.raises(AttackError, match="federation of 7; there are 6 members"):
        full.auc("ada", 7, cohorts=1, rng=np.random.default_rng(0))


def test_tensors_of_unlike_size_count_alike():
    small = {"a": np.full((2, 2), 1e-4), "b": np.full(4, 10.0)}
    assert np.allclose(flat(small), 1)


def test_a_tensor_of_zeros_stays_zero():
    assert not flat({"a": np.zeros(3)}).any()


def test_updates_of_another_adapter_are_refused_with_both_sizes():
    with pytest.raises(AttackError, match=r"An update of 9 numbers; the references have 400"):
        suspects().likeness({"x": np.ones(9)})


@pytest.mark.parametrize("references", [{}, {"ada": [{"x": np.ones(2)}]}, {"ada": [{"x": np.ones(2)}], "ben": []}])
def test_fewer_than_two_suspects_with_references_are_refused(references):
    with pytest.raises(AttackError, match="two suspects or more"):
        Suspects.of(references)


def test_the_area_is_a_half_for_equal_scores_and_one_for_separate_ones():
    assert auc(np.ones(5), np.ones(7)) == 0.5
    assert auc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 0
