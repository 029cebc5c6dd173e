"""What a round costs beyond training: ten artists, a host and a relay, all separate processes, over loopback.

Two artists are killed (SIGKILL) when training begins; the others "train" for a fixed time without computing anything,
then send. The overhead is everything else, from the plan to the moment when the last artist holds the result.

python benchmarks/ten_artists.py --json
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from _light import Process, shared_adapter
from _report import measure, options, report

from fedart_nb.relay.process import relay_process

ARTISTS, GONE, SIZE, TRAIN_S, PATIENCE_S, REPEATS = 10, 2, 800_000, 4.0, 2.0, 3


def one_round(folder: Path, *, artists: int, gone: int, size: int) -> dict[str, float]:
    """Seconds of one round, beyond training, and its parts."""
    with relay_process(folder / "relay", log=folder / "relay.log") as relay:
        settings = {"relay": relay, "artists": artists, "size": size, "patience_s": PATIENCE_S}
        host = Process("host", folder / "host", **settings)
        invite = host.wait_for(limit_s=60)["invite"]
        people = [
            Process("artist", folder / f"artist-{i}", invite=invite, name=f"Artist {i}", train_s=TRAIN_S)
            for i in range(artists)
        ]
        for person in people:
            person.wait_for(training=True)
        for person in people[:gone]:
            person.kill()
        here = people[gone:]
        results = [person.wait_for(contributors=artists - gone) for person in here]
        for process in (*here, host):
            process.close()
    if len({event["result"] for event in results}) != 1:
        raise RuntimeError("The artists hold different results.")
    ready = max(person.wait_for(sent="hello")["at"] for person in people)  # the last one is in the room
    trained = [person.wait_for(trained=True)["at"] for person in here]
    training = [person.wait_for(training=True)["at"] for person in here]
    before = max(training) - ready
    after = max(event["at"] for event in results) - max(trained)
    return {"before_s": before, "after_s": after, "overhead_s": before + after}


def main() -> None:
    chosen = options(__doc__)
    artists, gone, size, repeats = (5, 1, 50_000, 1) if chosen.quick else (ARTISTS, GONE, SIZE, REPEATS)
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(one_round(Path(folder), artists=artists, gone=gone, size=size))
    overhead = [run["overhead_s"] for run in runs]
    parts = {name: round(float(np.median([run[name] for run in runs])), 2) for name in ("before_s", "after_s")}
    how = (
        f"{artists} artists, host and relay as processes, {size:,} numbers, {gone} artists killed when training began; "
        f"before training: keys and shares; after: vectors, signatures, unmasking, result of "
        f"{len(shared_adapter(size)):,} bytes"
    )
    value = round(float(np.median(overhead)), 2)
    spread = (round(min(overhead), 2), round(max(overhead), 2))
    line = measure("round.ten_artists_overhead_s", value, "s", how=how, spread=spread, seeds=repeats, baseline=parts)
    report(__file__, [line], chosen)


if __name__ == "__main__":
    main()
