"""The forward (noising) process that a backbone was trained with: what to add, and what the denoiser must predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..errors import BackboneError

__all__ = ["Diffusion", "Process", "RectifiedFlow", "apart", "coefficients", "process_of"]


class Process(Protocol):
    """Timesteps are in the denoiser's own unit (what it is called with), shape (n,)."""

    def sample_t(self, n: int, generator: torch.Generator, shift: float = 1.0) -> torch.Tensor:
        """Timesteps drawn as for training; `shift` above 1 moves them towards noise, u to s u / (1 + (s - 1) u)."""

    def stratified_t(self, n: int, offset: float) -> torch.Tensor:
        """Timesteps spread evenly over the schedule; `offset` in [0, 1) shifts them within their strata."""

    def add_noise(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t from clean latents and unit Gaussian noise."""

    def target(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the denoiser is asked to predict from x_t."""


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = (1 - t) x_0 + t eps, target eps - x_0 (Liu et al. 2209.03003); t logit-normal (Esser et al. 2403.03206).

    `shift` moves the drawn t towards noise, as larger pictures need: s t / (1 + (s - 1) t) (same paper, section 5.3.2).
    """

    scale: int = 1000
    shift: float = 1.0

    def sample_t(self, n: int, generator: torch.Generator, shift: float = 1.0) -> torch.Tensor:
        """Draw timesteps, as in training."""
        return _shifted(torch.sigmoid(torch.randn(n, generator=generator)), self.shift * shift) * self.scale

    def stratified_t(self, n: int, offset: float) -> torch.Tensor:
        """Spread timesteps evenly."""
        return (torch.arange(n) + offset) / n * self.scale

    def add_noise(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t."""
        return torch.lerp(x0, eps, (t / self.scale)[:, None, None, None].to(x0))

    def target(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """What is to be predicted: the same at every t."""
        return eps - x0


@dataclass(frozen=True)
class Diffusion:
    """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps (Ho et al. 2006.11239); predicts eps or v (Salimans & Ho 2202.00512)."""

    alphas_cumprod: torch.Tensor
    predicts: str

    def sample_t(self, n: int, generator: torch.Generator, shift: float = 1.0) -> torch.Tensor:
        """Draw timesteps, as in training."""
        t = torch.randint(len(self.alphas_cumprod), (n,), generator=generator)
        return t if shift == 1 else (_shifted(t / len(self.alphas_cumprod), shift) * len(self.alphas_cumprod)).long()

    def stratified_t(self, n: int, offset: float) -> torch.Tensor:
        """Spread timesteps evenly."""
        return ((torch.arange(n) + offset) / n * len(self.alphas_cumprod)).long()

    def _roots(self, like: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a = self.alphas_cumprod.to(like.device)[t.long()][:, None, None, None].to(like.dtype)
        return a.sqrt(), (1 - a).sqrt()

    def add_noise(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t."""
        alpha, sigma = self._roots(x0, t)
        return alpha * x0 + sigma * eps

    def target(self, x0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What is to be predicted."""
        if self.predicts == "epsilon":
            return eps
        alpha, sigma = self._roots(x0, t)
        return alpha * eps - sigma * x0


def _shifted(t: torch.Tensor, shift: float) -> torch.Tensor:
    """Timesteps in [0, 1), moved towards 1 for a shift above 1; stays in [0, 1)."""
    return shift * t / (1 + (shift - 1) * t)


def coefficients(process: Process, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(a, s, c, d), each (n, 1, 1, 1): x_t = a x_0 + s eps, target = c x_0 + d eps."""
    one, none = torch.ones(len(t), 1, 1, 1), torch.zeros(len(t), 1, 1, 1)
    return (
        process.add_noise(one, none, t),
        process.add_noise(none, one, t),
        process.target(one, none, t),
        process.target(none, one, t),
    )


def apart(
    process: Process, x_t: torch.Tensor, target: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents and noise, of x_t and the target."""
    a, s, c, d = coefficients(process, t)
    det = a * d - s * c
    return (d * x_t - s * target) / det, (a * target - c * x_t) / det


def process_of(scheduler: Any) -> Process:
    """Read the forward process from a diffusers scheduler's configuration.

    Raises:
        BackboneError: the scheduler predicts something that is not known here.
    """
    config = scheduler.config
    predicts = config.get("prediction_type", "epsilon")
    scale = int(config.get("num_train_timesteps", 1000))
    if type(scheduler).__name__.startswith("FlowMatch"):
        fixed = not config.get("use_dynamic_shifting")  # a shift by picture size is for drawing; training draws evenly
        return RectifiedFlow(scale, float(config.get("shift", 1.0)) if fixed else 1.0)
    if predicts == "flow_prediction":
        return RectifiedFlow(scale)
    if predicts in ("epsilon", "v_prediction") and hasattr(scheduler, "alphas_cumprod"):
        return Diffusion(scheduler.alphas_cumprod, predicts)
    raise BackboneError(
        f"The scheduler {type(scheduler).__name__} predicts {predicts!r}; known are flow_prediction, epsilon and "
        "v_prediction. Save the pipeline with one of these schedulers."
    )
