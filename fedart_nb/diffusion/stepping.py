"""One optimiser step of training, plain or private, and what must be settled before the first private one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import torch

from ..errors import PrivacyError
from ..events import GradientNorms
from .backbone import Backbone
from .dp_sgd import Canaries, PrivateStep, PrivateTraining
from .per_picture import PerPicture

__all__ = ["Losses", "Stepper", "agreed_privacy", "stepper"]

#: Losses, (n,), of the pictures at the indices given, (n,), each under a noise and timestep of its own.
Losses: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
#: Takes one step; gives the mean loss, and in private training the pictures' gradient norms.
Stepper: TypeAlias = Callable[[Losses], tuple[float, GradientNorms | None]]

_HALF_SCALE = 2.0**10  # gradients of half-precision activations would vanish without it


@contextmanager
def stepper(
    backbone: Backbone,
    learning: Mapping[str, torch.nn.Parameter],
    optimiser: torch.optim.Optimizer,
    *,
    pictures: int,
    batch: int,
    draw: Callable[[], torch.Tensor],
    max_grad_norm: float | None,
    private: PrivateTraining | None,
    canaries: Canaries | None = None,
) -> Iterator[Stepper]:
    """Yields what takes a step.

    Args:
        draw: the plain step's pictures, as indices; private steps draw a Poisson sample of their own.
        max_grad_norm: clips the plain step's whole gradient, None does not; private steps clip every picture's.
        canaries: of an audit.
    """
    half = backbone.dtype == torch.float16
    if private is None:
        scaler = torch.amp.GradScaler(backbone.device.type, init_scale=_HALF_SCALE, enabled=half)

        def plain(losses: Losses) -> tuple[float, GradientNorms | None]:
            optimiser.zero_grad(set_to_none=True)
            loss = losses(draw()).mean()
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            if max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(list(learning.values()), max_grad_norm)
            scaler.step(optimiser)
            scaler.update()
            return float(loss.detach()), None

        yield plain
        return
    with PerPicture(backbone.denoiser, learning).watching() as gradients:
        scale = _HALF_SCALE if half else 1.0
        noised = PrivateStep(gradients, private, pictures=pictures, batch=batch, loss_scale=scale, canaries=canaries)
        taken = 0

        def step(losses: Losses) -> tuple[float, GradientNorms | None]:
            nonlocal taken
            optimiser.zero_grad(set_to_none=True)
            value, norms = noised(losses)
            _step_that_moves(optimiser, learning if taken < 2 and private.noise_multiplier else {})
            taken += 1
            return value, norms

        yield step


def agreed_privacy(
    asked: PrivateTraining | None,
    *,
    begun: PrivateTraining | None,
    resumed: bool,
    seed: int | None,
    paid: bool,
    apart: float = 0.0,
    style_tokens: int = 0,
) -> PrivateTraining | None:
    """How to train privately, or None. What was `begun` privately goes on so.

    Raises:
        PrivacyError: other settings than those that training was begun with, a seed, `TrainConfig.apart` or
            `TrainConfig.style_tokens` beside noise, or a ledger and nothing to pay for.
    """
    if resumed and asked is not None and asked != begun:
        raise PrivacyError(f"Training was begun with {begun}; asked for was {asked}. Start anew to change it.")
    private = begun if resumed else asked
    if private is None and paid:
        raise PrivacyError("A ledger was given, but no private=PrivateTraining(...): there is no noise to pay for.")
    if private is not None and apart:
        raise PrivacyError(
            f"apart is {apart:g}; private training clips the gradients of pictures, and this one is no picture's. "
            "Leave apart at 0."
        )
    if private is not None and style_tokens:
        raise PrivacyError(
            f"style_tokens is {style_tokens}; private training clips and noises the gradients of LoRA layers, and a "
            "token is none. Leave style_tokens at 0."
        )
    if private is not None and private.noise_multiplier and seed is not None:
        raise PrivacyError(
            f"seed is {seed}; whoever knows it knows which noise and timesteps were drawn. Private training takes the "
            "operating system's entropy: leave seed at None."
        )
    return private


def _step_that_moves(optimiser: torch.optim.Optimizer, noised: Mapping[str, torch.nn.Parameter]) -> None:
    """An optimiser's step; raises PrivacyError where a `noised` tensor stays as it was: epsilon would buy nothing.

    Parameters that were moved or exchanged after the optimiser was made would do so (Opacus issue 820).
    """
    before = [p.detach().clone() for p in noised.values()]
    optimiser.step()
    for (name, parameter), was in zip(noised.items(), before, strict=True):
        if torch.equal(parameter.detach(), was):
            raise PrivacyError(f"{name!r} did not move although its gradient is noised: epsilon buys nothing here.")
