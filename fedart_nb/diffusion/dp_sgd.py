"""One step of DP-SGD on an adapter: a Poisson sample of pictures, each gradient clipped, their sum noised.

Abadi et al. 1607.00133, algorithm 1, with noise multiplicity (Dockhorn et al. 2210.09929, section 3.2): the gradient of
one picture is that of its mean loss over K draws of noise and timestep, so it is clipped once and costs epsilon once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .._system.arguments import plain_fields
from ..crypto.random_streams import SecureRandom
from ..errors import PrivacyError
from ..events import GradientNorms
from ..privacy.accounting import Gaussian
from ..privacy.clipping import check_clip_norm, clip_factors
from .per_picture import PerPicture

__all__ = ["CLIP_NORM", "FACTORS", "Canaries", "Factors", "PrivateStep", "PrivateTraining", "learning_factors"]

Factors = Literal["A", "B", "both"]
FACTORS: tuple[Factors, ...] = ("A", "B", "both")
_MAX_DRAWS = 256
_SHORTER, _ROUNDING = 1 - 2**-7, 1 + 1e-5


#: Below every picture's gradient norm with the embedded backbone, so that each is cut to one length; learnt best.
CLIP_NORM = 0.02


@dataclass(frozen=True)
class PrivateTraining:
    """How to train so that no single picture shows.

    Attributes:
        noise_multiplier: sigma; the noise on a sum of clipped gradients is N(0, (sigma C)^2) in every number. `plan`
            and `Ledger.noise_for` solve for it. 0 clips and promises nothing.
        clip_norm: C, the longest that one picture's gradient may be. Well below the median of `Step.norms`, where every
            gradient is cut to one length, learnt best here; AdamW does not mind the scale.
        draws: K, draws of noise and timestep for each picture; free of epsilon, K times the work.
        factors: "B" trains and noises B alone and leaves A as it is (FFA-LoRA, Sun et al. 2403.12313): half the noise,
            none of it multiplied with itself, and averages of several artists' B A are exact. "both" trains A too; "A"
            is for the rounds of an alternating rule.
        rows_at_once: how many draws go through the network together; more memory, less time.
        passes: 1 holds the gradients of all pictures that go through together, until they are clipped. 2 goes back
            twice instead and holds none: for adapters of many millions of numbers, about half as much time again.

    Example:
        >>> PrivateTraining(noise_multiplier=1.4).mechanism(pictures=50, batch=8, steps=20)
        Gaussian(noise_multiplier=1.4, sample_rate=0.16, steps=20)
    """

    noise_multiplier: float
    clip_norm: float = CLIP_NORM
    draws: int = 1
    factors: Factors = "B"
    rows_at_once: int = 64
    passes: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        check_clip_norm(self.clip_norm)
        Gaussian(self.noise_multiplier)
        if self.factors not in FACTORS:
            raise PrivacyError(f"factors is {self.factors!r}; expected {' or '.join(FACTORS)}.")
        for name, most in (("draws", _MAX_DRAWS), ("rows_at_once", 65_536), ("passes", 2)):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise PrivacyError(f"{name} is {value!r}; expected a whole number from 1 to {most:,}.")

    def learning(self, parameters: Mapping[str, torch.nn.Parameter]) -> dict[str, torch.nn.Parameter]:
        """Those of an adapter's parameters that learn and are noised, by name; the others are frozen."""
        return learning_factors(parameters, self.factors)

    def size(self, tensors: Mapping[str, NDArray[np.float32]]) -> int:
        """How many of an adapter's numbers learn and are noised."""
        return sum(a.size for name, a in tensors.items() if _is_of(name, self.factors))

    def mechanism(self, *, pictures: int, batch: int, steps: int) -> Gaussian:
        """What so many steps are to an accountant: `train` samples at exactly this rate."""
        return Gaussian(float(self.noise_multiplier), min(1.0, batch / pictures), steps)


def learning_factors(parameters: Mapping[str, torch.nn.Parameter], factors: Factors) -> dict[str, torch.nn.Parameter]:
    """Those of an adapter's parameters that belong to `factors`, by name; the others are frozen."""
    chosen = {name: p for name, p in parameters.items() if _is_of(name, factors)}
    for name in parameters.keys() - chosen.keys():
        parameters[name].requires_grad_(False)
    return chosen


def _is_of(name: str, factors: Factors) -> bool:
    return factors == "both" or f".lora_{factors}." in name or ".lora_core." in name


class Canaries:
    """Units of an audit: gradients that point along one parameter each, of which a coin said whether they are in.

    They are sampled, clipped, summed and noised as pictures are, by the same lines (`PrivateStep`); what comes out at
    their parameters is added up over the steps. Longer than the clip norm, so that a missing clip shows.

    Attributes:
        places: (m,), the parameter of each; included: (m,), the coins; length: of each gradient before clipping.
        scores: (m,), sum over the steps of the noised sum at each place: higher for those that are in.
    """

    def __init__(self, places: NDArray[np.int64], *, length: float, random: SecureRandom | None = None) -> None:
        self.places, self.length = places, length
        self.included = (random or SecureRandom()).uniform(len(places)) < 0.5
        self.scores = np.zeros(len(places))

    def gradients(self, chosen: NDArray[np.bool_], clip_norm: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Places and clipped values of those that are in the data and in a step's sample."""
        present = self.places[self.included & chosen]
        values = self.length * clip_factors(np.full(len(present), self.length), clip_norm)
        return torch.from_numpy(present), torch.from_numpy(values)

    def observe(self, noised: torch.Tensor) -> None:
        """Take note of a step's noised sum, (parameters,)."""
        self.scores += noised.detach().double().cpu().numpy()[self.places]


class PrivateStep:
    """Computes the noised gradient of one step after the other into `Parameter.grad`.

    Args:
        gradients: the adapter's layers, being watched.
        private: clip norm, noise and draws.
        pictures, batch: how many there are, and how many to expect in a sample.
        loss_scale: losses are multiplied with it on the way back, for half-precision gradients that would vanish.
        random: unpredictable unless a test says otherwise.
        canaries: of an audit; they spoil what is learnt.
    """

    def __init__(
        self,
        gradients: PerPicture,
        private: PrivateTraining,
        *,
        pictures: int,
        batch: int,
        loss_scale: float = 1.0,
        random: SecureRandom | None = None,
        canaries: Canaries | None = None,
    ) -> None:
        self.private = private
        self.canaries = canaries
        self.rate = private.mechanism(pictures=pictures, batch=batch, steps=1).sample_rate
        self.expected = self.rate * pictures
        self._gradients, self._pictures, self._loss_scale = gradients, pictures, loss_scale
        self._random = random or SecureRandom()

    def __call__(self, losses: Callable[[torch.Tensor], torch.Tensor]) -> tuple[float, GradientNorms]:
        """One step's gradient.

        Args:
            losses: the denoising losses, (rows,), of the pictures whose indices it is given, (rows,); every picture
                stands `draws` times in a row there.

        Returns:
            The mean loss (NaN if the sample was empty), and the pictures' gradient norms before clipping.

        Raises:
            PrivacyError: the adapter's layers got no gradients by pictures: nothing would be learnt.
        """
        private, gradients = self.private, self._gradients
        chosen = np.flatnonzero(self._random.chosen(self._pictures, self.rate))
        device = next(iter(gradients.parameters.values())).device
        total = torch.zeros(gradients.size, device=device)
        norms: list[float] = []
        loss_sum = 0.0
        at_once = max(1, private.rows_at_once // private.draws)
        for start in range(0, len(chosen), at_once):
            index = torch.from_numpy(chosen[start : start + at_once])
            each = losses(index.repeat_interleave(private.draws)) / private.draws
            clipped, length = (self._in_one if private.passes == 1 else self._in_two)(each, len(index))
            total += clipped
            norms += length.tolist()
            loss_sum += float(each.detach().sum())
        if self.canaries is not None:
            sampled = self._random.chosen(len(self.canaries.places), self.rate)
            places, values = self.canaries.gradients(sampled, private.clip_norm)
            total.index_add_(0, places.to(device), values.to(total))
        if private.noise_multiplier:
            noise = torch.from_numpy(self._random.gaussian(gradients.size))
            total += (private.noise_multiplier * private.clip_norm * noise).to(total)
        if self.canaries is not None:
            self.canaries.observe(total)
        total /= self.expected
        parameters = list(gradients.parameters.values())
        for parameter, part in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)
        mean = loss_sum / len(chosen) if len(chosen) else math.nan
        return mean, GradientNorms(tuple(norms), private.clip_norm)

    def _in_one(self, each: torch.Tensor, pictures: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The clipped sum, (size,), and the lengths before, (pictures,), of losses (rows,): all gradients held."""
        gradients = self._gradients
        gradients.begin(pictures=pictures, draws=self.private.draws)
        (each.sum() * self._loss_scale).backward()
        gradients.check()
        rows = gradients.rows.div_(self._loss_scale) if self._loss_scale != 1 else gradients.rows
        length = torch.linalg.vector_norm(rows, dim=1)
        if not bool(torch.isfinite(length).all()):
            rows = torch.nan_to_num(rows, 0.0, 0.0, 0.0)  # 0 times infinity must be 0 here
        return self._factors(length, self.private.clip_norm).to(rows) @ rows, length

    def _in_two(self, each: torch.Tensor, pictures: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with two passes back and no gradient by pictures held beyond its layer.

        In 16 bits the second pass rounds otherwise than the first, so a little less is aimed at; what came out is
        looked at again.
        """
        gradients, draws, scale = self._gradients, self.private.draws, self._loss_scale
        gradients.begin(pictures=pictures, draws=draws, keep="squares")
        (each.sum() * scale).backward(retain_graph=True)
        gradients.check()
        length = gradients.squares.sqrt() / scale
        aim = self.private.clip_norm * (_SHORTER if gradients.halved else 1.0)
        factors = self._factors(length, aim).to(each)
        gradients.begin(pictures=pictures, draws=draws, keep="total", left_out=~torch.isfinite(length))
        (each @ factors.repeat_interleave(draws) * scale).backward()
        gradients.check()
        longest = float(torch.nan_to_num(gradients.squares, 0.0, 0.0).max().sqrt()) / scale
        if longest > self.private.clip_norm * _ROUNDING:
            raise PrivacyError(
                f"A clipped gradient came back {longest:.4g} long; the clip norm is {self.private.clip_norm:g}. The "
                "two passes differ (dropout?); take passes=1."
            )
        return gradients.total / scale, length

    def _factors(self, length: torch.Tensor, clip_norm: float) -> torch.Tensor:
        return torch.from_numpy(clip_factors(length.double().cpu().numpy(), clip_norm))
