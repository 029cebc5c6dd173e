"""Timesteps are read exactly, those that lie nearer than the first scan's step too."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedart_nb.attacks import Outcome, load
from fedart_nb.attacks.pixels import rows_of
from fedart_nb.attacks.scoring import Truth, score
from fedart_nb.attacks.victim import full_gradient_view
from fedart_nb.diffusion import Backbone, LatentSet, TrainConfig
from fedart_nb.diffusion.latents import latents_of


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.embedded(device="cpu")


def latents(backbone: Backbone, n: int) -> LatentSet:
    pictures = np.random.default_rng(0).integers(0, 256, (n, 128, 128, 3), dtype=np.uint8)
    return latents_of(backbone, pictures, ["a house"] * n, [str(i) for i in range(n)])


@pytest.mark.parametrize(("batch", "seed"), [(1, 0), (8, 0), (16, 1)])
def test_every_timestep_of_a_batch_is_read(backbone: Backbone, batch: int, seed: int):
    config = TrainConfig(batch=batch, seed=seed, caption_dropout=0.0)
    view = full_gradient_view(backbone, latents(backbone, batch), config=config)
    used = rows_of(view.knowing(seed=seed, captions=("a house",) * batch), backbone).t
    *_, outcome = load("timesteps")(view, backbone)
    assert isinstance(outcome, Outcome)
    assert outcome.recovered
    assert score(outcome, Truth(timesteps=tuple(float(t) for t in used))).timesteps == 1.0
    assert len(outcome.frame.timesteps) == batch


def test_a_seed_that_was_not_used_scores_near_nothing(backbone: Backbone):
    config = TrainConfig(batch=4, seed=3, caption_dropout=0.0)
    view = full_gradient_view(backbone, latents(backbone, 4), config=config)
    other = rows_of(view.knowing(seed=4, captions=("a house",) * 4), backbone).t
    *_, outcome = load("timesteps")(view, backbone)
    found = score(outcome, Truth(timesteps=tuple(float(t) for t in other))).timesteps
    assert math.isnan(found) or found < 0.5
