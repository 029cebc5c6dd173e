"""A room of a host and a few artists in one process, whose rounds are real but for the training; timed on demand.

python benchmarks/_honest_room.py --relay URL --artists 4 --size 100000

Prints {"ready": true}; then runs one round for each line on its standard input and prints {"round_s": seconds}. A round
is counted from the moment the plan is sent until every artist has unmasked and the host holds the sum. Ends with its
standard input.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
from _light import BACKBONE, shared_adapter

from fedart_nb.federated import ArtistSide, Member, Phase, RoundEngine, RoundPlan
from fedart_nb.relay import Invite, RelayClient, create_room
from fedart_nb.relay.wire import sha256_hex
from fedart_nb.secagg import Identity

_LIMIT_BYTES = 2**28
_PATIENCE_S = 60.0


class Artist:
    """Agrees to every plan and sends an update of ones; runs in a thread until the process ends."""

    def __init__(self, invite: Invite, name: str) -> None:
        self.identity = Identity.generate()
        self._client = RelayClient(invite, self.identity, patience_s=_PATIENCE_S)
        self._side = ArtistSide(
            room=invite.room, host=invite.host_id, identity=self.identity, name=name, backbone_sha256=BACKBONE
        )
        self._client.send(self._side.hello(), self.identity)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        side, cursor = self._side, 0
        while True:
            for seq, message in self._client.receive(cursor, 25):
                envelope = self._client.fetch(message, _LIMIT_BYTES) if message.sender == side.host else message
                for answer in side.feed(envelope):
                    self._client.send(answer, self.identity)
                cursor = seq
            if side.needs_answer():
                self._client.send(side.answer(contribute=True), self.identity)
            if side.task is not None:
                update = {name: np.full_like(array, 0.1) for name, array in side.task.shared.items()}
                self._client.send(side.submit(update, pictures=10), self.identity)


class Room:
    """The host's side."""

    def __init__(self, url: str, artists: int, size: int, secret: str | None) -> None:
        self._identity = Identity.generate()
        invite = create_room(url, self._identity, opening_secret=secret)
        self._client = RelayClient(invite, self._identity, patience_s=_PATIENCE_S)
        self._shared = shared_adapter(size)
        self._members: dict[str, Member] = {}
        self._cursor = 0
        self._artists = [Artist(invite, f"Artist {n}") for n in range(artists)]
        self._plan = RoundPlan(
            room=invite.room,
            number=1,
            total=10_000,
            backbone_sha256=BACKBONE,
            shared_sha256=sha256_hex(self._shared),
            host_key=self._identity.public_key.hex(),
            min_artists=artists,
            join_s=3600,
            patience_s=_PATIENCE_S,
            door="open",
        )

    def round(self) -> float:
        """Seconds of one round; raises RuntimeError when it fails."""
        started = time.perf_counter()
        engine = RoundEngine(self._plan, self._shared, host=self._identity, members=self._members, clock=time.monotonic)
        self._say(engine.open())
        while engine.phase not in (Phase.DONE, Phase.ABORTED):
            for seq, message in self._client.receive(self._cursor, 1.0):
                self._cursor = seq
                if message.sender != self._identity.id:
                    wanted = engine.wants(message)
                    self._say(engine.feed(self._client.fetch(message, engine.limit_bytes) if wanted else message))
            self._say(engine.tick())
        seconds = time.perf_counter() - started
        if engine.result is None or len(engine.result.contributors) != len(self._artists):
            raise RuntimeError(f"the round failed: {engine.reason or engine.result}")
        self._shared = engine.result.shared
        sha256 = sha256_hex(self._shared)
        self._plan = replace(self._plan, number=self._plan.number + 1, shared_sha256=sha256)
        for member in self._members.values():
            member.state = "joined"
        return seconds

    def _say(self, answers: Any) -> None:
        for answer in answers:
            self._client.send(answer, self._identity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--relay", required=True)
    parser.add_argument("--artists", type=int, default=4)
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--secret")
    chosen = parser.parse_args()
    room = Room(chosen.relay, chosen.artists, chosen.size, chosen.secret)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"round_s": room.round()}), flush=True)


if __name__ == "__main__":
    main()
