"""Private training: every picture clipped by itself, noise as promised, samples as accounted, paid for beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedart_nb.art import ArtSet
from fedart_nb.crypto.random_streams import SecureRandom
from fedart_nb.diffusion import (
    ATTENTION,
    ATTENTION_AND_UP_CONVOLUTIONS,
    AdapterConfig,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    TrainState,
    attached,
    cache_latents,
    denoising_loss,
    initial_adapter,
    latents_of,
    train,
)
from fedart_nb.diffusion.adapters import Adapter
from fedart_nb.diffusion.dp_sgd import PrivateStep
from fedart_nb.diffusion.per_picture import PerPicture
from fedart_nb.diffusion.training import _error
from fedart_nb.errors import BudgetExceeded, PrivacyError
from fedart_nb.events import Step, Trained
from fedart_nb.privacy.accounting import Gaussian
from fedart_nb.privacy.ledger import Budget, Ledger

CONVOLUTIONS = r"up_blocks\.\d+\.resnets\.\d+\.(conv1|conv2)"
DOWN = r".*\.downsamplers\.0\.conv|.*\.upsamplers\.0\.conv|conv_in"  # strides of two, and three channels
QUICK = TrainConfig(steps=3, batch=3, validate_every=0)


def awake(backbone: Backbone, targets: str = "") -> Adapter:
    """An adapter whose A and B both have gradients: B of a fresh one is zero, and so is A's gradient."""
    fresh = initial_adapter(backbone, AdapterConfig(targets=targets))
    rng = np.random.default_rng(0)
    tensors = {name: array + rng.normal(0, 0.05, array.shape).astype("f4") for name, array in fresh.tensors.items()}
    return replace(fresh, tensors=tensors)


def loss_of_rows(backbone: Backbone, data: LatentSet, rows: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Denoising losses whose noise and timestep depend on the row alone, so that a loop by hand sees the same."""
    generator = torch.Generator().manual_seed(3)
    eps = torch.randn((rows, *data.latents.shape[1:]), generator=generator)
    t = backbone.process.sample_t(rows, generator)

    def losses(index: torch.Tensor, row: torch.Tensor | None = None) -> torch.Tensor:
        row = torch.arange(len(index)) if row is None else row
        return _error(backbone, data.latents[index], data.embeddings[index], t[row], eps[row])

    return losses


def by_hand(
    learning: dict[str, torch.nn.Parameter],
    losses: Callable[..., torch.Tensor],
    pictures: int,
    draws: int,
    clip_norm: float,
) -> tuple[torch.Tensor, list[float]]:
    """The clipped sum, one picture and one draw after the other, by plain autograd; and the norms before clipping."""
    total, norms = torch.zeros(sum(p.numel() for p in learning.values())), []
    for picture in range(pictures):
        rows = range(picture * draws, (picture + 1) * draws)
        loss = sum(losses(torch.tensor([picture]), torch.tensor([row])).sum() for row in rows) / draws
        flat = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(learning.values()))])
        norms.append(float(flat.norm()))
        total += flat * min(1.0, clip_norm / norms[-1])
    return total, norms


def compared(
    backbone: Backbone, data: LatentSet, adapter: Adapter, draws: int, *, at_once: int = 64, passes: Any = 1
) -> float:
    """Relative difference between one noise-free private step's gradient and the sum that was clipped by hand."""
    pictures = len(data)
    with attached(backbone, [(adapter, 1.0)], trainable=0):
        learning = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
        losses = loss_of_rows(backbone, data, pictures * draws)
        _, norms = by_hand(learning, losses, pictures, draws, math.inf)
        clip_norm = float(np.median(norms))  # so that some are clipped and some are not
        hand, _ = by_hand(learning, losses, pictures, draws, clip_norm)
        private = PrivateTraining(0.0, clip_norm=clip_norm, draws=draws, rows_at_once=at_once, passes=passes)
        done = 0

        def rows_in_turn(index: torch.Tensor) -> torch.Tensor:
            nonlocal done
            done += len(index)
            return losses(index, torch.arange(done - len(index), done))

        with PerPicture(backbone.denoiser, learning).watching() as gradients:
            step = PrivateStep(gradients, private, pictures=pictures, batch=pictures)
            _, told = step(rows_in_turn)
        ours = torch.cat([p.grad.flatten() for p in learning.values() if p.grad is not None]) * pictures
        assert told.values == pytest.approx(norms, rel=1e-4)
        assert 0 < told.clipped < 1
        assert hand.norm() > 0
        return float((ours - hand).norm() / hand.norm())


@pytest.mark.parametrize("targets", [ATTENTION, CONVOLUTIONS, DOWN, ATTENTION_AND_UP_CONVOLUTIONS])
@pytest.mark.parametrize("draws", [1, 3])
def test_a_step_without_noise_is_the_sum_clipped_by_hand(
    backbone: Backbone, data: LatentSet, targets: str, draws: int
) -> None:
    assert compared(backbone, data, awake(backbone, targets), draws) < 1e-5


def test_a_large_sample_in_parts_gives_the_same_sum(backbone: Backbone, data: LatentSet) -> None:
    assert compared(backbone, data, awake(backbone), 2, at_once=4) < 1e-5


@pytest.mark.parametrize("targets", [ATTENTION, CONVOLUTIONS, DOWN, ATTENTION_AND_UP_CONVOLUTIONS])
def test_two_passes_back_give_the_same_sum(backbone: Backbone, data: LatentSet, targets: str) -> None:
    assert compared(backbone, data, awake(backbone, targets), 2, passes=2) < 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_passes_give_what_one_gives_on_a_network_like_stable_diffusions(
    saved: Callable[[str], Path], pixels: np.ndarray, checkpointing: bool
) -> None:
    folder = saved("epsilon")
    backbone = Backbone.from_pretrained(folder, device="cpu", gradient_checkpointing=checkpointing)
    data = latents_of(backbone, pixels[:4], ["cat", "dog", "cat", "dog"], list("abcd"))
    backbone.denoiser.train()  # checkpoints are taken in training alone
    for targets in (ATTENTION, CONVOLUTIONS):
        assert compared(backbone, data, awake(backbone, targets), 2, passes=2) < 1e-5


def test_two_passes_hold_no_gradients_by_picture(backbone: Backbone, data: LatentSet) -> None:
    with attached(backbone, [(awake(backbone), 1.0)], trainable=0):
        learning = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
        losses = loss_of_rows(backbone, data, len(data))
        with PerPicture(backbone.denoiser, learning).watching() as gradients:
            private = PrivateTraining(0.0, passes=2)
            PrivateStep(gradients, private, pictures=len(data), batch=len(data))(losses)
    assert gradients.rows.numel() == 0
    assert gradients.total.shape == (gradients.size,)


def test_a_second_pass_that_gives_other_gradients_than_the_first_is_refused() -> None:
    layer = torch.nn.Linear(4, 1, bias=False)
    gradients = PerPicture(layer, dict(layer.named_parameters()))
    x = torch.ones(2, 4)
    passes = iter((1.0, 3.0))

    class Louder(torch.autograd.Function):
        """Its gradient is three times as large the second time."""

        @staticmethod
        def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return g * next(passes)

    step = PrivateStep(gradients, PrivateTraining(0.0, clip_norm=0.5, passes=2), pictures=2, batch=2)
    with gradients.watching(), pytest.raises(PrivacyError, match="differ"):
        step(lambda index: Louder.apply(layer(x[index])[:, 0]))


@pytest.mark.parametrize("targets", [ATTENTION, CONVOLUTIONS])
def test_the_same_holds_on_the_embedded_pipeline(targets: str) -> None:
    embedded = Backbone.embedded(device="cpu")
    data = cache_latents(embedded, ArtSet.sample("openmoji", limit=4), None)
    assert compared(embedded, data, awake(embedded, targets), 2) < 1e-5


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux"])
def test_every_family_can_be_trained_picture_by_picture(
    saved: Callable[[str], Path], pixels: np.ndarray, kind: str
) -> None:
    backbone = Backbone.from_pretrained(saved(kind), device="cpu")
    data = latents_of(backbone, pixels[:4], ["cat", "dog", "cat", "dog"], list("abcd"))
    assert compared(backbone, data, awake(backbone), 2) < 1e-4


def test_gradients_by_picture_are_those_of_opacus_hooks(backbone: Backbone, data: LatentSet) -> None:
    from opacus.grad_sample import GradSampleHooks

    with attached(backbone, [(awake(backbone), 1.0)], trainable=0):
        learning = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
        losses = loss_of_rows(backbone, data, len(data))
        with PerPicture(backbone.denoiser, learning).watching() as gradients:
            gradients.begin(pictures=len(data))
            losses(torch.arange(len(data))).sum().backward()
            gradients.check()
            ours = gradients.rows
        backbone.denoiser.train()
        hooks = GradSampleHooks(backbone.denoiser, loss_reduction="sum")
        losses(torch.arange(len(data))).sum().backward()
        theirs = torch.cat([p.grad_sample.flatten(1) for p in learning.values()], dim=1)
        hooks.cleanup() if hasattr(hooks, "cleanup") else hooks.remove_hooks()
        backbone.denoiser.eval()
        for p in learning.values():
            for left in ("grad_sample", "_forward_counter"):
                p.__dict__.pop(left, None)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-5


@pytest.mark.parametrize("passes", [1, 2])
def test_bfloat16_steps_clip_what_they_computed(
    backbone: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch, passes: Any
) -> None:
    monkeypatch.setenv("FEDART_BF16", "1")
    private = PrivateTraining(1.0, passes=passes)
    step = next(train(backbone, data, config=QUICK, start=awake(backbone), private=private))
    assert isinstance(step, Step)
    assert all(math.isfinite(value) for value in step.norms.values)


class Fixed(SecureRandom):
    """Chooses whom a test wants."""

    def __init__(self, pictures: list[int]) -> None:
        super().__init__()
        self.pictures = pictures

    def chosen(self, n: int, rate: float) -> Any:
        return np.isin(np.arange(n), self.pictures)


class Room:
    """A private step over a plain linear layer: what the whole mechanism does is seen in its gradient."""

    def __init__(self, private: PrivateTraining, pictures: np.ndarray, batch: int, random: SecureRandom | None) -> None:
        self.layer = torch.nn.Linear(pictures.shape[1], 1, bias=False)
        self.x = torch.from_numpy(pictures.astype("f4"))
        self.gradients = PerPicture(self.layer, dict(self.layer.named_parameters()))
        self.step = PrivateStep(self.gradients, private, pictures=len(pictures), batch=batch, random=random)

    def gradient(self) -> np.ndarray:
        """The noised sum, before it is divided: the gradient of x . w is x itself."""
        self.layer.weight.grad = None
        with self.gradients.watching():
            self.loss, self.norms = self.step(lambda index: self.layer(self.x[index])[:, 0])
        return self.layer.weight.grad.numpy()[0] * self.step.expected


def test_an_empty_sample_is_a_step_of_noise_alone() -> None:
    room = Room(PrivateTraining(2.0, clip_norm=0.5), np.ones((4, 5000)), 1, Fixed([]))
    noise = room.gradient()
    assert math.isnan(room.loss)
    assert room.norms.values == ()
    assert noise.std() == pytest.approx(1.0, rel=0.05)


def test_noise_has_the_promised_variance_by_chi_square_and_does_not_repeat() -> None:
    d, sigma, clip_norm = 40_000, 1.3, 0.2
    room = Room(PrivateTraining(sigma, clip_norm=clip_norm), np.zeros((4, d)), 4, None)
    first, second = room.gradient(), room.gradient()
    for noise in (first, second):
        chi2 = float((noise.astype(float) ** 2).sum()) / (sigma * clip_norm) ** 2
        assert abs(chi2 - d) < 5 * math.sqrt(2 * d)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(d)


@pytest.mark.parametrize("passes", [1, 2])
def test_one_picture_moves_the_sum_by_no_more_than_the_clip_norm(passes: Any) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(6, 30)) * 10.0 ** rng.integers(-3, 4, (6, 1))
    private = PrivateTraining(0.0, clip_norm=0.7, passes=passes)
    everybody = Room(private, pictures, 6, Fixed(list(range(6)))).gradient()
    for one in range(6):
        others = Room(private, pictures, 6, Fixed([i for i in range(6) if i != one])).gradient()
        assert np.linalg.norm(everybody - others) <= 0.7 * (1 + 1e-5)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("value", [math.inf, math.nan, 1e30])
def test_a_picture_whose_gradient_is_not_finite_counts_for_nothing(value: float, passes: Any) -> None:
    pictures = np.ones((3, 4))
    pictures[1] = value
    room = Room(PrivateTraining(0.0, clip_norm=1.0, passes=passes), pictures, 3, Fixed([0, 1, 2]))
    np.testing.assert_allclose(room.gradient(), np.full(4, 1.0), rtol=1e-5)


def test_samples_are_poisson_at_the_rate_that_is_accounted() -> None:
    room = Room(PrivateTraining(0.0), np.zeros((50, 2)), 8, None)
    assert room.step.rate == 0.16
    sizes = []
    for _ in range(400):
        room.gradient()
        sizes.append(len(room.norms.values))
    assert np.mean(sizes) == pytest.approx(8, abs=5 * math.sqrt(50 * 0.16 * 0.84 / 400))
    assert np.var(sizes) == pytest.approx(50 * 0.16 * 0.84, rel=0.4), "not a fixed size"
    private = PrivateTraining(1.1)
    assert private.mechanism(pictures=50, batch=8, steps=3) == Gaussian(1.1, 0.16, 3)
    assert private.mechanism(pictures=5, batch=8, steps=3).sample_rate == 1.0


def test_unpredictable_numbers_are_uniform_normal_and_never_the_same_twice() -> None:
    n = 200_000
    u, z = SecureRandom().uniform(n), SecureRandom().gaussian(n)
    assert 0 < u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    assert u.mean() == pytest.approx(0.5, abs=5 / math.sqrt(12 * n))
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert (z**power).mean() == pytest.approx(moment, abs=5 * math.sqrt(variance / n))
    assert not np.array_equal(SecureRandom().uniform(4), SecureRandom().uniform(4))
    assert "key" not in repr(SecureRandom())


def test_private_training_yields_the_plain_stream_and_leaves_the_backbone_clean(
    backbone: Backbone, data: LatentSet
) -> None:
    before = denoising_loss(backbone, data)
    config = TrainConfig(steps=4, batch=3, validate_every=2)
    *steps, trained = train(backbone, data, config=config, held_out=data, private=PrivateTraining(1.0, draws=2))
    assert [type(event) for event in steps] == [Step] * 4
    assert isinstance(trained, Trained)
    assert [step.held_out_loss is not None for step in steps] == [False, True, False, True]
    assert all(step.norms is not None and step.norms.clip_norm == 0.02 for step in steps)
    assert steps[0].state.adapter.digest != trained.adapter.digest
    assert denoising_loss(backbone, data) == before
    assert not any("forward" in module.__dict__ for module in backbone.denoiser.modules())


@pytest.mark.parametrize("factors", ["B", "both"])
def test_only_b_learns_unless_a_is_asked_for_too(backbone: Backbone, data: LatentSet, factors: Any) -> None:
    start = awake(backbone)
    *_, trained = train(backbone, data, config=QUICK, start=start, private=PrivateTraining(1.0, factors=factors))
    moved = {name for name, change in trained.adapter.minus(start).items() if change.any()}
    assert moved == {f"{start.part}.{name}" for name in start.tensors if factors == "both" or "lora_B" in name}
    again = train(backbone, data, config=QUICK, start=start)
    next(again)
    again.close()
    *_, plain = train(backbone, data, config=QUICK, start=start)
    assert all(change.any() for change in plain.adapter.minus(start).values()), "plain training learns both afterwards"


def test_private_training_without_noise_learns_as_well(backbone: Backbone, data: LatentSet) -> None:
    config = TrainConfig(steps=60, batch=6, learning_rate=5e-3, seed=0, validate_every=0)
    *_, trained = train(backbone, data, config=config, start=initial_adapter(backbone), private=PrivateTraining(0.0))
    assert denoising_loss(backbone, data, [(trained.adapter, 1.0)]) < 0.97 * denoising_loss(backbone, data)


def test_a_seed_and_noise_do_not_go_together(backbone: Backbone, data: LatentSet) -> None:
    with pytest.raises(PrivacyError, match="seed is 7"):
        next(train(backbone, data, config=replace(QUICK, seed=7), private=PrivateTraining(1.0)))


def test_weights_that_cannot_move_are_noticed_before_the_first_event(
    backbone: Backbone, data: LatentSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.optim.AdamW.step", lambda self: None)
    with pytest.raises(PrivacyError, match="epsilon buys nothing here"):
        next(train(backbone, data, config=QUICK, private=PrivateTraining(1.0)))


def test_a_layer_that_is_exchanged_after_watching_began_is_noticed() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 1, bias=False))
    gradients = PerPicture(network, dict(network.named_parameters()))
    with gradients.watching():
        network[0] = torch.nn.Linear(3, 3, bias=False)
        gradients.begin(pictures=2)
        network(torch.ones(2, 3)).sum().backward()
        with pytest.raises(PrivacyError, match=r"0\.weight"):
            gradients.check()


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.BatchNorm1d(2)), "mixes the pictures"),
        (torch.nn.Linear(2, 2), "without bias"),
        (torch.nn.Conv2d(2, 2, 3, groups=2, bias=False), "Conv2d"),
        (torch.nn.Embedding(2, 2), "Embedding"),
    ],
)
def test_layers_whose_gradients_do_not_belong_to_one_picture_are_refused(network: torch.nn.Module, said: str) -> None:
    with pytest.raises(PrivacyError, match=said):
        PerPicture(network, dict(network.named_parameters()))


def test_a_batch_that_is_folded_into_something_else_is_refused() -> None:
    layer = torch.nn.Linear(2, 2, bias=False)
    with PerPicture(layer, dict(layer.named_parameters())).watching() as gradients:
        gradients.begin(pictures=3)
        with pytest.raises(PrivacyError, match="saw 6 rows; expected 3 pictures"):
            layer(torch.ones(6, 2)).sum().backward()


@pytest.mark.parametrize(
    "wrong", [{"draws": 0}, {"factors": "C"}, {"rows_at_once": 0}, {"clip_norm": 0.0}, {"noise_multiplier": -1.0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError, match=next(iter(wrong))):
        PrivateTraining(**{"noise_multiplier": 1.0} | wrong)


# --- the ledger ---


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "ledger", artist="ada", room="studio", budget=Budget(8.0, 1e-3))


def test_training_is_paid_for_before_its_first_step_and_a_stop_refunds_nothing(
    backbone: Backbone, data: LatentSet, ledger: Ledger
) -> None:
    private = PrivateTraining(3.0)
    events = train(backbone, data, config=QUICK, private=private, ledger=ledger, purpose="round 1")
    assert ledger.spent == 0, "a generator that was not begun has done nothing"
    next(events)
    paid = ledger.spent
    assert paid == pytest.approx(ledger.cost())
    assert ledger.mechanisms == (private.mechanism(pictures=6, batch=3, steps=3),)
    events.close()
    assert ledger.spent == paid
    list(train(backbone, data, config=QUICK, private=private, ledger=ledger, purpose="the cell again"))
    assert len(ledger.entries) == 2
    assert ledger.entries[0].record["pictures"] == 6


def test_a_budget_that_does_not_reach_stops_training_before_anything_is_read(
    backbone: Backbone, data: LatentSet, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedart_nb.diffusion.training.attached", lambda *a, **k: pytest.fail("training had begun"))
    with pytest.raises(BudgetExceeded, match="Nothing was trained"):
        next(train(backbone, data, config=replace(QUICK, steps=500), private=PrivateTraining(0.6), ledger=ledger))
    assert ledger.spent == 0
    with pytest.raises(BudgetExceeded):
        next(train(backbone, data, config=QUICK, private=PrivateTraining(0.0), ledger=ledger))


def test_a_ledger_without_private_training_is_a_mistake(backbone: Backbone, data: LatentSet, ledger: Ledger) -> None:
    with pytest.raises(PrivacyError, match="no noise to pay for"):
        next(train(backbone, data, config=QUICK, ledger=ledger))


def test_resumed_training_stays_private_and_pays_for_the_steps_that_are_left(
    backbone: Backbone, data: LatentSet, ledger: Ledger, tmp_path: Path
) -> None:
    private = PrivateTraining(3.0, clip_norm=0.3, draws=2)
    events = train(backbone, data, config=QUICK, private=private, ledger=ledger)
    first = next(islice(events, 1))
    events.close()
    first.state.save(tmp_path / "state")
    state = TrainState.load(tmp_path / "state")
    assert state.private == private
    *steps, _ = train(backbone, data, config=QUICK, resume=state, ledger=ledger)
    assert [step.norms.clip_norm for step in steps] == [0.3, 0.3]
    assert [part.steps for part in ledger.mechanisms] == [3, 2]
    with pytest.raises(PrivacyError, match="Start anew"):
        next(train(backbone, data, config=QUICK, resume=state, private=PrivateTraining(0.1)))
