"""Fed-SB (Singhal et al. 2502.15436): between two fixed factors, which a public seed gives, an r x r core is averaged.

    B (R + mean dR_i) A = mean B (R + dR_i) A

Exact under sums, r^2 numbers a layer, and noise on R is multiplied with nothing that is noised: the rule for noise on
whole artists. The cores are those of `AdapterConfig(core_seed=...)`.
"""

from __future__ import annotations

from .strategy import Rule, stepped

__all__ = ["RULE"]

RULE = Rule(
    name="fedsb",
    meaning="Only a tiny core between two fixed factors is trained, sent and averaged: exact, with the least bytes.",
    factors=lambda _number: "both",
    aggregate=stepped,
    cores=True,
)
