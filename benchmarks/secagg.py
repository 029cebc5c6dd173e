"""Secure aggregation: ours, with signatures, consistency round and all, beside Flower's SecAgg+ on the same vectors.

Flower's side runs its own client functions and its workflow's steps (`peers/flower_secagg.py`) in a virtual environment
of its own, which this script makes on first use; the two sides take turns. Nothing goes over a network on either side.

Counted on both sides, in seconds of the processor, on one thread, after a small round that warms up:
  client  everything that one artist who stays computes: keys, shares, encoding, masking, its answer to the unmasking
          (ours also: reading everybody's signed keys, and signing and checking who is in the sum); the median artist
  unmask  the server's way from the last shares to the mean (ours also: checking each share); not what it did
          before (adding up, ours also all other phases), which is in the baseline
Not counted on either side: reading and writing of envelopes, files and sockets.

What the table leaves out, 500 artists with more than 100,000 numbers, would take about three hours on one core. Its
cells are kept in `out/` as they are done, so that a run that was stopped goes on. A full run takes some twenty minutes.

python benchmarks/secagg.py --json
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from _report import RESULTS, kept, measure, options, report

from fedart_nb.crypto.identity import Identity
from fedart_nb.secagg.client import SecAggClient
from fedart_nb.secagg.encoding import Field, FixedPoint
from fedart_nb.secagg.server import SecAggServer

ROOT = Path(__file__).parent.parent
FLOWER = "1.42.0"
CLIP = 0.1
WEIGHT = 20.0  # examples of one artist, for Flower, as in `peers/flower_secagg.py`
T = TypeVar("T")

LEFT_OUT = "left out: n = 500 at d = 0.8 M and 10 M (about three hours on one core)"
#: artists, numbers, share of dropouts of the table.
TABLE = [
    (n, d, drop)
    for d in (100_000, 800_000, 10_000_000)
    for n in (10, 30, 64, 100, 500)
    for drop in (0.0, 0.1, 0.3)
    if n < 500 or d == 100_000
]


class Clock:
    """Sums seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def __call__(self, name: str, call: Callable[..., T], *arguments: Any) -> T:
        started = time.process_time()
        result = call(*arguments)
        self.seconds[name] += time.process_time() - started
        return result


def ours(vectors: Callable[[int], np.ndarray], n: int, d: int, dropped: int) -> dict[str, float]:
    """One round of our protocol, every artist run in full; seconds of the mean artist and of the server."""
    clock = Clock()
    host, people = Identity.generate(), [Identity.generate() for _ in range(n)]
    binding = secrets.token_bytes(32)
    code = FixedPoint([Field("update", d, CLIP)], n)
    server = SecAggServer(host, binding, code.size)
    up: dict[str, int] = defaultdict(int)
    down: dict[str, int] = defaultdict(int)

    def said(person: str, message: bytes) -> bytes:
        up[person] += len(message)
        return message

    clients = {}
    for person in people:
        client = clock(person.id, SecAggClient, person, host.public_key, binding, secrets.token_bytes(32))
        clock("server", server.advertise, person.id, said(person.id, clock(person.id, client.advertise)))
        clients[person.id] = client
    roster = clock("server", server.roster)
    for person, client in clients.items():
        clock("server", server.share, person, said(person, clock(person, client.share, roster)))
    deliveries = clock("server", server.deliveries)
    alive = [person.id for person in people[: n - dropped]]
    clear = np.zeros(d)
    for number, (person, client) in enumerate(clients.items()):
        down[person] = len(roster) + len(deliveries[person])
        clock(person, client.receive, deliveries[person])
        if person not in alive:
            continue
        vector = vectors(number)
        clear += vector
        write = partial(code.encode, {"update": vector})
        message = clock(person, client.mask_written, code.size, lambda words, write=write: write(out=words))
        clock("server", server.masked, person, said(person, message))
    survivors = clock("server", server.survivors)
    for person in alive:
        clock("server", server.confirm, person, said(person, clock(person, clients[person].confirm, survivors)))
    confirmed = clock("server", server.confirmed)
    for person in alive:
        clock("unmask", server.unmask, person, said(person, clock(person, clients[person].unmask, confirmed)))
    total = clock("unmask", server.total)
    mean = clock("unmask", code.decode, total, len(alive))["update"] / len(alive)
    return {
        "client_s": float(np.median([clock.seconds[person] for person in alive])),
        "server_unmask_s": clock.seconds["unmask"],
        "server_rest_s": clock.seconds["server"],
        "up_per_param": up[alive[0]] / d,
        "down_bytes": float(down[alive[0]] + len(survivors) + len(confirmed)),
        "error_over_clip": float(np.abs(mean - clear / len(alive)).max() / CLIP),
    }


def flower_python() -> Path:
    """The interpreter of an environment with the pinned flwr in it; made on first use."""
    folder = ROOT / "out" / "peers" / f"flwr-{FLOWER}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        print(f"making an environment with flwr {FLOWER} (once)", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"flwr=={FLOWER}"], check=True)
        (folder / "ready").touch()
    return python


def flower(python: Path, path: Path, dropped: int, *settings: float) -> dict[str, float]:
    """One round of Flower's SecAgg+; `settings`: clip and largest weight, its defaults if none are given."""
    script = Path(__file__).parent / "peers" / "flower_secagg.py"
    command = [str(python), str(script), str(path), str(dropped), *map(str, settings)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def beside_flower(n: int, d: int, drop: float, repeats: int) -> list[dict[str, Any]]:
    """The four promised figures, the two sides taking turns."""
    python, dropped = flower_python(), int(n * drop)
    rng = np.random.default_rng(0)
    vectors = np.clip(rng.normal(0, 0.02, (n, d)), -CLIP, CLIP).astype(np.float32)
    rows: list[tuple[dict[str, float], dict[str, float]]] = []
    ours(lambda _: np.zeros(1000, np.float32), 5, 1000, 1)  # warm; Flower's side does the same
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, vectors)
        rows += [(ours(vectors.__getitem__, n, d, dropped), flower(python, path, dropped)) for _ in range(repeats)]
        tuned = flower(python, path, dropped, CLIP, WEIGHT)
    where = f"n={n} d={d} drop={drop}; clip {CLIP}; one thread, processor time; {repeats} turns"
    peer = f"flwr {FLOWER} SecAgg+, defaults (clip 8, max_weight 1000), weight {WEIGHT:g}, threshold n//2+1"

    def ratio(name: str, key: str) -> dict[str, Any]:
        each = sorted(theirs[key] / mine[key] for mine, theirs in rows)
        base = {
            "peer": peer,
            "peer_s": round(float(np.median([t[key] for _, t in rows])), 4),
            "ours_s": round(float(np.median([m[key] for m, _ in rows])), 4),
        }
        if key == "server_unmask_s":
            base["peer_before_s"] = round(float(np.median([t["server_add_s"] for _, t in rows])), 4)
            base["ours_before_s"] = round(float(np.median([m["server_rest_s"] for m, _ in rows])), 4)
        spread = (round(each[0], 1), round(each[-1], 1))
        return measure(
            name, round(float(np.median(each)), 1), "x", how=where, spread=spread, seeds=repeats, baseline=base
        )

    mine, theirs = rows[0]
    bytes_base = {"peer": peer, "value": theirs["bytes_per_param"], "down_bytes": mine["down_bytes"]}
    error_base = {
        "peer": peer,
        "value": theirs["error"] / CLIP,
        f"value_with_clip_{CLIP:g}_and_max_weight_{WEIGHT:g}": tuned["error"] / CLIP,
    }
    return [
        ratio("secagg.unmask_speedup_vs_flower", "server_unmask_s"),
        ratio("secagg.client_speedup_vs_flower", "client_s"),
        measure(
            "secagg.bytes_per_param",
            round(mine["up_per_param"], 4),
            "B",
            how=f"{where}; all messages of one artist, upwards, before their envelopes; the peer's: the masked vector "
            "alone; down_bytes: without plan and shared adapter",
            baseline=bytes_base,
        ),
        measure(
            "secagg.error_over_clip",
            max(m["error_over_clip"] for m, _ in rows),
            "",
            how=f"{where}; largest error of the mean against the clear float64 mean, over the clip",
            baseline=error_base,
            seeds=repeats,
        ),
    ]


def table(cells: list[tuple[int, int, float]], done: Path | None = None) -> list[dict[str, Any]]:
    """Our seconds for each cell; large vectors are the same few, used again, because only their size matters.

    Cells that a run of the same code has left in the file `done` are taken from there.
    """
    known: dict[str, dict[str, float]] = {}
    if done is not None and done.exists():
        known = dict(map(json.loads, done.read_text().splitlines()))
    lines = []
    for n, d, drop in cells:
        key = f"{n} {d} {drop} {code_sha256()}"
        if key not in known:
            rng = np.random.default_rng(n)
            few = [np.clip(rng.normal(0, 0.02, d), -CLIP, CLIP).astype(np.float32) for _ in range(min(n, 4))]
            known[key] = ours(lambda i, few=few: few[i % len(few)], n, d, int(n * drop))  # type: ignore[misc]
            if done is not None:
                done.parent.mkdir(parents=True, exist_ok=True)
                with done.open("a") as file:
                    file.write(json.dumps([key, known[key]]) + "\n")
        row = known[key]
        baseline = {name: float(f"{value:.4g}") for name, value in row.items()} | {"n": n, "d": d, "drop": drop}
        how = f"n={n} d={d} drop={drop}; ours alone; four different vectors, used in turn; one thread, processor time"
        if not lines:
            how += f"; {LEFT_OUT}"
        lines.append(
            measure("secagg.server_unmask_s", round(row["server_unmask_s"], 4), "s", how=how, baseline=baseline)
        )
        print(f"{how}: client {row['client_s']:.3f} s, unmask {row['server_unmask_s']:.3f} s", file=sys.stderr)
    return lines


def code_sha256() -> str:
    """Which code a kept cell belongs to."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted((ROOT / "fedart_nb" / "secagg").glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Seconds of an artist and of unmasking against the number of artists, one panel each."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from fedart_nb.figures import OKABE_ITO

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    styles = {
        100_000: ("blue", "o", "100 k"),
        800_000: ("vermillion", "s", "0.8 M"),
        10_000_000: ("green", "^", "10 M"),
    }
    rows = [line["baseline"] for line in lines]
    for ax, key, title in zip(
        axes, ("client_s", "server_unmask_s"), ("one artist, all phases", "host: unmasking the sum"), strict=True
    ):
        for d, (colour, marker, label) in styles.items():
            for drop, dash in ((0.0, "-"), (0.3, "--")):
                points = sorted((r["n"], r[key]) for r in rows if (r["d"], r["drop"]) == (d, drop))
                if points:
                    x, y = zip(*points, strict=True)
                    name = f"{label} numbers, {drop:.0%} gone"
                    ax.plot(x, y, dash, marker=marker, color=OKABE_ITO[colour], label=name, markersize=5)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks([10, 30, 64, 100, 500], ["10", "30", "64", "100", "500"])
        ax.minorticks_off()
        ax.set_xlabel("artists")
        ax.set_ylabel("seconds")
        ax.set_title(title, fontsize=11)
        ax.grid(alpha=0.25)
    axes[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    chosen = options(__doc__)
    if chosen.quick:
        lines = beside_flower(10, 100_000, 0.2, 1) + table([(10, 100_000, 0.0), (30, 100_000, 0.3)])
    else:
        lines = beside_flower(30, 800_000, 0.2, 3) + table(TABLE, ROOT / "out" / "secagg-table.jsonl")
    if kept(chosen):
        plot([line for line in lines if line["measure"] == "secagg.server_unmask_s"], RESULTS / "secagg.png")
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
