"""Training adapters: it learns, it can be stopped and resumed exactly, and it leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fedart_nb.diffusion import (
    AdapterConfig,
    Backbone,
    LatentSet,
    TrainConfig,
    TrainState,
    denoising_loss,
    initial_adapter,
    train,
)
from fedart_nb.diffusion.adapters import read_adapter
from fedart_nb.diffusion.process import Diffusion, Process, RectifiedFlow
from fedart_nb.errors import AdapterError, BackboneError, TrainingError
from fedart_nb.events import Sampled, SampleStep, Step, Trained


def test_training_lowers_the_loss_on_the_pictures_it_saw(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=60, batch=6, learning_rate=5e-3, seed=0, validate_every=20)
    *steps, trained = train(backbone, data, config=config, start=initial_adapter(backbone), held_out=data)
    assert isinstance(trained, Trained)
    assert trained.loss_before is not None
    assert trained.loss_after is not None
    assert trained.loss_after < 0.97 * trained.loss_before
    assert [s.index for s in steps if isinstance(s, Step)] == list(range(1, 61))
    assert denoising_loss(backbone, data, [(trained.adapter, 1.0)]) == pytest.approx(trained.loss_after, rel=1e-4)


def test_stopped_and_resumed_equals_run_through(backbone: Backbone, data: LatentSet, tmp_path: Path) -> None:
    config = TrainConfig(steps=8, batch=4, seed=1, validate_every=0)
    start = initial_adapter(backbone)
    *_, through = train(backbone, data, config=config, start=start)
    events = train(backbone, data, config=config, start=start)
    third = list(islice(events, 3))[-1]
    events.close()
    third.state.save(tmp_path / "state")
    *_, resumed = train(backbone, data, config=config, resume=TrainState.load(tmp_path / "state"))
    for name, tensor in through.adapter.tensors.items():
        np.testing.assert_allclose(resumed.adapter.tensors[name], tensor, atol=1e-6)


def test_a_state_is_a_snapshot_that_later_steps_do_not_change(backbone: Backbone, data: LatentSet) -> None:
    events = train(
        backbone, data, config=TrainConfig(steps=5, seed=0, validate_every=0), start=initial_adapter(backbone)
    )
    first = next(events)
    digest = first.state.adapter.digest
    for _ in events:
        pass
    assert first.state.adapter.digest == digest


def test_stopping_leaves_the_backbone_as_it_was(backbone: Backbone, data: LatentSet) -> None:
    def names() -> set[str]:  # peft leaves its `.base_layer` in names
        return {name.replace(".base_layer", "") for name, _ in backbone.denoiser.named_parameters()}

    before = names()
    events = train(backbone, data, config=TrainConfig(steps=5, validate_every=0))
    next(events)
    events.close()
    assert names() == before


@pytest.mark.parametrize("half", ["0", "1"])
def test_a_step_s_adapter_is_what_the_network_holds(
    backbone: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch, half: str
) -> None:
    monkeypatch.setenv("FEDART_BF16", half)
    events = train(backbone, data, config=TrainConfig(steps=2, seed=0, validate_every=0))
    adapter = next(events).state.adapter
    held = read_adapter(backbone, "adapter_0", adapter.config)
    assert {p.dtype for p in backbone.denoiser.parameters()} == {torch.float32}
    events.close()
    assert held.tensors.keys() == adapter.tensors.keys()
    assert held.digest == adapter.digest


def test_bfloat16_steps_reach_the_held_out_loss_of_float32_ones_and_leave_the_network_as_it_was(
    backbone: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig(steps=25, batch=6, learning_rate=5e-3, seed=0, validate_every=25)
    start = initial_adapter(backbone)
    processors = {name: type(p) for name, p in backbone.denoiser.attn_processors.items()}
    before = denoising_loss(backbone, data)
    ended, digests = {}, {}
    for half in ("0", "1"):
        monkeypatch.setenv("FEDART_BF16", half)
        *_, trained = train(backbone, data, config=config, start=start, held_out=data)
        ended[half], digests[half] = trained.loss_after, trained.adapter.digest
    assert digests["0"] != digests["1"], "the two ways computed the same numbers: bfloat16 was not in force"
    assert ended["1"] == pytest.approx(ended["0"], abs=0.1 * (before - ended["0"]))
    assert {name: type(p) for name, p in backbone.denoiser.attn_processors.items()} == processors
    assert denoising_loss(backbone, data) == before


def test_stopped_and_resumed_is_exact_in_bfloat16_too(
    backbone: Backbone, data: LatentSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDART_BF16", "1")
    config, start = TrainConfig(steps=6, batch=4, seed=1, validate_every=0), initial_adapter(backbone)
    *_, through = train(backbone, data, config=config, start=start)
    events = train(backbone, data, config=config, start=start)
    third = list(islice(events, 3))[-1]
    events.close()
    third.state.save(tmp_path / "state")
    *_, resumed = train(backbone, data, config=config, resume=TrainState.load(tmp_path / "state"))
    assert resumed.adapter.digest == through.adapter.digest


def test_gradients_begin_at_the_first_module_that_the_adapter_touches(backbone: Backbone, data: LatentSet) -> None:
    seen: dict[str, bool] = {}
    hooks = [
        module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o.requires_grad}))
        for name, module in backbone.denoiser.named_children()
        if name in {"conv_in", "time_embedding", "conv_out"}
    ]
    events = train(backbone, data, config=TrainConfig(steps=1, seed=0, validate_every=0))
    next(events)
    events.close()
    for hook in hooks:
        hook.remove()
    assert seen == {"conv_in": False, "time_embedding": False, "conv_out": True}


def test_frozen_adapters_act_but_do_not_learn(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=3, seed=0, validate_every=0)
    *_, shared = train(backbone, data, config=config, start=initial_adapter(backbone, seed=1))
    digest = shared.adapter.digest
    *_, personal = train(
        backbone, data, config=config, start=initial_adapter(backbone, seed=2), frozen=[(shared.adapter, 1.0)]
    )
    assert shared.adapter.digest == digest != personal.adapter.digest


def test_without_a_seed_two_trainings_differ(backbone: Backbone, data: LatentSet) -> None:
    config, start = TrainConfig(steps=2, validate_every=0), initial_adapter(backbone)
    runs = [list(train(backbone, data, config=config, start=start))[-1] for _ in range(2)]
    assert runs[0].adapter.digest != runs[1].adapter.digest


def test_a_loss_that_explodes_stops_with_the_learning_rate_in_the_message(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=5, learning_rate=1e-3, seed=0, validate_every=0)
    broken = LatentSet(data.latents * float("inf"), data.embeddings, data.empty, data.ids)
    with pytest.raises(TrainingError, match=r"Lower the learning rate \(0\.001\)"):
        list(train(backbone, broken, config=config, start=initial_adapter(backbone)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch", 0), ("learning_rate", 2.0), ("caption_dropout", 1.0), ("timestep_shift", 0.0)],
)
def test_impossible_settings_are_refused_with_their_value(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name} is {value}"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("law", [RectifiedFlow(), Diffusion(torch.linspace(0.99, 0.01, 1000), "epsilon")])
def test_a_timestep_shift_draws_more_of_the_noisy_timesteps_and_none_beyond_the_schedule(law: Process) -> None:
    plain, shifted = (law.sample_t(20_000, torch.Generator().manual_seed(0), shift) for shift in (1.0, 3.0))
    moved = 3 * (plain / 1000) / (1 + 2 * plain / 1000) * 1000
    assert torch.allclose(shifted.float(), moved.float(), atol=1.0)
    assert shifted.min() >= 0
    assert shifted.max() <= (999 if isinstance(law, Diffusion) else 1000)


def test_training_uses_the_shift(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=2, seed=0, validate_every=0)
    plain, shifted = (
        [e.loss for e in train(backbone, data, config=c) if isinstance(e, Step)]
        for c in (config, replace(config, timestep_shift=5.0))
    )
    assert plain != shifted


def test_emphasis_makes_the_finished_adapter_stronger_by_so_much_and_leaves_training_alone(
    backbone: Backbone, data: LatentSet
) -> None:
    plain = TrainConfig(steps=4, batch=4, seed=0, validate_every=0)
    start = initial_adapter(backbone)
    *_, last, usual = train(backbone, data, config=plain, start=start)
    *_, strong = train(backbone, data, config=replace(plain, emphasis=1.5), start=start)
    assert isinstance(last, Step)
    assert strong.adapter.digest == usual.adapter.digest == last.state.adapter.digest
    assert denoising_loss(backbone, data, [(strong.adapter, 1.0)]) == pytest.approx(
        denoising_loss(backbone, data, [(usual.adapter, 1.5)]), rel=1e-6
    )


def test_the_loss_that_is_told_at_the_end_is_that_of_the_adapter_handed_out(
    backbone: Backbone, data: LatentSet
) -> None:
    config = TrainConfig(steps=4, batch=4, seed=0, validate_every=2, emphasis=1.5)
    *_, last, trained = train(backbone, data, config=config, held_out=data, start=initial_adapter(backbone))
    handed = denoising_loss(backbone, data, [(trained.adapter, 1.0)])
    assert trained.loss_after == pytest.approx(handed, rel=1e-6)
    assert last.held_out_loss != pytest.approx(handed, rel=1e-6), "the curve is of the adapter as it was trained"


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"not a state")
    with pytest.raises(TrainingError, match="start anew"):
        TrainState.load(tmp_path / "state")


def test_sampling_yields_every_step_previews_and_the_pictures(backbone: Backbone) -> None:
    from fedart_nb.diffusion import sample

    *steps, last = sample(backbone, ["cat", "dog"], seeds=[1, 2], steps=4, preview_every=2)
    assert [s.index for s in steps] == [1, 2, 3, 4]
    assert all(isinstance(s, SampleStep) for s in steps)
    assert steps[1].previews.shape == (2, 8, 8, 3)
    assert isinstance(last, Sampled)
    assert last.pictures.shape == (2, 32, 32, 3)


def test_the_same_seed_gives_the_same_picture_whatever_is_drawn_beside_it(backbone: Backbone) -> None:
    from fedart_nb.diffusion import draw

    alone = draw(backbone, ["cat"], seeds=[7], steps=3)
    beside = draw(backbone, ["dog", "cat"], seeds=[3, 7], steps=3)
    np.testing.assert_allclose(alone[0].astype(int), beside[1], atol=1)


def test_prompts_and_seeds_that_do_not_pair_up_are_refused(backbone: Backbone) -> None:
    from fedart_nb.diffusion import sample

    with pytest.raises(BackboneError, match="2 prompts and 3 seeds"):
        next(sample(backbone, ["cat", "dog"], seeds=[1, 2, 3]))


@pytest.mark.parametrize("validate_every", [0, 3])
def test_a_training_that_its_last_step_ruined_ends_with_an_error(
    backbone: Backbone, data: LatentSet, validate_every: int
) -> None:
    start = initial_adapter(backbone)
    huge = {name: np.full_like(value, 1e6) for name, value in start.tensors.items()}
    config = TrainConfig(steps=3, batch=2, seed=0, learning_rate=1.0, warmup=0, validate_every=validate_every)
    events, seen = train(backbone, data, config=config, start=replace(start, tensors=huge), held_out=data), []
    with pytest.raises(TrainingError, match=r"out of control.*Lower the learning rate \(1\)"):
        seen.extend(events)
    assert not any(isinstance(event, Trained) for event in seen)


def test_an_emphasis_that_makes_alpha_too_large_is_found_before_training(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone, AdapterConfig(rank=1, alpha=1000.0))
    with pytest.raises(AdapterError, match="alpha"):
        next(iter(train(backbone, data, config=TrainConfig(steps=2, emphasis=1.2), start=start)))


def test_without_a_longest_gradient_nothing_is_clipped(backbone: Backbone, data: LatentSet) -> None:
    start = initial_adapter(backbone)
    ended = {}
    for longest in (None, float("inf"), 1e-6):
        config = TrainConfig(steps=2, batch=2, seed=0, max_grad_norm=longest, validate_every=0)
        *_, last = train(backbone, data, config=config, start=start)
        ended[longest] = last.adapter.digest
    assert ended[None] == ended[float("inf")] != ended[1e-6]


def test_a_saved_state_that_was_damaged_is_refused_in_words(
    backbone: Backbone, data: LatentSet, tmp_path: Path
) -> None:
    third = next(iter(train(backbone, data, config=TrainConfig(steps=2, batch=2, validate_every=0))))
    third.state.save(tmp_path / "state")
    with safe_open(tmp_path / "state", "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    damages: list[tuple[dict[str, torch.Tensor], dict[str, str]]] = [
        ({**tensors, "generator": torch.zeros(7, dtype=torch.uint8)}, about),
        ({**tensors, "adapter": torch.zeros(7, dtype=torch.uint8)}, about),
        (tensors, {"fedart": "[" * 100_000}),
        (tensors, {"fedart": "7"}),
        ({**tensors, "moments.0.1.2.3": torch.zeros(1)}, about),
    ]
    for changed, told in damages:
        save_file(changed, tmp_path / "damaged", metadata=told)
        with pytest.raises(TrainingError, match="Cannot resume"):
            TrainState.load(tmp_path / "damaged")
    shapes = {name: torch.zeros(3) if "exp_avg" in name else value for name, value in tensors.items()}
    save_file(shapes, tmp_path / "shapes", metadata=about)
    with pytest.raises(TrainingError, match="does not fit"):
        list(train(backbone, data, resume=TrainState.load(tmp_path / "shapes")))
