"""A learned style token: what it is added to, how it is trained, kept, composed, and that it never leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.numpy import load_file

from fedart_nb.diffusion import (
    Adapter,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    TrainState,
    attached,
    compose,
    denoising_loss,
    draw,
    initial_adapter,
    train,
)
from fedart_nb.diffusion.adapters import STYLE_TOKEN
from fedart_nb.errors import AdapterError, PrivacyError, TrainingError

QUICK = TrainConfig(steps=6, batch=3, learning_rate=1e-2, validate_every=0, seed=1, style_tokens=2)


def with_token(backbone: Backbone, places: int = 2, seed: int = 1) -> Adapter:
    width = backbone.embed([""]).embeddings.shape[-1]
    token = np.random.default_rng(seed).normal(0, 0.5, (places, width)).astype(np.float32)
    return replace(initial_adapter(backbone), token=token)


def noisy(adapter: Adapter) -> Adapter:
    rng = np.random.default_rng(4)
    return replace(adapter, tensors={n: rng.normal(0, 0.1, a.shape).astype("f4") for n, a in adapter.tensors.items()})


def predicted(backbone: Backbone, data: LatentSet, adapters: list[tuple[Adapter, float]]) -> torch.Tensor:
    with attached(backbone, adapters), torch.no_grad():
        return backbone.predict(data.latents, torch.full((len(data),), 0.4), data.embeddings)


def test_a_token_is_added_to_the_last_places_by_its_weight(backbone: Backbone, data: LatentSet) -> None:
    adapter = with_token(backbone)
    assert adapter.token is not None
    said = data.embeddings.embeddings.clone()
    said[:, -2:] += 0.5 * torch.from_numpy(adapter.token)
    with torch.no_grad():
        t = torch.full((len(data),), 0.4)
        expected = backbone.predict(data.latents, t, replace(data.embeddings, embeddings=said))
        bare = backbone.predict(data.latents, t, data.embeddings)
    torch.testing.assert_close(predicted(backbone, data, [(adapter, 0.5)]), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(expected, bare, atol=1e-3)
    assert not backbone.tokens, "nothing of it stays behind"
    torch.testing.assert_close(predicted(backbone, data, [(adapter, 0.0)]), bare, atol=1e-5, rtol=1e-4)


def test_a_token_learns_from_zeros_beside_the_adapter(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone, seed=3)
    *alone, _ = train(backbone, data, config=replace(QUICK, style_tokens=0), start=start)
    *steps, last = train(backbone, data, config=QUICK, start=start)
    assert steps[0].loss == pytest.approx(alone[0].loss), "zeros change nothing"
    assert steps[-1].loss != pytest.approx(alone[-1].loss, rel=1e-6)
    assert last.adapter.token.shape == (2, backbone.embed([""]).embeddings.shape[-1])
    assert (np.abs(last.adapter.token).max(axis=1) > 0.01).all()


def test_training_goes_on_from_its_file_as_if_it_had_never_stopped(
    backbone: Backbone, data: LatentSet, tmp_path: Path
) -> None:
    *_, whole = train(backbone, data, config=QUICK, start=initial_adapter(backbone, seed=3))
    events = train(backbone, data, config=QUICK, start=initial_adapter(backbone, seed=3))
    for _ in range(3):
        state = next(events).state
    events.close()
    state.save(tmp_path / "state")
    *_, again = train(backbone, data, resume=TrainState.load(tmp_path / "state"), config=QUICK)
    assert again.adapter.digest == whole.adapter.digest


def test_a_token_is_left_as_it_is_unless_it_is_asked_to_learn(backbone: Backbone, data: LatentSet) -> None:
    adapter = with_token(backbone)
    *_, last = train(backbone, data, config=replace(QUICK, style_tokens=0), start=adapter)
    np.testing.assert_array_equal(last.adapter.token, adapter.token)
    with pytest.raises(TrainingError, match="style_tokens is 3, and the adapter to go on from has 2"):
        next(train(backbone, data, config=replace(QUICK, style_tokens=3), start=adapter))


def test_emphasis_is_the_tokens_too(backbone: Backbone, data: LatentSet) -> None:
    plain, strong = (
        list(train(backbone, data, config=replace(QUICK, emphasis=e), start=initial_adapter(backbone)))[-1].adapter
        for e in (1.0, 1.5)
    )
    np.testing.assert_allclose(strong.token, 1.5 * plain.token, rtol=1e-5)


def test_it_is_kept_in_the_adapters_file_and_counts(backbone: Backbone, tmp_path: Path) -> None:
    adapter = with_token(backbone)
    path = adapter.save(tmp_path)
    again = Adapter.load(path)
    np.testing.assert_array_equal(again.token, adapter.token)
    assert again.digest == adapter.digest != replace(adapter, token=None).digest
    assert again.size == replace(adapter, token=None).size + adapter.token.size
    np.testing.assert_array_equal(load_file(path)[STYLE_TOKEN], adapter.token)


def test_plain_diffusers_reads_the_file_and_draws_the_same_with_the_token_in_its_embeddings(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    backbone = Backbone.from_pretrained(saved("v"), device="cpu")
    adapter = noisy(with_token(backbone))
    path = adapter.save(tmp_path)

    def drawn(one: Adapter) -> np.ndarray:
        return draw(backbone, ["red cat"], seeds=[5], steps=3, guidance=3.0, adapters=[(one, 1.0)])

    plain = DiffusionPipeline.from_pretrained(saved("v"))
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(path.parent)
    token = torch.from_numpy(load_file(path)[STYLE_TOKEN])
    said, unsaid = plain.encode_prompt(["red cat"], "cpu", 1, True)
    said[:, -len(token) :] += token
    unsaid[:, -len(token) :] += token
    theirs = plain(
        prompt_embeds=said,
        negative_prompt_embeds=unsaid,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(5)],
        output_type="np",
    ).images
    np.testing.assert_allclose(drawn(adapter), (theirs * 255).round(), atol=1)
    assert (drawn(adapter) != drawn(replace(adapter, token=None))).any()


def test_tokens_of_two_lengths_are_composed_as_they_act(backbone: Backbone, data: LatentSet) -> None:
    both = [(with_token(backbone, 3, seed=1), 0.5), (with_token(backbone, 1, seed=2), 2.0)]
    expected = predicted(backbone, data, both)
    one = [(compose(both), 1.0)]
    torch.testing.assert_close(predicted(backbone, data, one), expected, atol=1e-5, rtol=1e-4)


def test_no_update_holds_a_token(backbone: Backbone) -> None:
    adapter = with_token(backbone)
    for pair in ((adapter, initial_adapter(backbone)), (initial_adapter(backbone), adapter)):
        with pytest.raises(AdapterError, match="personal and no part of an update"):
            pair[0].minus(pair[1])


def test_noise_and_tokens_exclude_each_other(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=1, style_tokens=1)
    with pytest.raises(PrivacyError, match="Leave style_tokens at 0"):
        next(train(backbone, data, config=config, private=PrivateTraining(1.0)))


@pytest.mark.parametrize("places", [-1, 65, 1.5])
def test_a_strange_number_of_places_is_refused(places: object) -> None:
    with pytest.raises(TrainingError, match="style_tokens is"):
        TrainConfig(style_tokens=places)  # type: ignore[arg-type]


def test_a_token_of_another_backbone_is_refused_with_the_sizes(backbone: Backbone, data: LatentSet) -> None:
    adapter = with_token(backbone)
    assert adapter.token is not None
    with pytest.raises(AdapterError, match="places of width"):
        denoising_loss(backbone, data, [(replace(adapter, token=adapter.token[:, :-1]), 1.0)])
    assert not backbone.tokens


def test_a_damaged_token_is_refused(backbone: Backbone) -> None:
    adapter = with_token(backbone)
    assert adapter.token is not None
    for token in (adapter.token * np.nan, adapter.token[0]):
        with pytest.raises(AdapterError, match="style token is damaged"):
            Adapter.from_bytes(replace(adapter, token=token.astype(np.float32)).to_bytes())
