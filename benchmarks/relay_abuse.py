"""A stranger does their worst to a relay: how much longer does an honest room's round take beside it?

python benchmarks/relay_abuse.py --json

A relay process at default limits; a room of a host and four artists whose rounds are real but for the training
(`_honest_room.py`); and a stranger in a process of its own (`_abuser.py`), all on this computer and at one address,
which is the worst case: places that are counted by address are the stranger's and the honest room's together. A second
relay with a room of its own is left in peace. Rounds are timed in pairs: some at the quiet relay with nothing else
running, then as many at the other one under abuse. A pair's slowdown is the median under abuse over the median
alone, an abuse's the median of its pairs. The stranger's own work takes part of this computer's cores too; it is not
taken off.

abuse.<kind>.slowdown    idle_sockets (2,100, half of them with half a request line), trickling_uploads (64 of eight
                         identities), rooms (64, again and again) where anybody opens rooms and where a secret is asked
                         for, self_messages (57,000 that lie there, and more as fast as they are let), long_polls (1,024
                         of eight identities), stored_bytes (512 MiB against a room's limit of 128)
                         In the baseline, `beside_the_quiet_relay`: the same rounds over rounds at the quiet relay that
                         took turns with them, so that whatever else keeps the cores busy is in both
abuse.worst_slowdown     the largest of them
abuse.kinds              how many there were
abuse.relay_peak_mib     the most memory that a relay took under any of them; per kind in the baseline
abuse.disk_peak_mib      the most that a relay's folder held; per kind in the baseline
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _abuser import MESSAGES, store_messages
from _report import measure, options, report
from relay_fuzz import MIB, peak_mib, running_relay

OPENING_SECRET = "an-opening-secret"  # noqa: S105 - of relays that live for minutes
ARTISTS, SIZE = 4, 100_000
ROOM_LIMIT_BYTES = 128 * MIB


@dataclass(frozen=True)
class Abuse:
    """One kind: what the stranger does, with which options the relay runs, and what it holds before."""

    name: str
    work: str
    options: tuple[str, ...] = ()
    secret: bool = False
    messages: int = 0


@dataclass
class Found:
    """Seconds of rounds by pair, and what the relay took."""

    alone: list[list[float]] = field(default_factory=list)
    abused: list[list[float]] = field(default_factory=list)
    meanwhile: list[list[float]] = field(default_factory=list)  # at the quiet relay, while the other one is abused
    answers: dict[str, int] = field(default_factory=dict)
    relay_mib: float = 0.0
    disk_mib: float = 0.0


class Talker:
    """A process that is told by lines and tells by lines of JSON."""

    def __init__(self, *command: str) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, *command], stdin=pipe, stdout=pipe, text=True)
        self.hear()

    def hear(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}.")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Let it end; returns its last word, if it has one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        line = self._process.stdout.readline()
        self._process.wait(60)
        self._process.stdout.close()
        return dict(json.loads(line)) if line else {}


HERE = Path(__file__).parent


@contextmanager
def honest_room(url: str, secret: str | None) -> Iterator[Talker]:
    options_ = ["--artists", str(ARTISTS), "--size", str(SIZE), *(["--secret", secret] if secret else [])]
    room = Talker(str(HERE / "_honest_room.py"), "--relay", url, *options_)
    try:
        yield room
    finally:
        room.end()


def rounds(room: Talker, count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        room.tell()
        seconds.append(float(room.hear()["round_s"]))
    return seconds


def folder_mib(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total / MIB


def tried(abuse: Abuse, quiet: Talker, *, pairs: int, count: int) -> Found:
    """Pairs of rounds, alone and under one abuse."""
    found = Found()
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as held:
        folder = Path(temporary)
        settings = abuse.options
        if abuse.secret:
            (folder / "secret").write_text(OPENING_SECRET)
            settings += ("--open-rooms-with", str(folder / "secret"))
        if abuse.messages:
            (folder / "data").mkdir()
            store_messages(folder / "data", abuse.messages)
        url, process, log = held.enter_context(running_relay(folder, *settings))
        room = held.enter_context(honest_room(url, OPENING_SECRET if abuse.secret else None))
        rounds(quiet, 1)
        rounds(room, 1)  # connections are there, imports are done
        for _ in range(pairs):
            found.alone.append(rounds(quiet, count))
            stranger = Talker(str(HERE / "_abuser.py"), abuse.work, "--relay", url)
            try:
                both = [(rounds(room, 1)[0], rounds(quiet, 1)[0]) for _ in range(count)]
                found.abused.append([here for here, _ in both])
                found.meanwhile.append([there for _, there in both])
                found.disk_mib = max(found.disk_mib, folder_mib(folder / "data"), log.stat().st_size / MIB)
            finally:
                answers = stranger.end().get("answers", {})
            found.answers = {key: found.answers.get(key, 0) + n for key, n in answers.items()} | {
                key: n for key, n in found.answers.items() if key not in answers
            }
        found.relay_mib = peak_mib(process)
        if "Traceback" in log.read_text(errors="replace"):
            raise RuntimeError(f"The relay had a fault under {abuse.name}: {log.read_text()[-3000:]}")
    return found


def kinds_of(messages: int) -> list[Abuse]:
    return [
        Abuse("idle_sockets", "idle_sockets"),
        Abuse("trickling_uploads", "trickling_uploads"),
        Abuse("rooms", "rooms"),
        Abuse("rooms_with_secret", "rooms", secret=True),
        Abuse("self_messages", "self_messages", messages=messages),
        Abuse("long_polls", "long_polls"),
        Abuse("stored_bytes", "stored_bytes", options=("--max-room-bytes", str(ROOM_LIMIT_BYTES))),
    ]


def main() -> None:
    chosen = options(__doc__, only=[kind.name for kind in kinds_of(MESSAGES)])
    pairs, count = (1, 3) if chosen.quick else (5, 3)
    kinds = kinds_of(MESSAGES // 10 if chosen.quick else MESSAGES)
    if chosen.only:
        kinds = [kind for kind in kinds if kind.name == chosen.only]
    lines: list[dict[str, Any]] = []
    peaks: dict[str, tuple[float, float]] = {}
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_relay(Path(temporary)) as relay,
        honest_room(relay[0], None) as quiet,
    ):
        for abuse in kinds:
            found = tried(abuse, quiet, pairs=pairs, count=count)
            lines.append(slowdown(abuse, found))
            peaks[abuse.name] = (round(found.relay_mib, 1), round(found.disk_mib, 1))
            print(f"{abuse.name}: {lines[-1]['value']} {lines[-1]['baseline']}", file=sys.stderr)
    worst = max(lines, key=lambda line: line["value"])
    how = "the largest of the abuses' slowdowns"
    lines.append(
        measure("abuse.worst_slowdown", worst["value"], "ratio", how=how, baseline={"which": worst["measure"]})
    )
    lines.append(measure("abuse.kinds", len(kinds), "abuses", how="each beside an honest room, at one address"))
    for number, (name, what) in enumerate((("relay", "memory of the relay"), ("disk", "size of the relay's folder"))):
        each = {kind: peak[number] for kind, peak in peaks.items()}
        lines.append(measure(f"abuse.{name}_peak_mib", max(each.values()), "MiB", how=f"largest {what}", baseline=each))
    report(__file__, lines, chosen, complete=not chosen.only)


def slowdown(abuse: Abuse, found: Found) -> dict[str, Any]:
    """The measure of one kind."""
    pairs = zip(found.abused, found.alone, strict=True)
    ratios = [float(np.median(abused) / np.median(alone)) for abused, alone in pairs]
    beside = [float(np.median(a) / np.median(b)) for a, b in zip(found.abused, found.meanwhile, strict=True)]
    medians = {
        "beside_the_quiet_relay": round(float(np.median(beside)), 2),
        "quiet_meanwhile_s": round(float(np.median(np.concatenate(found.meanwhile))), 3),
        "alone_s": round(float(np.median(np.concatenate(found.alone))), 3),
        "abused_s": round(float(np.median(np.concatenate(found.abused))), 3),
        "answers": found.answers,
    }
    how = (
        f"median of {len(ratios)} pairs of {len(found.alone[0])} rounds, {ARTISTS} artists, {SIZE:,} numbers, no "
        "training; spread: smallest and largest pair"
    )
    return measure(
        f"abuse.{abuse.name}.slowdown",
        round(float(np.median(ratios)), 2),
        "ratio",
        how=how,
        spread=(round(min(ratios), 2), round(max(ratios), 2)),
        seeds=len(ratios),
        baseline=medians,
    )


if __name__ == "__main__":
    main()
