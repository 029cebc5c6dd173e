"""Anchored drawing: its formula step by step, and when it does nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedart_nb.diffusion import ANCHOR, Adapter, Anchor, Backbone, anchor_of, attached, draw, initial_adapter

PROMPTS, SEEDS, STEPS, GUIDANCE = ["red cat", "dog"], [3, 4], 5, 3.0


@pytest.fixture
def adapter(backbone: Backbone) -> Adapter:
    made, rng = initial_adapter(backbone), np.random.default_rng(2)
    width = backbone.embed([""]).embeddings.shape[-1]
    tensors = {name: rng.normal(0, 0.1, a.shape).astype(np.float32) for name, a in made.tensors.items()}
    return replace(made, tensors=tensors, token=rng.normal(0, 1, (2, width)).astype(np.float32))


def drawn(backbone: Backbone, adapters: list[tuple[Adapter, float]], anchor: Anchor | None, **changed) -> np.ndarray:
    told = {"steps": STEPS, "guidance": GUIDANCE, **changed}
    return draw(backbone, PROMPTS, seeds=SEEDS, adapters=adapters, anchor=anchor, **told).astype(int)


def by_the_formula(backbone: Backbone, adapter: Adapter, weight: float, anchor: Anchor) -> np.ndarray:
    """The same pictures, one network call a term."""
    scheduler = type(backbone.pipeline.scheduler).from_config(backbone.pipeline.scheduler.config)
    scheduler.set_timesteps(STEPS)
    told, untold = backbone.embed(PROMPTS), backbone.embed([""] * len(PROMPTS))
    noise = [torch.randn((1, *backbone.latent_shape), generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    x, shares = torch.cat(noise), set()
    with torch.no_grad():
        for t in scheduler.timesteps:
            with attached(backbone, [(adapter, weight)]):
                p_c, p_0 = backbone.predict(x, t, told), backbone.predict(x, t, untold)
            b_c, b_0 = backbone.predict(x, t, told), backbone.predict(x, t, untold)
            share = float(t) / scheduler.config.num_train_timesteps
            shares.add(share > anchor.until)
            added = anchor.caption * (b_c - b_0) if share > anchor.until else anchor.style * (p_0 - b_0)
            velocity = p_0 + GUIDANCE * (p_c - p_0) + min(1.0, weight) * added
            x = scheduler.step(velocity, t, x, return_dict=False)[0]
        assert shares == {True, False}, "both halves of the formula took part"
        return backbone.decode(x).astype(int)


@pytest.mark.parametrize("weight", [0.5, 1.0, 1.5])
def test_every_step_follows_the_formula(backbone: Backbone, adapter: Adapter, weight: float) -> None:
    anchor = Anchor(caption=4.0, style=3.0, until=0.5)
    ours = drawn(backbone, [(adapter, weight)], anchor)
    np.testing.assert_allclose(ours, by_the_formula(backbone, adapter, weight, anchor), atol=1)
    assert abs(ours - drawn(backbone, [(adapter, weight)], None)).max() > 3, "the anchor is felt"


def test_an_anchor_of_zeros_is_none(backbone: Backbone, adapter: Adapter) -> None:
    own = [(adapter, 1.0)]
    np.testing.assert_array_equal(drawn(backbone, own, Anchor(0, 0)), drawn(backbone, own, None))


def test_without_adapters_or_guidance_there_is_nothing_to_tie(backbone: Backbone, adapter: Adapter) -> None:
    np.testing.assert_array_equal(drawn(backbone, [], Anchor(9, 9)), drawn(backbone, [], None))
    own = [(adapter, 1.0)]
    np.testing.assert_array_equal(*(drawn(backbone, own, a, guidance=1.0) for a in (Anchor(9, 9), None)))


def test_it_fades_in_with_the_adapters_weights(backbone: Backbone, adapter: Adapter) -> None:
    faint, firm = ([(adapter, weight)] for weight in (1e-4, 1.0))
    assert abs(drawn(backbone, faint, Anchor(9, 9)) - drawn(backbone, [], None)).max() <= 2
    assert abs(drawn(backbone, firm, Anchor(9, 9)) - drawn(backbone, [], None)).max() > 3


def test_nothing_of_it_stays_behind(backbone: Backbone, adapter: Adapter) -> None:
    before = drawn(backbone, [], None)
    drawn(backbone, [(adapter, 1.0)], ANCHOR)
    assert not backbone.tokens
    np.testing.assert_array_equal(drawn(backbone, [], None), before)


def test_only_the_embedded_backbone_has_an_anchor_of_its_own(backbone: Backbone) -> None:
    assert anchor_of(backbone) is None
    assert anchor_of(Backbone(backbone.pipeline, name="embedded")) == ANCHOR
