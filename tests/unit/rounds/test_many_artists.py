"""Simulated rooms of more than sixty-four artists, each with a few neighbours: exact sums, and what chance leaves."""

from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.federated import Simulation, unpack
from fedart_nb.secagg.graph import risks

SIZE = 40


def names(artists: int) -> list[str]:
    return [f"Artist {i}" for i in range(artists)]


def updates(room: Simulation) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return {name: {"x": rng.normal(0, 0.05, SIZE).astype(np.float32)} for name in room.names}


@pytest.mark.parametrize(
    ("artists", "degree", "gone"), [(100, 40, 20), pytest.param(200, 60, 40, marks=pytest.mark.slow)]
)
def test_with_k_neighbours_the_sum_of_many_is_exact_although_a_fifth_vanishes(
    artists: int, degree: int, gone: int
) -> None:
    assert max(risks(artists, degree, gone=gone, colluders=artists // 10)) < 1e-8
    room = Simulation(names(artists), {"x": np.zeros(SIZE, np.float32)}, degree=degree)
    sent = updates(room)
    away = dict(zip(room.names[:gone], ["share"] * (gone - 3) + ["consistency", "unmask", "unmask"], strict=True))
    done = room.round(sent, gone=away)
    assert done.result is not None, done.reason
    assert len(done.result.contributors) == artists - gone + 3, "the last three had sent their vectors"
    mean = np.mean([sent[name]["x"].astype(np.float64) for name in room.names[gone - 3 :]], axis=0)
    np.testing.assert_allclose(unpack(done.result.shared)["x"], mean, atol=1e-7)
    (shares,) = [e for e in done.log if e.kind == "share" and e.sender == room.sides["Artist 99"].me]
    complete = 4 / 3 * (33 + 64 + 32 * (1 + 2 * artists) + 82 * (artists - 1))
    assert len(shares.body["data"]) < 0.5 * complete, "an artist deals to its neighbours alone"


def test_with_too_few_neighbours_left_a_sparse_round_ends_and_says_so() -> None:
    room = Simulation(names(70), {"x": np.zeros(SIZE, np.float32)}, degree=4)
    assert risks(70, 4, gone=30, colluders=0)[0] == 1.0
    done = room.round(updates(room), gone=dict.fromkeys(room.names[:30], "consistency"))
    assert done.result is None
    assert "it takes 3" in done.reason
    again = room.round(updates(room))
    assert again.result is not None
    assert again.result.plan.attempt == 2


def test_a_room_of_sixty_five_may_still_be_complete() -> None:
    room = Simulation(names(65), {"x": np.zeros(SIZE, np.float32)})
    done = room.round(updates(room))
    assert done.result is not None
    assert len(done.result.contributors) == 65
