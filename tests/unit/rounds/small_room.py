"""A small room without I/O: an engine, artists, and a post office that hands envelopes around."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from fedart_nb.relay import Envelope
from fedart_nb.rounds import ArtistSide, Phase, RoundEngine, RoundPlan

HOST = "f" * 32
BACKBONE = "b" * 64


def artist_id(letter: str) -> str:
    return letter * 32


def tensors(value: float = 0.0) -> dict[str, np.ndarray]:
    return {"unet.x.lora_A.weight": np.full((2, 3), value, np.float32), "unet.x.lora_B.weight": np.zeros((3, 2), "f4")}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Room:
    """An engine and its artists; `deliver` hands an envelope on and everything that follows from it."""

    clock: Clock
    engine: RoundEngine
    artists: dict[str, ArtistSide] = field(default_factory=dict)
    log: list[Envelope] = field(default_factory=list)

    def open(self) -> None:
        self._out(self.engine.open())

    def add(self, letter: str) -> ArtistSide:
        me = artist_id(letter)
        side = ArtistSide(room="room", host=HOST, me=me, name=letter.upper(), backbone_sha256=BACKBONE)
        self.artists[me] = side
        self.send(side.hello())
        return side

    def send(self, envelope: Envelope) -> None:
        self.log.append(envelope)
        if self.engine.phase is not Phase.DONE:
            self._out(self.engine.feed(envelope))

    def tick(self, seconds: float) -> None:
        self.clock.now += seconds
        self._out(self.engine.tick())

    def _out(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            self.log.append(envelope)
            for me, side in self.artists.items():
                if envelope.recipient in ("all", me):
                    side.feed(envelope)


def plan_for(shared: bytes, **changes: object) -> RoundPlan:
    digest = hashlib.sha256(shared).hexdigest()
    settings: dict[str, object] = {"room": "room", "number": 1, "total": 2, "backbone_sha256": BACKBONE}
    return RoundPlan(**{**settings, "shared_sha256": digest, **changes})  # type: ignore[arg-type]
