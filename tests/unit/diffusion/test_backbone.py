"""Loading a pipeline, and what a backbone says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fedart_nb.diffusion import Backbone
from fedart_nb.errors import BackboneError
from fedart_nb.jobs import Job


def test_pictures_become_latents_of_the_announced_shape_and_back(backbone: Backbone, pixels: np.ndarray) -> None:
    latents = backbone.encode(pixels)
    assert latents.shape == (6, *backbone.latent_shape)
    assert backbone.decode(latents).shape == pixels.shape
    assert backbone.decode(latents).dtype == np.uint8


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_a_cancel_among_many_pictures_is_heard_within_one_batch(backbone: Backbone, way: str) -> None:
    many = 10_000
    begun = []

    def cancels(*_: object) -> None:
        begun.append(1)
        job.cancel()

    def events() -> Iterator[object]:
        yield "begins"
        if way == "encode":
            yield backbone.encode(np.zeros((many, 32, 32, 3), np.uint8))
        else:
            yield backbone.decode(torch.zeros((many, *backbone.latent_shape)))

    job = Job(events(), name=way)
    vae = backbone.pipeline.vae
    with (vae.encoder if way == "encode" else vae.decoder).register_forward_pre_hook(cancels):
        job.start().wait(60)
    assert job.state == "cancelled"
    assert (len(begun), job.last) == (1, "begins")


def test_nothing_of_the_backbone_learns(backbone: Backbone) -> None:
    parts = (backbone.denoiser, backbone.pipeline.vae, backbone.pipeline.text_encoder)
    assert not any(p.requires_grad for part in parts for p in part.parameters())


def test_the_same_folder_gives_the_same_hash_and_another_weight_another(backbone: Backbone, saved: object) -> None:
    again = Backbone(backbone.pipeline, name="again")
    assert again.sha256 == backbone.sha256
    weight = next(backbone.denoiser.parameters())
    before = weight.detach().clone()
    try:
        weight.data += 1e-3
        assert Backbone(backbone.pipeline, name="changed").sha256 != backbone.sha256
    finally:
        weight.data.copy_(before)


def test_a_caption_is_read_in_the_words_that_the_text_encoder_knows(backbone: Backbone) -> None:
    understood = backbone.understand("Red cats with umbrella")
    assert understood.text == "red cat"
    assert [r.word for r in understood.readings if r.how == "ignored"] == ["with", "umbrella"]


def test_a_folder_without_a_pipeline_is_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("x")
    with pytest.raises(BackboneError, match=r"model_index\.json is missing \(found: holiday\.txt\)"):
        Backbone.from_pretrained(tmp_path)


def test_an_unknown_family_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KandinskyPipeline"}))
    with pytest.raises(BackboneError, match="KandinskyPipeline"):
        Backbone.from_pretrained(tmp_path)


def test_weights_that_are_not_safetensors_are_refused(tmp_path: Path, saved: object) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(saved("flow"), folder)  # type: ignore[operator]
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(BackboneError, match="safetensors"):
        Backbone.from_pretrained(folder)


def test_a_hub_id_that_is_not_there_names_the_id() -> None:
    with pytest.raises(BackboneError, match="nobody/nothing"):
        Backbone.from_pretrained("nobody/nothing", local_files_only=True)


def test_noise_and_target_recover_the_clean_latents(backbone: Backbone) -> None:
    x0, eps = torch.randn(5, 4, 8, 8), torch.randn(5, 4, 8, 8)
    t = backbone.process.stratified_t(5, 0.5)
    noisy = backbone.process.add_noise(x0, eps, t)
    assert noisy.shape == x0.shape
    assert (noisy[0] - x0[0]).abs().mean() < (noisy[-1] - x0[-1]).abs().mean()
