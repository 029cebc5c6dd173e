"""Make the README's pictures and its table of figures.

`demo.png` from `fedart demo`'s output, `personal.png` from the sheet of `benchmarks/personal.py`, the table from
`benchmarks/results`:

    make demo && python benchmarks/personal.py && python recipes/readme/make.py
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fedart_nb.analysis.keepsake import Keepsake
from fedart_nb.figures import contact_sheet

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from _report import weights  # noqa: E402 - it lives beside the benchmarks

BEGIN = "<!-- results:begin (written by recipes/readme/make.py from benchmarks/results) -->"
END = "<!-- results:end -->"


#: What the README shows of the backbone, personal adapters, speed and secure aggregation: label and measure.
SHOWN = (
    ("autoencoder on unseen pictures", "ae.psnr_pool"),
    ("autoencoder on the hardest of the ten artists", "ae.psnr_worst_artist"),
    (
        "what the backbone draws is found by its caption (top 5 of 240), as a share of real drawings",
        "backbone.caption_top5_of_ceiling",
    ),
    ("distance of drawn from real pictures, style features", "backbone.kid_style"),
    ("unseen captions with a personal adapter, judged to be that artist's", "personal.style_accuracy"),
    ("captions kept by a personal adapter, as a share of the backbone's", "personal.caption_kept"),
    ("training a personal adapter", "personal.seconds"),
    ("our training step against the diffusers example's", "train.speedup_vs_example"),
    ("four pictures, 20 steps with guidance", "sample.four_pictures_s"),
    ("the package, weights and art included", "wheel.mb"),
    ("five artists together recover of what their pictures in one place would gain", "quality.recovered_5"),
    ("ten artists together, the same", "quality.recovered_10"),
    ("what an artist sends for that, as a share of plain FedAvg's upload", "quality.bytes_vs_fedavg"),
    ("artists for whom shared + personal beats training alone, equal steps", "quality.personal_beats_local"),
    ("the same for artists with eight pictures each", "few.joining_beats_alone_8"),
    ("whether a known artist took part, from one update in the clear (0.5 is guessing)", "quality.linkage_auc_plain"),
    ("the same from a masked sum of five", "quality.linkage_auc_secagg"),
    ("the same with noise at epsilon 8 per picture", "quality.linkage_auc_eps8"),
    ("gain in held-out loss that five artists keep at epsilon 8 per picture", "privacy.kept_gain_eps8"),
    ("200 simulated artists in one process, masked sums on", "scale.peak_gib_200"),
    ("unmasking the sum of 30 artists, 20 % of them gone, against Flower's SecAgg+", "secagg.unmask_speedup_vs_flower"),
    ("one artist's work in that round, against Flower's SecAgg+", "secagg.client_speedup_vs_flower"),
    ("what an artist sends for each number of an update, all messages", "secagg.bytes_per_param"),
    ("largest error of ten artists' masked mean, share of the clip: half words (2 B)", "secagg.error_over_clip_16bit"),
    ("the same with whole words (4 B, twice the upload)", "secagg.error_over_clip_32bit"),
    ("the same for thirty artists, whole words", "secagg.error_over_clip"),
    ("a round of ten processes, two of them killed, beyond training", "round.ten_artists_overhead_s"),
    ("requests at a relay by a fuzzer, none of them answered by a fault", "relay.fuzz_requests"),
    ("inputs to the wire's decoders by a fuzzer, none of them a crash", "wire.fuzz_inputs"),
    ("an honest room's round beside the worst abuse of its relay, against one left in peace", "abuse.worst_slowdown"),
)


def figures(results: Path) -> dict[str, dict[str, Any]]:
    """Every kept figure by its measure name, with the date of its run."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob("*.jsonl")):
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            found[line["measure"]] = line | {key: head[key] for key in ("date", "machine", "script")}
            found[line["measure"]]["weights"] = head.get("weights")
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """The README's table, as Markdown."""
    first = found["first_round.artists_improved"]
    means: dict[str, float] = first["baseline"]
    loss = " / ".join(f"{means[f'mean_loss_{way}']:.4f}" for way in ("backbone", "federated", "local", "centralised"))
    low, high = first["spread"]
    improved = f"{first['value']} {first['unit']} (per seed {low} to {high}, {first['seeds']} seeds)"
    cost = f"{found['demo.wall_s']['value']:.0f} s, {found['demo.peak_gib']['value']} GiB"
    started = found["import.seconds"]["value"]
    again = "python benchmarks/first_round.py --json"
    rows = [
        "| what | figure | again with |",
        "|---|---|---|",
        f"| artists whose held-out loss the shared adapter lowers | {improved} | `{again}` |",
        f"| mean held-out loss: backbone / shared / local-only / centralised | {loss} | `{again}` |",
        f"| `make demo`, once installed | {cost} | `python benchmarks/demo.py --json` |",
        f"| `import fedart_nb` | {started:.2f} s | `python benchmarks/import_time.py --json` |",
        *[_row(label, found[name]) for label, name in SHOWN if name in found],
        "",
        f"*First two rows: {first['how']}. Measured {first['date']} on {first['machine']}.*",
    ]
    if first["weights"] != weights():
        rows.append("*The weights have been trained further since the first two rows were measured.*")
    return "\n".join(rows)


def _row(label: str, line: dict[str, Any]) -> str:
    """One figure with its interval; what it is compared with stands in the results file."""
    low, high = line.get("spread") or (None, None)
    interval = "" if low is None else f" ({low:g} to {high:g})"
    value = f"{line['value']:,}" if isinstance(line["value"], int) else f"{line['value']:.4g}"
    figure = f"{value} {line['unit']}".strip() + interval
    return f"| {label} | {figure} | `python benchmarks/{line['script']}.py --json` |"


def between(readme: Path, begin: str, end: str, text: str) -> None:
    """Put `text` between two marks of the README."""
    before, rest = readme.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def write_picture(demo: Path, target: Path) -> None:
    """One row of the backbone's pictures, then one row per artist with shared + personal adapters."""
    keepsakes = [Keepsake.load(path) for path in sorted(demo.glob("*/keepsake"))]
    prompts = keepsakes[0].prompts
    rows = [("backbone alone", keepsakes[0].pictures["backbone"])]
    rows += [(f"{k.name} ({k.title})", k.pictures["shared + personal"]) for k in keepsakes]
    sheet = contact_sheet(
        np.concatenate([pictures for _, pictures in rows]),
        [f"{prompt}, {who}" for who, _ in rows for prompt in prompts],
        columns=len(prompts),
        size_px=160,
    )
    target.write_bytes(sheet.png)


if __name__ == "__main__":
    write_picture(ROOT / "out" / "demo", Path(__file__).parent / "demo.png")
    shutil.copyfile(ROOT / "out" / "personal" / "sheet.png", Path(__file__).parent / "personal.png")
    between(ROOT / "README.md", BEGIN, END, table(figures(ROOT / "benchmarks" / "results")))
