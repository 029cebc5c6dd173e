"""The loss curve: training loss, smoothed, and held-out loss, for light and dark pages alike."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Protocol

from fedart_nb.figures.drawn import Drawn
from fedart_nb.figures.themes import CURVES, INK, themed_svg

__all__ = ["loss_curve", "smoothed"]

_TABLE_ROWS = 12


class _HasLoss(Protocol):
    """What a curve reads of a step; `fedart_nb.events.Step` has it."""

    @property
    def index(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def held_out_loss(self) -> float | None: ...


def smoothed(values: Sequence[float], *, memory: float = 0.9) -> list[float]:
    """Exponential moving average, corrected for its start (Kingma & Ba 2015, section 3); as long as `values`.

    >>> smoothed([2.0, 2.0])
    [2.0, 2.0]
    """
    mean, out = 0.0, []
    for count, value in enumerate(values, start=1):
        mean = memory * mean + (1 - memory) * value
        out.append(round(mean / (1 - memory**count), 10))
    return out


def loss_curve(
    steps: Iterable[_HasLoss], *, total: int | None = None, before: float | None = None, width_in: float = 6.4
) -> Drawn:
    """Draw training loss (each step faint, smoothed line solid) and held-out loss (dashed, with markers).

    `total` fixes the right end of the axis while training goes on; `before` is the held-out loss at step 0. The axes
    are linear and begin where the losses do, not at zero. Works with any number of steps, none included.
    """
    steps = [step for step in steps if math.isfinite(step.loss)]  # a private step's sample may be empty
    index, losses = [step.index for step in steps], [float(step.loss) for step in steps]
    held_out = [(step.index, float(step.held_out_loss)) for step in steps if step.held_out_loss is not None]
    if before is not None and steps:
        held_out.insert(0, (0, float(before)))
    smooth = smoothed(losses)
    return Drawn(
        alt=_alt(index, smooth, held_out, total),
        table=_table(index, losses, smooth, held_out),
        svg=_draw(index, losses, smooth, held_out, total, width_in),
    )


def _draw(
    index: list[int],
    losses: list[float],
    smooth: list[float],
    held_out: list[tuple[int, float]],
    total: int | None,
    width_in: float,
) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(width_in, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.plot(index, losses, color=CURVES[0], alpha=0.5, linewidth=1)
    axes.plot(index, smooth, color=CURVES[0], linewidth=2.4, label="training loss, smoothed")
    if held_out:
        x, y = zip(*held_out, strict=True)
        style: dict[str, Any] = {"linestyle": (0, (5, 2)), "marker": "o", "markersize": 4.5, "clip_on": False}
        axes.plot(x, y, color=CURVES[1], linewidth=1.8, label="held-out loss", **style)
    axes.set_xlim(0, max(total or 1, index[-1] if index else 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.18)
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("denoising loss", color=INK)
    axes.tick_params(colors=INK, length=3)
    axes.grid(visible=True, axis="y", color=INK, alpha=0.14, linewidth=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_alpha(0.5)
    if index:
        axes.legend(frameon=False, labelcolor=INK, loc="best", fontsize=9)
    else:
        axes.set_yticks([])
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return themed_svg(out.getvalue())


def _alt(index: list[int], smooth: list[float], held_out: list[tuple[int, float]], total: int | None) -> str:
    if not index:
        return "Loss curve: no step taken yet."
    of_total = f" of {total}" if total else ""
    parts = [
        f"Loss curve after {index[-1]}{of_total} steps.",
        f"Smoothed training loss went from {smooth[0]:.3f} to {smooth[-1]:.3f}.",
    ]
    if held_out:
        first, last = held_out[0], held_out[-1]
        parts.append(f"Held-out loss went from {first[1]:.3f} (step {first[0]}) to {last[1]:.3f} (step {last[0]}).")
        best = min(held_out, key=lambda point: point[1])
        always_fell = all(after[1] <= before[1] for before, after in pairwise(held_out))
        parts.append("It fell at every check." if always_fell else f"Its lowest was {best[1]:.3f} (step {best[0]}).")
    return " ".join(parts)


def _table(
    index: list[int], losses: list[float], smooth: list[float], held_out: list[tuple[int, float]]
) -> tuple[tuple[str, ...], ...]:
    checked = dict(held_out)
    wanted = {round(i * (len(index) - 1) / (_TABLE_ROWS - 1)) for i in range(_TABLE_ROWS)} if index else set()
    rows = [
        (str(step), f"{losses[i]:.4f}", f"{smooth[i]:.4f}", f"{checked[step]:.4f}" if step in checked else "–")
        for i, step in enumerate(index)
        if i in wanted or (step in checked and len(checked) <= _TABLE_ROWS)
    ]
    return (("step", "training loss", "smoothed", "held-out loss"), *rows)
