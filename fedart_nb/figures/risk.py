"""The risk corridor: how much noise it takes against rebuilding a picture, and against picking it out of many."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedart_nb.figures.drawn import Drawn
from fedart_nb.figures.themes import CURVES, INK, themed_svg

__all__ = ["corridor_at", "risk_corridor"]

_PLACES = re.compile(r' data-fa-places="([^"]*)"')


def risk_corridor(
    curve: Sequence[tuple[float, float, float]],
    *,
    candidates: int,
    identified: Sequence[tuple[float, float]] = (),
    rebuilt: Sequence[tuple[float, float]] = (),
    now: float | None = None,
    limits: str = "",
    delta: float = 1e-5,
    width_in: float = 6.4,
) -> Drawn:
    """Two panels over epsilon: above, how often a picture is picked out of N; below, how well one is rebuilt.

    Args:
        curve: (epsilon, bound on identification, PSNR in dB without a prior), finite epsilons above 0.
        candidates: N.
        identified, rebuilt: measured dots, (epsilon, share) and (epsilon, PSNR in dB).
        now: epsilon at which a vertical line stands.
        limits: what the formulas do not say, printed beneath.

    Example:
        >>> risk_corridor([(1.0, 0.05, -8.0), (10.0, 0.44, 2.0)], candidates=64).alt[:14]
        'Risk corridor,'
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    points = sorted(p for p in curve if math.isfinite(p[0]) and p[0] > 0)
    figure = Figure(figsize=(width_in, 4.6), layout="constrained")
    FigureCanvasSVG(figure)
    upper, lower = figure.subplots(2, 1, sharex=True)
    eps = [p[0] for p in points]
    upper.plot(eps, [p[1] for p in points], color=CURVES[0], linewidth=2.2, label=f"bound, one of {candidates}")
    upper.axhline(1 / candidates, color=INK, linewidth=1, linestyle=(0, (1, 2)), label="chance")
    lower.plot(
        eps, [p[2] for p in points], color=CURVES[1], linewidth=2.2, linestyle=(0, (5, 2)), label="without a prior"
    )
    for axes, dots, marker, told in ((upper, identified, "o", "measured"), (lower, rebuilt, "s", "measured")):
        known = [(e, v) for e, v in dots if math.isfinite(e) and e > 0 and math.isfinite(v)]
        if known:
            axes.plot([e for e, _ in known], [v for _, v in known], marker, color=INK, markersize=6, label=told)
        _dress(axes, now)
    upper.set_ylim(0, 1.05)
    upper.set_ylabel("picked out", color=INK)
    lower.set_ylabel("PSNR, dB", color=INK)
    lower.set_ylim(0, 50)
    lower.set_xscale("log")
    lower.set_xlabel(f"epsilon at delta {delta:g}: less noise to the right", color=INK)
    for axes in (upper, lower):
        axes.legend(frameon=False, labelcolor=INK, loc="best", fontsize=9)
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    rows = [(f"{e:.3g}", f"{g:.3f}", f"{p:.1f}", "formula") for e, g, p in points]
    rows += [(f"{e:.3g}", f"{v:.3f}", "", "measured") for e, v in identified]
    rows += [(f"{e:.3g}", "", f"{v:.1f}", "measured") for e, v in rebuilt]
    table = (("epsilon", f"picked out of {candidates}", "PSNR, dB", "from"), *rows)
    return Drawn(
        alt=_alt(points, candidates, identified, rebuilt, now),
        table=table,
        svg=_placed(themed_svg(out.getvalue()), figure, (upper, lower)),
        caption=limits,
    )


def corridor_at(drawn: Drawn, epsilon: float) -> Drawn:
    """The same drawing with a vertical line at an epsilon; at once, as nothing is drawn anew.

    Args:
        drawn: from `risk_corridor`, without `now`.
    """
    found = _PLACES.search(drawn.svg or "")
    if found is None or not (math.isfinite(epsilon) and epsilon > 0):
        return drawn
    left, right, low, high, *edges = (float(value) for value in found[1].split())
    share = (math.log10(epsilon) - low) / (high - low)
    x = left + (right - left) * min(1.0, max(0.0, share))
    lines = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="currentColor" stroke-width="1.6"/>'
        for top, bottom in ((edges[0], edges[1]), (edges[2], edges[3]))
    )
    svg = (drawn.svg or "").replace("</svg>", f"{lines}</svg>")
    return replace(drawn, svg=svg, alt=f"{drawn.alt} A line marks epsilon {epsilon:.3g}.")


def _placed(svg: str, figure: Any, both: tuple[Any, Any]) -> str:
    """The SVG with the places of its axes in its own unit, for `corridor_at`: left, right, log10 limits, edges."""
    width, height = figure.get_size_inches() * 72
    boxes = [axes.get_position() for axes in both]
    low, high = (math.log10(limit) for limit in both[0].get_xlim())
    edges = [height * (1 - edge) for box in boxes for edge in (box.y1, box.y0)]
    places = [width * boxes[0].x0, width * boxes[0].x1, low, high, *edges]
    return svg.replace("<svg", f'<svg data-fa-places="{" ".join(f"{p:.2f}" for p in places)}"', 1)


def _dress(axes: Any, now: float | None) -> None:
    axes.tick_params(colors=INK, length=3, which="both")
    axes.grid(visible=True, axis="y", color=INK, alpha=0.14, linewidth=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
        spine.set_alpha(0.5)
    if now is not None and math.isfinite(now) and now > 0:
        axes.axvline(now, color=INK, linewidth=1.2, label=f"epsilon {now:.3g}")


def _alt(
    points: Sequence[tuple[float, float, float]],
    candidates: int,
    identified: Sequence[tuple[float, float]],
    rebuilt: Sequence[tuple[float, float]],
    now: float | None,
) -> str:
    if not points:
        return "Risk corridor: nothing to draw yet."
    first, last = points[0], points[-1]
    here = "" if now is None or not math.isfinite(now) else f" A line marks epsilon {now:.3g}."
    return (
        f"Risk corridor, epsilon from {first[0]:.3g} to {last[0]:.3g}: the bound on picking one picture out of "
        f"{candidates} goes from {first[1]:.0%} to {last[1]:.0%}, the PSNR without a prior from {first[2]:.0f} to "
        f"{last[2]:.0f} dB. {len(identified)} measured shares and {len(rebuilt)} measured PSNRs are dots.{here}"
    )
