"""What noise costs the art and what the attacker, as the README's figure and table: from `benchmarks/privacy.py`'s run.

python benchmarks/privacy.py --json && python recipes/readme/privacy_figure.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedart_nb.figures.themes import CURVES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from make import between  # noqa: E402 - it lives beside this script

BEGIN = "<!-- privacy:begin (written by recipes/readme/privacy_figure.py from benchmarks/results/privacy.jsonl) -->"
END = "<!-- privacy:end -->"
EPSILONS = ("eps1", "eps3", "eps8", "no_noise")
NAMES = ("epsilon 1", "epsilon 3", "epsilon 8", "no noise")

_Line = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One figure at every epsilon: [mean, least, most over seeds], and the level to hold it against."""

    label: str
    short: str
    values: tuple[tuple[float, float, float], ...]
    level: float
    level_name: str
    digits: int = 2


def rows(found: Mapping[str, _Line]) -> list[Row]:
    """What the figure's panels and the table's lines show, in order."""
    lines = [found[f"privacy.loss_{name}"] for name in EPSILONS]
    first = lines[0]["baseline"]

    def told(key: str) -> tuple[tuple[float, float, float], ...]:
        return tuple(tuple(line["baseline"][key]) for line in lines)

    loss = tuple((line["value"], *_middle(line)) for line in lines)
    kid = told("kid")
    return [
        Row("held-out loss", "the art: held-out loss", loss, first["loss_backbone"], "backbone alone", 3),
        Row("pictures in the artist's hand", "the art: in the artist's hand", told("style_accuracy"), 0.1, "chance"),
        Row("distance to real pictures (KID)", "the art: KID to real pictures", kid, kid[-1][0], "no noise"),
        Row("membership AUC", "the attacker: membership AUC", told("membership_auc"), 0.5, "guessing"),
        Row("picture found among 64", "the attacker: found among 64", told("identified_of_64"), 1 / 64, "chance"),
    ]


def _middle(line: _Line) -> tuple[float, float]:
    low, high = line["spread"]
    return float(low), float(high)


def picture(found: Mapping[str, _Line]) -> bytes:
    """The panels side by side, PNG on white: points at the mean, bars from the least to the most of the seeds."""
    shown = [row for row in rows(found) if "KID" not in row.label]
    bounds = [found[f"privacy.loss_{name}"]["baseline"]["identified_bound"] for name in EPSILONS]
    figure = Figure(figsize=(11, 2.7), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    for axes, row in zip(figure.subplots(1, len(shown)), shown, strict=True):
        centre = [value[0] for value in row.values]
        around = [[v[0] - v[1] for v in row.values], [v[2] - v[0] for v in row.values]]
        colour = CURVES[0 if row.short.startswith("the art") else 1]
        axes.errorbar(range(4), centre, yerr=around, fmt="o-", color=colour, capsize=4, linewidth=1.6)
        axes.axhline(row.level, color="black", linewidth=1, linestyle=(0, (5, 2)), label=row.level_name)
        if row.label == "picture found among 64":
            axes.plot(range(4), bounds, "v:", color="black", markersize=5, linewidth=1, label="no attack can do better")
            axes.set_ylim(-0.03, 1.06)
        axes.set_title(row.short, fontsize=10)
        axes.set_xticks(range(4), ["1", "3", "8", "no\nnoise"])
        axes.set_xlabel("epsilon", fontsize=9)
        axes.tick_params(labelsize=9)
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def alt(found: Mapping[str, _Line]) -> str:
    """The figure in words."""
    told = "; ".join(f"{row.label} {_series(row)} ({row.level_name} {row.level:.{row.digits}f})" for row in rows(found))
    return f"At epsilon 1, 3, 8 and without noise: {told}."


def _series(row: Row) -> str:
    return ", ".join(f"{value[0]:.{row.digits}f}" for value in row.values)


def table(found: Mapping[str, _Line]) -> str:
    """The same as Markdown: mean of the seeds, from the least to the most."""
    head = [f"| ten artists, each alone | {' | '.join(NAMES)} | to hold it against |", "|---|---|---|---|---|---|"]
    return "\n".join(
        [
            *head,
            *[
                f"| {row.label} | {' | '.join(_cell(value, row.digits) for value in row.values)} "
                f"| {row.level_name}: {row.level:.{row.digits}f} |"
                for row in rows(found)
            ],
        ]
    )


def _cell(value: Sequence[float], digits: int) -> str:
    mean, low, high = value
    return f"{mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    kept = (ROOT / "benchmarks" / "results" / "privacy.jsonl").read_text(encoding="utf-8").splitlines()
    found = {line["measure"]: line for line in map(json.loads, kept[1:])}
    (Path(__file__).parent / "privacy.png").write_bytes(picture(found))
    text = f"![{alt(found)}](recipes/readme/privacy.png)\n\n{table(found)}"
    between(ROOT / "README.md", BEGIN, END, text)


if __name__ == "__main__":
    main()
