"""What artists gain: each sees their own, the room its mean, spread and count, and nobody another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedart_nb.analysis.fairness import Fairness, fairness
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import RoundError, TrainingError
from fedart_nb.events import RoundClosed
from fedart_nb.federated.gains import FEWEST, GAIN_METRICS, Gains, addends
from fedart_nb.federated.simulation import Simulation
from fedart_nb.host import Host
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session

NAMES = ("Ada", "Ben", "Cy", "Dee", "Eve")
ASKED = tuple(sorted(GAIN_METRICS))


def test_the_sums_of_a_masked_round_give_mean_spread_and_count():
    room = Simulation(list(NAMES), {"x": np.zeros(4, np.float32)}, metrics=ASKED)
    own = dict(zip(NAMES, (0.03, -0.01, 0.02, 0.05, -0.04), strict=True))
    update = {"x": np.ones(4, np.float32)}
    done = room.round(dict.fromkeys(NAMES, update), metrics={name: addends(gain) for name, gain in own.items()})
    assert done.result is not None
    found = Gains.of(done.result.metrics, len(NAMES))
    assert found is not None
    assert found.mean == pytest.approx(np.mean(list(own.values())), abs=1e-6)
    assert found.spread == pytest.approx(np.std(list(own.values())), abs=1e-4)
    assert (found.gained, found.artists) == (3, 5)
    assert Gains.of({"loss_after": 1.0}, 5) is None


def test_too_few_are_not_asked_for_the_spread():
    with pytest.raises(RoundError, match=f"expected {FEWEST} or more"):
        Simulation(list(NAMES[:4]), {"x": np.zeros(4, np.float32)}, metrics=ASKED)
    Simulation(list(NAMES[:4]), {"x": np.zeros(4, np.float32)}, metrics=("gain",))


def test_a_gain_that_is_no_number_is_refused():
    with pytest.raises(RoundError, match="nan"):
        addends(float("nan"))


def test_a_session_sees_its_own_gain_and_the_room_the_mean(
    relay: MemoryRelay, weights: Path, tmp_path: Path, open_session: Callable[..., Session], run
):
    host = Host("Fair", folder=tmp_path / "fair", backbone=Backbone.from_pretrained(weights, device="cpu"))
    host.open_room(
        transport=relay.connect(host.identity), rounds=2, min_artists=3, local_steps=2, batch=2, metrics=("gain",)
    )
    people = [open_session(name) for name in NAMES[:3]]
    with pytest.raises(TrainingError, match="no shared adapter yet"):
        people[0].gain()
    for person in people:
        person.join(transport=relay.connect(person.identity))
        person.consent.stand()
    hosting = run(host.rounds())
    for future in [run(person.rounds()) for person in people]:
        future.result(120)
    closed = [event for event in hosting.result(120) if isinstance(event, RoundClosed)]
    assert closed[0].metrics["gain"] == pytest.approx(0, abs=1e-6)  # what the first round starts from changes nothing
    assert np.isfinite(closed[1].metrics["gain"])
    assert isinstance(people[0].gain(), float)
    assert people[0].room_gains is None  # of three, means alone are asked for
    *notes, found = fairness(people[0], public=("lorelei", "gameicons"))
    assert len(notes) == 2
    assert isinstance(found, Fairness)
    assert found.gain == pytest.approx(people[0].gain())
    assert found.worth_to_me is not None, found.why_not
