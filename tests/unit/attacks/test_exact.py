"""Gradients give pictures back, out of sums and with secret seeds too; noise ends the attack."""

from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.art import ArtSet
from fedart_nb.attacks import Outcome
from fedart_nb.attacks.exact import exact
from fedart_nb.attacks.scoring import Truth, ceiling, score
from fedart_nb.attacks.victim import full_gradient_view, gradient_view
from fedart_nb.attacks.view import ServerView
from fedart_nb.diffusion import Backbone, TrainConfig, initial_adapter
from fedart_nb.diffusion.latents import latents_of
from fedart_nb.errors import AttackError

CAPTION = "a house"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone.embedded(device="cpu")


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    art = ArtSet.sample("openmoji")
    return art.pixels(art.included("train")[:1])


def seen(backbone: Backbone, pictures: np.ndarray, **config: object) -> ServerView:
    data = latents_of(backbone, pictures, [CAPTION] * len(pictures), [str(i) for i in range(len(pictures))])
    told = TrainConfig(**{"batch": 1, "seed": 0, "caption_dropout": 0.0, **config})  # type: ignore[arg-type]
    return full_gradient_view(backbone, data, config=told)


def test_the_picture_comes_back_exactly_out_of_a_clipped_gradient(backbone: Backbone, picture: np.ndarray):
    view = seen(backbone, picture)
    clipped = {name: value * np.float32(0.01) for name, value in view.tensors.items()}
    told = ServerView.of(clipped, b"", view.backbone_sha256).knowing(seed=0, captions=(CAPTION,))
    *_, outcome = exact(told, backbone, evaluations=400)
    assert isinstance(outcome, Outcome)
    assert score(outcome.frame, Truth(ceiling(backbone, picture))).ssim[0] > 0.99


@pytest.mark.slow
def test_with_the_seed_secret_noise_and_timestep_come_out_too(backbone: Backbone, picture: np.ndarray):
    view = seen(backbone, picture).knowing(captions=(CAPTION,))
    *_, outcome = exact(view, backbone, evaluations=600)
    assert outcome.recovered
    assert score(outcome.frame, Truth(ceiling(backbone, picture))).ssim[0] > 0.99


def test_noise_ends_it_and_is_named(backbone: Backbone, picture: np.ndarray):
    view, rng = seen(backbone, picture), np.random.default_rng(0)
    noised = {n: v + 1e-4 * rng.standard_normal(v.shape, dtype=np.float32) for n, v in view.tensors.items()}
    told = ServerView.of(noised, b"", view.backbone_sha256).knowing(seed=0, captions=(CAPTION,))
    *_, outcome = exact(told, backbone)
    assert not outcome.recovered
    assert "noised" in outcome.why
    assert outcome.frame.pictures is None


@pytest.mark.slow
def test_a_sum_of_two_artists_comes_apart(backbone: Backbone, picture: np.ndarray):
    other = ArtSet.sample("lorelei")
    both = np.concatenate([picture, other.pixels(other.included("train")[:1])])
    views = [seen(backbone, both[i : i + 1], seed=i) for i in range(2)]
    summed = ServerView.of_sum([v.tensors for v in views], b"", views[0].backbone_sha256, pictures=1)
    *_, outcome = exact(summed.knowing(seed=(0, 1), captions=(CAPTION,) * 2), backbone, evaluations=1000)
    assert outcome.recovered
    assert min(score(outcome.frame, Truth(ceiling(backbone, both))).ssim) > 0.95


def test_more_pictures_than_are_told_are_noticed(backbone: Backbone, picture: np.ndarray):
    view = seen(backbone, np.concatenate([picture, picture[:, :, ::-1]]), batch=2)
    told = ServerView.of(view.tensors, b"", view.backbone_sha256).knowing(seed=0, captions=(CAPTION,))
    *_, outcome = exact(told, backbone)
    assert not outcome.recovered
    assert "more pictures" in outcome.why


def test_more_pictures_than_a_layer_holds_apart_are_refused(backbone: Backbone, picture: np.ndarray):
    view = seen(backbone, np.repeat(picture, 13, axis=0), batch=13)
    with pytest.raises(AttackError, match="13 pictures"):
        next(exact(view.knowing(seed=0, captions=(CAPTION,) * 13), backbone))


def test_an_adapters_update_is_refused_with_the_reason(backbone: Backbone, picture: np.ndarray):
    data = latents_of(backbone, picture, [CAPTION], ["0"])
    start = initial_adapter(backbone, seed=1)
    view = gradient_view(backbone, data, config=TrainConfig(batch=1, seed=0, caption_dropout=0.0), start=start)
    with pytest.raises(AttackError, match="rank"):
        next(exact(view.knowing(seed=0, captions=(CAPTION,)), backbone))
