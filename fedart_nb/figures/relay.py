"""What the relay saw: an artist's update, the words that the relay holds of it, and the mean that came out."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedart_nb.figures.drawn import Drawn
from fedart_nb.figures.themes import CURVES, INK, themed_svg

__all__ = ["relay_view"]

_SIDE = 48  # values of the patch that is drawn as an image: 48 x 48
_BINS = 60


def relay_view(
    columns: Sequence[tuple[str, str, NDArray[np.floating] | NDArray[np.integer]]],
    correlations: Sequence[float],
    *,
    width_in: float = 8.2,
) -> Drawn:
    """Beside each other, for each column: the same patch of values as an image, and the histogram of all values.

    Args:
        columns: (title, name of the values' axis, values (d,)). The first one is what the others are compared with;
            columns of floating-point numbers share their scale, integers have their own.
        correlations: of each column with the first one.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    patch = _patch(columns[0][2])
    limit = max(float(np.quantile(np.abs(v[patch]), 0.99)) for _, _, v in columns if v.dtype.kind == "f") or 1.0
    figure = Figure(figsize=(width_in, 4.1), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(2, len(columns), height_ratios=(2, 1), squeeze=False)
    for column, ((title, name, values), r) in enumerate(zip(columns, correlations, strict=True)):
        real = values.dtype.kind == "f"
        low, high = (-limit, limit) if real else (0, 2**32 - 1)
        top, bottom = axes[0][column], axes[1][column]
        top.imshow(values[patch].reshape(_SIDE, _SIDE), cmap="cividis", vmin=low, vmax=high, interpolation="nearest")
        top.set_title(title, color=INK, fontsize=10)
        top.set_xlabel(f"correlation {r:+.3f}" if column else "compared with", color=INK, fontsize=9)
        top.set_xticks([])
        top.set_yticks([])
        edges = np.linspace(low * (3 if real else 1), high * (3 if real else 1), _BINS + 1)
        counts, _ = np.histogram(values, edges)
        bottom.stairs(counts / len(values), edges, fill=True, color=CURVES[0 if real else 1], alpha=0.75)
        bottom.set_yticks([])
        bottom.tick_params(colors=INK, labelsize=8, length=3)
        bottom.set_xlabel(name, color=INK, fontsize=9)
        if not real:
            bottom.set_xticks([0, 2**31, 2**32], ["0", "2³¹", "2³²"])
        for side, spine in bottom.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(INK)
            spine.set_alpha(0.5)
        for spine in top.spines.values():
            spine.set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return Drawn(alt=_alt(columns, correlations), table=_table(columns, correlations), svg=themed_svg(out.getvalue()))


def _patch(values: NDArray[np.generic]) -> NDArray[np.intp]:
    """Places of 48 x 48 values, spread over the vector so that every layer is in it."""
    return np.linspace(0, len(values) - 1, _SIDE * _SIDE).round().astype(np.intp)


def _numbers(values: NDArray[np.generic]) -> tuple[str, str, str]:
    numbers = values.astype(np.float64)
    form = "{:.3g}" if values.dtype.kind == "f" else "{:,.0f}"
    return (form.format(numbers.min()), form.format(numbers.max()), form.format(numbers.std()))


def _table(
    columns: Sequence[tuple[str, str, NDArray[np.generic]]], correlations: Sequence[float]
) -> tuple[tuple[str, ...], ...]:
    rows = [
        (title, *_numbers(values), f"{r:+.4f}") for (title, _, values), r in zip(columns, correlations, strict=True)
    ]
    return (("what", "smallest", "largest", "standard deviation", "correlation with your update"), *rows)


def _alt(columns: Sequence[tuple[str, str, NDArray[np.generic]]], correlations: Sequence[float]) -> str:
    said = [f"{len(columns)} columns, each with a patch of {_SIDE} by {_SIDE} values as an image over a histogram."]
    for (title, _, values), r in zip(columns, correlations, strict=True):
        low, high, spread = _numbers(values)
        said.append(f"{title}: from {low} to {high}, standard deviation {spread}, correlation {r:+.3f} with the first.")
    return " ".join(said)
