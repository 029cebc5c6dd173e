"""Every family of pipelines, end to end on a tiny random one: load, train, save, reload in plain diffusers, draw."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from diffusers import DiffusionPipeline

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import (
    Adapter,
    AdapterConfig,
    Anchor,
    Backbone,
    Conditioning,
    TrainConfig,
    TrainState,
    attached,
    denoising_loss,
    draw,
    initial_adapter,
    latents_of,
    sample,
    train,
)
from fedart_nb.diffusion.optimisers import optimiser_of
from fedart_nb.errors import BackboneError, MissingExtra, TrainingError
from fedart_nb.host import Host
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session

# "flow" and "epsilon" go through the tests of adapters and training beside this file
KINDS = ("v", "turbo", "sdxl", "sdxl-turbo", "sd3", "sd3-without-t5", "flux", "schnell")
CAPTIONS = ["cat", "red cat", "blue dog", "dog"]
Saved = Callable[[str], Path]


def load(folder: Path, kind: str, **options: Any) -> Backbone:
    size = {"size_px": 32} if kind in ("flux", "schnell") else {}  # Flux's own size is written in code: 1024
    return Backbone.from_pretrained(folder, device="cpu", **(size | options))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def family(kind: str, saved: Saved) -> Backbone:
    return load(saved(kind), kind)


def random_adapter(backbone: Backbone, seed: int = 1) -> Adapter:
    """An adapter whose B is not zero, as after training."""
    adapter = initial_adapter(backbone, AdapterConfig(rank=3, alpha=6.0), seed=seed)
    rng = np.random.default_rng(seed)
    return replace(
        adapter, tensors={n: rng.normal(0, 0.2, a.shape).astype(np.float32) for n, a in adapter.tensors.items()}
    )


def test_two_steps_move_every_module_of_the_adapter(family: Backbone, pixels: np.ndarray) -> None:
    data = latents_of(family, pixels[:4], CAPTIONS, list("abcd"))
    start = initial_adapter(family)
    config = TrainConfig(steps=2, batch=4, seed=0, validate_every=0, caption_dropout=0.5)
    *steps, trained = train(family, data, config=config, start=start)
    assert all(np.isfinite(step.loss) for step in steps)
    update = trained.adapter.minus(start)
    still = {n.split(".lora_")[0] for n, d in update.items() if ".lora_B." in n and not np.abs(d).max() > 0}
    assert not {n for n in still if "add_" not in n}  # the text's stream of the last block says nothing to the picture
    assert denoising_loss(family, data, [(trained.adapter, 1.0)]) > 0


def test_a_style_token_learns_in_every_family(family: Backbone, pixels: np.ndarray) -> None:
    data = latents_of(family, pixels[:4], CAPTIONS, list("abcd"))
    config = TrainConfig(steps=2, batch=4, seed=0, validate_every=0, style_tokens=2)
    *_, trained = train(family, data, config=config, start=random_adapter(family))
    assert (np.abs(trained.adapter.token).max(axis=1) > 0).all()
    with_it, without = ([(replace(trained.adapter, token=token), 1.0)] for token in (trained.adapter.token * 50, None))
    assert denoising_loss(family, data, with_it) != pytest.approx(denoising_loss(family, data, without), rel=1e-6)


def test_plain_diffusers_loads_the_adapter_and_draws_the_same_pixels(
    family: Backbone, kind: str, saved: Saved, tmp_path: Path
) -> None:
    adapter = random_adapter(family)
    replace(adapter, token=np.ones((2, 8), np.float32)).save(tmp_path)  # which other tools pass by
    steps, guidance = (2, 1.0) if "turbo" in kind or kind == "schnell" else (3, 3.0)
    ours = draw(family, ["red cat", "dog"], seeds=[5, 6], steps=steps, guidance=guidance, adapters=[(adapter, 1.0)])
    without = {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3-without-t5" else {}
    plain = DiffusionPipeline.from_pretrained(saved(kind), **without)
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(tmp_path)
    length = {"max_sequence_length": 256} if kind == "schnell" else {}
    theirs = plain(
        ["red cat", "dog"],
        num_inference_steps=steps,
        guidance_scale=guidance,
        height=32,
        width=32,
        generator=[torch.Generator().manual_seed(s) for s in (5, 6)],
        output_type="np",
        **length,
    ).images
    np.testing.assert_allclose(ours, (theirs * 255).round(), atol=1)
    assert (ours != draw(family, ["red cat", "dog"], seeds=[5, 6], steps=steps, guidance=guidance)).any()


def test_anchored_drawing_works_in_every_family_and_leaves_the_network_as_it_was(family: Backbone, kind: str) -> None:
    own, distilled = [(random_adapter(family), 1.0)], "turbo" in kind or kind == "schnell"
    steps, guidance = (2, 1.0) if distilled else (3, 3.0)
    plain, anchored, again = (
        draw(family, ["red cat"], seeds=[5], steps=steps, guidance=guidance, adapters=own, anchor=anchor)
        for anchor in (None, Anchor(), None)
    )
    np.testing.assert_array_equal(again, plain)
    assert (anchored != plain).any() == (guidance > 1 and not family.family.guidance_is_told)


def test_an_adapter_keeps_its_network_and_its_targets_in_its_file(family: Backbone, tmp_path: Path) -> None:
    adapter = random_adapter(family)
    again = Adapter.load(adapter.save(tmp_path))
    assert again == replace(adapter, tensors=again.tensors)
    assert again.digest == adapter.digest
    assert again.part == family.family.denoiser
    assert again.config.targets == family.family.targets


def test_the_hash_holds_for_a_second_load_and_counts_every_network(family: Backbone, kind: str, saved: Saved) -> None:
    again = load(saved(kind), kind)
    assert again.sha256 == family.sha256
    for name in ("vae", again.family.denoiser, *again.family.text_encoders):
        part = getattr(again.pipeline, name)
        if part is None:
            continue
        weight = next(part.parameters())
        before = weight.detach().clone()
        weight.data += 1e-2
        assert Backbone(again.pipeline, name="changed").sha256 != family.sha256
        weight.data.copy_(before)


def test_pictures_survive_scaling_and_shifting_of_latents(family: Backbone, pixels: np.ndarray) -> None:
    vae = family.pipeline.vae
    x = torch.from_numpy(pixels[:2]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        plain = vae.decode(vae.encode(x).latent_dist.mode()).sample
    expected = ((plain / 2 + 0.5).clamp(0, 1) * 255).round().permute(0, 2, 3, 1)
    np.testing.assert_allclose(family.decode(family.encode(pixels[:2])), expected, atol=1)


def test_guidance_begins_at_what_each_family_learnt_as_no_caption(family: Backbone, kind: str) -> None:
    empty, said = family.embed([""]), family.embed(["cat"])
    assert (empty.embeddings != said.embeddings).any()
    assert bool((empty.embeddings == 0).all()) == kind.startswith("sdxl")


@pytest.mark.parametrize("kind_of_model", ["turbo", "sdxl-turbo", "schnell"])
def test_distilled_pipelines_draw_in_four_steps_without_guidance(kind_of_model: str, saved: Saved) -> None:
    assert load(saved(kind_of_model), kind_of_model).steps_and_guidance == (4, 1.0)


def test_drawing_takes_the_number_of_steps_from_the_backbone(saved: Saved) -> None:
    *steps, _ = sample(load(saved("schnell"), "schnell"), ["cat"], seeds=[1])
    assert len(steps) == 4


def test_a_distilled_sd3_is_known_by_its_name(saved: Saved) -> None:
    assert load(saved("sd3"), "sd3", name="stable-diffusion-3.5-large-turbo").steps_and_guidance == (4, 1.0)
    assert load(saved("sd3"), "sd3").steps_and_guidance == (28, 5.0)


def test_an_ancestral_scheduler_takes_its_noise_from_the_seeds(saved: Saved) -> None:
    backbone = load(saved("sdxl-turbo"), "sdxl-turbo")
    np.testing.assert_array_equal(*(draw(backbone, ["cat"], seeds=[7], steps=3) for _ in range(2)))


@pytest.mark.parametrize("kind_of_model", ["sd3-without-t5", "flux"])
def test_a_round_runs_from_the_host_to_three_artists_and_back(kind_of_model: str, saved: Saved, tmp_path: Path) -> None:
    def backbone() -> Backbone:
        return load(saved(kind_of_model), kind_of_model)

    def work(events: Iterator[Any]) -> list[Any]:
        return list(events)

    with MemoryRelay() as relay, ThreadPoolExecutor(4) as pool:
        host = Host("Studio", folder=tmp_path / "host", backbone=backbone())
        host.open_room(transport=relay.connect(host.identity), rounds=1, min_artists=3, local_steps=1, batch=2)
        sessions = [Session(name, folder=tmp_path / name, backbone=backbone()) for name in ("Ada", "Ben", "Cy")]
        for session in sessions:
            session.art = ArtSet.sample("fluent_ink", limit=4, size_px=32)
            session.join(transport=relay.connect(session.identity))
            session.consent.stand()
        running = [pool.submit(work, events) for events in (host.rounds(), *(s.rounds() for s in sessions))]
        for future in running:
            future.result(60)
    ada, ben, cy = (session.shared for session in sessions)
    assert ada.digest == ben.digest == cy.digest != initial_adapter(sessions[0].backbone, seed=0).digest
    assert any(np.abs(a).max() > 0 for name, a in ada.tensors.items() if ".lora_B." in name)
    assert ada.part == sessions[0].backbone.family.denoiser


def gradients(backbone: Backbone, data: Any) -> dict[str, torch.Tensor]:
    """Gradients of one fixed batch with respect to a fixed adapter."""
    adapter = random_adapter(backbone)
    with attached(backbone, [(adapter, 1.0)], trainable=0):
        generator = torch.Generator().manual_seed(0)
        eps = torch.randn(data.latents.shape, generator=generator)
        t = backbone.process.sample_t(len(data), generator)
        noisy = backbone.process.add_noise(data.latents, eps, t)
        predicted = backbone.predict(noisy, t, data.embeddings).float()
        (predicted - backbone.process.target(data.latents, eps, t)).square().mean().backward()
        learning = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
        assert {p.dtype for p in learning.values()} == {torch.float32}
        return {name: p.grad.clone() for name, p in learning.items() if p.grad is not None}


@pytest.mark.parametrize("kind_of_model", ["epsilon", "sd3", "flux"])
def test_gradient_checkpointing_gives_the_same_gradients(
    kind_of_model: str, saved: Saved, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(saved(kind_of_model), kind_of_model)
    saving = load(saved(kind_of_model), kind_of_model, gradient_checkpointing=True)
    data = latents_of(plain, pixels[:2], CAPTIONS[:2], list("ab"))
    expected = gradients(plain, data)
    calls = []
    again = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *a, **k: calls.append(1) or again(*a, **k))
    found = gradients(saving, data)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)
    assert saving.denoiser.is_gradient_checkpointing
    assert not plain.denoiser.is_gradient_checkpointing


@pytest.mark.parametrize(("kind_of_model", "dtype"), [("epsilon", torch.bfloat16), ("flux", torch.float16)])
def test_half_precision_weights_give_float32_adapters_nearly_the_same_gradients(
    kind_of_model: str, dtype: torch.dtype, saved: Saved, pixels: np.ndarray
) -> None:
    full, half = (load(saved(kind_of_model), kind_of_model, dtype=d) for d in (torch.float32, dtype))
    assert half.dtype == dtype
    expected, found = (gradients(b, latents_of(b, pixels[:2], CAPTIONS[:2], list("ab"))) for b in (full, half))
    a, b = (torch.cat([g[name].flatten() for name in sorted(expected)]) for g in (expected, found))
    assert torch.cosine_similarity(a, b, dim=0) > 0.98


@pytest.mark.parametrize(("kind_of_model", "dtype"), [("sdxl", torch.float16), ("sd3", torch.bfloat16)])
def test_training_and_drawing_work_in_half_precision(
    kind_of_model: str, dtype: torch.dtype, saved: Saved, pixels: np.ndarray
) -> None:
    backbone = load(saved(kind_of_model), kind_of_model, dtype=dtype)
    data = latents_of(backbone, pixels[:4], CAPTIONS, list("abcd"))
    assert data.embeddings.embeddings.dtype == dtype
    *_, trained = train(backbone, data, config=TrainConfig(steps=2, batch=2, seed=0, validate_every=0))
    assert {a.dtype for a in trained.adapter.tensors.values()} == {np.dtype(np.float32)}
    assert any(np.abs(a).max() > 0 for n, a in trained.adapter.tensors.items() if ".lora_B." in n)
    plain = draw(backbone, ["cat"], seeds=[1], steps=2)
    assert (plain != draw(backbone, ["cat"], seeds=[1], steps=2, adapters=[(random_adapter(backbone), 1.0)])).any()


def test_slices_and_tiles_of_the_autoencoder_change_pictures_little(saved: Saved) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    plain, slicing, tiling = (
        load(saved("epsilon"), "epsilon", size_px=64, **options)
        for options in ({}, {"vae_slicing": True}, {"vae_tiling": True})
    )
    z = plain.encode(pixels)
    assert z.shape == (2, *plain.latent_shape) == (2, 4, 16, 16)
    np.testing.assert_allclose(slicing.decode(slicing.encode(pixels)), plain.decode(z), atol=1)
    assert slicing.pipeline.vae.use_slicing
    tiled = tiling.decode(z)
    assert tiled.shape == pixels.shape
    difference = np.abs(tiled.astype(int) - plain.decode(z)).mean()
    assert 0 < difference < 30  # the tiles do not see each other, but they meet


def test_sizes_that_do_not_fit_the_latents_are_refused_with_the_step(saved: Saved) -> None:
    with pytest.raises(BackboneError, match=r"size_px is 37; .* multiples of 8 px"):
        load(saved("flux"), "flux", size_px=37)


def test_a_cache_that_would_not_fit_is_refused_before_anything_is_encoded(
    saved: Saved, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(saved("flux"), "flux")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**18))
    monkeypatch.setattr(backbone, "encode", lambda _: pytest.fail("pictures were encoded"))
    with pytest.raises(TrainingError, match=r"of 4 pictures need 0 MiB.*half"):
        latents_of(backbone, pixels[:4], CAPTIONS, list("abcd"))


def test_conditioning_is_cut_joined_and_mixed_row_by_row() -> None:
    def rows(n: int, value: float) -> Conditioning:
        return Conditioning(torch.full((n, 2, 3), value), torch.full((n, 3), value))

    both = Conditioning.cat([rows(2, 1.0), rows(1, 2.0)])
    assert len(both) == 3
    assert both[2:].pooled.tolist() == [[2.0] * 3]
    assert both.nbytes == 4 * (3 * 2 * 3 + 3 * 3)
    mixed = both.where(torch.tensor([True, False, True]), rows(1, 0.0))
    assert mixed.embeddings[:, 0, 0].tolist() == [1.0, 0.0, 2.0]
    assert mixed.pooled[:, 0].tolist() == [1.0, 0.0, 2.0]
    assert rows(1, 5.0).repeat(3).embeddings.shape == (3, 2, 3)
    assert both.time_ids is None


def test_an_unknown_family_is_refused_with_all_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "PixArtSigmaPipeline"}))
    with pytest.raises(BackboneError, match="PixArtSigmaPipeline, which this version does not drive") as refused:
        Backbone.from_pretrained(tmp_path)
    for known in ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline"):
        assert known in str(refused.value)


def test_a_part_that_is_only_pickled_is_refused_with_its_name(tmp_path: Path, saved: Saved) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved("sdxl"), folder)
    (folder / "text_encoder_2" / "model.safetensors").rename(folder / "text_encoder_2" / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"text_encoder_2/pytorch_model\.bin .* pickles"):
        load(folder, "sdxl")


def test_a_folder_with_one_variant_only_says_how_to_load_it(tmp_path: Path, saved: Saved) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved("epsilon"), folder)
    for weights in folder.glob("*/*.safetensors"):
        weights.rename(weights.with_suffix(".fp16.safetensors"))
    with pytest.raises(BackboneError, match="variant='fp16'"):
        load(folder, "epsilon")
    assert load(folder, "epsilon", variant="fp16").sha256 == load(saved("epsilon"), "epsilon").sha256


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(BackboneError, match=r"model_index\.json is damaged"):
        Backbone.from_pretrained(tmp_path)


def test_only_sd3_can_do_without_t5(saved: Saved) -> None:
    assert load(saved("sd3"), "sd3", t5=False).sha256 == load(saved("sd3-without-t5"), "sd3").sha256
    with pytest.raises(BackboneError, match="Leave t5 at True"):
        load(saved("flux"), "flux", t5=False)


def test_offloading_without_an_accelerator_is_refused(saved: Saved) -> None:
    with pytest.raises(BackboneError, match="choose device='cuda'"):
        load(saved("epsilon"), "epsilon", offload=True)


def test_the_eight_bit_optimiser_names_its_pip_line_when_absent(
    saved: Saved, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    backbone = load(saved("epsilon"), "epsilon")
    data = latents_of(backbone, pixels[:2], CAPTIONS[:2], list("ab"))
    with pytest.raises(MissingExtra, match=r'pip install "fedart-nb\[8bit\]"'):
        next(train(backbone, data, config=TrainConfig(eight_bit=True)))
    assert not hasattr(backbone.denoiser, "peft_config") or not backbone.denoiser.peft_config


def test_eight_bit_moments_survive_saving_and_resuming(saved: Saved, pixels: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    backbone = load(saved("epsilon"), "epsilon")
    data = latents_of(backbone, pixels[:4], CAPTIONS, list("abcd"))
    start = initial_adapter(backbone, AdapterConfig(rank=64, alpha=64.0))  # large enough for tensors in 8 bits
    config = TrainConfig(steps=4, batch=2, seed=1, validate_every=0, eight_bit=True)
    *_, through = train(backbone, data, config=config, start=start)
    events = train(backbone, data, config=config, start=start)
    next(events)
    state = next(events).state
    events.close()
    assert any(value.dtype == torch.uint8 for slots in state.moments["state"].values() for value in slots.values())
    state.save(tmp_path / "state")
    *_, resumed = train(backbone, data, config=config, resume=TrainState.load(tmp_path / "state"))
    for name, tensor in through.adapter.tensors.items():
        np.testing.assert_allclose(resumed.adapter.tensors[name], tensor, atol=1e-6)


def test_the_ordinary_optimiser_is_adamw_without_decay() -> None:
    optimiser = optimiser_of([[torch.nn.Parameter(torch.ones(2))]], learning_rate=0.1)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert optimiser.param_groups[0]["weight_decay"] == 0.0


def test_offloaded_networks_draw_and_train_as_they_do_in_place(saved: Saved, pixels: np.ndarray) -> None:
    plain, offloaded = (load(saved("schnell"), "schnell") for _ in range(2))
    offloaded.pipeline.enable_model_cpu_offload(device="cpu")  # the hooks of an accelerator, on the only device here
    adapter = random_adapter(plain)
    pictures = [draw(b, ["cat"], seeds=[1], steps=2, adapters=[(adapter, 1.0)]) for b in (plain, offloaded)]
    np.testing.assert_array_equal(*pictures)
    data = [latents_of(b, pixels[:2], CAPTIONS[:2], list("ab")) for b in (plain, offloaded)]
    torch.testing.assert_close(data[0].latents, data[1].latents)
    config = TrainConfig(steps=2, batch=2, seed=0, validate_every=0)
    start = initial_adapter(plain)
    ends = [list(train(b, d, config=config, start=start))[-1] for b, d in zip((plain, offloaded), data, strict=True)]
    assert ends[0].adapter.digest == ends[1].adapter.digest
