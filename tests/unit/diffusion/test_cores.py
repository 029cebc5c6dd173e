"""The tiny core: only R learns, its factors come from a public seed, and afterwards it is an ordinary adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from test_private import compared

from fedart_nb.diffusion import (
    Adapter,
    AdapterConfig,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    TrainState,
    attached,
    draw,
    initial_adapter,
    train,
)
from fedart_nb.diffusion.cores import Core
from fedart_nb.errors import AdapterError
from fedart_nb.events import Step, Trained

CONFIG = AdapterConfig(rank=2, alpha=2.0, core_seed=7)
QUICK = TrainConfig(steps=3, batch=3, learning_rate=1e-2, validate_every=0)


def awake(backbone: Backbone) -> Adapter:
    fresh = initial_adapter(backbone, CONFIG)
    rng = np.random.default_rng(0)
    return replace(fresh, tensors={n: rng.normal(0, 0.05, a.shape).astype("f4") for n, a in fresh.tensors.items()})


def test_factors_are_the_same_bits_on_every_machine() -> None:
    core = Core(seed=7, rank=2, shapes={"to_q": (6, 4), "to_k": (3, 5)})
    assert core.sha256 == "d0036a2ac27f3e7f922cdca3c6d0873e930bd65e462d74dae3884d4aed43f022"
    A, B = core.factors("to_q")
    assert (np.abs(A) == 1).all()
    assert (np.abs(B) == 1).all()
    assert replace(core, seed=8).sha256 != core.sha256


def test_a_fresh_core_changes_no_pixel_and_has_r_squared_numbers_a_layer(backbone: Backbone) -> None:
    fresh = initial_adapter(backbone, CONFIG)
    assert fresh.size == 4 * len(fresh.tensors)
    assert all("attn" in name and name.endswith(".lora_core.weight") for name in fresh.tensors)
    plain = draw(backbone, ["cat"], seeds=[1], steps=3)
    np.testing.assert_array_equal(plain, draw(backbone, ["cat"], seeds=[1], steps=3, adapters=[(fresh, 1.0)]))


def test_training_moves_r_alone_and_every_r(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone, CONFIG)
    with attached(backbone, [(start, 1.0)], trainable=0):
        asked = [n for n, p in backbone.denoiser.named_parameters() if p.requires_grad]
    assert len(asked) == len(start.tensors)
    *_, trained = train(backbone, data, config=QUICK, start=start)
    assert isinstance(trained, Trained)
    assert all((delta != 0).all() for delta in trained.adapter.minus(start).values())
    before, after = start.expanded().tensors, trained.adapter.expanded().tensors
    for name in before:
        assert (before[name] == after[name]).all() == (".lora_A." in name)


def test_the_expanded_adapter_does_exactly_what_the_core_did(backbone: Backbone) -> None:
    core = awake(backbone)
    x, t, told = torch.randn(2, *backbone.latent_shape), torch.tensor([500, 100]), backbone.embed(["cat", "dog"])

    def output(adapter: Adapter, trainable: int | None = None) -> torch.Tensor:
        with attached(backbone, [(adapter, 1.0)], trainable=trainable), torch.no_grad():
            return backbone.predict(x, t, told)

    learning, folded = output(core, 0), output(core.expanded())
    torch.testing.assert_close(learning, folded, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output(core), folded)
    assert (folded - output(initial_adapter(backbone, CONFIG))).abs().max() > 1e-3


def test_the_mean_of_cores_is_the_mean_of_what_they_do(backbone: Backbone) -> None:
    one, two = awake(backbone), awake(backbone)
    two = replace(two, tensors={name: 3 * value for name, value in two.tensors.items()})
    mean = replace(one, tensors={name: (one.tensors[name] + two.tensors[name]) / 2 for name in one.tensors})
    parts = [adapter.expanded().tensors for adapter in (one, two, mean)]
    for name in (name for name in parts[0] if ".lora_B." in name):
        a = [part[name] @ part[name.replace("lora_B", "lora_A")] for part in parts]
        np.testing.assert_allclose(a[2], (a[0] + a[1]) / 2, atol=1e-5)


def test_plain_diffusers_draws_the_same_pixels_with_an_expanded_core(
    backbone: Backbone, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    core = replace(awake(backbone), tensors={n: 8 * v for n, v in awake(backbone).tensors.items()})
    core.expanded().save(tmp_path)
    ours = draw(backbone, ["red cat"], seeds=[5], steps=4, guidance=3.0, adapters=[(core, 1.0)])
    kind = "flow" if "DPM" in type(backbone.pipeline.scheduler).__name__ else "epsilon"
    plain = DiffusionPipeline.from_pretrained(saved(kind), safety_checker=None, requires_safety_checker=False)
    plain.load_lora_weights(tmp_path)
    generator = [torch.Generator().manual_seed(5)]
    theirs = plain(["red cat"], num_inference_steps=4, guidance_scale=3.0, generator=generator, output_type="np").images
    np.testing.assert_allclose(ours, (theirs * 255).round(), atol=1)


def test_a_core_survives_saving_loading_and_resuming(backbone: Backbone, data: LatentSet, tmp_path: Path) -> None:
    core = awake(backbone)
    again = Adapter.load(core.save(tmp_path))
    assert (again.digest, again.config, again.core) == (core.digest, core.config, core.core)
    assert again.expanded().expanded().digest == core.expanded().digest
    events = train(backbone, data, config=QUICK, start=core)
    first = next(events)
    events.close()
    assert isinstance(first, Step)
    first.state.save(tmp_path / "state")
    state = TrainState.load(tmp_path / "state")
    assert state.adapter.core == core.core
    *_, trained = train(backbone, data, config=QUICK, resume=state)
    assert trained.adapter.core == core.core


def test_factors_that_the_seed_does_not_give_are_refused(backbone: Backbone) -> None:
    data = awake(backbone).to_bytes()
    body = awake(backbone).core.to_body()  # type: ignore[union-attr]
    forged = data.replace(body["factors_sha256"].encode(), b"0" * 64)
    with pytest.raises(AdapterError, match="Update both sides"):
        Adapter.from_bytes(forged)
    with pytest.raises(AdapterError, match="does not fit this core"):
        replace(awake(backbone), tensors={"x": np.zeros((2, 2), "f4")})


@pytest.mark.parametrize("draws", [1, 3])
def test_private_steps_on_a_core_are_clipped_as_by_hand(backbone: Backbone, data: LatentSet, draws: int) -> None:
    assert compared(backbone, data, awake(backbone), draws) < 1e-5


def test_private_training_noises_the_core_and_says_how_many_numbers(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone, CONFIG)
    private = PrivateTraining(noise_multiplier=1.0)
    *_, trained = train(backbone, data, config=QUICK, start=start, private=private)
    assert all((delta != 0).all() for delta in trained.adapter.minus(start).values())
    assert private.size(start.tensors) == start.size


def test_a_core_on_convolutions_and_an_impossible_seed_are_refused(backbone: Backbone) -> None:
    with pytest.raises(AdapterError, match="a core acts on linear layers"):
        initial_adapter(backbone, replace(CONFIG, targets=r".*\.conv1"))
    with pytest.raises(AdapterError, match="No module"):
        initial_adapter(backbone, replace(CONFIG, targets="nonsense"))
    with pytest.raises(AdapterError, match="seed is -1"):
        AdapterConfig(core_seed=-1)


def test_files_of_a_core_name_seed_and_hash(backbone: Backbone) -> None:
    data = awake(backbone).to_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert json.loads(header["fedart"])["core"]["seed"] == 7
    assert "lora_adapter_metadata" not in header, "plain diffusers cannot read a core, and is not told that it could"
