"""FFA-LoRA (Sun et al. 2403.12313): A stays at its random start, B alone is trained and averaged.

(B + mean dB_i) A = mean (B + dB_i) A: exact under sums, and noise on B is never multiplied with noise on A. Where an
artist's art needs other inputs than the random A looks at, it saturates early: a baseline, not a default.
"""

from __future__ import annotations

from .strategy import Rule, stepped

__all__ = ["RULE"]

RULE = Rule(
    name="ffa",
    meaning="A stays as it began; B alone is trained, sent and averaged: exact, and the smallest upload.",
    factors=lambda _number: "B",
    aggregate=stepped,
)
