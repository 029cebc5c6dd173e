"""A long workshop on one relay: is every message delivered once, and does the relay stay as small as it was?

python benchmarks/relay_soak.py --json

64 artists and a host, each with a client of its own over HTTP, go through 50 rounds against one relay process. They
train nothing and mask nothing; they say what a real round says, in its order: a call of the host to all (or, for the
sealed shares, one message to each), an answer of every artist, five times a round, updates as attachments, and a new
shared adapter that everybody fetches. The host counts every answer, every artist every call, and at the end the relay's
own log is compared with what was sent.

relay.soak_rounds            rounds after which nothing was lost, doubled or out of order
relay.soak_rss_growth_mib    resident memory of the relay at the end, less that after round 10; `baseline` has the
                             number of its open files at both points
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from _report import measure, options, report
from relay_fuzz import MIB, running_relay

from fedart_nb.relay import Envelope, Invite, RelayClient, create_room
from fedart_nb.secagg import Identity

PHASES = ("advertise", "share", "update", "consistency", "unmask")
CALLS = {"advertise": "plan", "share": "roster", "update": "share", "consistency": "consistency", "unmask": "unmask"}
RSS_BOUND_MIB = 24
FILES_BOUND = 4
PATIENCE_S = 120.0


class Artist:
    """Answers every call of the host, until it is told that the room closes; runs in a thread."""

    def __init__(self, invite: Invite, update_bytes: int, seed: int) -> None:
        self.identity = Identity.generate()
        self.client = RelayClient(invite, self.identity)
        self.calls = 0
        self.fetched = 0
        self.fault: str | None = None
        self._rng = random.Random(seed)
        self._update_bytes = update_bytes
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.client.join()
        self._thread.start()

    def end(self) -> None:
        self._thread.join(PATIENCE_S)
        self.client.close()

    def _run(self) -> None:
        cursor = 0
        try:
            while True:
                for seq, message in self.client.receive(cursor, 25):
                    cursor = seq
                    if message.kind == "close":
                        return
                    self._answer(message)
        except Exception as error:  # noqa: BLE001 - the host finds it when the answer does not come
            self.fault = f"{type(error).__name__}: {error}"

    def _answer(self, call: Envelope) -> None:
        if call.body["call"] != self.calls:
            raise ValueError(f"call {call.body['call']} came after {self.calls} others")
        self.calls += 1
        if call.attachment_refs:
            self.fetched += len(self.client.fetch(call, 2**26).attachments["shared"])
        phase = call.body["phase"]
        attachments = {"masked": self._rng.randbytes(self._update_bytes)} if phase == "update" else {}
        answer = envelope(
            self.client, self.identity, "host", phase, {"call": call.body["call"]}, call.round, attachments
        )
        self.client.send(answer, self.identity)


def envelope(
    client: RelayClient,
    sender: Identity,
    recipient: str,
    kind: str,
    body: dict[str, Any],
    number: int,
    attachments: dict[str, bytes] | None = None,
) -> Envelope:
    return Envelope(
        room=client.room,
        round=number,
        kind=kind,
        sender=sender.id,
        recipient=recipient,
        body=body,
        attachments=attachments or {},
    )


class Workshop:
    """The host's side: calls, and waits for everybody's answer."""

    def __init__(self, url: str, artists: int, update_bytes: int) -> None:
        self.identity = Identity.generate()
        self.client = RelayClient(create_room(url, self.identity), self.identity)
        self.client.join()
        self.artists = [Artist(self.client.invite, update_bytes, seed) for seed in range(artists)]
        self.sent: list[int] = []
        self.heard: list[int] = []
        self._calls = 0
        self._cursor = 0
        self._shared = random.Random(0).randbytes(update_bytes)

    def round(self, number: int) -> None:
        """One round; raises TimeoutError when an answer does not come, ValueError when one comes twice."""
        for phase in PHASES:
            body = {"call": self._calls, "phase": phase}
            self._calls += 1
            if phase == "update":  # each gets its own sealed shares
                for artist in self.artists:
                    self.send(artist.identity.id, CALLS[phase], body, number)
            else:
                attachments = {"shared": self._shared + number.to_bytes(4, "big")} if phase == "advertise" else None
                self.send("all", CALLS[phase], body, number, attachments)
            self.collect(body["call"])

    def send(self, recipient: str, kind: str, body: dict[str, Any], number: int, attachments: Any = None) -> None:
        message = envelope(self.client, self.identity, recipient, kind, body, number, attachments)
        self.sent.append(self.client.send(message, self.identity))

    def collect(self, call: int) -> None:
        missing = {artist.identity.id for artist in self.artists}
        until = time.monotonic() + PATIENCE_S
        while missing:
            delivered = self.client.receive(self._cursor, 5)
            for seq, message in delivered:
                self._cursor = seq
                if message.sender == self.identity.id:
                    continue
                if message.sender not in missing or message.body["call"] != call:
                    raise ValueError(f"{message.sender} answered {message.body} while {call} was due")
                missing.discard(message.sender)
                self.heard.append(seq)
                if message.attachment_refs:
                    self.client.fetch(message, 2**26)
            if time.monotonic() > until:
                faults = [artist.fault for artist in self.artists if artist.fault]
                raise TimeoutError(f"{len(missing)} answers to call {call} did not come; {faults[:3]}")

    def close(self) -> dict[str, Any]:
        """End the room; returns the relay's log."""
        self.send("all", "close", {}, 0)
        for artist in self.artists:
            artist.end()
        log = self.client.log()
        self.client.close()
        return log


@contextmanager
def workshop(artists: int, update_bytes: int) -> Iterator[tuple[Workshop, psutil.Process, Path]]:
    with (
        tempfile.TemporaryDirectory() as temporary,
        running_relay(Path(temporary), "--max-members", str(artists + 1), "--max-knocks-per-minute", "1000") as relay,
    ):
        url, process, log = relay
        yield Workshop(url, artists, update_bytes), process, log


def main() -> int:
    chosen = options(__doc__)
    artists, rounds, settled = (16, 12, 4) if chosen.quick else (64, 50, 10)
    update_bytes = 40_000
    faults: list[str] = []
    with workshop(artists, update_bytes) as (room, process, log):
        started = time.monotonic()
        first = (0.0, 0)
        for number in range(1, rounds + 1):
            room.round(number)
            if number == settled:
                first = (process.memory_info().rss / MIB, process.num_fds())
            print(f"round {number}", file=sys.stderr)
        last = (process.memory_info().rss / MIB, process.num_fds())
        wall_s = time.monotonic() - started
        seen = room.close()
        text = log.read_text(errors="replace")
    seqs = [message["seq"] for message in seen["messages"]]
    if seqs != sorted(room.sent + room.heard):
        faults.append(f"the relay holds {len(seqs)} messages, {len(room.sent) + len(room.heard)} were sent and heard")
    if any(artist.fault or artist.calls != rounds * len(PHASES) for artist in room.artists):
        faults.append(f"calls heard: {sorted({artist.calls for artist in room.artists})}")
    if "Traceback" in text:
        faults.append(text[text.index("Traceback") :][:2000])
    if last[0] - first[0] > RSS_BOUND_MIB:
        faults.append(f"the relay grew by {last[0] - first[0]:.1f} MiB, more than {RSS_BOUND_MIB}")
    if abs(last[1] - first[1]) > FILES_BOUND:
        faults.append(f"open files went from {first[1]} to {last[1]}")
    how = f"{artists} artists, {rounds} rounds, updates of {update_bytes} B, one relay process over HTTP"
    baseline = {
        "faults": len(faults),
        "messages": len(seqs),
        "wall_s": round(wall_s, 1),
        "messages_per_s": round(len(seqs) / wall_s),
    }
    memory = {
        "rss_mib": [round(first[0], 1), round(last[0], 1)],
        "open_files": [first[1], last[1]],
        "bound_mib": RSS_BOUND_MIB,
    }
    growth = round(last[0] - first[0], 2)
    lines = [
        measure("relay.soak_rounds", rounds, "rounds", how=how, baseline=baseline),
        measure("relay.soak_rss_growth_mib", growth, "MiB", how=f"{how}; since round {settled}", baseline=memory),
    ]
    report(__file__, lines, chosen, complete=not faults)
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
