"""A small room without I/O: an engine, artists, and a post office that hands envelopes around at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from fedart_nb.federated import ArtistSide, Phase, RoundEngine, RoundPlan
from fedart_nb.relay import Envelope
from fedart_nb.secagg import Identity

HOST_KEY = Identity.generate()
HOST = HOST_KEY.id
BACKBONE = "b" * 64
_KEYS: dict[str, Identity] = {}


def key_of(letter: str) -> Identity:
    """The identity of the artist A, B, C, ..."""
    return _KEYS.setdefault(letter, Identity.generate())


def artist_id(letter: str) -> str:
    return key_of(letter).id


def tensors(value: float = 0.0) -> dict[str, np.ndarray]:
    return {"unet.x.lora_A.weight": np.full((2, 3), value, np.float32), "unet.x.lora_B.weight": np.zeros((3, 2), "f4")}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Room:
    """An engine and its artists; `send` hands an envelope on and everything that follows from it.

    Who is in `silent` hears nothing any more.
    """

    clock: Clock
    engine: RoundEngine
    artists: dict[str, ArtistSide] = field(default_factory=dict)
    log: list[Envelope] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)

    def open(self) -> None:
        self._out(self.engine.open())

    def add(self, letter: str, **more: object) -> ArtistSide:
        side = new_side(letter, **more)
        self.artists[side.me] = side
        self.send(side.hello())
        return side

    def send(self, envelope: Envelope) -> None:
        self.log.append(envelope)
        if self.engine.phase not in (Phase.DONE, Phase.ABORTED):
            self._out(self.engine.feed(envelope))

    def tick(self, seconds: float) -> None:
        self.clock.now += seconds
        self._out(self.engine.tick())

    def _out(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            self.log.append(envelope)
            for me, side in list(self.artists.items()):
                if envelope.recipient in ("all", me) and me not in self.silent:
                    for answer in side.feed(envelope):
                        self.send(answer)


def new_side(letter: str, **more: object) -> ArtistSide:
    settings: dict[str, object] = {"room": "room", "host": HOST, "backbone_sha256": BACKBONE}
    return ArtistSide(identity=key_of(letter), name=letter.upper(), **{**settings, **more})  # type: ignore[arg-type]


def new_engine(shared: bytes, clock: Clock | None = None, **more: object) -> RoundEngine:
    settings: dict[str, object] = {"host": HOST_KEY, "members": {}, "clock": clock or Clock()}
    plan = more.pop("plan", None) or plan_for(shared)
    return RoundEngine(plan, shared, **{**settings, **more})  # type: ignore[arg-type]


def plan_for(shared: bytes, **changes: object) -> RoundPlan:
    digest = hashlib.sha256(shared).hexdigest()
    settings: dict[str, object] = {"room": "room", "number": 1, "total": 2, "backbone_sha256": BACKBONE}
    settings["host_key"] = HOST_KEY.public_key.hex()
    return RoundPlan(**{**settings, "shared_sha256": digest, **changes})  # type: ignore[arg-type]
