"""RoLoRA (Chen et al. 2409.02346; LoRA-A2, Koo et al. 2410.22815): odd rounds train B alone, even rounds A alone.

    round 1, 3, ...: (B + mean dB_i) A = mean (B + dB_i) A        round 2, 4, ...: B (A + mean dA_i) = mean B (A + dA_i)

Everybody holds the same frozen factor, so the average is exact under sums, and both factors learn in the end. Half of
what plain averaging sends. It starts with B: while B is zero, A has no gradient.
"""

from __future__ import annotations

from .strategy import Factors, Rule, stepped

__all__ = ["RULE"]


def _factors(number: int) -> Factors:
    return "B" if number % 2 else "A"


RULE = Rule(
    name="rolora",
    meaning="Odd rounds train and send B, even rounds A, while the other stays: exact, at half the upload.",
    factors=_factors,
    aggregate=stepped,
    no_artist_noise="its rounds send vectors of two lengths, and the noise is sized for one",
)
