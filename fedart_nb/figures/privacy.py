"""Privacy as pictures: epsilon spent over the trainings that were paid for, and how long pictures' gradients are."""

from __future__ import annotations

import io
import math
import statistics
from collections.abc import Sequence
from typing import Any

from fedart_nb.figures.drawn import Drawn
from fedart_nb.figures.themes import CURVES, INK, themed_svg

__all__ = ["gradient_norms", "spending"]

_TABLE_ROWS = 12
_BINS = 24


def spending(
    trainings: Sequence[tuple[str, float]],
    *,
    budget: float | None = None,
    width_in: float = 6.4,
    trainings_are: str = "trainings that were paid for",
) -> Drawn:
    """Epsilon after each training, as stairs, with the budget as a dashed line.

    Args:
        trainings: (what for, epsilon of everything up to it), oldest first; infinite ones are left out of the drawing.
        trainings_are: what one of them is, for the axis.
    """
    from matplotlib.ticker import MaxNLocator

    finite = [(i, cost) for i, (_, cost) in enumerate(trainings, start=1) if math.isfinite(cost)]
    axes, finish = _axes(width_in)
    edges = [0, *(i for i, _ in finite)]
    heights = [0.0, *(cost for _, cost in finite)]
    axes.step(edges, heights, where="post", color=CURVES[0], linewidth=2.4, label="epsilon spent")
    axes.plot(edges[1:], heights[1:], "o", color=CURVES[0], markersize=4.5, clip_on=False)
    if budget is not None:
        axes.axhline(budget, color=CURVES[1], linewidth=1.8, linestyle=(0, (5, 2)), label=f"budget, {budget:g}")
    axes.set_xlim(0, max(1, len(trainings)) + 0.4)
    axes.set_ylim(0, 1.15 * max([*heights, budget or 0.0, 0.1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(trainings_are, color=INK)
    axes.set_ylabel("epsilon", color=INK)
    axes.legend(frameon=False, labelcolor=INK, loc="best", fontsize=9)
    left = max(0, len(trainings) - _TABLE_ROWS)
    rows = [(str(i), name, _number(cost)) for i, (name, cost) in enumerate(trainings, start=1) if i > left]
    return Drawn(alt=_spending_alt(trainings, budget), table=(("", "for what", "epsilon after"), *rows), svg=finish())


def gradient_norms(values: Sequence[float], *, clip_norm: float, width_in: float = 6.4) -> Drawn:
    """Histogram of pictures' gradient norms before clipping, on a logarithmic axis, with the clip norm as a line.

    Without values it says so. What lies right of the line was shortened; it is computed from the pictures and stays in
    the kernel.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    known = sorted(value for value in values if math.isfinite(value) and value > 0)
    axes, finish = _axes(width_in)
    if known:
        low, high = min(known[0], clip_norm) / 1.2, max(known[-1], clip_norm) * 1.2
        edges = [low * (high / low) ** (i / _BINS) for i in range(_BINS + 1)]
        axes.hist(known, bins=edges, color=CURVES[0], alpha=0.75)
    else:
        axes.set_xlim(clip_norm / 10, clip_norm * 10)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(clip_norm, color=CURVES[1], linewidth=1.8, linestyle=(0, (5, 2)), label=f"clip norm, {clip_norm:g}")
    axes.set_xlabel("norm of a picture's gradient, before clipping", color=INK)
    axes.set_ylabel("gradients", color=INK)
    axes.legend(frameon=False, labelcolor=INK, loc="best", fontsize=9)
    if not known:
        return Drawn(alt="Gradient norms: no picture yet.", svg=finish())
    clipped = sum(value > clip_norm for value in known)
    told = (
        ("pictures", f"{len(known)}"),
        ("smallest", f"{known[0]:.3g}"),
        ("median", f"{statistics.median(known):.3g}"),
        ("largest", f"{known[-1]:.3g}"),
        ("clipped", f"{clipped} ({clipped / len(known):.0%})"),
    )
    alt = (
        f"Histogram of {len(known)} gradient norms: from {known[0]:.3g} to {known[-1]:.3g}, median "
        f"{statistics.median(known):.3g}. The clip norm is {clip_norm:g}; {clipped / len(known):.0%} were shortened."
    )
    return Drawn(alt=alt, table=(("what", "value"), *told), svg=finish())


def _axes(width_in: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, 2.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.add_subplot()
    axes.tick_params(colors=INK, length=3, which="both")
    axes.grid(visible=True, axis="y", color=INK, alpha=0.14, linewidth=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_alpha(0.5)

    def finish() -> str:
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        return themed_svg(out.getvalue())

    return axes, finish


def _spending_alt(trainings: Sequence[tuple[str, float]], budget: float | None) -> str:
    limit = f" The budget is {budget:g}." if budget is not None else " There is no budget; spending is only counted."
    if not trainings:
        return f"Epsilon spent: nothing was paid for yet.{limit}"
    last = trainings[-1][1]
    return f"Epsilon spent, over {len(trainings)} trainings: it went up to {_number(last)}.{limit}"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "infinite"
