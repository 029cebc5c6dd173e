"""The cores of benchmarks: the reproduced example loop learns, counts equal what is really allocated."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import build

from fedart_nb.diffusion import Backbone, TrainConfig, initial_adapter

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    """Import a benchmark by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(build("flow"), name="tiny")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(path)
    return paths


def test_the_example_s_pictures_arrive_as_its_transforms_make_them(
    bench, backbone: Backbone, files: list[Path]
) -> None:
    item = bench("training").PictureFiles(files, ["red cat"] * 4, backbone.pipeline.tokenizer, 32)[0]
    assert item["pixel_values"].shape == (3, 32, 32)
    assert -1 <= item["pixel_values"].min() < -0.9
    assert 0.9 < item["pixel_values"].max() <= 1
    row = np.array(Image.open(files[0]))[0].transpose(1, 0) / 127.5 - 1
    crops = [row[:, left : left + 32] for left in range(9)]
    got = item["pixel_values"][:, 0].numpy()
    assert any(np.allclose(got, c, atol=1e-6) or np.allclose(got, c[:, ::-1], atol=1e-6) for c in crops)


def test_the_example_s_loop_learns_and_leaves_no_adapter_behind(bench, backbone: Backbone, files: list[Path]) -> None:
    torch.manual_seed(0)
    config = TrainConfig(steps=3, batch=2, learning_rate=1e-2, validate_every=0)
    start = initial_adapter(backbone)
    steps = bench("training").example_steps(backbone, files, ["cat", "dog", "red cat", "dog"], start, config)
    next(steps)
    moved = [p for n, p in backbone.pipeline.unet.named_parameters() if "lora_B" in n]
    assert moved
    assert all(p.abs().max() > 0 for p in moved)
    assert len(list(steps)) == 2
    assert not any("lora_" in name or p.requires_grad for name, p in backbone.pipeline.unet.named_parameters())


def test_step_times_leave_out_the_warm_up(bench) -> None:
    training = bench("training")
    clock = iter([0.0, 5.0, 6.0, 8.0, 9.0, 11.0]).__next__
    assert training.step_times(iter([0.0] * (training.WARM_UP + 2)), clock) == [1.0, 2.0]


def tiny_unet(device: str):
    small = build("flow").unet
    with torch.device(device):
        unet = type(small).from_config(small.config)
    return unet.requires_grad_(False)


def test_activations_counted_on_meta_are_those_that_a_real_backward_pass_keeps(bench) -> None:
    shapes = bench("real_shapes")
    counted = []
    for device in ("meta", "cpu"):
        unet = tiny_unet(device)
        shapes.add_adapter(unet, 2, shapes.TARGETS["attention"])
        arguments = shapes.inputs(unet, None, 2, device, torch.float32)
        counted.append(shapes.activation_bytes(unet, arguments, checkpointing=False))
    assert counted[0] == counted[1] > 0


def test_checkpointing_keeps_less_and_a_larger_batch_keeps_more(bench) -> None:
    shapes = bench("real_shapes")
    unet = tiny_unet("meta")
    shapes.add_adapter(unet, 2, shapes.TARGETS["attention"])

    def kept(batch: int, *, checkpointing: bool) -> int:
        arguments = shapes.inputs(unet, None, batch, "meta", torch.float32)
        return shapes.activation_bytes(unet, arguments, checkpointing=checkpointing)

    assert kept(2, checkpointing=True) < kept(2, checkpointing=False)
    assert kept(4, checkpointing=False) == pytest.approx(2 * kept(2, checkpointing=False), rel=0.1)
    assert not unet.is_gradient_checkpointing


def test_an_update_s_size_grows_in_proportion_to_its_rank_and_the_network_is_left_alone(bench) -> None:
    shapes = bench("real_shapes")
    unet = tiny_unet("meta")
    two, four = (shapes.trainable(unet, rank, shapes.TARGETS["attention"]) for rank in (2, 4))
    more = shapes.trainable(unet, 2, shapes.TARGETS["attention_and_up_convolutions"])
    assert 0 < 2 * two == four
    assert more > two
    assert not any("lora" in name or p.requires_grad for name, p in unet.named_parameters())


def test_a_private_step_moves_the_adapter_by_clipped_noised_gradients(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = bench("real_shapes")
    monkeypatch.setattr(shapes, "NOISE_MULTIPLIER", 0.0)
    torch.manual_seed(0)
    unet = tiny_unet("cpu")
    learning = shapes.add_adapter(unet, 2, shapes.TARGETS["attention"])
    arguments = shapes.inputs(unet, None, 3, "cpu", torch.float32)
    before = [p.detach().clone() for p in learning]
    monkeypatch.setattr(shapes, "CLIP_NORM", 1e-3)
    times, peak = shapes.timed(shapes.private_step, unet, learning, arguments, 1)
    assert len(times) == 1
    assert peak == 0
    norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in learning]))
    assert 0 < norm <= 1e-3 * 1.001
    assert any(not torch.equal(a, b) for a, b in zip(before, learning, strict=True))


def test_the_real_denoisers_have_their_published_sizes_and_a_wrong_one_is_refused(bench) -> None:
    shapes = bench("real_shapes")
    unet = shapes.build(shapes.SHAPES["sd15"], "meta")
    assert all(p.is_meta for p in unet.parameters())
    wrong = shapes.Shape(dict(shapes.SHAPES["sd15"].config, cross_attention_dim=1024), 859.5)
    with pytest.raises(AssertionError, match=r"published are 859\.5 M"):
        shapes.build(wrong, "meta")
    lines = shapes.counted("sd15", shapes.SHAPES["sd15"], (4,), ())
    assert [line["value"] for line in lines] == [4 * line["baseline"]["parameters"] for line in lines]
    assert json.loads(json.dumps(lines)) == lines
    assert lines[0]["value"] == 4 * 797_184  # rank 4 on the attention projections, as diffusers' example trains


def test_all_three_ways_of_a_private_benchmark_take_their_steps_and_leave_no_adapter_behind(
    bench, backbone: Backbone, files: list[Path]
) -> None:
    from fedart_nb.diffusion.latents import latents_of

    pixels = np.stack([np.array(Image.open(file).resize((32, 32))) for file in files])
    data = latents_of(backbone, pixels, ["cat", "dog", "red cat", "dog"], list("abcd"))
    found = bench("privacy_step").compare(backbone, data, steps=1, repetitions=1)
    assert all(len(times) == 1 and times[0] > 0 for times in found.values())
    assert not any("lora_" in name or p.requires_grad for name, p in backbone.pipeline.unet.named_parameters())
