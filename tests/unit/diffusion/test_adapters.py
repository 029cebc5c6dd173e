"""Adapters: made, composed, saved, and loaded by plain diffusers with the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from fedart_nb.diffusion import Adapter, AdapterConfig, Backbone, attached, draw, initial_adapter
from fedart_nb.errors import AdapterError


def trained_like(backbone: Backbone, seed: int = 1) -> Adapter:
    """An adapter whose B is not zero, as after training."""
    adapter = initial_adapter(backbone, seed=seed)
    rng = np.random.default_rng(seed)
    tensors = {n: rng.normal(0, 0.2, a.shape).astype(np.float32) for n, a in adapter.tensors.items()}
    return Adapter(tensors, adapter.config, adapter.backbone_sha256)


def test_a_fresh_adapter_changes_no_pixel(backbone: Backbone) -> None:
    plain = draw(backbone, ["cat"], seeds=[1], steps=3)
    adapted = draw(backbone, ["cat"], seeds=[1], steps=3, adapters=[(initial_adapter(backbone), 1.0)])
    np.testing.assert_array_equal(plain, adapted)


def test_the_same_seed_gives_the_same_adapter(backbone: Backbone) -> None:
    assert initial_adapter(backbone, seed=3).digest == initial_adapter(backbone, seed=3).digest
    assert initial_adapter(backbone, seed=3).digest != initial_adapter(backbone, seed=4).digest


def test_what_two_adapters_differ_by_brings_the_one_to_the_other_and_the_rest_stays(backbone: Backbone) -> None:
    start, moved = initial_adapter(backbone), trained_like(backbone, 2)
    change = moved.minus(start)
    both = start.plus(change)
    for name, value in moved.tensors.items():
        np.testing.assert_allclose(both.tensors[name], value, atol=1e-6)
    name, delta = next(iter(change.items()))
    one = start.plus({name: delta})
    changed = [n for n in start.tensors if not np.array_equal(one.tensors[n], start.tensors[n])]
    assert [f"{start.part}.{n}" for n in changed] == [name]


def test_attention_and_up_convolutions_are_adapted_and_nothing_else(backbone: Backbone) -> None:
    modules = {name.split(".lora_")[0] for name in initial_adapter(backbone).tensors}
    assert any("attn2.to_k" in m for m in modules)
    assert any(m.endswith("conv1") for m in modules)
    assert not any(m.startswith("down_blocks") and "conv" in m for m in modules)


def test_plain_diffusers_loads_a_saved_adapter_and_draws_the_same_pixels(
    backbone: Backbone, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    adapter = trained_like(backbone)
    adapter.save(tmp_path)
    ours = draw(backbone, ["red cat", "dog"], seeds=[5, 6], steps=4, guidance=3.0, adapters=[(adapter, 1.0)])
    kind = "flow" if "DPM" in type(backbone.pipeline.scheduler).__name__ else "epsilon"
    plain = DiffusionPipeline.from_pretrained(saved(kind), safety_checker=None, requires_safety_checker=False)
    plain.load_lora_weights(tmp_path)
    theirs = plain(
        ["red cat", "dog"],
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(s) for s in (5, 6)],
        output_type="np",
    ).images
    np.testing.assert_allclose(ours, (theirs * 255).round(), atol=1)
    assert (ours != draw(backbone, ["red cat", "dog"], seeds=[5, 6], steps=4, guidance=3.0)).any()


def test_an_adapter_survives_saving_and_loading(backbone: Backbone, tmp_path: Path) -> None:
    adapter = trained_like(backbone)
    again = Adapter.load(adapter.save(tmp_path))
    assert again.digest == adapter.digest
    assert again.config == adapter.config
    assert again.backbone_sha256 == backbone.sha256


def test_weights_scale_what_an_adapter_does_and_adapters_add_up(backbone: Backbone) -> None:
    one, two = trained_like(backbone, 1), trained_like(backbone, 2)
    x, t = torch.randn(1, *backbone.latent_shape), torch.tensor([500])
    text = backbone.embed(["cat"])
    module = next(n for n in one.tensors if n.endswith("to_q.lora_A.weight")).removesuffix(".lora_A.weight")

    def output(*pairs: tuple[Adapter, float]) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        with attached(backbone, pairs), torch.no_grad():
            adapted = backbone.denoiser.get_submodule(module)
            handle = adapted.register_forward_hook(lambda m, i, o: seen.extend((i[0], o)))
            backbone.predict(x, t, text)
            handle.remove()
            return adapted(torch.ones_like(seen[0]))

    base = output()
    effect = {name: output(pair) - base for name, pair in {"one": (one, 1.0), "two": (two, 0.5)}.items()}
    torch.testing.assert_close(output((one, 1.0), (two, 0.5)) - base, effect["one"] + effect["two"])


def test_the_backbone_is_clean_after_use_even_when_it_failed(backbone: Backbone) -> None:
    names = set(dict(backbone.denoiser.named_parameters()))
    with pytest.raises(ZeroDivisionError), attached(backbone, [(trained_like(backbone), 1.0)], trainable=0):
        raise ZeroDivisionError
    assert set(dict(backbone.denoiser.named_parameters())) == names
    assert not any(p.requires_grad for p in backbone.denoiser.parameters())


def test_only_the_trainable_adapter_gets_gradients(backbone: Backbone) -> None:
    frozen, learning = trained_like(backbone, 1), trained_like(backbone, 2)
    with attached(backbone, [(frozen, 1.0), (learning, 1.0)], trainable=1) as names:
        asked = {n for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
    assert asked
    assert all(f".{names[1]}." in n for n in asked)


def test_an_adapter_of_another_backbone_is_refused_with_both_hashes(backbone: Backbone) -> None:
    adapter = trained_like(backbone)
    foreign = Adapter(adapter.tensors, adapter.config, "0" * 64)
    with pytest.raises(AdapterError, match="000000000000"), attached(backbone, [(foreign, 1.0)]):
        pass


def test_a_second_job_on_a_busy_backbone_is_told_to_wait(backbone: Backbone) -> None:
    with (
        attached(backbone, [(trained_like(backbone), 1.0)]),
        pytest.raises(AdapterError, match="busy"),
        attached(backbone, []),
    ):
        pass


@pytest.mark.parametrize("rank", [0, 129])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(AdapterError, match=f"rank is {rank}"):
        AdapterConfig(rank=rank)


def test_targets_that_match_nothing_are_refused(backbone: Backbone) -> None:
    with pytest.raises(AdapterError, match="nonsense"):
        initial_adapter(backbone, AdapterConfig(targets="nonsense"))


def test_damaged_bytes_are_refused(backbone: Backbone) -> None:
    data = trained_like(backbone).to_bytes()
    for damaged in (b"", data[:100], b"\xff" * 64, data[:-4]):
        with pytest.raises(AdapterError):
            Adapter.from_bytes(damaged)


def test_an_adapter_with_nan_is_refused(backbone: Backbone) -> None:
    adapter = trained_like(backbone)
    name = next(iter(adapter.tensors))
    broken = {**adapter.tensors, name: np.full_like(adapter.tensors[name], np.nan)}
    with pytest.raises(AdapterError, match="not finite"):
        Adapter.from_bytes(Adapter(broken, adapter.config, adapter.backbone_sha256).to_bytes())
