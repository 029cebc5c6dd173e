"""One artist's ledgers in all rooms, and the tally of their pictures: who pays, and what left without noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._system.folders import UserFolders
from ..diffusion import PicturePrivacy
from ..privacy.client_level import ArtistPrivacy, ledger_places
from ..privacy.ledger import Budget, Ledger
from ..privacy.planning import UNITS, Unit, default_delta
from ..privacy.tally import Tally

__all__ = ["PrivacyBudgets"]


class PrivacyBudgets:
    """The ledgers of one artist.

    Args:
        folder: the session's; folders: the user's, with the second copies and the tally.
        artist: this artist's id.

    Attributes:
        tally: what was spent of every picture of this user, in whatever room, session or adapter.
    """

    def __init__(self, folder: Path, folders: UserFolders, artist: str) -> None:
        self._folder, self._folders, self._artist = folder, folders, artist
        self.tally = Tally(folders)

    def places(self, room: str, unit: Unit = "picture") -> tuple[Path, Path]:
        """Where the two copies of a ledger lie."""
        return ledger_places(self._folder, self._folders.state, artist=self._artist, room=room, unit=unit)

    def units(self, room: str) -> list[Unit]:
        """For which units there is a ledger of a room."""
        return [unit for unit in UNITS if any(place.exists() for place in self.places(room, unit))]

    def ledger(self, room: str, unit: Unit, pictures: Sequence[str] = ()) -> Ledger:
        """The ledger of a room, which also counts what was spent of `pictures` elsewhere (`Picture.sha256`).

        Raises:
            LedgerError: there is none yet, or it cannot be trusted.
        """
        path, witness = self.places(room, unit)
        ledger = Ledger.open(path, artist=self._artist, room=room, witness=witness)
        touched = {one for spent in self.tally.spendings if spent.ledger == ledger.id for one in spent.pictures}
        return ledger.about(self.tally, touched | set(pictures))

    def for_pictures(self, privacy: PicturePrivacy, room: str, pictures: Sequence[str]) -> Ledger:
        """The ledger that pays for noise on pictures, begun if there is none."""
        ledger = privacy.open_ledger(
            self._folder, self._folders.state, artist=self._artist, room=room, pictures=len(pictures)
        )
        return privacy.agreed(ledger.about(self.tally, pictures), pictures=len(pictures))

    def for_artist(self, privacy: ArtistPrivacy, room: str, pictures: Sequence[str], delta: float) -> Ledger:
        """The ledger that pays for noise on a whole artist, begun if there is none."""
        home = self._folders.state
        ledger = privacy.open_ledger(self._folder, home, artist=self._artist, room=room, delta=delta)
        return ledger.about(self.tally, pictures)

    def unnoised(self, room: str, pictures: Sequence[str], *, purpose: str, left: str, once: tuple[str, str]) -> None:
        """Enter what leaves without noise: infinite, in the room's ledger and in the tally, before it leaves.

        Args:
            left: what leaves, in words; once: its name and hash: the same thing again is entered once.

        Raises:
            LedgerError: the files cannot be trusted; nothing may leave then.
        """
        path, witness = self.places(room)
        begun = path.exists() or witness.exists()
        budget = None if begun else Budget(None, default_delta(max(1, len(pictures))))
        ledger = Ledger.open(path, artist=self._artist, room=room, budget=budget, witness=witness)
        record = {"pictures": len(pictures), "left": left}
        ledger.about(self.tally, pictures).enter_unnoised(purpose=purpose, record=record, once=once)
