"""What a hostile artist, host or stranger can send: does anything but a clear refusal ever come out?

python benchmarks/relay_fuzz.py --json

relay.fuzz_requests   requests to a real relay process (see _fuzz_http.py): none may be answered 5xx but for 503, none
                      may stay without an answer or get in without a signature, the process must live on.
wire.fuzz_inputs      inputs to everything that reads bytes of others (see _fuzz_wire.py), in one process per core: only
                      errors of the package may come out.

Every run draws from seeds, keys and clock apart. A fault is printed with its input, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
from _fuzz_http import RELAY_OPTIONS, fuzz_relay
from _fuzz_wire import Found, fuzz_readers
from _report import measure, options, report

MIB = 2**20


@contextmanager
def running_relay(folder: Path, *settings: str) -> Iterator[tuple[str, psutil.Process, Path]]:
    """A relay process with its log in a file: address, process, log."""
    log = folder / "log"
    command = [sys.executable, "-m", "fedart_nb.relay", "--data", str(folder / "data"), *settings]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        try:
            yield ready["url"], psutil.Process(ready["pid"]), log
        finally:
            process.terminate()


def peak_mib(process: psutil.Process) -> float:
    """The most memory that a process has held (Linux), else what it holds now."""
    status = Path(f"/proc/{process.pid}/status")
    if not status.exists():
        return float(process.memory_info().rss / MIB)
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def requests(count: int) -> tuple[dict[str, object], list[str]]:
    """The measure of the HTTP surface, and its faults."""
    with tempfile.TemporaryDirectory() as temporary, running_relay(Path(temporary), *RELAY_OPTIONS) as relay:
        url, process, log = relay
        warm = fuzz_relay(url, count // 10, seed=1)
        before = peak_mib(process)
        answers = fuzz_relay(url, count - count // 10, seed=2)
        after, alive = peak_mib(process), process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        faults = [*warm.faults, *answers.faults]
        if not alive:
            faults.append("the relay is gone")
        text = log.read_text(errors="replace")
        if "Traceback" in text:
            faults.append(text[text.index("Traceback") :][:3000])
    total = warm.statuses + answers.statuses
    line = measure(
        "relay.fuzz_requests",
        total.total(),
        "requests",
        how="one relay process, one connection at a time; a tenth of them before the memory was first looked at",
        baseline={
            "faults": len(faults),
            "requests_per_s": round(total.total() / (warm.wall_s + answers.wall_s)),
            "statuses": {str(status): number for status, number in sorted(total.items())},
            "peak_mib": round(after, 1),
            "peak_growth_mib": round(after - before, 1),
        },
    )
    return line, faults


def inputs(count: int) -> tuple[dict[str, object], list[str]]:
    """The measure of the readers, and their faults."""
    workers = psutil.cpu_count(logical=False) or 1
    with ProcessPoolExecutor(workers) as pool:
        parts = [pool.submit(_part, -(-count // workers), seed) for seed in range(workers)]
        results = [part.result() for part in parts]
    faults = {name: text for found, _, _ in results for name, text in found.faults.items()}
    total = sum(found.inputs for found, _, _ in results)
    line = measure(
        "wire.fuzz_inputs",
        total,
        "inputs",
        how=f"24 readers in turn, {workers} processes",
        seeds=workers,
        baseline={
            "faults": len(faults),
            "taken": sum(found.taken for found, _, _ in results),
            "inputs_per_s": round(total / max(found.wall_s for found, _, _ in results)),
            "peak_mib": round(max(peak for _, peak, _ in results), 1),
            "peak_growth_mib": round(max(peak - before for _, peak, before in results), 1),
        },
    )
    return line, [f"{name}\n{text}" for name, text in faults.items()]


def _part(count: int, seed: int) -> tuple[Found, float, float]:
    """A worker's inputs; its peak of memory, and what that was after the first tenth."""
    me = psutil.Process()
    first = fuzz_readers(count // 10, seed=1000 + seed)
    before = peak_mib(me)
    found = fuzz_readers(count - count // 10, seed=seed)
    found.inputs += first.inputs
    found.taken += first.taken
    found.wall_s += first.wall_s
    found.faults |= first.faults
    return found, peak_mib(me), before


def main() -> int:
    chosen: argparse.Namespace = options(__doc__)
    lines, faults = zip(
        requests(5_000 if chosen.quick else 50_000), inputs(60_000 if chosen.quick else 1_200_000), strict=True
    )
    report(__file__, list(lines), chosen, complete=not any(faults))
    for fault in (fault for part in faults for fault in part):
        print(fault, file=sys.stderr)
    return int(any(faults))


if __name__ == "__main__":
    sys.exit(main())
