"""An artist's own check of the list of artists: who was confirmed in a room, on disk, and asking about the rest."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from .._system.files import set_aside, write_private
from .._system.folders import unique_folder
from ..crypto.safety_number import SafetyNumber
from ..errors import FedArtError, RoundError
from ..events import Note, Waiting
from ..federated import ArtistSide
from ..federated.roster import Pins, RosterShown, runs_here, say_runs_here
from ..relay import Envelope

__all__ = ["ANSWER_S", "Answer", "Confirm", "RosterCheck"]

ANSWER_S = 300.0  #: how long a round is held up, with signs of life, for an answer about its list
_ALIVE_S = 3.0
_PAUSED_S = 30.0

#: About a list: its words were compared aloud; everybody in it is known; no (nothing is sent in this round).
Answer = Literal["compared", "known", "no"]
#: Answers a list with somebody unconfirmed in it: an `Answer`, True ("known") or False ("no"); None: ask me again soon.
#: "anyone" takes every list: for programs in which it does not matter who the others are.
Confirm = Callable[[RosterShown], Answer | bool | None] | Literal["anyone"]

_UNATTENDED = (
    "Nobody is there to be asked. Give rounds(confirm=...), press “We compared the words” in RoomPanel, call "
    'session.compared(), or say confirm="anyone" where it does not matter who the others are.'
)


class RosterCheck:
    """Whom an artist has confirmed in one room, in one file, and the question about whoever else is in a list.

    The rule: a list that holds an unconfirmed id is shown and asked about before anything is masked, in every attempt,
    whatever was agreed to before. "We compared the words" confirms a list as a whole and nobody else; a yes to the
    question confirms those who were asked about. Where nobody is there to be asked, the only unconfirmed ids taken are
    those of sessions in this very process.

    Args:
        folder: where the files of all rooms lie.
        room: as ledgers and receipts name it.
        me: this artist's id.
        answer_s: how long a question stays open.
        clock: seconds, monotonic.

    Attributes:
        declined: why the last list was not taken, or "".
        final: whether that holds for the whole round: nobody need be asked in its next attempt.
    """

    def __init__(
        self,
        folder: Path,
        room: str,
        me: str,
        *,
        answer_s: float = ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path, self.me, self.answer_s = _place(folder, room), me, answer_s
        self.declined, self.final = "", False
        self.notes: list[str] = []
        self._clock, self._lock = clock, threading.RLock()
        self._told: RosterShown | None = None
        self._since = self._alive = self._turn = 0.0
        self.pins = self._read()
        say_runs_here(me)

    def compared(self, side: ArtistSide, words: SafetyNumber | str | None = None) -> RosterShown:
        """The words of the newest list were compared aloud: it is confirmed as a whole, and nobody beside it.

        Raises:
            RoundError: there is no list yet, or `words` are those of another one.
        """
        with self._lock:
            shown = self._shown(side)
            if words is not None and str(words) != str(shown.words):
                raise RoundError(
                    f"You compared {str(words)!r}; the newest list, of round {shown.number}, has the words "
                    f"{str(shown.words)!r}. Somebody came or went meanwhile: compare these."
                )
            self._keep(side, self.pins.with_compared(shown.names))
            return shown

    def accept(self, side: ArtistSide) -> RosterShown:
        """Everybody in the newest list is known to this artist, though no words were compared."""
        with self._lock:
            shown = self._shown(side)
            self._keep(side, self.pins.with_accepted({one.id: one.name for one in shown.unconfirmed}))
            return shown

    def forget(self, side: ArtistSide, artists: Iterable[str]) -> None:
        """Ask about these again before anything further is masked."""
        with self._lock:
            self._keep(side, self.pins.without(artists))

    def heard(self, side: ArtistSide) -> Iterator[RosterShown | Note]:
        """Tell of a list that has just arrived: it is shown before anything is trained or masked under it."""
        for text in self.notes:
            yield Note(text, "warning")
        self.notes = []
        shown = side.roster
        if shown is None or shown is self._told:
            return
        self._told, self._since, self._alive = shown, self._clock(), 0.0
        yield shown
        if shown.warning:
            yield Note(shown.warning, "warning")
        if side.question is None:
            with self._lock:
                self._keep(side, self.pins.with_seen(side.artists, shown.number))

    def ask(
        self, side: ArtistSide, confirm: Confirm | None, send: Callable[[Envelope], object]
    ) -> Iterator[Waiting | Note]:
        """One turn of asking about `side.question`; when it is answered, the side has dealt or declined."""
        question, plan = side.question, side.plan
        if question is None or plan is None:
            return
        self.declined, self.final = "", False
        now = self._clock()
        if now - self._turn > _PAUSED_S:  # nobody was asked meanwhile: the rounds were stopped and go on
            self._since = now
        self._turn = now
        if not (answered := not self.pins.unconfirmed(side.artists, self.me)):
            answer = self._answer(question, confirm)
            if answer == "compared":
                self.compared(side, question.words)
            elif answer == "known":
                self.accept(side)
            elif answer == "no":
                self.declined = _UNATTENDED if confirm is None else "You said no to this list of artists."
                self.final = True
            elif now - self._since > self.answer_s:
                self.declined = f"Nobody answered for {self.answer_s:g} seconds."
            answered = answer in ("compared", "known")
        if answered:
            with self._lock:
                self._keep(side, self.pins.with_seen(side.artists, question.number))
            for envelope in side.deal():
                send(envelope)
        elif self.declined:
            send(side.decline())
            yield Note(f"Round {question.number}: nothing of yours is sent. {self.declined}", "warning")
        else:
            if now - self._alive > min(_ALIVE_S, plan.patience_s / 4):
                send(side.asks())
                self._alive = now
            yield Waiting(f"Round {question.number} waits for your answer. {question.question}")

    def _answer(self, question: RosterShown, confirm: Confirm | None) -> Answer | None:
        if confirm == "anyone":
            return "known"
        if confirm is None:
            return "known" if all(runs_here(one.id) for one in question.unconfirmed) else "no"
        answer = confirm(question)
        if answer is True or answer is False:
            return "known" if answer else "no"
        if answer not in ("compared", "known", "no", None):
            raise FedArtError(f"confirm answered {answer!r}; expected 'compared', 'known', 'no', True, False or None.")
        return answer

    def _shown(self, side: ArtistSide) -> RosterShown:
        if side.roster is None:
            raise RoundError("There is no list of artists yet; it comes when a round has begun.")
        return side.roster

    def _keep(self, side: ArtistSide, pins: Pins) -> None:
        """On disk first: what was confirmed is known after a crash."""
        if pins != self.pins:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self.path, json.dumps(pins.to_json(), ensure_ascii=True).encode())
        self.pins = side.pins = pins

    def _read(self) -> Pins:
        """What the file says; a damaged one is set aside, and everybody is asked about again."""
        try:
            return Pins.from_json(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return Pins()
        except (OSError, ValueError, RecursionError, RoundError):
            aside = set_aside(self.path)
            self.notes.append(
                f"The file with the artists whom you confirmed cannot be read and was set aside as {str(aside)!r}. "
                "You are asked about everybody again."
            )
            return Pins()


def _place(folder: Path, room: str) -> Path:
    """Where a room's file lies, apart from every other room's also on disks that know no capital letters.

    One that an older version called by the room's name alone is renamed.
    """
    place, old = folder / f"{unique_folder(room)}.json", folder / f"{room}.json"
    if not place.exists() and folder.is_dir() and old.name in {one.name for one in folder.iterdir()}:
        old.rename(place)
    return place
