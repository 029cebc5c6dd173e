"""What Gaussian noise promises against attacks, in closed form: picking a picture out of N, and rebuilding one.

The two curves bound the "risk corridor" (Kaissis et al. 2307.03928; Ziller et al. 2402.12861). `LIMITS` is printed
under every drawing of it.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from ..errors import AttackError

__all__ = ["LIMITS", "identification_bound", "mu_of", "psnr_without_prior"]

LIMITS = (
    "Identification: no attacker, whatever it knows, is right more often than the upper curve, for one picture of N "
    "equally likely ones that was added or left out, with clipping and noise as stated; replacing one picture by "
    "another doubles mu. With sampling the curve is an approximation (a central limit), not a bound. "
    "Reconstruction: the lower curve is a reference for attackers without any prior, taking the clipped gradient for "
    "the picture itself; attackers who know what pictures look like may exceed it, and should."
)

_NORMAL = NormalDist()


def mu_of(noise_multiplier: float, *, steps: int = 1, sample_rate: float = 1.0) -> float:
    """How far apart the outcomes with and without one picture are, in standard deviations.

    sqrt(T) / sigma for T steps that all see the picture: exact. For Poisson samples of rate q,
    q sqrt(T (e^(1/sigma^2) - 1)), the central limit of Bu et al. 1911.11607: an approximation.

    Raises:
        AttackError: numbers out of range.

    >>> mu_of(0.5), mu_of(2.0, steps=4)
    (2.0, 1.0)
    """
    if not (noise_multiplier >= 0 and steps >= 1 and 0 < sample_rate <= 1):
        raise AttackError(
            f"noise_multiplier {noise_multiplier!r}, steps {steps!r}, sample_rate {sample_rate!r}; expected 0 or more, "
            "1 or more, and above 0 up to 1."
        )
    if noise_multiplier == 0:
        return math.inf
    if sample_rate == 1:
        return math.sqrt(steps) / noise_multiplier
    inverse = 1 / noise_multiplier**2
    return sample_rate * math.sqrt(steps * math.expm1(inverse)) if inverse < 500 else math.inf


def identification_bound(mu: float, candidates: int) -> float:
    """Phi(Phi^-1(1/N) + mu): how often any attacker can pick the right one of N equally likely pictures, at most.

    Reconstruction robustness of a Gaussian mechanism with kappa = 1/N (Hayes, Mahloujifar & Balle 2302.07225; closed
    form: Kaissis et al. 2307.03928, theorem 1).

    Raises:
        AttackError: fewer than two candidates, or a mu below 0.

    >>> round(identification_bound(2.0, 64), 3), identification_bound(0.0, 4)
    (0.439, 0.25)
    """
    if candidates < 2 or not mu >= 0:
        raise AttackError(f"{candidates!r} candidates and mu {mu!r}; expected 2 or more, and 0 or more.")
    return 1.0 if math.isinf(mu) else _NORMAL.cdf(_NORMAL.inv_cdf(1 / candidates) + mu)


def psnr_without_prior(noise_multiplier: float, *, numbers: int, steps: int = 1, mean_square: float = 0.3) -> float:
    """The PSNR in dB that an attacker without a prior expects, a reference curve.

    E[MSE] = sigma^2 |X|^2 (Ziller et al. 2402.12861): the best unbiased estimate of a picture X, values from 0 to 1,
    that is itself clipped and noised. A denoiser's gradient is no isometry of the picture, so this is no bound here.

    Args:
        numbers: of values in the picture (pixels times channels), so that |X|^2 = mean_square * numbers.
        steps: looks at the same picture; each halves the error's square.

    >>> round(psnr_without_prior(0.01, numbers=768), 1)
    16.4
    """
    if not (noise_multiplier >= 0 and numbers >= 1 and steps >= 1 and mean_square > 0):
        raise AttackError(
            f"noise_multiplier {noise_multiplier!r}, numbers {numbers!r}, steps {steps!r}; expected 0 or more, and 1 "
            "or more."
        )
    error = noise_multiplier**2 * mean_square * numbers / steps
    return math.inf if error == 0 else -10 * math.log10(error)
