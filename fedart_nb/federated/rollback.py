"""A host's withdrawals: whose word waits for an answer, what going back would cost the others, and how often it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..consent.question import Question
from ..errors import RoundError
from ..privacy.guarantee import ArtistPromise
from .plan import RoundPlan
from .withdrawal import withdrawn

__all__ = ["AskHost", "Withdrawals"]

#: Answers a question to a host: True, False, or None while nobody has answered yet; then it is asked again.
AskHost = Callable[[Question], bool | None]

_WORD = ("artist", "key", "nonce", "signature")


@dataclass
class Withdrawals:
    """What a host knows of withdrawals in a room.

    Attributes:
        followed: signed words for which the room went back, in order; every artist is shown them.
        waiting: those that wait for the host's answer; declined: those that were answered no, or came too often.
        first: by id, the first round whose sum an artist is in.
        repeated: by round, how many times it was trained again.
    """

    followed: list[dict[str, str]] = field(default_factory=list)
    waiting: list[dict[str, str]] = field(default_factory=list)
    declined: list[dict[str, str]] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    repeated: dict[int, int] = field(default_factory=dict)

    def hear(self, fact: Any, *, sender: str, plan: RoundPlan, host: str) -> str:
        """Take an artist's word: "waits" for an answer, "capped", "nothing" to take out, or "known" already.

        Raises:
            RoundError: it was not signed by its sender for this room.
        """
        if withdrawn(fact, plan.room, host)[0] != sender:
            raise RoundError("This is the withdrawal of another artist. Nothing is taken out because of it.")
        if any(fact["nonce"] == one["nonce"] for one in (*self.followed, *self.waiting, *self.declined)):
            return "known"
        if sender not in self.first:
            return "nothing"
        word = {key: str(fact[key]) for key in _WORD}
        if self._capped(plan, sender):
            self._decline(word)
            return "capped"
        self.waiting.append(word)
        return "waits"

    def _capped(self, plan: RoundPlan, artist: str) -> bool:
        again = range(self.first[artist], plan.number)
        often = any(self.repeated.get(number, 0) >= plan.max_round_rollbacks for number in again)
        return often or len(self.followed) + len(self.waiting) >= plan.max_rollbacks

    def back_to(self) -> int:
        """The round to go back to for all who wait: the first one whose sum one of them is in; 0 where nobody waits."""
        return min((self.first[one["artist"]] for one in self.waiting if one["artist"] in self.first), default=0)

    def question(self, plan: RoundPlan, names: Callable[[str], str], promise: ArtistPromise | None) -> Question | None:
        """What the host is asked: what going back costs the others; None where nobody waits."""
        if not (number := self.back_to()):
            return None
        who = " and ".join(names(one["artist"]) for one in self.waiting)
        last, count = plan.number - 1, plan.number - number
        rounds = f"round {number}" if count <= 1 else f"{count} finished rounds ({number} to {last})"
        cost = "Artists who train with noise of their own pay for them from their ledgers again; nothing is refunded."
        if promise is not None:
            more = replace(promise, rounds=promise.rounds + count)
            cost = (
                "It costs every artist privacy again, and nothing is refunded: epsilon "
                f"{promise.against(0).epsilon:.2f} over all rounds becomes {more.against(0).epsilon:.2f}."
            )
        return Question(
            "withdrawal",
            number,
            f"{who} withdraws. Go back to before round {number}?",
            (
                f"{who} is in no further round, whatever you answer.",
                (
                    f"If you go back, the others are asked to train {rounds} again without them, each in their kernel: "
                    "about as long as the first time, and each may say no."
                ),
                cost,
                f"The room has gone back {len(self.followed)} of at most {plan.max_rollbacks} times.",
                f"If you do not, what was made with {who} stays as it is, and they are told so.",
            ),
            f"Go back to round {number}",
            "Stay",
        )

    def follow(self, plan: RoundPlan) -> int:
        """Go back for all who wait; returns the round that is next, which the caller's plan starts from."""
        number = self.back_to()
        self.followed += self.waiting
        self.waiting = []
        for again in range(number, plan.number):
            self.repeated[again] = self.repeated.get(again, 0) + 1
        self.first = {artist: first for artist, first in self.first.items() if first < number}
        return number

    def stay(self) -> None:
        """Do not go back: the words are answered, and what the sums hold of these artists stays."""
        words, self.waiting = self.waiting, []
        for word in words:
            self._decline(word)

    def _decline(self, word: dict[str, str]) -> None:
        self.declined.append(word)
        self.first.pop(word["artist"], None)  # who comes again may withdraw what comes then

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        repeated = {str(number): count for number, count in self.repeated.items()}
        told = {"withdrawn": self.followed, "waiting": self.waiting, "declined": self.declined}
        return {**told, "first": self.first, "repeated": repeated}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Withdrawals:
        """The opposite; what an earlier build did not write is empty."""
        return cls(
            followed=list(told.get("withdrawn", ())),
            waiting=list(told.get("waiting", ())),
            declined=list(told.get("declined", ())),
            first=dict(told.get("first", {})),
            repeated={int(number): count for number, count in told.get("repeated", {}).items()},
        )
