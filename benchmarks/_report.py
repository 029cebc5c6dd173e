"""What every benchmark shares: its options, one JSON object a line, and the kept file of the last full run."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fedart_nb.diffusion import Backbone

RESULTS = Path(__file__).parent / "results"


def options(
    description: str | None,
    *,
    backbone: bool = False,
    pool: bool = False,
    seeds: bool = False,
    only: Sequence[str] = (),
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line and nothing else")
    parser.add_argument("--quick", action="store_true", help="a reduced run of at most two minutes; nothing is kept")
    if backbone:
        parser.add_argument("--backbone", metavar="FOLDER", help="use this pipeline in diffusers' format")
    if pool:
        parser.add_argument("--pool", metavar="PATH", help="the pre-training pool (recipes/backbone/README.md)")
    if seeds:
        parser.add_argument("--seed", type=int, help="compute one seed's cells and no figures, beside other seeds")
    if only:
        parser.add_argument("--only", choices=only, metavar="PART", help=f"measure one part alone: {', '.join(only)}")
    return parser.parse_args()


def measure(
    name: str,
    value: float,
    unit: str,
    *,
    how: str,
    spread: tuple[float, float] | None = None,
    seeds: int = 1,
    baseline: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One figure in the format that all benchmarks use."""
    line: dict[str, Any] = {"measure": name, "value": value, "unit": unit}
    if spread is not None:
        line["spread"] = list(spread)
    return line | {"seeds": seeds, "baseline": baseline or {}, "how": how}


def backbone_of(folder: str | None, *, device: str | None = None) -> Backbone:
    """The pipeline that `--backbone` names, else the embedded one."""
    from fedart_nb.diffusion import Backbone

    return Backbone.from_pretrained(folder, device=device) if folder else Backbone.embedded(device=device)


def kept(chosen: argparse.Namespace) -> bool:
    """Whether a run's figures are to be kept: a full run's, with the weights that ship."""
    return not (chosen.quick or getattr(chosen, "backbone", None))


def report(script: str, lines: list[dict[str, Any]], chosen: argparse.Namespace, *, complete: bool = True) -> None:
    """Print the figures; those of a full run are kept in `results/<script>.jsonl`, with date and machine."""
    name = Path(script).stem
    for line in lines:
        if chosen.json:
            print(json.dumps(line), flush=True)
        else:
            spread = f" [{line['spread'][0]}, {line['spread'][1]}]" if "spread" in line else ""
            print(f"{line['measure']}: {line['value']} {line['unit']}{spread} ({line['how']})", flush=True)
    if complete and kept(chosen):
        head = {
            "script": name,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in ("torch", "diffusers", "peft", "fedart-nb")},
            "weights": weights(),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {_processor()}",
        }
        text = "".join(json.dumps(line) + "\n" for line in [head, *lines])
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.jsonl").write_text(text, encoding="utf-8")


def weights() -> str:
    """Which embedded weights a figure belongs to: the first of a SHA-256 over their files."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parents[1] / "fedart_nb" / "diffusion" / "embedded").rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
