"""Before anything is trained: from what is known and one wish, how much noise, how much epsilon, how much is left.

`plan` takes numbers of pictures, batch, steps, rounds and artists, and one wish: an epsilon, a noise multiplier, or how
much noise the signal bears. It solves for the rest in milliseconds, and says in a sentence whether it will be grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedart_nb._system.arguments import plain
from fedart_nb._system.cancelling import checkpoint
from fedart_nb.errors import PrivacyError
from fedart_nb.privacy.accounting import ACCOUNTANTS, Accountant, Gaussian, Mechanism
from fedart_nb.privacy.accounting import epsilon as epsilon_of

__all__ = ["UNITS", "Plan", "Unit", "artist_sentence", "default_delta", "plan", "solve_noise"]

Unit: TypeAlias = Literal["picture", "artist"]
UNITS: tuple[Unit, ...] = ("picture", "artist")
_MOST_NOISE = 1e5
_LEAST_NOISE = 1e-2
_TRIES = 60
#: Noise of up to so many times the signal leaves something to see.
_BEARABLE = 2.0


@dataclass(frozen=True)
class Plan:
    """A run as it was solved for; every field is a number that a person can be shown before it begins.

    Attributes:
        unit: what a neighbour adds or removes: one "picture", or one "artist" with all pictures.
        noise_multiplier: sigma, noise's standard deviation in clip norms, in every release.
        sample_rate: q, the chance of a unit to be in a release; 1 for artists.
        releases: how many noisy sums one unit is in: steps times rounds for pictures, rounds for artists.
        epsilon, delta, accountant: what the run costs one unit.
        noise_to_signal_once: norm of the noise over the norm of the signal in one release, if every unit in it pulls
            the same way with its whole clip norm: at best, that is.
        noise_to_signal: the same for the sum of all releases, and of all artists: noise adds up as a square root does.
        sentence: what that means, for a person.
    """

    unit: Unit
    pictures: int
    batch: int
    steps: int
    rounds: int
    artists: int
    parameters: int
    noise_multiplier: float
    sample_rate: float
    releases: int
    epsilon: float
    delta: float
    accountant: Accountant
    noise_to_signal_once: float
    noise_to_signal: float
    sentence: str

    @property
    def mechanism(self) -> Gaussian:
        """The whole run, for an accountant or a ledger."""
        return Gaussian(self.noise_multiplier, self.sample_rate, self.releases)

    def __str__(self) -> str:
        return self.sentence


def plan(
    *,
    pictures: int,
    batch: int,
    steps: int,
    parameters: int,
    rounds: int = 1,
    artists: int = 1,
    unit: Unit = "picture",
    epsilon: float | None = None,
    noise_multiplier: float | None = None,
    noise_to_signal: float | None = None,
    delta: float | None = None,
    accountant: Accountant = "rdp",
) -> Plan:
    """Solve a run for the wish that is given; exactly one of epsilon, noise_multiplier and noise_to_signal.

    Args:
        pictures: of one artist, included in training; batch: expected number in one step; steps: in one round.
        parameters: how many numbers are trained and noised, d.
        noise_to_signal: the most noise over the whole run, in signals, that the wish allows.
        delta: `default_delta` of the unit's number unless given.

    Raises:
        PrivacyError: a setting is impossible, or no noise reaches the wish.

    Example:
        >>> known = dict(pictures=50, batch=8, steps=15, rounds=10, artists=10, parameters=70_000)
        >>> round(plan(unit="artist", epsilon=8, **known).noise_to_signal_once)
        44
    """
    pictures, batch, steps, parameters, rounds, artists = map(
        plain, (pictures, batch, steps, parameters, rounds, artists)
    )
    epsilon, noise_multiplier, noise_to_signal = map(plain, (epsilon, noise_multiplier, noise_to_signal))
    sizes = (("pictures", pictures), ("batch", batch), ("steps", steps), ("parameters", parameters))
    for name, value in (*sizes, ("rounds", rounds), ("artists", artists)):
        if type(value) is not int or value < 1:
            raise PrivacyError(f"{name} is {value!r}; expected a whole number of 1 or more.")
    if unit not in UNITS:
        raise PrivacyError(f"The unit is {unit!r}; expected {' or '.join(UNITS)}.")
    if accountant not in ACCOUNTANTS:
        raise PrivacyError(f"The accountant is {accountant!r}; known are {', '.join(ACCOUNTANTS)}.")
    wishes = {"epsilon": epsilon, "noise_multiplier": noise_multiplier, "noise_to_signal": noise_to_signal}
    given = [name for name, value in wishes.items() if value is not None]
    if len(given) != 1:
        raise PrivacyError(f"Wishes given: {', '.join(given) or 'none'}; expected exactly one of {', '.join(wishes)}.")
    whose = pictures if unit == "picture" else artists
    delta = default_delta(whose) if delta is None else delta
    rate = min(1.0, batch / pictures) if unit == "picture" else 1.0
    releases = steps * rounds if unit == "picture" else rounds
    together = batch if unit == "picture" else artists  # units in one release
    averaged = releases * (artists if unit == "picture" else 1)
    if epsilon is not None:
        sigma = solve_noise(epsilon, delta=delta, sample_rate=rate, steps=releases, accountant=accountant)
    elif noise_multiplier is not None:
        sigma = noise_multiplier
    else:
        sigma = float(noise_to_signal or 0) * together * math.sqrt(averaged / parameters)
    cost = epsilon_of([Gaussian(sigma, rate, releases)], delta=delta, accountant=accountant)
    once = sigma * math.sqrt(parameters) / together
    over_all = once / math.sqrt(averaged)
    return Plan(
        unit=unit,
        pictures=pictures,
        batch=batch,
        steps=steps,
        rounds=rounds,
        artists=artists,
        parameters=parameters,
        noise_multiplier=sigma,
        sample_rate=rate,
        releases=releases,
        epsilon=cost,
        delta=delta,
        accountant=accountant,
        noise_to_signal_once=once,
        noise_to_signal=over_all,
        sentence=_sentence(unit, artists, rounds, releases, once, over_all, cost, delta, whose),
    )


def default_delta(units: int) -> float:
    """A tenth of one unit's share, and never above 1/1000: delta is a chance of no protection at all.

    >>> default_delta(200)
    0.0005
    """
    return min(1e-3, 1 / (10 * units))


def solve_noise(
    target: float,
    *,
    delta: float,
    sample_rate: float,
    steps: int,
    accountant: Accountant = "rdp",
    spent: Sequence[Mechanism] = (),
) -> float:
    """The least noise multiplier with which `steps` more steps, after what was `spent`, cost no more than `target`.

    Right to four digits, and always on the safe side of the target.

    Raises:
        PrivacyError: the target is not above 0, or what was spent leaves nothing.
    """
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target < math.inf:
        raise PrivacyError(f"epsilon is {target!r}; expected a number above 0: 1 is strong, 8 is weak, 20 says little.")

    def cost(sigma: float, of: Accountant) -> float:
        return epsilon_of([*spent, Gaussian(sigma, sample_rate, steps)], delta=delta, accountant=of)

    if cost(_MOST_NOISE, "rdp") > target:
        already = epsilon_of(spent, delta=delta)
        raise PrivacyError(
            f"No noise keeps epsilon at {target:g}: {already:.3g} is spent, and delta is {delta:g}. "
            "Take a larger epsilon or delta."
        )
    sigma = _bisect(lambda s: cost(s, "rdp") <= target, _LEAST_NOISE, _MOST_NOISE, 1e-5)
    if accountant == "rdp":
        return sigma
    low = sigma  # the other accountant is tighter, as a rule by a tenth or so: little is left to search
    while low > _LEAST_NOISE and cost(low, accountant) <= target:
        checkpoint()
        low /= 1.25
    return _bisect(lambda s: cost(s, accountant) <= target, low, max(low * 1.26, sigma * 1.01), 1e-3)


def _bisect(enough: Callable[[float], bool], low: float, high: float, tolerance: float) -> float:
    """The least value, to a relative `tolerance`, for which `enough` holds; it holds at `high`."""
    if enough(low):
        return low
    for _ in range(_TRIES):
        checkpoint()
        if high / low <= 1 + tolerance:
            break
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _sentence(
    unit: Unit,
    artists: int,
    rounds: int,
    releases: int,
    once: float,
    over_all: float,
    cost: float,
    delta: float,
    whose: int,
) -> str:
    if not math.isfinite(cost):
        return "Without noise nothing is promised: epsilon is infinite, however small the clip norm."
    if unit == "artist":
        return artist_sentence(once, artists=artists, rounds=rounds, delta=delta)
    text = f"Over {releases:,} steps this noise is at least {_times(over_all)} your signal"
    text += "." if over_all <= _BEARABLE else ": take a smaller adapter, more pictures, or a larger epsilon."
    return text + _too_large(delta, whose, unit)


def artist_sentence(once: float, *, artists: int, rounds: int, delta: float) -> str:
    """What noise of `once` times the signal in each round means, for a person.

    >>> artist_sentence(44.0, artists=10, rounds=1, delta=1e-3)
    'At 10 artists this noise is 44 times your signal: picture-level privacy or a smaller core is the sensible choice.'
    """
    each = f" in each of {rounds} rounds" if rounds > 1 else ""
    text = f"At {artists} artists this noise is {_times(once)} your signal{each}"
    text += "." if once <= _BEARABLE else ": picture-level privacy or a smaller core is the sensible choice."
    return text + _too_large(delta, artists, "artist")


def _too_large(delta: float, units: int, unit: Unit) -> str:
    if delta < 1 / units:
        return ""
    return f" Delta {delta:g} is too large for {units} {unit}s: it allows giving one of them away."


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 9.5 else f"{ratio:.1f} times" if ratio >= 0.095 else f"{ratio:.2g} times"
