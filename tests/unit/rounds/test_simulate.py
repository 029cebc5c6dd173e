"""Rounds inside one process: the same sum as in the clear, whoever is gone; and what a relay sees of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fedart_nb.errors import RoundError
from fedart_nb.federated import RelayView, Simulation, unpack, words_of

NAMES = ["Ada", "Ben", "Cy", "Dee", "Eli"]
SIZE = 3000


def updates(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return {name: {"x": rng.normal(0, 0.05, SIZE).astype(np.float32)} for name in NAMES}


@pytest.fixture
def room() -> Simulation:
    return Simulation(NAMES, {"x": np.zeros(SIZE, np.float32)}, min_artists=3)


@pytest.mark.parametrize("kind", ["share", "consistency", "unmask"])
def test_the_sum_is_that_of_those_who_sent_whoever_is_gone(room: Simulation, kind: str) -> None:
    sent = updates()
    done = room.round(sent, gone={"Eli": kind})
    counted = NAMES[:-1] if kind == "share" else NAMES
    assert done.result is not None
    mean = np.mean([sent[name]["x"].astype(np.float64) for name in counted], axis=0)
    np.testing.assert_allclose(unpack(done.result.shared)["x"], mean, atol=2e-8)
    assert len(room.round(updates(1)).result.contributors) == 5, "who was gone is back"


def test_with_too_many_gone_nothing_is_known_and_the_next_attempt_works(room: Simulation) -> None:
    done = room.round(updates(), gone={"Dee": "share", "Eli": "share"})
    assert done.result is None
    assert "3 of 5 artists are left" in done.reason
    assert not [e for e in done.log if e.kind in ("consistency", "unmask", "result")]
    again = room.round(updates())
    assert again.result is not None
    assert again.result.plan.attempt == 2


def test_two_sums_that_differ_by_one_artist_are_warned_of(room: Simulation) -> None:
    room.round(updates())
    room.round(updates(1), gone={"Eli": "share"})
    assert any("same artists as the last one but one" in sentence for sentence in room.sides["Ada"].warnings)
    assert not any("same artists" in sentence for sentence in room.sides["Eli"].warnings)


@pytest.fixture
def view(room: Simulation) -> RelayView:
    sent = updates()
    done = room.round(sent)
    assert done.result is not None
    (message,) = [e for e in done.log if e.kind == "update" and e.sender == room.sides["Ada"].me]
    values = {name: sent[name]["x"].astype(np.float64) for name in NAMES}
    mean = unpack(done.result.shared)["x"].astype(np.float64)
    held = words_of(message.attachments["update"])[:SIZE]
    own = values.pop("Ada")
    return RelayView(number=1, update=own, held=held, mean=mean, contributors=5, roster=5, others=values)


def test_what_the_relay_holds_is_uncorrelated_with_the_update_and_the_mean_is_not(view: RelayView) -> None:
    assert abs(view.relay_correlation()) < 4 / np.sqrt(SIZE)
    assert view.sum_correlation() == pytest.approx(1 / np.sqrt(5), abs=0.08)


def test_each_colluder_brings_the_rest_of_the_sum_closer_to_the_update_until_it_lies_open(view: RelayView) -> None:
    seen = [view.sight(k) for k in range(5)]
    assert [s.honest for s in seen] == [5, 4, 3, 2, 1]
    assert all(before.correlation < after.correlation for before, after in pairwise(seen[:4]))
    assert [s.exposed for s in seen] == [False, False, False, False, True]
    three = seen[3]
    assert three.values is not None
    alone = 5 * view.mean - sum(view.others[name] for name in ("Ben", "Cy", "Dee"))
    np.testing.assert_allclose(three.values, alone / 2)


def test_a_relay_that_lies_needs_fewer_colluders(view: RelayView) -> None:
    assert (view.threshold, view.foul_limit) == (4, 3)
    assert not view.sight(3).exposed
    assert view.sight(3, foul=True).exposed


def test_where_the_others_updates_are_unknown_the_panel_is_told_an_expectation(view: RelayView) -> None:
    real = RelayView(number=1, update=view.update, held=view.held, mean=view.mean, contributors=5, roster=5)
    assert real.sight(0).values is not None
    assert real.sight(2).values is None
    assert real.sight(2).correlation == pytest.approx(1 / np.sqrt(3))
    assert "expectation" in real.sight(2).sentence


def test_more_colluders_than_others_are_refused(view: RelayView) -> None:
    with pytest.raises(RoundError, match="expected 0 to 4"):
        view.sight(5)


@pytest.mark.parametrize("roster", range(3, 9))
def test_the_number_of_colluders_that_is_told_is_the_first_one_at_which_the_slider_breaks_it(roster):
    numbers = np.arange(4.0)
    for contributors in range(max(2, 2 * roster // 3 + 1), roster + 1):
        view = RelayView(1, numbers, numbers.astype(np.uint32), numbers, contributors=contributors, roster=roster)
        for foul in (False, True):
            first = next(c for c in range(contributors) if view.sight(c, foul=foul).exposed)
            assert view.breaks_at(foul=foul) == first
