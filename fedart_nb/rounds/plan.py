"""What a round is: agreed by everybody before anything is trained, and bound to every message by its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import RoundError

__all__ = ["PHASES", "RoundPlan"]

#: Every round goes through these in order; a sum protocol names the ones that it leaves empty.
PHASES = ("advertise", "share", "update", "consistency", "unmask")

_LIMITS: Mapping[str, tuple[float, float]] = {
    "number": (1, 10_000),
    "total": (1, 10_000),
    "local_steps": (1, 100_000),
    "batch": (1, 1024),
    "learning_rate": (1e-8, 1.0),
    "rank": (1, 128),
    "alpha": (1e-6, 1024),
    "min_artists": (1, 512),
    "join_s": (0, 86_400),
    "patience_s": (1, 86_400),
}


@dataclass(frozen=True)
class RoundPlan:
    """One round's agreement.

    Attributes:
        room, number, total: which room, and which round (from 1) of how many.
        backbone_sha256: the frozen backbone that everybody must hold.
        shared_sha256: SHA-256 of the bytes of the shared adapter that the round starts from.
        rank, alpha, targets: shape of that adapter.
        local_steps, batch, learning_rate: what each artist's kernel does with it.
        rule: how the sum becomes the next shared adapter.
        protocol: how the sum is formed; "clear" means that the relay and the host can read each update.
        min_artists: fewer contributors than this, and the round waits.
        join_s: how long the room waits for answers before it starts without the silent.
        patience_s: an artist that has shown no sign of life for so long counts as dropped.
    """

    room: str
    number: int
    total: int
    backbone_sha256: str
    shared_sha256: str
    rank: int = 4
    alpha: float = 4.0
    targets: str = ""
    local_steps: int = 20
    batch: int = 8
    learning_rate: float = 3e-3
    rule: str = "fedavg"
    protocol: str = "clear"
    min_artists: int = 2
    join_s: float = 30.0
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise RoundError(f"The plan's {name} is {value!r}; expected a number from {low:g} to {high:g}.")

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON: two kernels hold the same plan exactly when this agrees."""
        return hashlib.sha256(json.dumps(self.to_body(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_body(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return asdict(self)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> RoundPlan:
        """Read a plan from a message; raises RoundError naming what is missing, unknown or of the wrong kind."""
        known = {f.name: f for f in fields(cls)}
        if strange := sorted(body.keys() - known.keys()):
            raise RoundError(f"The plan has the unknown entry {strange[0]!r}; update to the host's version.")
        for name, item in known.items():
            if name not in body:
                raise RoundError(f"The plan lacks {name!r}; the host's version is too old for this kernel.")
            if item.type == "str" and not isinstance(body[name], str):
                raise RoundError(f"The plan's {name} is {body[name]!r}; expected a text.")
        return cls(**body)
