"""How much epsilon noisy steps cost: the subsampled Gaussian and the Skellam mechanism, added up over all steps.

Two accountants. "rdp" adds Rényi divergences (Mironov 1702.07476) and converts them once (Balle et al. 1905.09982,
theorem 21). It stays right when the next step's noise, rate or number is chosen after looking at the results so far, as
whoever runs a cell again does (Lécuyer 2103.01379, a Rényi filter): so it is what ledgers use unless told otherwise.
"prv" composes privacy loss distributions by FFT (Gopi et al. 2106.02848; Opacus' implementation). It is tighter, by a
tenth or so, and right where all settings were fixed before the first step.

Everything here is for neighbours that differ by one unit added or removed, and for Poisson sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedart_nb._system.arguments import plain_fields
from fedart_nb.errors import PrivacyError

__all__ = [
    "ACCOUNTANTS",
    "NEIGHBOURS",
    "ORDERS",
    "ZEROS",
    "Accountant",
    "Gaussian",
    "Mechanism",
    "Skellam",
    "epsilon",
    "mechanism_of",
    "rdp_to_epsilon",
]

Accountant = Literal["rdp", "prv"]
ACCOUNTANTS: tuple[Accountant, ...] = ("rdp", "prv")
#: What two neighbouring data sets differ by, by the unit of protection.
NEIGHBOURS = "add or remove one"
ZEROS = "one artist's update replaced by zeros (who takes part is seen anyway)"

#: Rényi orders; the ones that Opacus takes.
ORDERS: tuple[float, ...] = (*(1 + x / 10 for x in range(1, 100)), *map(float, range(12, 64)))
#: Below so little noise the amplification by sampling is not computed; it would be next to none.
_LEAST_NOISE = 0.15
_MAX_STEPS = 10_000_000


@dataclass(frozen=True, slots=True)
class Gaussian:
    """`steps` sums over a Poisson sample of rate q, each clipped to norm C and noised by N(0, (sigma C)^2).

    Mironov, Talwar & Zhang 1908.10530. `noise_multiplier` is sigma, `sample_rate` q.

    >>> Gaussian(noise_multiplier=1.0).rdp()[ORDERS.index(2.0)]
    1.0
    """

    noise_multiplier: float
    sample_rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_steps(self.steps)
        if not _is_number(self.noise_multiplier) or self.noise_multiplier < 0:
            raise PrivacyError(f"noise_multiplier is {self.noise_multiplier!r}; expected a finite number, 0 or more.")
        if not _is_number(self.sample_rate) or not 0 < self.sample_rate <= 1:
            raise PrivacyError(f"sample_rate is {self.sample_rate!r}; expected a number above 0 and up to 1.")

    def rdp(self) -> NDArray[np.float64]:
        """Rényi divergence at `ORDERS`, all steps together, (len(ORDERS),)."""
        return self.steps * _gaussian_rdp(float(self.noise_multiplier), float(self.sample_rate))


@dataclass(frozen=True, slots=True)
class Skellam:
    """`steps` sums of integer vectors under Skellam noise (Agarwal, Kairouz & Liu 2110.04995).

    Attributes:
        variance: mu, of the noise in the whole sum that is certain to be there, in integer units squared.
        l2, l1: sensitivity of one vector after rotation, scaling and rounding, in integer units.
        steps: how often such a sum is released.
    """

    variance: float
    l2: float
    l1: float
    steps: int = 1

    def __post_init__(self) -> None:
        plain_fields(self)
        _check_steps(self.steps)
        for name in ("variance", "l2", "l1"):
            value = getattr(self, name)
            if not _is_number(value) or value < 0:
                raise PrivacyError(f"{name} is {value!r}; expected a finite number, 0 or more.")

    def rdp(self) -> NDArray[np.float64]:
        """Rényi divergence at `ORDERS`, all steps together.

        The theorem holds for whole orders; between them (a - 1) D_a is convex in a, so a chord bounds it.
        """
        orders = np.array(ORDERS)
        below, above = np.floor(orders), np.ceil(orders)
        share = orders - below
        chord = (1 - share) * (below - 1) * self._at(below) + share * (above - 1) * self._at(above)
        out: NDArray[np.float64] = self.steps * chord / (orders - 1)
        return out

    def _at(self, a: NDArray[np.float64]) -> NDArray[np.float64]:
        mu = self.variance
        if mu == 0:
            return np.full_like(a, math.inf if self.l2 else 0.0)
        first = ((2 * a - 1) * self.l2**2 + 6 * self.l1) / (4 * mu**2)
        out: NDArray[np.float64] = a * self.l2**2 / (2 * mu) + np.minimum(first, 3 * self.l1 / (2 * mu))
        return out


Mechanism: TypeAlias = Gaussian | Skellam


def epsilon(parts: Sequence[Mechanism], *, delta: float, accountant: Accountant = "rdp", error: float = 0.01) -> float:
    """Epsilon at `delta` of everything in `parts` together; 0 of nothing, infinity without noise.

    Args:
        accountant: "rdp", or "prv" (Gaussian parts only; loads Opacus and with it torch).
        error: by how much "prv" may say too much; it never says too little.

    Raises:
        PrivacyError: an unknown accountant, a delta outside (0, 1), or "prv" with a Skellam part.

    Example:
        >>> round(epsilon([Gaussian(1.24, sample_rate=0.16, steps=200)], delta=2e-3), 2)
        9.12
    """
    if not _is_number(delta) or not 0 < delta < 1:
        raise PrivacyError(f"delta is {delta!r}; expected a number between 0 and 1, well below 1 / pictures.")
    if accountant not in ACCOUNTANTS:
        raise PrivacyError(f"The accountant is {accountant!r}; known are {', '.join(ACCOUNTANTS)}.")
    if not parts:
        return 0.0
    if any(isinstance(part, Gaussian) and part.noise_multiplier == 0 for part in parts):
        return math.inf
    if accountant == "prv":
        gaussian = [part for part in parts if isinstance(part, Gaussian)]
        if len(gaussian) < len(parts):
            raise PrivacyError("The accountant 'prv' knows no Skellam noise. Use 'rdp' for the noise of a secure sum.")
        merged: dict[tuple[float, float], int] = {}
        for part in gaussian:
            key = (float(part.noise_multiplier), float(part.sample_rate))
            merged[key] = merged.get(key, 0) + part.steps
        return _prv(tuple((*key, steps) for key, steps in merged.items()), float(delta), error)
    return rdp_to_epsilon(sum((part.rdp() for part in parts), np.zeros(len(ORDERS))), delta)


def rdp_to_epsilon(rdp: NDArray[np.float64], delta: float) -> float:
    """The least epsilon that divergences at `ORDERS` give at `delta` (Balle et al. 1905.09982, theorem 21)."""
    a = np.array(ORDERS)
    values = rdp - (math.log(delta) + np.log(a)) / (a - 1) + np.log((a - 1) / a)
    return max(0.0, float(values.min()))


def mechanism_of(body: dict[str, Any]) -> Mechanism:
    """Read a mechanism from JSON values, as `dataclasses.asdict` and its class's name give them.

    >>> mechanism_of({"kind": "Gaussian", "noise_multiplier": 2.0, "sample_rate": 1.0, "steps": 1})
    Gaussian(noise_multiplier=2.0, sample_rate=1.0, steps=1)
    """
    values = {key: value for key, value in body.items() if key != "kind"}
    kinds: dict[Any, type[Mechanism]] = {"Gaussian": Gaussian, "Skellam": Skellam}
    try:
        return kinds[body.get("kind")](**values)
    except (KeyError, TypeError) as error:
        raise PrivacyError(f"No mechanism can be read from {body!r}; expected one of {', '.join(kinds)}.") from error


@lru_cache(maxsize=512)
def _gaussian_rdp(sigma: float, q: float) -> NDArray[np.float64]:
    """D_a of one step: log E[(1 - q + q e^((2x - 1) / (2 sigma^2)))^a] / (a - 1), x ~ N(0, sigma^2) (1908.10530, 3.3).

    By the trapezoid rule, whose error falls exponentially for such integrands; Opacus sums series instead.
    """
    a = np.array(ORDERS)
    if sigma == 0:
        return np.full(len(a), math.inf)
    if q == 1 or sigma < _LEAST_NOISE:
        whole: NDArray[np.float64] = a / (2 * sigma**2)  # sampling only lowers it
        return whole
    h = min(0.2, sigma / 3)
    z = np.arange(-14.0, a.max() / sigma + 14.0, h)  # x / sigma; the mass sits anywhere between 0 and a / sigma
    ratio = np.logaddexp(math.log1p(-q), math.log(q) + z / sigma - 1 / (2 * sigma**2))
    log_terms = a[:, None] * ratio - z**2 / 2
    top = log_terms.max(axis=1)
    total = np.exp(log_terms - top[:, None]).sum(axis=1)
    log_a = top + np.log(total) + math.log(h / math.sqrt(2 * math.pi))
    out: NDArray[np.float64] = np.maximum(log_a, 0) / (a - 1)
    return out


@lru_cache(maxsize=64)
def _prv(history: tuple[tuple[float, float, int], ...], delta: float, error: float) -> float:
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = list(history)
    try:
        with np.errstate(all="ignore"):
            return max(0.0, float(accountant.get_epsilon(delta, eps_error=error)))
    except (RuntimeError, ValueError, MemoryError):  # its grid does not fit; the other accountant's bound is right too
        return epsilon([Gaussian(sigma, q, steps) for sigma, q, steps in history], delta=delta)


def _check_steps(steps: int) -> None:
    if type(steps) is not int or not 1 <= steps <= _MAX_STEPS:
        raise PrivacyError(f"steps is {steps!r}; expected a whole number from 1 to {_MAX_STEPS:,}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
