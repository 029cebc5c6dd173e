"""Mixes are remembered by their content within a limit, found by nearness, and redrawn only with the right adapters."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fedart_nb.analysis.mixer import GRID_STEP, MAX_WEIGHT, Mixer, neighbours, wiped
from fedart_nb.diffusion import ANCHOR
from fedart_nb.errors import AdapterError, FedArtError
from fedart_nb.events import Sampled, SampleStep


@pytest.fixture
def drawn(monkeypatch):
    """Recipes' numbers, in the order in which pictures of 16 px were really drawn."""
    drawn = []

    def sample(backbone, prompts, *, seeds, adapters, steps, guidance, anchor):
        drawn.append(
            (prompts[0], seeds[0], [(adapter.digest, weight) for adapter, weight in adapters], steps, guidance, anchor)
        )
        yield SampleStep(1, steps)
        yield Sampled(np.full((1, 16, 16, 3), len(drawn), np.uint8), tuple(prompts), tuple(seeds), 0.0)

    monkeypatch.setattr("fedart_nb.diffusion.sample", sample)
    return drawn


@pytest.fixture
def session(drawn):
    backbone = SimpleNamespace(
        name="tiny", sha256="b" * 64, latent_shape=(8, 2, 2), size_px=16, steps_and_guidance=(20, 5.0)
    )
    shared, personal = SimpleNamespace(digest="a" * 64), SimpleNamespace(digest="c" * 64)
    return SimpleNamespace(backbone=backbone, shared=shared, personal=personal)


@pytest.fixture
def mixer(session):
    return Mixer(session, steps=3, guidance=4.0)


def draw(mixer, recipe):
    for _ in (steps := mixer.draw(recipe)):
        pass
    steps.close()
    return mixer.find(recipe)


def test_a_recipe_is_drawn_with_its_numbers_once(mixer, drawn):
    recipe = mixer.recipe("cat", 7, shared=0.5, personal=1.25)
    first = draw(mixer, recipe)
    assert drawn == [("cat", 7, [("a" * 64, 0.5), ("c" * 64, 1.25)], 3, 4.0, None)]
    assert draw(mixer, recipe) is first
    assert len(drawn) == 1
    assert recipe in mixer


def test_without_numbers_of_its_own_a_mixer_takes_the_backbones(session):
    session.backbone.steps_and_guidance = (4, 1)  # as distilled pipelines have them
    recipe = Mixer(session).recipe("cat", 7, shared=1, personal=1)
    assert (recipe.steps, recipe.guidance, recipe.size_px) == (4, 1.0, 16)


def test_mixes_on_the_embedded_backbone_are_anchored_and_their_recipes_say_so(session, mixer, drawn):
    session.backbone.name = "embedded"
    recipe = mixer.recipe("cat", 7, shared=0, personal=1)
    assert recipe.anchored
    kept = draw(mixer, recipe)
    assert drawn[-1][-1] == ANCHOR
    bare = mixer.recipe("cat", 7, shared=0, personal=0)
    mixer.anchored = False
    assert mixer.recipe("cat", 7, shared=0, personal=0) == bare, "without adapters there is nothing to anchor"
    plain = mixer.recipe("cat", 7, shared=0, personal=1)
    assert mixer.nearest(plain) is kept, "the same mix, until it is drawn"
    found = draw(mixer, plain)
    assert drawn[-1][-1] is None
    assert (mixer.nearest(plain), mixer.nearest(recipe)) == (found, kept)


def test_an_adapter_that_is_off_or_missing_leaves_no_trace_in_the_recipe(mixer, session):
    off = mixer.recipe("cat", 7, shared=0.0, personal=1.0)
    assert (off.shared, off.shared_sha256) == (0.0, "")
    session.shared = None
    assert mixer.recipe("cat", 7, shared=1.5, personal=1.0) == off


def test_the_nearest_mix_has_the_same_prompt_seed_and_adapters(mixer, session):
    near, far = (draw(mixer, mixer.recipe("cat", 7, shared=w, personal=1.0)) for w in (0.5, 1.5))
    wish = mixer.recipe("cat", 7, shared=0.8, personal=1.0)
    assert mixer.nearest(wish) is near
    assert mixer.nearest(replace(wish, shared=1.2)) is far
    assert mixer.nearest(replace(wish, prompt="dog")) is None
    assert mixer.nearest(replace(wish, seed=8)) is None
    assert mixer.nearest(replace(wish, steps=4)) is None
    session.personal = SimpleNamespace(digest="d" * 64)  # trained anew: the old pictures are no neighbours any more
    assert mixer.nearest(mixer.recipe("cat", 7, shared=0.5, personal=1.0)) is None


def test_the_backbones_picture_is_a_neighbour_whatever_the_adapters_are(mixer, session):
    plain = draw(mixer, mixer.recipe("cat", 7, shared=0, personal=0))
    session.personal = SimpleNamespace(digest="d" * 64)
    assert mixer.nearest(mixer.recipe("cat", 7, shared=1, personal=1)) is plain


def test_the_memory_stays_below_its_limit_and_drops_what_was_not_used_for_longest(session):
    mixer = Mixer(session, steps=1)
    recipes = [mixer.recipe("cat", seed, shared=1, personal=1) for seed in range(8)]
    mixer.limit_bytes = mixer.picture_bytes + 2 * draw(mixer, recipes[0]).size_bytes
    assert mixer.capacity == 1  # for sure; these small pictures happen to take less
    for recipe in recipes:
        draw(mixer, recipe)
        assert mixer.find(recipes[0]) is not None  # looked at again and again, so it stays
        assert mixer.used_bytes <= mixer.limit_bytes
    assert recipes[1] not in mixer
    assert all(recipe in mixer for recipe in recipes[-2:])
    assert mixer.used_bytes == sum(mixer.find(recipe).size_bytes for recipe in recipes if recipe in mixer)


def test_a_picture_never_takes_more_than_was_reckoned_with(session, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)  # the worst case for PNG

    def sample(*_args, **_options):
        yield Sampled(noise[None], ("cat",), (1,), 0.0)

    monkeypatch.setattr("fedart_nb.diffusion.sample", sample)
    session.backbone.latent_shape, session.backbone.size_px = (4, 64, 64), 512
    mixer = Mixer(session, steps=1)
    assert draw(mixer, mixer.recipe("cat", 1, shared=1, personal=1)).size_bytes <= mixer.picture_bytes


def test_a_picture_larger_than_the_memory_is_refused_before_it_is_drawn(session, drawn):
    mixer = Mixer(session, limit_bytes=1000)
    with pytest.raises(FedArtError, match="limited to 1,000"):
        next(mixer.draw(mixer.recipe("cat", 1, shared=1, personal=1)))
    assert drawn == []


def test_a_recipe_of_other_adapters_or_another_backbone_is_refused(mixer, session, drawn):
    recipe = mixer.recipe("cat", 1, shared=1, personal=1)
    with pytest.raises(AdapterError, match="backbone eeeeeeeeeeee…"):
        next(mixer.draw(replace(recipe, backbone_sha256="e" * 64)))
    with pytest.raises(AdapterError, match="is 32 px wide; this session draws 16 px"):
        next(mixer.draw(replace(recipe, size_px=32)))
    session.personal = None
    with pytest.raises(AdapterError, match="personal adapter cccccccccccc…"):
        next(mixer.draw(recipe))
    assert drawn == []


@pytest.mark.parametrize("at", [(1.0, 0.5), (0.0, 0.0), (1.5, 1.5), (0.85, 0.1)])
def test_neighbours_lie_on_the_grid_within_the_sliders_nearest_first(at):
    points = neighbours(*at)
    assert len(points) == len(set(points))
    assert all(0 <= w <= MAX_WEIGHT and w % GRID_STEP == 0 for point in points for w in point)
    distances = [np.hypot(s - at[0], p - at[1]) for s, p in points]
    assert distances == sorted(distances)
    assert distances[0] <= GRID_STEP / 2**0.5
    row = {s for s, p in points if p == points[0][1]}
    assert len(row) == round(MAX_WEIGHT / GRID_STEP) + 1  # a drag of one slider meets a drawn picture everywhere


def test_a_wipe_is_the_left_picture_up_to_the_edge_and_the_right_one_after_it():
    left, right = np.zeros((4, 10, 3), np.uint8), np.full((4, 10, 3), 255, np.uint8)
    out = wiped(left, right, 0.5)
    assert (out[:, :4] == 0).all()
    assert (out[:, 5:] == 255).all()
    assert (wiped(left, right, 0) == right).all()
    assert (wiped(left, right, 1) == left).all()
