"""Federated averaging that begins with B: round 1 trains B alone, every later one A and B, each averaged on its own.

    round 1: (B + mean dB_i) A        later: (B + mean dB_i) (A + mean dA_i)

While B is zero, A has no gradient, so what plain averaging sends of A in round 1 was learnt from next to nothing. Round
1 is exact under sums; later ones are not quite (`fedavg.aggregation_error`), by less the fewer local steps a round has:
with two of them, both factors moving at once is worth far more than the error costs (`recipes/quality`).
"""

from __future__ import annotations

from .strategy import Factors, Rule, stepped

__all__ = ["RULE"]


def _factors(number: int) -> Factors:
    return "B" if number == 1 else "both"


RULE = Rule(
    name="bfirst",
    meaning="Round 1 trains and sends B, later ones A and B, each averaged on its own: for many short rounds.",
    factors=_factors,
    aggregate=stepped,
    no_artist_noise="its rounds send vectors of two lengths, and the noise is sized for one",
)
