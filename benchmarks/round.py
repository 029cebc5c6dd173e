"""What a round costs beyond training, in seconds and in memory: artists, host and relay as processes, over loopback.

`round.ten_artists_overhead_s`: ten artists who are in the room, from the moment when the host opens the round to the
moment when the last of those left holds its result. Training takes no time. Two artists are killed (SIGKILL) right
after they have sent their shares: their masks have to be taken off with the others' help. Nobody can tell a dead kernel
from a slow one but by its silence, so the plan has a deadline, `patience_s`: who has said nothing for so long while the
host waits for it counts as gone. An artist who trains gives a sign of life every quarter of it. Here it is the shortest
that a plan may have, one second, and that second is part of the figure; a room's default is a minute, which passes
while the others train. The parts are in the baseline.

`round.sdxl_update_peak_growth_mib`: how much memory a relay takes at most beyond what it held before a round of three
artists with updates of 100 MB; in the baseline the same for an artist's kernel and for the host.

python benchmarks/round.py --json
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _light import Process, memory_mib, shared_adapter
from _report import measure, options, report

from fedart_nb.relay.process import relay_process

ARTISTS, GONE, SIZE, PATIENCE_S, REPEATS = 10, 2, 800_000, 1.0, 5
SDXL_ARTISTS, SDXL_SIZE, SDXL_PATIENCE_S = 3, 25_000_000, 60.0
#: Parts of a round, each to the moment when the last artist (the first one, for "silence") gave this sign.
PARTS = ("plan_s", "shares_s", "vectors_s", "silence_s", "signatures_s", "result_s")


def one_round(folder: Path, *, artists: int, gone: int, size: int, patience_s: float) -> dict[str, float]:
    """Seconds of one round, its parts, and how memory grew in it (MiB)."""
    with relay_process(folder / "relay", log=folder / "relay.log") as relay:
        (pid,) = [p.pid for p in psutil.Process(os.getpid()).children() if "fedart_nb.relay" in p.cmdline()]
        settings = {"relay": relay, "artists": artists, "size": size, "patience_s": patience_s, "wait": 1}
        host = Process("host", folder / "host", **settings)
        opened = host.wait_for_key("invite")
        dying = [{"at": "share:after"} if i < gone else {} for i in range(artists)]
        people = [
            Process("artist", folder / f"artist-{i}", invite=opened["invite"], name=f"Artist {i}", **more)
            for i, more in enumerate(dying)
        ]
        ready = [person.wait_for(ready=True) for person in people]
        before = memory_mib(pid)
        host.go()
        here = people[gone:]
        results = [person.wait_for_key("result") for person in here]
        relay_mib = memory_mib(pid)["peak_mib"] - before["peak_mib"]
        over = host.wait_for(over=True)
        for process in (*people, host):
            process.close()
    if len({event["result"] for event in results}) != 1:
        raise RuntimeError("The artists hold different results.")
    if {event["contributors"] for event in results} != {artists - gone}:
        raise RuntimeError(f"{results[0]['contributors']} updates counted; expected {artists - gone}.")

    def at(**sign: Any) -> list[float]:
        return [person.wait_for(**sign)["at"] for person in here]

    marks = [
        host.wait_for(begun=True)["at"],
        max(at(sent="advertise")),
        max(at(training=True)),
        max(at(sent="update")),
        min(at(sent="consistency")),
        max(at(sent="unmask")),
        max(event["at"] for event in results),
    ]
    parts = dict(zip(PARTS, np.diff(marks).tolist(), strict=True))
    grown = [event["peak_mib"] - first["now_mib"] for event, first in zip(results, ready[gone:], strict=True)]
    memory = {"relay_mib": relay_mib, "artist_mib": max(grown), "host_mib": over["peak_mib"] - opened["now_mib"]}
    return {"overhead_s": marks[-1] - marks[0], **parts, **memory}


def median(runs: list[dict[str, float]], name: str, digits: int) -> float:
    return round(float(np.median([run[name] for run in runs])), digits)


def ten_artists(artists: int, gone: int, size: int, repeats: int) -> dict[str, Any]:
    """The round's overhead."""
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one_round(Path(folder), artists=artists, gone=gone, size=size, patience_s=PATIENCE_S))
    overhead = [run["overhead_s"] for run in runs]
    baseline = {name: median(runs, name, 3) for name in PARTS} | {"patience_s": PATIENCE_S}
    how = (
        f"{artists} artists, host and relay as processes on {os.cpu_count()} cores, {size:,} numbers, {gone} artists "
        f"killed after their shares; from the plan to the last artist's result of {len(shared_adapter(size)):,} bytes; "
        f"waiting {PATIENCE_S:g} s for the silent included"
    )
    spread = (round(min(overhead), 2), round(max(overhead), 2))
    value = round(float(np.median(overhead)), 2)
    return measure("round.ten_artists_overhead_s", value, "s", how=how, spread=spread, seeds=repeats, baseline=baseline)


def large_update(artists: int, size: int, repeats: int) -> dict[str, Any]:
    """Memory of a round with a large adapter."""
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one_round(Path(folder), artists=artists, gone=0, size=size, patience_s=SDXL_PATIENCE_S))
    vector_mib = 4 * size / 2**20
    baseline = {name: median(runs, name, 1) for name in ("artist_mib", "host_mib", "overhead_s")}
    baseline |= {
        "update_mib": round(vector_mib, 1),
        "artist_vectors": round(baseline["artist_mib"] / vector_mib, 2),
        "host_vectors": round(baseline["host_mib"] / vector_mib, 2),
    }
    grown = [run["relay_mib"] for run in runs]
    how = (
        f"{artists} artists, {size:,} float32 numbers; most memory held by the relay in the round beyond what it held "
        "before; artist and host: the same for theirs, adapter, update and result included"
    )
    spread = (round(min(grown), 1), round(max(grown), 1))
    value = round(float(np.median(grown)), 1)
    return measure(
        "round.sdxl_update_peak_growth_mib", value, "MiB", how=how, spread=spread, seeds=repeats, baseline=baseline
    )


def main() -> None:
    chosen = options(__doc__)
    if chosen.quick:
        lines = [ten_artists(5, 1, 50_000, 1), large_update(SDXL_ARTISTS, 2_000_000, 1)]
    else:
        lines = [ten_artists(ARTISTS, GONE, SIZE, REPEATS), large_update(SDXL_ARTISTS, SDXL_SIZE, 3)]
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
