"""The words of consent: what an artist can choose, how a choice came about, and what can come of it."""

from __future__ import annotations

from typing import Literal

__all__ = ["CHOICES", "OUTCOMES", "ROOM_CHOICES", "Choice", "How", "Outcome", "RoomChoice"]

#: For one round: send an update, send none, or leave the room (and, with "withdraw", ask it to forget what was sent).
Choice = Literal["contribute", "skip", "leave", "withdraw"]
CHOICES: tuple[Choice, ...] = ("contribute", "skip", "leave", "withdraw")

#: For a whole room: contribute to every round of these terms without being asked, or be asked each time (the default).
RoomChoice = Literal["stand", "ask"]
ROOM_CHOICES: tuple[RoomChoice, ...] = ("stand", "ask")

#: "asked": answered to a question; "standing": by the room's standing consent; "again": the same round tried once more;
#: "changed": said without being asked, also in the middle of a round; "looked": after a look at the trained update;
#: "unasked": the standing consent did not cover the round's terms, and nobody was there to be asked.
How = Literal["asked", "standing", "again", "changed", "looked", "unasked"]

#: "sent": handed to the relay, masked; "not sent"; then, when the round is over, whether the sum holds it. "perhaps in
#: the sum": it was sent, and this kernel did not see whom the room counted. "rewound": the room took it out again.
Outcome = Literal["sent", "not sent", "in the sum", "not in the sum", "perhaps in the sum", "rewound"]
OUTCOMES: tuple[Outcome, ...] = ("sent", "not sent", "in the sum", "not in the sum", "perhaps in the sum", "rewound")
