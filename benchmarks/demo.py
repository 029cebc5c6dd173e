"""How long `fedart demo` takes and how much memory its processes hold together.

python benchmarks/demo.py --json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from _report import measure, options, report

ROOT = Path(__file__).parent.parent


def main() -> None:
    chosen = options(__doc__)
    environment = os.environ | ({"FEDART_FAST": "1"} if chosen.quick else {})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if chosen.quick else ROOT / "out"  # the README's picture is made from a full run
        command = [sys.executable, "-c", "from fedart_nb.workshop.demo import main; main()", "--out", str(folder)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=sys.stderr)
        numbers = json.loads((folder / "demo" / "demo.json").read_text(encoding="utf-8"))
    how = "relay, host and three artists in separate processes, two rounds, one thread each" + (
        "; FEDART_FAST=1" if chosen.quick else ""
    )
    report(
        __file__,
        [
            measure("demo.wall_s", numbers["wall_s"], "s", how=how),
            measure("demo.peak_gib", numbers["peak_gib"], "GiB", how=f"{how}; sum of proportional set sizes"),
        ],
        chosen,
    )


if __name__ == "__main__":
    main()
