"""The artist's own side, for lessons and benchmarks: what the product's trainer would send for given pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion.adapters import Adapter, attached
from ..diffusion.backbone import Backbone
from ..diffusion.dp_sgd import PrivateTraining
from ..diffusion.latents import LatentSet
from ..diffusion.training import TrainConfig, picture_losses, train
from ..errors import AttackError
from ..events import Trained
from .opened import wire_name
from .view import ServerView

__all__ = ["full_gradient_view", "gradient_view", "sgd_view", "update_view"]

_BETA1 = 0.9  # AdamW's: its first moment after one step is a tenth of the gradient


def update_view(
    backbone: Backbone,
    data: LatentSet,
    *,
    config: TrainConfig,
    start: Adapter,
    private: PrivateTraining | None = None,
) -> ServerView:
    """What an artist's round would send in the clear: the product's own training, its optimiser and schedule.

    Args:
        config: with `seed` given, what the attacker may be told of it; rounds give none.
    """
    config = replace(config, validate_every=0)
    trained = start
    for event in train(backbone, data, config=config, start=start, private=private):
        if isinstance(event, Trained):
            trained = event.adapter
    return ServerView.of(
        trained.minus(start),
        start.to_bytes(),
        backbone.sha256,
        kind="steps",
        local_steps=config.steps,
        batch=min(config.batch, len(data)),
        learning_rate=config.learning_rate,
        caption_dropout=config.caption_dropout,
        pictures=len(data),
        noise_multiplier=private.noise_multiplier if private else 0.0,
        clip_norm=private.clip_norm if private else 0.0,
    )


def gradient_view(
    backbone: Backbone,
    data: LatentSet,
    *,
    config: TrainConfig,
    start: Adapter,
    exact: bool = True,
) -> ServerView:
    """The adapter's gradient of the first training step, as federated SGD sends it.

    Args:
        exact: in float32, through the trainer's own loss; else as `train` computes it on this machine (in bfloat16
            where that is fast), read from its optimiser's first moment after one step.
    """
    if exact:
        with attached(backbone, [(start, 1.0)], trainable=0):
            update = _gradient(backbone, data, config)
    else:
        state: Any = None
        one = replace(config, steps=1, validate_every=0, warmup=0, max_grad_norm=math.inf)
        for event in train(backbone, data, config=one, start=start):
            state = getattr(event, "state", state)
        moments = state.moments["state"]
        with attached(backbone, [(start, 1.0)], trainable=0):
            names = [n for n, p in backbone.denoiser.named_parameters() if p.requires_grad]
        part = backbone.family.denoiser
        update = {
            wire_name(part, name): (moments[i]["exp_avg"] / (1 - _BETA1)).float().numpy()
            for i, name in enumerate(names)
        }
    return _view_of(backbone, data, config, update, start.to_bytes())


def sgd_view(backbone: Backbone, data: LatentSet, *, config: TrainConfig, start: Adapter) -> ServerView:
    """What local steps of plain gradient descent at a constant rate change, in float32: textbook federated averaging.

    The losses are the trainer's own; the product itself takes AdamW (`update_view`).
    """
    if config.seed is None:
        raise AttackError("seed is None; a victim's seed must be fixed to be repeated. Give config a seed.")
    generator = torch.Generator().manual_seed(config.seed)
    with attached(backbone, [(start, 1.0)], trainable=0):
        learning = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
        before = {n: p.detach().clone() for n, p in learning.items()}
        optimiser = torch.optim.SGD(list(learning.values()), lr=config.learning_rate)
        for _ in range(config.steps):
            index = torch.randperm(len(data), generator=generator)[: config.batch]
            optimiser.zero_grad()
            picture_losses(backbone, data, config, generator, index).mean().backward()
            optimiser.step()
        part = backbone.family.denoiser
        update = {wire_name(part, n): (p.detach() - before[n]).numpy() for n, p in learning.items()}
    view = _view_of(backbone, data, config, update, start.to_bytes())
    return replace(view, kind="steps", local_steps=config.steps, optimiser="sgd")


def full_gradient_view(backbone: Backbone, data: LatentSet, *, config: TrainConfig) -> ServerView:
    """The whole denoiser's gradient of the first step, float32, through the trainer's own loss."""
    with attached(backbone, []):
        backbone.denoiser.requires_grad_(True)
        update = _gradient(backbone, data, config)
    return _view_of(backbone, data, config, update, b"")


def _gradient(backbone: Backbone, data: LatentSet, config: TrainConfig) -> dict[str, NDArray[np.float32]]:
    if config.seed is None:
        raise AttackError("seed is None; a victim's seed must be fixed to be repeated. Give config a seed.")
    generator = torch.Generator().manual_seed(config.seed)
    learning = {n: p for n, p in backbone.denoiser.named_parameters() if p.requires_grad}
    index = torch.randperm(len(data), generator=generator)[: config.batch]
    loss = picture_losses(backbone, data, config, generator, index).mean()
    gradients = torch.autograd.grad(loss, list(learning.values()))
    part = backbone.family.denoiser
    return {wire_name(part, n): g.float().cpu().numpy() for n, g in zip(learning, gradients, strict=True)}


def _view_of(
    backbone: Backbone,
    data: LatentSet,
    config: TrainConfig,
    update: Mapping[str, NDArray[np.float32]],
    shared: bytes,
) -> ServerView:
    return ServerView.of(
        update,
        shared,
        backbone.sha256,
        kind="gradient",
        batch=min(config.batch, len(data)),
        learning_rate=config.learning_rate,
        caption_dropout=config.caption_dropout,
        pictures=len(data),
    )
