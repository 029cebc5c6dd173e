"""The panel of the privacy ledger: what was spent, what is left, what that means, and the statement to keep."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets

from fedart_nb._system import settings
from fedart_nb._system.files import private_folder, user_path, write_file, write_private
from fedart_nb._system.folders import unique_folder
from fedart_nb.consent.receipts import room_name
from fedart_nb.errors import FedArtError
from fedart_nb.figures import spending
from fedart_nb.privacy import Entry, Ledger, statement
from fedart_nb.privacy.ledger import PERSONAL
from fedart_nb.privacy.ledger_report import meaning_of
from fedart_nb.privacy.tally import Spending
from fedart_nb.widgets import parts
from fedart_nb.widgets.panel import Panel
from fedart_nb.widgets.weight import Weight

if TYPE_CHECKING:
    from fedart_nb.session import Session

__all__ = ["LedgerPanel"]

_EPSILONS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0)
_MARKS = (0.1, 0.3, 1.0, 3.0, 8.0, 20.0, 100.0)


class LedgerPanel(Panel):
    """Privacy of one session in one room. `value` is the epsilon that was spent, or None before anything was.

    Args:
        room: "personal" for personal adapters; the room that the session is in otherwise.

    Example:
        >>> panel = LedgerPanel(session)
        >>> panel.protect(8.0)  # rounds from now on are trained with noise, and paid for
        >>> panel.look()
        >>> panel.save("my-records")
    """

    title = "Privacy ledger"
    lead = "What your rounds may tell about any one of your pictures, and what of it is spent."

    def __init__(self, session: Session, *, room: str | None = None) -> None:
        super().__init__(session)
        self.session, self.room = session, room
        self.ledger: Ledger | None = None
        self.entries: tuple[Entry, ...] = ()
        self.saved: tuple[Path, ...] = ()
        self._build()
        self._look_if_there()

    @property
    def epsilon(self) -> float:
        """Where the slider stands."""
        return _EPSILONS[round(self._epsilon.value)]

    def protect(self, epsilon: float | None = None) -> LedgerPanel:
        """Train rounds with noise from now on, with at most `epsilon` for each picture (the slider's by default)."""
        from fedart_nb.diffusion import PicturePrivacy

        with self._reporting():
            privacy = PicturePrivacy(epsilon=self.epsilon if epsilon is None else epsilon)
            self._clear_error()
            self.session.privacy = privacy
            self._epsilon.value = float(_EPSILONS.index(_nearest(privacy.epsilon or self.epsilon)))
            self._show()
        return self

    def stop_protecting(self) -> LedgerPanel:
        """Train rounds without noise from now on. What was spent stays spent."""
        with self._reporting():
            self.session.privacy = None
            self._show()
        return self

    def look(self) -> LedgerPanel:
        """Read the ledger again."""
        with self._reporting():
            ledger = self.session.ledger(self.room)
            entries = ledger.entries
            with self._lock:
                self._clear_error()
                most = ledger.budget.epsilon
                if self.ledger is None and most:  # the slider begins where the budget lies
                    self._epsilon.value = float(_EPSILONS.index(_nearest(most)))
                self.ledger, self.entries = ledger, entries
                self.value = ledger.spent
            self._show()
        return self

    def save(self, folder: str | Path | None = None) -> tuple[Path, Path]:
        """Write the statement as Markdown and the ledger as JSON; the session's folder by default."""
        with self._reporting():
            ledger = self.look().ledger
            if ledger is None:
                raise FedArtError("There is no ledger to save yet. Train a round with privacy first.")
            target = user_path(folder) if folder is not None else self.session.folder / "privacy"
            write = write_file if folder is not None else write_private  # what is handed on is its owner's choice
            if folder is None:
                private_folder(target)
            name = unique_folder(ledger.room) + ("-artist" if ledger.budget.unit == "artist" else "")
            text, data = target / f"privacy-{name}.md", target / f"privacy-{name}.json"
            write(text, statement(ledger, where=settings.kernel_location()[0]).encode())
            write(data, json.dumps(ledger.to_json(), indent=1).encode())
            with self._lock:
                self.saved = (text, data)
                self._where.value = parts.notice(f"{text}\n{data}", level="success", title="Saved")
                self._say("The statement is saved.", now=True)
        return text, data

    def _build(self) -> None:
        options = [(f"{e:g}" if e in _MARKS else "", f"epsilon {e:g}") for e in _EPSILONS]
        self._epsilon = Weight.choice(
            "Most epsilon for a picture, in rounds from now on", options, value=_EPSILONS.index(8.0)
        )
        self._epsilon.observe(lambda _change: self._show(), "value")
        self._protect = self._button("Protect my rounds", self.protect, icon="shield", style="primary")
        self._stop = self._button("Stop protecting", self.stop_protecting, icon="times")
        self._meaning, self._state = ipywidgets.HTML(), ipywidgets.HTML()
        self._facts, self._figure, self._text = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self._where = ipywidgets.HTML()
        self._read = self._button("Read the ledger again", self.look, icon="refresh")
        self._save = self._button("Save the statement", self.save, icon="download")
        self._compose(
            parts.card(
                self._epsilon,
                self._meaning,
                parts.row(self._protect, self._stop),
                self._state,
                title="How much may be told",
            ),
            parts.card(
                self._facts, self._figure, self._text, parts.row(self._read, self._save), self._where, title="Spent"
            ),
        )
        self._show()

    def _look_if_there(self) -> None:
        """Nothing spent yet is no error to begin with."""
        try:
            self.look()
        except FedArtError:
            self._clear_error()

    def _show(self) -> None:
        privacy, ledger = self.session.privacy, self.ledger
        wished = self.epsilon
        with self._lock:
            self._meaning.value = parts.notice(
                meaning_of(wished, 1e-3, "picture"), title=f"Epsilon {wished:.2g} at delta 0.001 means"
            )
            if privacy is None:
                self._state.value = parts.notice(
                    "What leaves your kernel is masked, and the sum of all has no noise: nothing bounds what it tells. "
                    "Each such round is entered below as infinite, for good.",
                    level="warning",
                    title="Rounds are trained without noise",
                )
            else:
                self._state.value = parts.notice(
                    (
                        "Noise without a promise: it only keeps count. "
                        if privacy.epsilon is None
                        else f"At most epsilon {privacy.epsilon:g} for each picture, over all rounds of a room and "
                        "everything that the same pictures spent elsewhere on this computer. "
                    )
                    + "Every training is paid for before its first step; one that is stopped or repeated is not paid "
                    "back.",
                    level="success",
                    title="Rounds are trained with noise",
                )
            self._facts.value = parts.facts(self._known())
            if ledger is not None:
                costs = [(entry.purpose, entry.epsilon_after) for entry in self.entries]
                self._figure.value = spending(costs, budget=ledger.budget.epsilon).to_html()
                text = statement(ledger, where=settings.kernel_location()[0])
                self._text.value = (
                    f"<details><summary>The statement</summary><pre class='fedart-scroll' tabindex='0'>{escape(text)}"
                    "</pre></details>"
                )
                if not math.isfinite(ledger.spent):
                    self._figure.value = (
                        parts.notice(
                            ledger.why_unbounded or "Something left without noise.",
                            level="warning",
                            title="Epsilon of these pictures is infinite",
                        )
                        + self._figure.value
                    )
                odd = "\n".join(ledger.warnings)
                if odd:
                    self._figure.value += parts.notice(odd, level="warning", title="Found while reading the ledger")
        self._sync()
        self._still.renew()

    def _known(self) -> list[tuple[str, str]]:
        ledger = self.ledger
        if ledger is None:
            return [("spent", "nothing yet in this room")]
        budget = ledger.budget
        spent, elsewhere = ledger.spent, ledger.elsewhere
        of = "no limit" if budget.epsilon is None else f"{budget.epsilon:g}"
        return [
            ("room", ledger.room),
            ("spent of these pictures, everywhere", f"{_epsilon(spent)} of {of}"),
            ("in this room alone", _epsilon(ledger.spent_here)),
            ("elsewhere on this computer", _listed(elsewhere)),
            ("for", f"one {budget.unit}, added or removed, at delta {budget.delta:g}"),
            ("accountant", budget.accountant),
            ("trainings paid for", str(len(self.entries))),
            ("what it means", meaning_of(spent, budget.delta, budget.unit)),
        ]

    def _sync(self) -> None:
        protected = self.session.privacy is not None
        self._stop.disabled = not protected or self.is_busy
        self._protect.disabled = self.is_busy
        self._save.disabled = self.ledger is None

    def _summary(self) -> list[tuple[str, str]]:
        return self._known()

    def _static_body(self) -> str:
        parts_: list[Any] = [self._state.value, self._figure.value, self._text.value]
        return "".join(map(str, parts_))


def _nearest(epsilon: float) -> float:
    """The slider's place that is nearest, by ratio."""
    return min(_EPSILONS, key=lambda e: abs(math.log(e / epsilon)))


def _epsilon(value: float) -> str:
    return f"epsilon {value:.2f}" if math.isfinite(value) else "infinite epsilon: something left without noise"


def _listed(spendings: Sequence[Spending]) -> str:
    """Where else the same pictures were used, with how many entries."""
    rooms: dict[str, int] = {}
    for one in spendings:
        name = "personal adapters" if one.room == PERSONAL else room_name(one.room)
        rooms[name] = rooms.get(name, 0) + 1
    told = [f"{name} ({count} entr{'y' if count == 1 else 'ies'})" for name, count in rooms.items()]
    return ", ".join(told) or "nothing that is known of"
