"""A lower bound on epsilon from one training run: canaries are put in by tossing coins, and guessed from what came out.

Steinke, Nasr & Jagielski 2305.08846. Each of m canaries is in the data with probability 1/2. Whoever sees the outcome
guesses, for r of them, in or out; under (epsilon, delta)-privacy not many more than a share e^eps / (1 + e^eps) of the
guesses can be right, so too many right ones disprove a promised epsilon. A bound near 0 proves nothing: it is what this
attack found. A bound above the promise means that clipping, noise, sampling or accounting is broken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedart_nb._system.cancelling import checkpoint
from fedart_nb.errors import PrivacyError

__all__ = ["Audit", "audit", "ceiling", "epsilon_lower_bound"]

_MOST = 50.0
#: Guesses are made for this share of the canaries, the highest and the lowest scores alike; fixed beforehand, because
#: the best of many numbers of guesses would need a correction for choosing.
_SHARE = 1 / 150


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        canaries, guesses, correct: m, r and v.
        delta, confidence: with which the bound holds: an honest run is above its promise in 1 - confidence of audits.
        lower_bound: epsilon is at least this.
        promised: what an accountant says at the same delta.
    """

    canaries: int
    guesses: int
    correct: int
    delta: float
    confidence: float
    lower_bound: float
    promised: float

    @property
    def passed(self) -> bool:
        """Whether the promise was not disproved."""
        return self.lower_bound <= self.promised

    def __str__(self) -> str:
        found = (
            f"{self.correct:,} of {self.guesses:,} guesses about {self.canaries:,} canaries were right: epsilon is at "
            f"least {self.lower_bound:.2f} at delta {self.delta:g} ({self.confidence:.1%} sure)"
        )
        if self.passed:
            return f"{found}; promised is {self.promised:.2f}. Not disproved, which is not a proof."
        return f"{found}, but promised was {self.promised:.2f}: clipping, noise, sampling or accounting is broken."


def audit(
    scores: NDArray[np.floating],
    included: NDArray[np.bool_],
    *,
    promised: float,
    delta: float,
    guesses: int | None = None,
    confidence: float = 0.95,
) -> Audit:
    """Guess the highest scores in and the lowest out, and bound epsilon by how often that was right.

    Args:
        scores: (m,), higher where a canary seems to be in.
        included: (m,), where it was, by independent fair coins.
        promised: epsilon of the accountant, at this same delta.
        delta: small against 1 / m, or the bound is 0.
        guesses: r, even; 1 in 150 canaries unless given. Choose it before looking at scores.

    Raises:
        PrivacyError: sizes do not fit.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> included = rng.random(10_000) < 0.5
        >>> audit(included + rng.normal(size=10_000), included, promised=5.2, delta=1e-6).passed
        True
    """
    m = len(scores)
    r = max(2, 2 * round(m * _SHARE / 2)) if guesses is None else guesses
    if scores.shape != included.shape or scores.ndim != 1 or not 2 <= r <= m or r % 2:
        raise PrivacyError(
            f"{r} guesses about scores {scores.shape} and coins {included.shape}; expected two equal (m,) and an even "
            "number of guesses up to m."
        )
    order = np.argsort(scores, kind="stable")
    correct = int(included[order[m - r // 2 :]].sum() + (~included[order[: r // 2]]).sum())
    bound = epsilon_lower_bound(canaries=m, guesses=r, correct=correct, delta=delta, confidence=confidence)
    return Audit(m, r, correct, delta, confidence, bound, promised)


def epsilon_lower_bound(*, canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95) -> float:
    """The largest epsilon that so many right guesses rule out (theorem 5.2 and appendix D of the paper).

    >>> round(epsilon_lower_bound(canaries=100, guesses=100, correct=100, delta=0.0), 1)
    3.5
    """
    if not 0 <= correct <= guesses <= canaries:
        raise PrivacyError(f"{correct} of {guesses} guesses about {canaries} canaries; expected them to grow.")
    if not (0 <= delta < 1 and 0.5 <= confidence < 1):
        raise PrivacyError(f"delta {delta!r} and confidence {confidence!r}; expected 0 to 1, and 0.5 to 1.")
    p = 1 - confidence
    if not correct or _p_value(canaries, guesses, correct, 0.0, delta) > p:
        return 0.0
    low, high = 0.0, _MOST
    while high - low > 1e-6:
        checkpoint()
        middle = (low + high) / 2
        low, high = (middle, high) if _p_value(canaries, guesses, correct, middle, delta) <= p else (low, middle)
    return low


def ceiling(*, canaries: int, delta: float, guesses: int | None = None, confidence: float = 0.95) -> float:
    """What an audit of this size can show at best, with every guess right: no higher epsilon can be disproved."""
    r = canaries if guesses is None else guesses
    return epsilon_lower_bound(canaries=canaries, guesses=r, correct=r, delta=delta, confidence=confidence)


def _p_value(m: int, r: int, v: int, eps: float, delta: float) -> float:
    """Chance of v or more right guesses of r under (eps, delta)-privacy, at most."""
    log_right, log_wrong = -math.log1p(math.exp(-eps)), -eps - math.log1p(math.exp(-eps))
    k = np.arange(r + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, r + 1)))])
    pmf = np.exp(factorials[r] - factorials - factorials[::-1] + k * log_right + (r - k) * log_wrong)
    tail = float(pmf[v:].sum())
    sums = np.cumsum(pmf[:v][::-1])  # P[v - i <= W < v] for i = 1 ... v
    alpha = float((sums / np.arange(1, v + 1)).max())
    return min(1.0, tail + 2 * m * delta * alpha)
