"""What one picture has influenced so far: the rounds that it was in, and the shared adapters that stand on them.

Influence here is a fact of bookkeeping, not a measure: the picture was among those that an update was trained on, and
the update is in a room's sum. Every later shared adapter of that room is trained on from there, so it stands on it too,
until the room is rewound to before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .receipts import Receipt, room_name

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
        withdrawn: those that did when this artist withdrew; whether the room then went back, this kernel cannot see.
    """

    picture: str
    mark: str
    rounds: tuple[tuple[str, int], ...] = ()
    adapters: tuple[Touched, ...] = ()
    undone: tuple[Touched, ...] = ()
    withdrawn: tuple[Touched, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same for a person."""
        if not self.rounds:
            return ("No update that was trained on this picture has left this kernel.",)
        told = [f"Updates trained on it were sent in {_listed(self.rounds)}."]
        direct = [one for one in self.adapters if one.how != "later"]
        later = [one for one in self.adapters if one.how == "later"]
        if direct:
            sums, sure = ("sum", "") if len(direct) == 1 else ("sums", "all of them ")
            sure = "" if all(one.how == "direct" for one in direct) else f" (not {sure}for certain)"
            told.append(f"It is in the {sums} of {_listed((o.room, o.round) for o in direct)}{sure}.")
        if later:
            what, was = _adapters(later)
            told.append(
                f"The shared {what} of {_listed((o.room, o.round) for o in later)} {was} trained on from there."
            )
        if self.undone:
            what, was = _adapters(self.undone)
            told.append(
                f"{len(self.undone)} shared {what} that stood on it {was} replaced when their room was rewound; "
                "copies that somebody kept are as they were."
            )
        if self.withdrawn:
            what, _ = _adapters(self.withdrawn)
            told.append(
                f"You withdrew, and the room was asked to go back to before you came. The shared {what} of "
                f"{_listed((o.room, o.round) for o in self.withdrawn)} stood on it; copies that somebody kept still do."
            )
        elif not self.adapters:
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
    withdrawn: dict[str, list[Touched]] = {}
    for body in (receipt.body for receipt in receipts):
        if body["kind"] == "pictures":
            sets[body["set"]] = frozenset(body["marks"])
        if body["kind"] == "choice" and body["choice"] == "withdraw":
            withdrawn.setdefault(str(body["room"]), []).extend(standing.pop(str(body["room"]), []))
        if body["kind"] != "outcome":
            continue
        room, number, outcome = str(body["room"]), int(body["round"]), body["outcome"]
        if outcome == "sent":
            sent[room, body["plan"]] = mark in sets.get(body["pictures"], ())
            if sent[room, body["plan"]] and (room, number) not in rounds:
                rounds.append((room, number))
        elif outcome == "rewound":
            stood = withdrawn.pop(room, []) + standing.get(room, [])
            standing[room] = [one for one in stood if one.round < number]
            undone += [one for one in stood if one.round >= number]
        elif body.get("shared"):
            mine = outcome in _COUNTED and sent.get((room, body["plan"]), False)
            if mine or standing.get(room):
                how = "later" if not mine else "direct" if outcome == "in the sum" else "perhaps"
                standing.setdefault(room, []).append(_touched(body, how))
    adapters = tuple(one for kept in standing.values() for one in kept)
    gone = tuple(one for stood in withdrawn.values() for one in stood)
    return Influence(picture, mark, tuple(rounds), adapters, tuple(undone), gone)


def _touched(body: Mapping[str, Any], how: str) -> Touched:
    contributors = int(body.get("contributors", 0))
    return Touched(body["room"], body["round"], body["shared"], how, contributors, body["time"])


def _adapters(those: Sequence[Touched]) -> tuple[str, str]:
    """The noun and its verb for so many."""
    return ("adapter", "was") if len(those) == 1 else ("adapters", "were")


def _listed(rounds: Iterable[tuple[str, int]]) -> str:
    """Say "rounds 1, 2 and 5 of studio" for a person; of a room's id, the half that stands in the invite."""
    by_room: dict[str, list[int]] = {}
    for room, number in rounds:
        by_room.setdefault(room, []).append(number)
    told = []
    for room, numbers in by_room.items():
        names = [str(number) for number in sorted(set(numbers))]
        many = ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]
        told.append(f"round{'s' if len(names) > 1 else ''} {many} of {room_name(room)}")
    return "; ".join(told)
