"""What one picture has influenced so far: the rounds that it was in, and the shared adapters that stand on them.

Influence here is a fact of bookkeeping, not a measure: the picture was among those that an update was trained on, and
the update is in a room's sum. Every later shared adapter of that room is trained on from there, so it stands on it too,
until the room is rewound to before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .receipts import Receipt

__all__ = ["Influence", "Touched", "influence_of"]

_COUNTED = ("in the sum", "perhaps in the sum")


@dataclass(frozen=True)
class Touched:
    """One shared adapter, by its SHA-256, with the round of the room that made it.

    `how` is "direct" (the picture's update is in its sum), "perhaps" (it was sent, and this kernel did not see whether
    it was counted) or "later" (it was trained on from such a one).
    """

    room: str
    round: int
    shared: str
    how: str
    contributors: int
    time: str


@dataclass(frozen=True)
class Influence:
    """What one picture has influenced.

    Attributes:
        picture: its id in the art set; mark: its name in the receipts.
        rounds: (room, round) in which an update trained on it was sent, also where it was not counted.
        adapters: the shared adapters that stand on it now.
        undone: shared adapters that did, in rooms that were rewound since; copies of them may still be about.
    """

    picture: str
    mark: str
    rounds: tuple[tuple[str, int], ...] = ()
    adapters: tuple[Touched, ...] = ()
    undone: tuple[Touched, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same for a person."""
        if not self.rounds:
            return ("No update that was trained on this picture has left this kernel.",)
        told = [f"Updates trained on it were sent in {_listed(self.rounds)}."]
        direct = [one for one in self.adapters if one.how != "later"]
        later = [one for one in self.adapters if one.how == "later"]
        if direct:
            sure = "" if all(one.how == "direct" for one in direct) else " (not all of them for certain)"
            told.append(f"It is in the sums of {_listed((o.room, o.round) for o in direct)}{sure}.")
        if later:
            told.append(
                f"The shared adapters of {_listed((o.room, o.round) for o in later)} were trained on from there."
            )
        if self.undone:
            told.append(
                f"{len(self.undone)} shared adapters that stood on it were replaced when their room was rewound; "
                "copies that somebody kept are as they were."
            )
        if not self.adapters:
            told.append("No shared adapter of a room stands on it now.")
        return tuple(told)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return " ".join(self.sentences)


def influence_of(receipts: Iterable[Receipt], mark: str, picture: str = "") -> Influence:
    """Follow one picture, by its mark, through all receipts."""
    sets: dict[str, frozenset[str]] = {}
    sent: dict[tuple[str, str], bool] = {}  # (room, plan) to whether the picture was in it
    rounds: list[tuple[str, int]] = []
    standing: dict[str, list[Touched]] = {}
    undone: list[Touched] = []
    for body in (receipt.body for receipt in receipts):
        if body["kind"] == "pictures":
            sets[body["set"]] = frozenset(body["marks"])
        if body["kind"] != "outcome":
            continue
        room, number, outcome = str(body["room"]), int(body["round"]), body["outcome"]
        if outcome == "sent":
            sent[room, body["plan"]] = mark in sets.get(body["pictures"], ())
            if sent[room, body["plan"]] and (room, number) not in rounds:
                rounds.append((room, number))
        elif outcome == "rewound":
            kept = [one for one in standing.get(room, []) if one.round < number]
            undone += [one for one in standing.get(room, []) if one.round >= number]
            standing[room] = kept
        elif body.get("shared"):
            mine = outcome in _COUNTED and sent.get((room, body["plan"]), False)
            if mine or standing.get(room):
                how = "later" if not mine else "direct" if outcome == "in the sum" else "perhaps"
                standing.setdefault(room, []).append(_touched(body, how))
    adapters = tuple(one for kept in standing.values() for one in kept)
    return Influence(picture, mark, tuple(rounds), adapters, tuple(undone))


def _touched(body: Mapping[str, Any], how: str) -> Touched:
    contributors = int(body.get("contributors", 0))
    return Touched(body["room"], body["round"], body["shared"], how, contributors, body["time"])


def _listed(rounds: Iterable[tuple[str, int]]) -> str:
    """Say "rounds 1, 2 and 5 of studio" for a person."""
    by_room: dict[str, list[int]] = {}
    for room, number in rounds:
        by_room.setdefault(room, []).append(number)
    told = []
    for room, numbers in by_room.items():
        names = [str(number) for number in sorted(set(numbers))]
        many = ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
        told.append(f"round{'s' if len(names) > 1 else ''} {many} of {room}")
    return "; ".join(told)
