"""The audit stays below what honest training promises, and catches training whose privacy is broken."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedart_nb.crypto.random_streams import SecureRandom
from fedart_nb.diffusion import Backbone, LatentSet, PrivateTraining, TrainConfig, audit_training
from fedart_nb.errors import PrivacyError
from fedart_nb.privacy.audit import Audit, audit, ceiling, epsilon_lower_bound
from fedart_nb.privacy.ledger import Budget, Ledger

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from privacy_checks import DELTA, audited

RUNS = 20
PRIVATE = PrivateTraining(2.0, clip_norm=0.3, factors="both")


def test_honest_runs_stay_below_their_promise_and_the_audit_is_not_blind() -> None:
    found = [audited() for _ in range(RUNS // 2)] + [audited(batch=1, steps=4) for _ in range(RUNS // 2)]
    assert sum(one.passed for one in found) == RUNS
    assert all(one.lower_bound > 0.3 * one.promised for one in found[: RUNS // 2]), "it sees a good part of epsilon"
    assert "not a proof" in str(found[0])


def unclipped(norms: np.ndarray, clip_norm: float) -> np.ndarray:
    return np.ones(len(norms))


def halved(self: SecureRandom, n: int) -> np.ndarray:
    return np.random.default_rng().normal(size=n) / 2


def everybody(self: SecureRandom, n: int, rate: float) -> np.ndarray:
    return np.ones(n, bool)


@pytest.mark.parametrize(
    ("place", "broken", "how"),
    [
        ("fedart_nb.diffusion.dp_sgd.clip_factors", unclipped, {}),
        ("fedart_nb.crypto.random_streams.SecureRandom.gaussian", halved, {}),
        ("fedart_nb.crypto.random_streams.SecureRandom.chosen", everybody, {"pictures": 8, "batch": 2, "steps": 4}),
    ],
    ids=["no clip", "half the noise", "everybody in every sample"],
)
def test_broken_training_is_caught(monkeypatch: pytest.MonkeyPatch, place: str, broken: Any, how: dict) -> None:
    monkeypatch.setattr(place, broken)
    found = [audited(**how) for _ in range(RUNS)]
    assert sum(not one.passed for one in found) >= 0.95 * RUNS
    assert "is broken" in str(found[0])


def test_a_ledger_that_is_reset_between_trainings_is_caught(tmp_path: Path) -> None:
    """Five trainings on the same pictures, each under a ledger that knows of none before."""
    mechanism = PRIVATE.mechanism(pictures=2, batch=2, steps=1)
    for number in range(5):
        path = tmp_path / f"{number}.jsonl"
        ledger = Ledger.open(path, artist="ada", room="studio", budget=Budget(8.0, DELTA))
        ledger.spend(mechanism, purpose="the same again")
        told = ledger.spent
    found = [audited(trainings=5) for _ in range(RUNS)]
    assert all(one.promised == pytest.approx(told) for one in found)
    assert sum(not one.passed for one in found) >= 0.95 * RUNS
    honest = Ledger.open(tmp_path / "kept.jsonl", artist="ada", room="studio", budget=Budget(None, DELTA))
    for _ in range(5):
        honest.spend(mechanism, purpose="the same again")
    assert max(one.lower_bound for one in found) < honest.spent


def test_the_real_trainer_is_audited_as_it_runs(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=2, batch=6, validate_every=0)
    *steps, found = audit_training(backbone, data, private=PRIVATE, config=config)
    assert len(steps) == 2
    assert isinstance(found, Audit)
    assert found.passed
    assert 0 < found.correct < found.guesses
    with pytest.raises(PrivacyError, match="nothing to audit"):
        next(audit_training(backbone, data, private=PrivateTraining(0.0), config=config))


def test_a_real_trainer_that_does_not_clip_is_caught(
    backbone: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedart_nb.diffusion.dp_sgd.clip_factors", unclipped)
    config = TrainConfig(steps=2, batch=6, validate_every=0)
    *_, found = audit_training(backbone, data, private=PrivateTraining(4.0, factors="both"), config=config)
    assert not found.passed


def test_the_bound_is_that_of_the_paper_s_examples_and_grows_with_right_guesses() -> None:
    assert ceiling(canaries=100, delta=0.0) == pytest.approx(3.5, abs=0.05)
    assert ceiling(canaries=1000, delta=0.0) == pytest.approx(5.8, abs=0.05)
    bounds = [epsilon_lower_bound(canaries=1000, guesses=100, correct=v, delta=1e-7) for v in range(40, 101, 10)]
    assert bounds == sorted(bounds)
    assert bounds[0] == 0.0
    assert epsilon_lower_bound(canaries=1000, guesses=100, correct=100, delta=0.1) == 0.0


def test_guessing_blindly_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    bounds = []
    for _ in range(200):
        included = rng.random(3000) < 0.5
        bounds.append(audit(rng.normal(size=3000), included, promised=0.0, delta=0.0, guesses=200).lower_bound)
    assert np.mean([bound > 0 for bound in bounds]) < 0.12, "wrong in one of twenty, as 95 % says"


@pytest.mark.parametrize("guesses", [0, 3, 12])
def test_impossible_numbers_of_guesses_are_refused(guesses: int) -> None:
    with pytest.raises(PrivacyError, match=f"{guesses} guesses"):
        audit(np.zeros(10), np.zeros(10, bool), promised=1.0, delta=0.0, guesses=guesses)
