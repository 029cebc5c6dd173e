"""Arithmetic and the plot of `quality.py`: recovered fractions, intervals over seeds, uploads as counted in a log."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from _federation import Recipe

from fedart_nb.diffusion import Adapter
from fedart_nb.federated import Simulation, unpack

__all__ = ["convergence_plot", "interval", "recovered", "upload_bytes"]

#: Student's t, 97.5 %, by degrees of freedom.
_T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def recovered(bare: Mapping[str, float], federated: Mapping[str, float], centralised: Mapping[str, float]) -> float:
    """(backbone - federated) / (backbone - centralised), of means over the federation's artists.

    >>> recovered({"a": 2.0, "b": 9.0}, {"a": 1.5}, {"a": 1.0})
    0.5
    """
    start = statistics.fmean(bare[name] for name in federated)
    return (start - statistics.fmean(federated.values())) / (start - statistics.fmean(centralised.values()))


def interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % t-interval of the mean over seeds; a single value is its own."""
    centre = statistics.fmean(values)
    if len(values) < 2:
        return round(centre, 4), round(centre, 4)
    half = _T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return round(centre - half, 4), round(centre + half, 4)


def upload_bytes(start: Adapter, recipe: Recipe, artists: int) -> int:
    """What one artist sends in all rounds: every envelope's attachments and body, as a relay's log has them."""
    shared = unpack(start.to_bytes())
    names = [f"artist {i}" for i in range(artists)]
    room = Simulation(names, shared, rounds=recipe.rounds, rule=recipe.rule, bits=recipe.bits)
    nothing = {name: np.zeros_like(array) for name, array in shared.items()}
    key, sent = room.sides[names[0]].identity, 0
    for _ in range(recipe.rounds):
        done = room.round(dict.fromkeys(names, nothing))
        sent += sum(e.attachments_bytes + len(e.sealed(key)) for e in done.log if e.sender == key.id)
    return sent


def convergence_plot(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Mean held-out loss against rounds, by rule, with backbone and centralised as levels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fedart_nb.figures import OKABE_ITO

    by_name = {line["measure"]: line for line in lines}
    levels = by_name["quality.recovered_5"]["baseline"]
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = zip(cycle(OKABE_ITO.values()), cycle(("o", "s", "^", "D", "v", "P", "X", "*", "<")), strict=False)
    rules = [line for name, line in by_name.items() if name.startswith("quality.rule.")]
    for (colour, marker), line in zip(styles, rules, strict=False):
        curves = np.array(line["baseline"]["curve"])
        rounds, mean = curves[0, :, 0], curves[:, :, 1].mean(0)
        x, y = [0, *rounds], [levels["loss_backbone"], *mean]
        axes.plot(x, y, marker=marker, color=colour, label=line["measure"].removeprefix("quality.rule."), markersize=5)
    axes.axhline(levels["loss_centralised"], color="0.3", linestyle="--", linewidth=1)
    axes.annotate("centralised", (0, levels["loss_centralised"]), xytext=(2, 3), textcoords="offset points", fontsize=9)
    axes.set_xlabel("rounds")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("held-out denoising loss, mean of five artists")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
