"""How surely sums with an artist are told from sums without: bars by the number of artists, with and without noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .drawn import Drawn
from .privacy import _axes
from .themes import CURVES, INK

__all__ = ["linkage_bars"]

_WIDTH = 0.36


def linkage_bars(curves: Mapping[tuple[bool, int], float], *, epsilon: float, width_in: float = 6.4) -> Drawn:
    """Area under the ROC curve for each number of artists in the sum; bars with noise are hatched.

    Args:
        curves: (whether with noise, artists in the sum) to the area, from 0 to 1; 0.5, guessing, is a dashed line.
        epsilon: of the noise, for the legend.
    """
    sizes = sorted({size for _, size in curves})
    names = ["in the clear" if size == 1 else f"sum of {size}" for size in sizes]
    axes, finish = _axes(width_in)
    kinds = [kind for kind in (False, True) if any(kind == noised for noised, _ in curves)]
    for place, noised in enumerate(kinds):
        label = f"noise, epsilon {epsilon:g}" if noised else "no noise"
        shift = (place - (len(kinds) - 1) / 2) * _WIDTH
        for index, size in enumerate(sizes):
            if (noised, size) in curves:
                value = curves[noised, size]
                style: dict[str, Any] = {"hatch": "///", "edgecolor": INK} if noised else {}
                style["label"] = label if index == 0 else None
                axes.bar(index + shift, value, _WIDTH * 0.92, color=CURVES[noised], **style)
                axes.text(index + shift, value + 0.02, f"{value:.2f}", ha="center", va="bottom", color=INK, fontsize=9)
    axes.axhline(0.5, color=INK, linewidth=1.2, linestyle=(0, (5, 2)))
    beside = axes.get_yaxis_transform()
    axes.text(1.01, 0.5, "guessing", ha="left", va="center", color=INK, fontsize=9, transform=beside)
    axes.set_xticks(range(len(sizes)), names, color=INK)
    axes.set_ylim(0, 1.4)
    axes.set_xlim(-0.55, len(sizes) - 0.45)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("how surely", color=INK)
    axes.legend(frameon=False, labelcolor=INK, loc="upper right", ncols=2, fontsize=9)
    rows = [
        (name, *(f"{curves[kind, size]:.2f}" if (kind, size) in curves else "" for kind in kinds))
        for name, size in zip(names, sizes, strict=True)
    ]
    head = ("what the attacker sees", *("with noise" if kind else "no noise" for kind in kinds))
    told = "; ".join(f"{name}: {_read(curves, kinds, size)}" for name, size in zip(names, sizes, strict=True))
    alt = f"How surely an attacker tells that you took part, where 0.5 is guessing and 1 is certain. {told}."
    return Drawn(alt=alt, table=(head, *rows), svg=finish())


def _read(curves: Mapping[tuple[bool, int], float], kinds: list[bool], size: int) -> str:
    known = [kind for kind in kinds if (kind, size) in curves]
    return ", ".join(f"{curves[kind, size]:.2f} {'with' if kind else 'without'} noise" for kind in known)
