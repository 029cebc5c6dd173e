"""What is about to leave a kernel, as a value to be shown before anybody says yes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Leaving"]


@dataclass(frozen=True)
class Leaving:
    """One round's update before it leaves, for the artist who decides.

    Attributes:
        room, number, total, attempt: which round of how many, and its how-manieth try.
        plan: digest of the round's plan; terms: digest of what is the same in all of the room's plans.
        size_bytes: what is uploaded, masked; values: how many numbers of an update are in it.
        pictures: how many pictures it is trained on; steps: in how many local steps.
        name, goes_to: under which name it goes, and to which relay.
        others: with how many others at least it is summed before anybody can read it.
        unit: whom noise covers, "picture" or "artist"; "" without noise. `epsilon_before` and `epsilon_after` are what
            the ledger says at `delta` without and with this round, `budget` its limit (None: it keeps count only).
        ready: whether it is trained already.
        found: what attacks on it in this kernel found, in sentences; () when nobody looked.
        turn: how many times the room was rewound; after the first, this round was trained before.
        again: sentences on what it means that an update has left before, of this round or of this room; or ().
        limits: how often updates of one round may leave, as the plan says, in a sentence.
        key: the plan itself, for those who know plans; not written down.
    """

    room: str
    number: int
    total: int
    attempt: int
    plan: str
    terms: str
    size_bytes: int
    values: int
    pictures: int
    steps: int
    name: str
    goes_to: str
    others: int
    unit: str = ""
    epsilon_before: float = math.inf
    epsilon_after: float = math.inf
    delta: float = 0.0
    budget: float | None = None
    ready: bool = False
    found: tuple[str, ...] = ()
    turn: int = 0
    again: tuple[str, ...] = ()
    limits: str = ""
    key: Any = field(default=None, repr=False, compare=False)

    @property
    def epsilon(self) -> float:
        """What this round adds to epsilon; infinite without noise, now or before."""
        bounded = self.unit and math.isfinite(self.epsilon_after)
        return self.epsilon_after - self.epsilon_before if bounded else math.inf

    @property
    def cost(self) -> str:
        """What it costs in privacy, as a sentence."""
        if not self.unit:
            return "There is no noise in it: nothing bounds what a sum of such updates tells."
        if not math.isfinite(self.epsilon_after):
            return (
                "It has noise, but not the promise of one: something that is counted of the same pictures bounds "
                f"nothing per {self.unit}, so epsilon stays infinite."
            )
        of = "" if self.budget is None else f" of {self.budget:g}"
        return (
            f"It brings epsilon from {self.epsilon_before:.2f} to {self.epsilon_after:.2f}{of} per {self.unit}, at "
            f"delta {self.delta:g}."
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of it for a person, one thing a sentence."""
        what = (
            f"Round {self.number} of {self.total} in the room {self.room}: an update of {self.values:,} numbers, "
            f"{self.size_bytes:,} bytes, masked, under the name {self.name}, to {self.goes_to}."
        )
        how = (
            f"It is trained on {self.pictures} of your pictures in {self.steps} steps, and can be read only as a sum "
            f"with at least {self.others} others, whom you are shown before it is masked."
        )
        told = [what, how, self.cost]
        if self.limits:
            told.append(self.limits)
        told += self.again
        if self.turn and not self.again:
            told.append(
                "The room went back, because somebody withdrew, and trains this round anew: who kept the former sums "
                "has one more to compare them with."
            )
        told += self.found or (["Nobody has attacked it yet."] if self.ready else [])
        return tuple(told)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without `key`; an infinite epsilon is null."""
        told = asdict(self) | {"found": list(self.found), "again": list(self.again)}
        del told["key"]
        return {name: None if value == math.inf else value for name, value in told.items()}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Leaving:
        """The opposite of `to_json`."""
        endless = {n: math.inf for n in ("epsilon_before", "epsilon_after") if told[n] is None}
        return cls(**{**told, **endless, "found": tuple(told["found"]), "again": tuple(told.get("again", ()))})

    def __str__(self) -> str:
        return " ".join(self.sentences)
