"""A wish for privacy of a whole artist, and the ledger that pays for every noised update before it leaves."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedart_nb._system.arguments import plain_fields
from fedart_nb._system.folders import folder_name, unique_folder
from fedart_nb.errors import LedgerError, PrivacyError
from fedart_nb.privacy.distributed import SkellamSum
from fedart_nb.privacy.ledger import Budget, Ledger
from fedart_nb.privacy.planning import Unit

__all__ = ["ArtistPrivacy", "ledger_places"]

#: Names of rooms that are file names of their own on every system; others get a hash.
_PLAIN = re.compile(r"(?!.*-[0-9a-f]{12}$)[a-z0-9][a-z0-9_-]{0,79}")
_LINE_BYTES = 64 * 1024


#: No room has fewer artists.
_FEWEST = 3


@dataclass(frozen=True)
class ArtistPrivacy:
    """What an artist wants of the noise in a room's sums: at most `epsilon` for everything that is sent, in all rounds.

    The noise is the room's (`RoundPlan.protection`): all artists add a share of it. A plan without it, or with less
    than `noise_multiplier`, is skipped, and so is a round that the budget does not reach for.

    Attributes:
        epsilon: the budget, per artist; None only keeps count.
        delta: the plan's unless given.
        colluders: how many artists may put together what they know, and epsilon still holds. They know their own shares
            of the noise; 1 is another artist who looks at the sum.
        noise_multiplier: the least that a plan must have.

    Example:
        >>> session.privacy = ArtistPrivacy(epsilon=8.0)
        >>> for event in session.rounds():
        ...     print(event)
    """

    epsilon: float | None = 8.0
    delta: float | None = None
    colluders: int = 1
    noise_multiplier: float = 0.0

    def __post_init__(self) -> None:
        plain_fields(self)
        self.budget(0.5)
        if type(self.colluders) is not int or self.colluders < 0:
            raise PrivacyError(f"colluders is {self.colluders!r}; expected a whole number, 0 or more.")
        z = self.noise_multiplier
        if isinstance(z, bool) or not isinstance(z, (int, float)) or not 0 <= z < math.inf:
            raise PrivacyError(f"noise_multiplier is {z!r}; expected a number, 0 or more.")

    def budget(self, delta: float) -> Budget:
        """The budget with which a ledger is begun, at the plan's `delta` unless this wish has its own."""
        return Budget(self.epsilon, delta if self.delta is None else self.delta, "artist", "rdp")

    def open_ledger(self, folder: Path, home: Path, *, artist: str, room: str, delta: float) -> Ledger:
        """The ledger of this artist in this room, begun if there is none.

        Args:
            folder: the session's; home: where the second copy lies, out of its reach; delta: the plan's.

        Raises:
            LedgerError: it was begun for another epsilon or delta, or cannot be trusted.
        """
        path, witness = ledger_places(folder, home, artist=artist, room=room, unit="artist")
        begun = path.exists() or witness.exists()
        if not begun and self.delta is not None and self.delta >= 1 / _FEWEST:
            raise PrivacyError(
                f"delta is {self.delta:g}, too large for the artists of a room: it allows giving one of them away. "
                "Take less than one over their number, or leave it out."
            )
        budget = None if begun else self.budget(delta)
        ledger = Ledger.open(path, artist=artist, room=room, budget=budget, witness=witness)
        held = ledger.budget
        if held.epsilon != self.epsilon or self.delta not in (None, held.delta):
            raise LedgerError(
                f"This room's ledger has epsilon {held.epsilon} per artist at delta {held.delta:g}; asked for was "
                f"{self.epsilon} at {self.delta or held.delta:g}. Ask for the same, or call change_budget(epsilon, "
                "why=...) on the ledger: it stays visible."
            )
        return ledger

    def refusal(self, ledger: Ledger, code: SkellamSum) -> str:
        """Why the ledger will not pay for one more sum, or ""; spends nothing."""
        mechanism = code.mechanism(colluders=self.colluders)
        if ledger.allows(mechanism):
            return ""
        budget = ledger.budget
        return (
            f"It would bring epsilon to {ledger.cost(mechanism):.3g} per artist, against {self.colluders} colluders; "
            f"your budget is {budget.epsilon:g}."
        )

    def pay(self, ledger: Ledger, code: SkellamSum, *, purpose: str, once: tuple[str, str], pictures: int) -> None:
        """Pay for one noised vector before it leaves; for the same one only once (`Ledger.spend`).

        Raises:
            BudgetExceeded: the budget does not reach.
            LedgerError: something else was paid for under the same name.
        """
        record: dict[str, Any] = {
            "pictures": pictures,
            "parameters": code.size,
            "clip_norm": code.clip_norm,
            "noise_multiplier": code.noise_multiplier,
            "artists": code.artists,
            "survivors": code.survivors,
            "colluders": self.colluders,
            "left": f"a masked update of {code.size:,} numbers with a share of the sum's noise in it",
        }
        ledger.spend(code.mechanism(colluders=self.colluders), purpose=purpose, record=record, once=once)


def ledger_places(folder: Path, home: Path, *, artist: str, room: str, unit: Unit = "picture") -> tuple[Path, Path]:
    """Where the two copies of a ledger lie; one that an older version called by a cut name is renamed."""
    end = "" if unit == "picture" else "-artist"
    name = room if _PLAIN.fullmatch(room) else unique_folder(room)
    places = [folder / "ledgers" / f"{name}{end}.jsonl", home / "ledgers" / f"{artist[:16]}-{name}{end}.jsonl"]
    if name != (cut := folder_name(room)):
        olds = [folder / "ledgers" / f"{cut}{end}.jsonl", home / "ledgers" / f"{artist[:16]}-{cut}{end}.jsonl"]
        for old, place in zip(olds, places, strict=True):
            if not place.exists() and old.exists() and _room_in(old) == room:
                old.rename(place)
    return places[0], places[1]


def _room_in(path: Path) -> object:
    """Which room a ledger's first line names; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return json.loads(file.readline(_LINE_BYTES))["body"]["room"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
