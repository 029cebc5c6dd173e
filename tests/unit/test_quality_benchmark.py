"""Federations of the quality benchmark weigh artists by their loss as a room's words do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedart_nb.federated import Simulation
from fedart_nb.federated.plan import LOSS_CAP


@pytest.fixture
def federation(monkeypatch: pytest.MonkeyPatch) -> Any:
    from pathlib import Path

    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import _federation

    return _federation


@pytest.mark.parametrize("bits", [16, 32])
def test_a_mean_weighted_by_loss_is_that_of_the_masked_round(federation: Any, bits: int) -> None:
    rng = np.random.default_rng(3)
    shared = {"x": np.zeros((4, 5), np.float32)}
    names = ["Ada", "Ben", "Cy"]
    updates = {n: {"x": rng.uniform(-0.1, 0.1, (4, 5)).astype(np.float32)} for n in names}
    told = {"Ada": {"loss_before": 0.5}, "Ben": {"loss_before": 1.0}, "Cy": {"loss_before": 2 * LOSS_CAP}}
    room = Simulation(names, shared, rule="fedavg", bits=bits, clip=0.1, weighting="loss", q=1.0)

    mean = federation._mean_of_words(room.plan, shared, updates, told)["x"]

    weights = np.array([0.5, 1.0, LOSS_CAP])  # a loss above the cap weighs no more than the cap
    right = np.tensordot(weights / weights.sum(), np.stack([u["x"] for u in updates.values()]), 1)
    np.testing.assert_allclose(mean, right, atol=2e-4 if bits == 16 else 1e-7)
    masked = room.round(updates, metrics=told).result
    assert masked is not None
    from fedart_nb.federated import unpack

    np.testing.assert_allclose(unpack(masked.shared)["x"], mean, atol=1e-6)
