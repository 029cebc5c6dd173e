"""How long `import fedart_nb` takes in a fresh process, beside an empty one.

python benchmarks/import_time.py --json
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from _report import measure, options, report

_CODE = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def seconds(statement: str, runs: int) -> list[float]:
    """Wall seconds of one statement, each time in a fresh interpreter."""
    command = [sys.executable, "-c", _CODE.format(statement)]
    return [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(runs)]


def main() -> None:
    chosen = options(__doc__)
    runs = 3 if chosen.quick else 11
    ours, json_module = seconds("import fedart_nb", runs), seconds("import json", runs)
    line = measure(
        "import.seconds",
        round(statistics.median(ours), 4),
        "s",
        how=f"median of {runs} fresh processes",
        spread=(round(min(ours), 4), round(max(ours), 4)),
        seeds=runs,
        baseline={"import json": round(statistics.median(json_module), 4)},
    )
    report(__file__, [line], chosen)


if __name__ == "__main__":
    main()
