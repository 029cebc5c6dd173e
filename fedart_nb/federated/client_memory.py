"""What one artist remembers of a room so that nobody learns its update from several sums: pins, masked updates, words.

A masked update that has left counts as opened, whoever says otherwise: the others' shares are enough to open a sum. Two
sums of one round, with and without an artist, tell about that artist what neither tells alone. So a further attempt and
a rollback are asked about, and capped by numbers in the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..consent.question import Question
from ..errors import RoundError
from .plan import RoundPlan
from .withdrawal import withdrawn

__all__ = ["History", "Masked", "check_rollback", "further", "refusal_of"]


class Masked(NamedTuple):
    """One masked update that left: of which round, after how many rollbacks, from which shared adapter (SHA-256)."""

    rollbacks: int
    number: int
    start: str


@dataclass
class History:
    """What an artist's kernel knows of one opening of a room; kept over restarts, also when the room is left.

    Attributes:
        rounds_done: the newest finished round; rollbacks: how many times the room went back.
        pin: SHA-256 of the shared adapter that the next plan must start from; "" before the first result.
        starts: the same for every round that was begun.
        masked: what left, by the digests of plans.
        met: by id, after how many rollbacks this kernel was in a roster with that artist.
        results: digests of the plans whose results were taken over.
        agreed: whether the artist has said yes to a round of this opening.
    """

    rounds_done: int = 0
    rollbacks: int = 0
    pin: str = ""
    starts: dict[int, str] = field(default_factory=dict)
    masked: dict[str, Masked] = field(default_factory=dict)
    met: dict[str, set[int]] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)
    agreed: bool = False

    def tries(self, plan: RoundPlan) -> int:
        """In how many other plans of this round, or from the same shared adapter, an update was masked."""
        return sum(
            one.number == plan.number or (one.start == plan.shared_sha256 and one.rollbacks == plan.rewound)
            for digest, one in self.masked.items()
            if digest != plan.digest
        )

    def repeats(self, plan: RoundPlan) -> int:
        """Before how many rollbacks an update of this round was masked."""
        return len(
            {o.rollbacks for o in self.masked.values() if o.number == plan.number and o.rollbacks < plan.rewound}
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rounds_done": self.rounds_done,
            "rollbacks": self.rollbacks,
            "pin": self.pin,
            "starts": {str(number): start for number, start in sorted(self.starts.items())},
            "masked": {digest: list(one) for digest, one in sorted(self.masked.items())},
            "met": {artist: sorted(turns) for artist, turns in sorted(self.met.items())},
            "results": sorted(self.results),
            "agreed": self.agreed,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> History:
        """The opposite of `to_json`.

        >>> History.from_json(History(rounds_done=2, masked={"d": Masked(0, 1, "s")}).to_json()).masked["d"].number
        1
        """
        return cls(
            rounds_done=int(told["rounds_done"]),
            rollbacks=int(told["rollbacks"]),
            pin=str(told["pin"]),
            starts={int(number): str(start) for number, start in told["starts"].items()},
            masked={digest: Masked(int(o[0]), int(o[1]), str(o[2])) for digest, o in told["masked"].items()},
            met={artist: set(turns) for artist, turns in told["met"].items()},
            results=set(told["results"]),
            agreed=bool(told.get("agreed", False)),
        )


def further(plan: RoundPlan, history: History, before: Sequence[History] = ()) -> Question | None:
    """What to ask before another update is masked; None where none of this round, or of this room before, has left.

    Args:
        before: what this kernel knows of the room's other openings. They are asked about until the first yes.
    """
    tries, repeats = history.tries(plan), history.repeats(plan)
    if not tries:
        earlier = [one for one in before if one.masked]
        return _reopening(plan, earlier) if earlier and not history.agreed else None
    times = "once" if tries == 1 else f"{tries} times"
    left = f"Your masked update of round {plan.number} has left {times} already."
    tells = (
        "The host may have opened that sum. Two sums of one round, with different artists in them, tell more about you "
        "than one."
    )
    most = plan.max_attempts + repeats
    cap = f"At most {most} of yours leave for this round, as the plan says; after that this kernel refuses."
    if repeats:
        why = "The room went back, because an artist withdrew, and trains the round again."
        return Question(
            "rollback", plan.number, f"Train round {plan.number} again?", (why, left, tells, cap), "Train again", "Skip"
        )
    why = f"The host says that round {plan.number} failed, and tries it again (attempt {plan.attempt})."
    return Question(
        "attempt", plan.number, f"Send for round {plan.number} again?", (why, left, tells, cap), "Send again", "Skip"
    )


def _reopening(plan: RoundPlan, earlier: Sequence[History]) -> Question:
    """What to ask where a host opens a room anew in which updates have left: nothing of the former opening binds it."""
    left, opened = sum(len(one.masked) for one in earlier), len(earlier)
    updates = "masked update of yours has" if left == 1 else "masked updates of yours have"
    before = f"{left} {updates} left in this room already, when it was open before ({opened} time{'s' * (opened > 1)})."
    free = (
        "Which rounds are over, and which adapter comes next, is known of the former opening alone: this one is free "
        "to repeat them. If the host did not tell you of it, ask them before you say yes."
    )
    sentences = (
        f"The host has opened this room anew, and begins with round {plan.number} as if nobody had sent anything.",
        before,
        "The host may have opened those sums. New ones, of different artists, tell more about you beside them.",
        free,
    )
    return Question("reopening", plan.number, "Take part in this room once more?", sentences, "Take part", "Skip")


def refusal_of(plan: RoundPlan, history: History) -> str:
    """Why this kernel masks no further update of a round, whatever anybody answers; "" where it may."""
    tries, repeats = history.tries(plan), history.repeats(plan)
    if tries and tries >= plan.max_attempts + repeats:
        return (
            f"Your masked update of round {plan.number} has left {tries} times, the most that the plan allows "
            f"(max_attempts is {plan.max_attempts}). No more of it leaves; ask the host to open a new room."
        )
    if repeats > plan.max_round_rollbacks:
        return (
            f"Round {plan.number} was trained {repeats + 1} times because of rollbacks; the plan allows "
            f"{plan.max_round_rollbacks} rollbacks of one round. No more of it leaves."
        )
    return ""


def check_rollback(plan: RoundPlan, facts: Any, history: History, *, room: str, host: str) -> None:
    """A room goes back only for artists whom this kernel saw in a roster, once for each time that they took part.

    A kernel from which no masked update has left in this room has nothing to lose, and nobody it could have met: for it
    the signatures are enough.

    Raises:
        RoundError: too few withdrawals, or withdrawals that do not count.
    """
    words = {withdrawn(fact, room, host) for fact in facts} if isinstance(facts, list) else set()
    refused = "A host that repeats rounds learns from the sums together what none says alone; nothing was trained."
    if len(words) != plan.rewound:
        raise RoundError(
            f"The host goes back to round {plan.number} for the {plan.rewound}. time and shows {len(words)} signed "
            f"withdrawals; expected one for each time. {refused}"
        )
    if not history.masked:
        return
    for artist, count in Counter(artist for artist, _ in words).items():
        seen = len(history.met.get(artist, ()))
        if not seen:
            raise RoundError(
                f"The host goes back to round {plan.number} because {artist[:8]}… withdrew. This kernel never saw that "
                f"artist in a roster, so their word takes nothing back here. {refused}"
            )
        if count > seen:
            raise RoundError(
                f"The host shows {count} withdrawals of {artist[:8]}…, who took part {seen} times as far as this "
                f"kernel saw. Each time can be withdrawn once. {refused}"
            )
