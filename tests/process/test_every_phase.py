"""`kill -9` of any artist, the host or the relay around every message of a round, with real processes: a table of all.

Artists and the host die right before and right after they send a message, the relay right before it would get one (the
artist meets a relay that is gone), while it gets one, and after it got one. Each is started again at once. The round
completes, everybody holds the same result, it is the mean of those in it, and nobody ever said two different things in
one attempt: no second vector, no second unmask message. With too many artists killed the attempt ends, nobody has
released a share in it, and the next one works.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _light import Process, value_of

from fedart_nb.federated import unpack
from fedart_nb.relay import Envelope

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX"),
]

ARTISTS = 4
OF_AN_ARTIST = ("advertise", "share", "update", "consistency", "unmask")
OF_THE_HOST = ("plan", "roster", "share", "consistency", "unmask", "result")
STOP = {"before": "hold", "during": "tell", "after": "tell"}
QUICK = {("artist", "unmask", "before"), ("host", "consistency", "after"), ("relay", "update", "after")}


def table() -> Iterator[Any]:
    cases = [("artist", kind, when) for kind in OF_AN_ARTIST for when in ("before", "after")]
    cases += [("host", kind, when) for kind in OF_THE_HOST for when in ("before", "after")]
    cases += [("relay", kind, when) for kind in OF_AN_ARTIST for when in ("before", "during", "after")]
    for case in cases:
        yield pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow, id=" ".join(case))


class Relay:
    """The relay as a process that can be killed and started again on the same port and folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "fedart_nb.relay", "--data", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.port = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def envelopes(self) -> list[Envelope]:
        database = sqlite3.connect(f"file:{self.folder / 'relay.sqlite3'}?mode=ro", uri=True)
        try:
            return [Envelope.opened(row[0]) for row in database.execute("SELECT data FROM messages ORDER BY seq")]
        finally:
            database.close()


@pytest.mark.parametrize(("who", "kind", "when"), list(table()))
def test_a_round_survives_a_kill(who: str, kind: str, when: str, tmp_path: Path) -> None:
    relay = Relay(tmp_path / "relay")
    marked = {"at": f"{kind}:{when}"}
    size = 2_000_000 if when == "during" else 1000  # what is killed while it is sent must take a moment
    running: list[Process] = []

    def start(role: str, folder: str, **settings: Any) -> Process:
        running.append(Process(role, tmp_path / folder, **settings))
        return running[-1]

    try:
        settings = {"relay": relay.url, "artists": ARTISTS, "patience_s": 20, "size": size}
        host = start("host", "host", **settings, **(marked if who == "host" else {}))
        invite = host.wait_for()["invite"]
        first = {"artist": marked, "relay": {"at": f"{kind}:{STOP[when]}"}}.get(who, {})
        people = [
            start("artist", f"a{i}", invite=invite, name=f"A{i}", **(first if i == 0 else {})) for i in range(ARTISTS)
        ]
        if who == "relay":
            people[0].wait_for(**({"sent": kind} if when == "after" else {"about": kind}))
            relay.kill()
            if when == "before":
                people[0].go()
            relay.start()
        elif who == "artist":
            people[0].ended()
            people[0] = start("artist", "a0", invite=invite, name="A0")
        else:
            host.ended()
            host = start("host", "host")
        results = {person.wait_for_key("result")["result"] for person in people}
        for process in (*people, host):
            process.close()
        assert len(results) == 1
        check_log(relay, tmp_path / "host" / "shared-0002.safetensors")
    finally:
        for process in running:
            process.kill()
        relay.kill()


def test_with_too_many_artists_killed_the_attempt_ends_cleanly_and_the_next_one_works(tmp_path: Path) -> None:
    relay = Relay(tmp_path / "relay")
    running: list[Process] = []

    def start(role: str, folder: str, **settings: Any) -> Process:
        running.append(Process(role, tmp_path / folder, **settings))
        return running[-1]

    try:
        host = start("host", "host", relay=relay.url, artists=ARTISTS, patience_s=4)
        invite = host.wait_for()["invite"]
        people = [
            start("artist", f"a{i}", invite=invite, name=f"A{i}", **({"at": "update:before"} if i < 2 else {}))
            for i in range(ARTISTS)
        ]
        for person in people[:2]:
            person.ended()
        assert "Round 1 starts again: 2 of 4 artists are left" in host.wait_for(event="Note")["text"]
        people[:2] = [start("artist", f"a{i}", invite=invite, name=f"A{i}") for i in range(2)]
        results = {person.wait_for_key("result")["result"] for person in people}
        for process in (*people, host):
            process.close()
        assert len(results) == 1
        check_log(relay, tmp_path / "host" / "shared-0002.safetensors")
        first, second = [e.body["plan_digest"] for e in relay.envelopes() if e.kind == "plan"]
        kinds = {(e.kind, e.body["plan_digest"]) for e in relay.envelopes() if e.kind in OF_AN_ARTIST}
        assert ("update", first) in kinds
        assert not {("consistency", first), ("unmask", first)} & kinds
        assert ("unmask", second) in kinds
    finally:
        for process in running:
            process.kill()
        relay.kill()


def check_log(relay: Relay, result: Path) -> None:
    """Nobody said two things; and the result is the mean of those who are said to be in it."""
    said: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for e in relay.envelopes():
        if e.recipient == "host" and e.kind in OF_AN_ARTIST:
            content = e.body.get("data") or e.attachment_refs[0].sha256
            said[e.sender, e.kind, e.body["plan_digest"]].add(content)
    assert {key: values for key, values in said.items() if len(values) > 1} == {}
    survivors = [e.body["survivors"] for e in relay.envelopes() if e.kind == "consistency" and e.recipient == "all"]
    assert len(survivors) >= 1
    assert len(survivors[-1]) >= ARTISTS - 1
    values = unpack(result.read_bytes())["unet.x.lora_B.weight"]
    np.testing.assert_allclose(values, np.mean([value_of(a) for a in survivors[-1]]), rtol=1e-6)
