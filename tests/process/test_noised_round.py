"""Noise on whole artists through a real relay, with an artist killed around its update: the same words, once."""

from __future__ import annotations

import math
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from _light import NOISE, Process, value_of
from workshop import Relay

from fedart_nb.federated import unpack
from fedart_nb.privacy import SkellamSum
from fedart_nb.relay import Envelope
from fedart_nb.secagg.graph import quorum_of

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX"),
]

ARTISTS, SIZE, Z = 4, 2000, 2.0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_noised_round_survives_a_kill_around_the_update(when: str, tmp_path: Path) -> None:
    relay = Relay(tmp_path / "relay")
    running: list[Process] = []

    def start(role: str, folder: str, **settings: Any) -> Process:
        running.append(Process(role, tmp_path / folder, **settings))
        return running[-1]

    try:
        host = start("host", "host", relay=relay.url, artists=ARTISTS, patience_s=20, size=SIZE, noise=Z)
        invite = host.wait_for()["invite"]
        marked = {"at": f"update:{when}"}
        people = [
            start("artist", f"a{i}", invite=invite, name=f"A{i}", **(marked if i == 0 else {})) for i in range(ARTISTS)
        ]
        people[0].ended()
        people[0] = start("artist", "a0", invite=invite, name="A0")
        results = {person.wait_for_key("result")["result"] for person in people}
        for process in (*people, host):
            process.close()
        assert len(results) == 1
        envelopes = logged(relay)
    finally:
        for process in running:
            process.kill()
        relay.close()

    updates = [e for e in envelopes if e.kind == "update"]
    said = {sender: {e.attachment_refs[0].sha256 for e in updates if e.sender == sender} for sender in senders(updates)}
    assert len(said) == ARTISTS
    assert all(len(words) == 1 for words in said.values()), "a killed kernel says the same words again"
    assert {e.attachment_refs[0].size_bytes for e in updates} == {4 * (2048 + 4) + 97}
    (result,) = [e.body for e in envelopes if e.kind == "result"]
    assert (result["contributors"], result["pictures"], result["metrics"]) == (ARTISTS, 0, {})
    code = SkellamSum(
        size=SIZE,
        artists=ARTISTS,
        survivors=quorum_of(ARTISTS),
        noise_multiplier=Z,
        clip_norm=NOISE["clip_norm"],
        seed=bytes(32),
    )
    ones, zeros = unpack((tmp_path / "host" / "shared-0002.safetensors").read_bytes()).values()  # before the round
    values = np.append(zeros, ones - 1.0)
    clipped = sum(min(value_of(sender), 1 / math.sqrt(SIZE)) for sender in said)  # everyone's is longer than the clip
    noise = ARTISTS * values.astype(np.float64).reshape(-1) - clipped
    chi2 = float(noise @ noise) / code.noise_std(ARTISTS) ** 2
    assert abs(chi2 - SIZE) < 5 * math.sqrt(2 * SIZE)


def senders(envelopes: list[Envelope]) -> set[str]:
    return {envelope.sender for envelope in envelopes}


def logged(relay: Relay) -> list[Envelope]:
    database = sqlite3.connect(f"file:{relay.data / 'relay.sqlite3'}?mode=ro", uri=True)
    try:
        return [Envelope.opened(row[0]) for row in database.execute("SELECT data FROM messages ORDER BY seq")]
    finally:
        database.close()
