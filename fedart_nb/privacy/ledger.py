"""The ledger: what one artist has spent of epsilon in one room, written down before anything is trained.

It is there against honest accidents and against the temptation to run a cell just once more: whatever was trained with
noise counts, also when it was cancelled, crashed, withdrawn or forgotten. Nothing is ever refunded.

What it notices, and what becomes of it (`tests/unit/privacy/test_ledger.py` has each):
  - a line changed or taken out: the chain of hashes breaks. The other copy counts; with none whole, nothing is trained.
  - an older copy put back, or the file deleted: the witness, a second copy in another folder, holds what is missing.
  - the session folder copied, and both copies used on this machine: the witness gets both, and both count.
  - two kernels at once: a lock lets one of them spend at a time.
  - clocks: times are written for people; nothing is computed from them.
What it cannot notice: both files put back or deleted together, all hashes computed anew in both, a copy used on another
machine, training with other code. `verify_export` finds the first three if a statement exported before was kept.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedart_nb.arguments import plain_fields
from fedart_nb.errors import BudgetExceeded, LedgerError, PrivacyError
from fedart_nb.files import locked
from fedart_nb.privacy.accounting import (
    ACCOUNTANTS,
    NEIGHBOURS,
    ZEROS,
    Accountant,
    Mechanism,
    epsilon,
    mechanism_of,
)
from fedart_nb.privacy.chain import Link, read_chain, reconciled, salvaged, with_bodies, write_chain
from fedart_nb.privacy.planning import UNITS, Unit, solve_noise

__all__ = ["Budget", "Entry", "Ledger"]

_FORMAT = 1


@dataclass(frozen=True)
class Budget:
    """What one unit of one artist's data may cost in one room, over all rounds.

    Attributes:
        epsilon: the most that may be spent; None only keeps count.
        delta: the chance with which epsilon may not hold; below 1 / units. Fixed for the life of a ledger.
        unit: "picture" or "artist"; neighbours are one picture added or removed, or one artist's update replaced by
            zeros.
        accountant: "rdp" or "prv" (`privacy.accounting` says when which is right).
    """

    epsilon: float | None
    delta: float
    unit: Unit = "picture"
    accountant: Accountant = "rdp"

    def __post_init__(self) -> None:
        plain_fields(self)
        if self.epsilon is not None and not (_is_number(self.epsilon) and self.epsilon > 0):
            raise PrivacyError(f"The budget's epsilon is {self.epsilon!r}; expected a number above 0, or None.")
        if not _is_number(self.delta) or not 0 < self.delta < 1:
            raise PrivacyError(f"The budget's delta is {self.delta!r}; expected a number between 0 and 1.")
        if self.unit not in UNITS:
            raise PrivacyError(f"The budget's unit is {self.unit!r}; expected {' or '.join(UNITS)}.")
        if self.accountant not in ACCOUNTANTS:
            raise PrivacyError(f"The budget's accountant is {self.accountant!r}; known are {', '.join(ACCOUNTANTS)}.")


@dataclass(frozen=True)
class Entry:
    """One training that was paid for: with what noise, when, for what, and epsilon of everything up to it."""

    mechanism: Mechanism
    purpose: str
    time: str
    epsilon_after: float
    record: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """One artist's spending in one room. Open it with `Ledger.open`; every call reads the files again, under a lock.

    Attributes:
        path, witness: where it is kept, twice.
        warnings: sentences about what was found odd and counted all the same, newest last.

    Example:
        >>> ledger = Ledger.open(path, artist="ada-id", room="studio", budget=Budget(epsilon=8.0, delta=1e-3))
        >>> ledger.spend(Gaussian(1.4, sample_rate=0.16, steps=15), purpose="round 1")  # and only then train
        >>> print(f"{ledger.spent:.2f} of {ledger.budget.epsilon}")
    """

    def __init__(self, path: Path, witness: Path | None, clock: Callable[[], float]) -> None:
        self.path, self.witness = path, witness
        self.warnings: list[str] = []
        self._clock = clock

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        artist: str,
        room: str,
        budget: Budget | None = None,
        witness: str | Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Ledger:
        """Open a ledger, or begin one with `budget`.

        Args:
            artist, room: whose it is; another artist's or room's file is refused.
            budget: must be the ledger's own where there is one already (`change_budget` changes it, visibly).
            witness: a second copy, kept in a folder that is not copied or put back together with the first.
            clock: seconds since 1970, for the times that people read.

        Raises:
            LedgerError: damaged, of somebody else, or of another budget.
        """
        ledger = cls(Path(path), Path(witness) if witness else None, clock)
        for place in ledger._places():
            place.parent.mkdir(parents=True, exist_ok=True)
        with ledger._locked():
            links = ledger._read()
            if not links:
                if budget is None:
                    raise LedgerError(f"There is no ledger at {str(path)!r} yet; give a budget to begin one.")
                first = {
                    "kind": "opened",
                    "format": _FORMAT,
                    "id": secrets.token_hex(8),
                    "artist": artist,
                    "room": room,
                    "unit": budget.unit,
                    "delta": budget.delta,
                    "neighbours": _neighbours(budget),
                    "accountant": budget.accountant,
                    "epsilon": budget.epsilon,
                    "time": ledger._now(),
                }
                links = [Link(first)]
                ledger._write(links)
        head = links[0].body
        if head.get("format") != _FORMAT:
            raise LedgerError(f"{ledger.path.name} has format {head.get('format')!r}; this version reads {_FORMAT}.")
        if (head["artist"], head["room"]) != (artist, room):
            raise LedgerError(
                f"{ledger.path.name} is the ledger of {head['artist']!r} in {head['room']!r}, not of {artist!r} in "
                f"{room!r}. Every artist has one in every room; they are not exchanged."
            )
        if budget is not None and budget != ledger.budget:
            raise LedgerError(
                f"This ledger has {_told(ledger.budget)}; asked for was {_told(budget)}. Use the ledger's own; "
                "change_budget(epsilon, why=...) changes its epsilon, and shows in the statement."
            )
        return ledger

    @property
    def budget(self) -> Budget:
        """The budget in force."""
        return _budget_of(self._links())

    @property
    def artist(self) -> str:
        """Whose ledger it is."""
        return str(self._links()[0].body["artist"])

    @property
    def room(self) -> str:
        """For which room."""
        return str(self._links()[0].body["room"])

    @property
    def spent(self) -> float:
        """Epsilon of everything in the ledger, at the budget's delta."""
        links = self._links()
        return self._cost(links, ())

    @property
    def left(self) -> float:
        """Budget less what is spent, not below 0; costs do not simply add up, so `allows` is what decides."""
        budget = self.budget
        return math.inf if budget.epsilon is None else max(0.0, budget.epsilon - self.spent)

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """Everything that was paid for, in order."""
        return _mechanisms(self._links())

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Everything that was paid for, with epsilon after each; oldest first."""
        links = self._links()
        parts, budget = _mechanisms(links), _budget_of(links)
        bodies = [link.body for link in links if link.body["kind"] == "spent"]
        return tuple(
            Entry(
                parts[i],
                str(body["purpose"]),
                str(body["time"]),
                epsilon(parts[: i + 1], delta=budget.delta, accountant=budget.accountant),
                dict(body.get("record", {})),
            )
            for i, body in enumerate(bodies)
        )

    def cost(self, *more: Mechanism) -> float:
        """Epsilon of everything in the ledger and `more` together; spends nothing."""
        return self._cost(self._links(), more)

    def allows(self, mechanism: Mechanism) -> bool:
        """Whether the budget reaches for this training; spends nothing."""
        budget = self.budget
        return budget.epsilon is None or self.cost(mechanism) <= budget.epsilon

    def noise_for(self, *, sample_rate: float, steps: int) -> float:
        """The least noise multiplier with which so many more steps stay within the budget.

        Raises:
            BudgetExceeded: nothing is left, whatever the noise.
            PrivacyError: the budget keeps count only, so it asks for no particular noise.
        """
        links = self._links()
        budget = _budget_of(links)
        if budget.epsilon is None:
            raise PrivacyError("This ledger has no limit on epsilon to solve for. Give a noise multiplier.")
        try:
            return solve_noise(
                budget.epsilon,
                delta=budget.delta,
                sample_rate=sample_rate,
                steps=steps,
                accountant=budget.accountant,
                spent=_mechanisms(links),
            )
        except PrivacyError as error:
            raise BudgetExceeded(f"{error} Nothing was trained.") from error

    def spend(
        self,
        mechanism: Mechanism,
        *,
        purpose: str,
        record: Mapping[str, Any] | None = None,
        once: tuple[str, str] | None = None,
    ) -> Entry:
        """Pay for a training that is about to begin. Call it before the first step; there is no way to take it back.

        Args:
            purpose: for people: "round 3".
            record: JSON values for the statement: how many pictures, what leaves the kernel.
            once: name and hash of what leaves, for what is said again, bit by bit, after a restart: it is paid for
                once. Something else under the same name is refused.

        Raises:
            BudgetExceeded: the budget does not reach; nothing was written.
            LedgerError: the files cannot be trusted, or `once` was paid for something else; nothing was written.
        """
        with self._locked():
            links = self._read()
            if not links:
                raise LedgerError(f"The ledger at {str(self.path)!r} and its witness are gone. Nothing is trained.")
            if once and (paid := [k.body for k in links if k.body.get("once", [""])[0] == once[0]]):
                return self._again(links, paid[0], (mechanism, once[1]))
            budget = _budget_of(links)
            after = self._cost(links, (mechanism,))
            if budget.epsilon is not None and not after <= budget.epsilon:
                raise BudgetExceeded(
                    f"{purpose} would bring epsilon from {self._cost(links, ()):.3g} to {after:.3g}; the budget is "
                    f"{budget.epsilon:g} per {budget.unit} at delta {budget.delta:g}. Nothing was trained and nothing "
                    "spent. More noise or fewer steps cost less; change_budget raises the budget, and says so."
                )
            body = {
                "kind": "spent",
                "id": secrets.token_hex(8),
                "mechanism": {"kind": type(mechanism).__name__, **asdict(mechanism)},
                "purpose": purpose,
                "record": dict(record or {}),
                "time": self._now(),
            }
            if once:
                body["once"] = list(once)
            self._write([*links, links[-1].then(body)])
        return Entry(mechanism, purpose, str(body["time"]), after, dict(record or {}))

    def change_budget(self, epsilon: float | None, *, why: str) -> None:
        """Raise or lower the budget's epsilon. It stays in the ledger for good, with the reason."""
        with self._locked():
            links = self._read()
            old = _budget_of(links)
            Budget(epsilon, old.delta, old.unit, old.accountant)
            body = {"kind": "budget", "id": secrets.token_hex(8), "epsilon": epsilon, "why": why, "time": self._now()}
            self._write([*links, links[-1].then(body)])

    def note(self, text: str, *, record: Mapping[str, Any] | None = None) -> None:
        """Write something down that costs nothing, such as what came of a look at an update before it left.

        Args:
            text: for people; record: JSON values. Both are in exports: no picture and no caption belongs here.
        """
        with self._locked():
            links = self._read()
            if not links:
                raise LedgerError(f"The ledger at {str(self.path)!r} and its witness are gone.")
            body = {"kind": "note", "id": secrets.token_hex(8), "text": text, "time": self._now()}
            self._write([*links, links[-1].then(body | {"record": dict(record or {})})])

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """(time, text) of every note, oldest first."""
        return tuple((str(k.body["time"]), str(k.body["text"])) for k in self._links() if k.body["kind"] == "note")

    def to_json(self) -> dict[str, Any]:
        """Everything in the ledger, and what it comes to; `verify_export` takes it back."""
        links = self._links()
        budget = _budget_of(links)
        return {
            "ledger": [{"body": dict(k.body), "previous": k.previous, "hash": k.hash} for k in links],
            "entries": len(_mechanisms(links)),
            "head": links[-1].hash,
            "spent": _json_number(self._cost(links, ())),
            "budget": budget.epsilon,
            "delta": budget.delta,
            "unit": budget.unit,
            "neighbours": _neighbours(budget),
            "accountant": budget.accountant,
        }

    def verify_export(self, exported: Mapping[str, Any]) -> None:
        """Check that this ledger still holds everything that an earlier `to_json` did.

        Raises:
            LedgerError: entries of the export are missing: the ledger was put back or written anew since.
        """
        known = {str(link.body.get("id")) for link in self._links()}
        missing = [k["body"].get("id") for k in exported["ledger"] if str(k["body"].get("id")) not in known]
        if missing:
            raise LedgerError(
                f"{len(missing)} lines of the export are not in this ledger: it was put back or begun anew since. "
                "What the export says was spent, counts."
            )

    def _again(self, links: Sequence[Link], paid: Mapping[str, Any], what: tuple[Mechanism, str]) -> Entry:
        if (mechanism_of(dict(paid["mechanism"])), paid["once"][1]) != what:
            raise LedgerError(
                f"{str(paid['purpose']).capitalize()} was already paid for, with something else than what is about to "
                "leave now: another kernel, or a copy of the session's folder, has been there. Nothing was sent; close "
                "one of the two."
            )
        record = dict(paid.get("record", {}))
        return Entry(what[0], str(paid["purpose"]), str(paid["time"]), self._cost(links, ()), record)

    def _cost(self, links: Sequence[Link], more: Sequence[Mechanism]) -> float:
        budget = _budget_of(links)
        return epsilon([*_mechanisms(links), *more], delta=budget.delta, accountant=budget.accountant)

    def _links(self) -> list[Link]:
        with self._locked():
            links = self._read()
        if not links:
            raise LedgerError(f"The ledger at {str(self.path)!r} and its witness are gone.")
        return links

    def _locked(self) -> Any:
        return locked((self.witness or self.path).with_suffix(".lock"))

    def _read(self) -> list[Link]:
        """Both copies as one chain that holds all of both; puts right whichever lacks something."""
        found: list[list[Link]] = []
        damaged: list[LedgerError] = []
        rest: list[dict[str, Any]] = []
        for path in self._places():
            try:
                found.append(read_chain(path))
            except LedgerError as error:
                damaged.append(error)
                rest += [body for body in salvaged(path) if body.get("kind") == "spent"]
        whole = [links for links in found if links]
        if damaged and not whole:
            raise LedgerError(
                f"{damaged[0]} No whole copy is left, so it is not known what was spent, and nothing is trained. Keep "
                "the file; a new room begins a new ledger."
            )
        if not whole:
            return []
        links = reconciled(whole[0], whole[1]) if len(whole) == 2 else whole[0]
        if damaged:
            links = with_bodies(links, rest)
            self._warn(f"{damaged[0]} The other copy is whole, and counts, with what can be read of the damaged one.")
        elif any(known != links for known in found):
            self._warn(
                "One copy of this ledger lacked entries that the other had, as after a restored backup or a copied "
                "folder. All of them count."
            )
        if damaged or any(known != links for known in found):
            self._write(links)
        return links

    def _write(self, links: Sequence[Link]) -> None:
        for path in self._places():
            write_chain(path, links)

    def _places(self) -> list[Path]:
        return [self.path] if self.witness is None else [self.witness, self.path]

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _now(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))


def _mechanisms(links: Sequence[Link]) -> tuple[Mechanism, ...]:
    return tuple(mechanism_of(dict(k.body["mechanism"])) for k in links if k.body["kind"] == "spent")


def _budget_of(links: Sequence[Link]) -> Budget:
    head = links[0].body
    limits = [k.body["epsilon"] for k in links if k.body["kind"] in ("opened", "budget")]
    return Budget(limits[-1], head["delta"], head["unit"], head["accountant"])


def _neighbours(budget: Budget) -> str:
    return NEIGHBOURS if budget.unit == "picture" else ZEROS


def _told(budget: Budget) -> str:
    limit = "no limit" if budget.epsilon is None else f"epsilon {budget.epsilon:g}"
    return f"{limit} per {budget.unit} at delta {budget.delta:g} by {budget.accountant}"


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
