"""The ledger: what one artist has spent of epsilon in one room, written down before anything is trained.

It is there against honest accidents and against the temptation to run a cell just once more: whatever was trained with
noise counts, also when it was cancelled, crashed, withdrawn or forgotten, and what left without noise counts as
infinite. Nothing is ever refunded. With a `Tally`, what other rooms, sessions and personal adapters of this user spent
of the same pictures counts too.

What it notices, and what becomes of it (`tests/unit/privacy/test_ledger.py` has each):
  - a line changed or taken out: the chain of hashes breaks. The other copy counts; with none whole, nothing is trained.
  - a line changed and all hashes computed anew in one copy: one id says two things. The larger spending counts.
  - an older copy put back, or the file deleted: the witness, a second copy under another root, holds what is missing.
  - the session folder copied, and both copies used on this machine: the witness gets both, and both count.
  - two kernels at once: a lock lets one of them spend at a time.
  - clocks: times are written for people; nothing is computed from them.
What it cannot notice: both files put back, deleted or written anew together (`verify_export` finds these if a statement
exported before was kept), what the same pictures spent on another computer, and training with other code.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fedart_nb._system.arguments import plain_fields
from fedart_nb.crypto.hash_chain import Link
from fedart_nb.crypto.mirrored_chain import TwinChain
from fedart_nb.errors import BudgetExceeded, LedgerError, PrivacyError
from fedart_nb.privacy.accounting import (
    ACCOUNTANTS,
    NEIGHBOURS,
    ZEROS,
    Accountant,
    Gaussian,
    Mechanism,
    epsilon,
    mechanism_of,
)
from fedart_nb.privacy.ledger_entries import FORMAT, is_spending, larger, wrong_in
from fedart_nb.privacy.planning import UNITS, Unit, solve_noise
from fedart_nb.privacy.tally import Spending, Tally, cost_of, paths

__all__ = ["PERSONAL", "Budget", "Entry", "Ledger"]

#: The room of what personal adapters spend, which stay in the kernel.
PERSONAL = "personal"
_NO_NOISE = Gaussian(0.0)
_WAYS_ON = (
    "Nothing was trained. Leave those pictures out, or ask for noise without a promise, for what leaves from now on: "
    "PicturePrivacy(epsilon=None, noise_multiplier=1.0)."
)


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
    """One training that was paid for: with what noise, when, for what, and epsilon of this room's entries up to it."""

    mechanism: Mechanism
    purpose: str
    time: str
    epsilon_after: float
    record: Mapping[str, Any] = field(default_factory=dict)


class Ledger:
    """One artist's spending in one room. Open it with `Ledger.open`; every call reads the files again, under a lock.

    Attributes:
        path, witness: where it is kept, twice.
        pictures: hashes of the pictures that it is asked about: what was spent of the same ones elsewhere counts.

    Example:
        >>> ledger = Ledger.open(path, artist="ada-id", room="studio", budget=Budget(epsilon=8.0, delta=1e-3))
        >>> ledger.spend(Gaussian(1.4, sample_rate=0.16, steps=15), purpose="round 1")  # and only then train
        >>> print(f"{ledger.spent:.2f} of {ledger.budget.epsilon}")
    """

    def __init__(
        self,
        path: Path,
        witness: Path | None,
        clock: Callable[[], float],
        tally: Tally | None = None,
        pictures: Sequence[str] = (),
    ) -> None:
        self.path, self.witness, self.pictures = path, witness, frozenset(pictures)
        self._tally, self._clock = tally, clock
        self._chain = TwinChain(path, witness, check=wrong_in, larger=larger, counts=is_spending)

    @property
    def warnings(self) -> list[str]:
        """Sentences about what was found odd in the files and counted all the same, newest last."""
        return self._chain.warnings

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
        tally: Tally | None = None,
        pictures: Sequence[str] = (),
    ) -> Ledger:
        """Open a ledger, or begin one with `budget`.

        Args:
            artist, room: whose it is; another artist's or room's file is refused.
            budget: must be the ledger's own where there is one already (`change_budget` changes it, visibly).
            witness: a second copy, kept in a folder that is not copied or put back together with the first.
            clock: seconds since 1970, for the times that people read.
            tally: where everything that was spent of these `pictures` (`Picture.sha256`) is counted, and is counted on.

        Raises:
            LedgerError: damaged, of somebody else, or of another budget.
        """
        ledger = cls(Path(path), Path(witness) if witness else None, clock, tally, pictures)
        with ledger._chain.lock():
            links = ledger._chain.read()
            if not links:
                if budget is None:
                    raise LedgerError(f"There is no ledger at {str(path)!r} yet; give a budget to begin one.")
                first = {
                    "kind": "opened",
                    "format": FORMAT,
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
                links = ledger._chain.append(first)
        head = links[0].body
        if head.get("format") != FORMAT:
            raise LedgerError(f"{ledger.path.name} has format {head.get('format')!r}; this version reads {FORMAT}.")
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

    def about(self, tally: Tally, pictures: Iterable[str]) -> Ledger:
        """The same ledger, asked about these pictures (`Picture.sha256`): what was spent of them elsewhere counts."""
        other = Ledger(self.path, self.witness, self._clock, tally, tuple(pictures))
        other._chain = self._chain
        return other

    @property
    def id(self) -> str:
        """Its own name, in the tally."""
        return str(self._links()[0].body["id"])

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
        """Epsilon of everything that was spent of the pictures, here and elsewhere, at the budget's delta.

        Without a tally, of everything in this ledger.
        """
        links = self._links()
        return self._cost(links, ())

    @property
    def spent_here(self) -> float:
        """Epsilon of everything in this ledger alone."""
        links = self._links()
        return self._epsilon(links, _mechanisms(links))

    @property
    def elsewhere(self) -> tuple[Spending, ...]:
        """What other rooms, sessions and personal adapters of this user spent of the same pictures, oldest first."""
        if self._tally is None:
            return ()
        here = {str(link.body["id"]) for link in self._links()}
        return tuple(one for one in self._tally.of(self.pictures) if one.id not in here)

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

    @property
    def why_unbounded(self) -> str:
        """Why no noise keeps any limit for these pictures any more, and what can be done; "" where it does."""
        return self._why_unbounded(self._links())

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
        if why := self._why_unbounded(links):
            raise BudgetExceeded(why)
        try:
            return max(
                solve_noise(
                    budget.epsilon,
                    delta=budget.delta,
                    sample_rate=sample_rate,
                    steps=steps,
                    accountant=budget.accountant,
                    spent=spent,
                )
                for spent in self._paths(links)
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
        left: bool | None = None,
    ) -> Entry:
        """Pay for a training that is about to begin. Call it before the first step; there is no way to take it back.

        Args:
            purpose: for people: "round 3".
            record: JSON values for the statement: how many pictures, what leaves the kernel.
            once: name and hash of what leaves, for what is said again, bit by bit, after a restart: it is paid for
                once. Something else under the same name is refused.
            left: whether something of it leaves the kernel; by default it does, but for personal adapters.

        Raises:
            BudgetExceeded: the budget does not reach; nothing was written.
            LedgerError: the files cannot be trusted, or `once` was paid for something else; nothing was written.
        """
        with self._held() as links:
            if once and (paid := [k.body for k in links if k.body.get("once", [""])[0] == once[0]]):
                return self._again(links, paid[0], (mechanism, once[1]))
            budget = _budget_of(links)
            after = self._cost(links, (mechanism,), held=True)
            if budget.epsilon is not None and not after <= budget.epsilon:
                raise BudgetExceeded(
                    f"{purpose} would bring epsilon from {self._cost(links, (), held=True):.3g} to {after:.3g}; the "
                    f"budget is {budget.epsilon:g} per {budget.unit} at delta {budget.delta:g}. Nothing was trained "
                    "and nothing spent. More noise or fewer steps cost less; change_budget raises the budget, and says "
                    "so."
                )
            left = links[0].body["room"] != PERSONAL if left is None else left
            return self._entered(links, mechanism, purpose, record, once, left=left, after=after)

    def enter_unnoised(
        self, *, purpose: str, record: Mapping[str, Any] | None = None, once: tuple[str, str] | None = None
    ) -> Entry:
        """Write down that something leaves without noise: from now on epsilon is infinite, whatever the budget.

        The arguments are those of `spend`; under the same `once` it is entered once.
        """
        with self._held() as links:
            if once and (paid := [k.body for k in links if k.body.get("once") == list(once)]):
                return self._again(links, paid[0], (_NO_NOISE, once[1]))
            return self._entered(links, _NO_NOISE, purpose, record, once, left=True, after=math.inf)

    def _entered(
        self,
        links: Sequence[Link],
        mechanism: Mechanism,
        purpose: str,
        record: Mapping[str, Any] | None,
        once: tuple[str, str] | None,
        *,
        left: bool,
        after: float,
    ) -> Entry:
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
        head = links[0].body
        if self._tally is not None and self.pictures:  # first there: a crash in between counts once, and not nought
            self._tally.add(
                Spending(
                    id=str(body["id"]),
                    mechanism=mechanism,
                    unit=head["unit"],
                    pictures=self.pictures,
                    purpose=purpose,
                    room=str(head["room"]),
                    artist=str(head["artist"]),
                    ledger=str(head["id"]),
                    time=str(body["time"]),
                    left=left,
                )
            )
        self._chain.append(body)
        return Entry(mechanism, purpose, str(body["time"]), after, dict(record or {}))

    def change_budget(self, epsilon: float | None, *, why: str) -> None:
        """Raise or lower the budget's epsilon. It stays in the ledger for good, with the reason."""
        with self._held() as links:
            old = _budget_of(links)
            Budget(epsilon, old.delta, old.unit, old.accountant)
            body = {"kind": "budget", "id": secrets.token_hex(8), "epsilon": epsilon, "why": why, "time": self._now()}
            self._chain.append(body)

    def adopt(self, budget: Budget) -> None:
        """Take the first limit of a ledger that only kept count until now. It stays in the ledger for good.

        Raises:
            BudgetExceeded: what is spent already has no bound, so no limit can be kept.
            LedgerError: it has a limit.
        """
        with self._held() as links:
            old = _budget_of(links)
            if old.epsilon is not None or old.unit != budget.unit or budget.epsilon is None:
                raise LedgerError(f"This ledger has {_told(old)}; asked for was {_told(budget)}.")
            if why := self._why_unbounded(links, held=True):
                raise BudgetExceeded(why)
            body = {"kind": "budget", "id": secrets.token_hex(8), "epsilon": budget.epsilon, "time": self._now()}
            why = "the first limit; until then it only kept count"
            self._chain.append(body | {"why": why, "delta": budget.delta, "accountant": budget.accountant})

    def note(self, text: str, *, record: Mapping[str, Any] | None = None) -> None:
        """Write something down that costs nothing, such as what came of a look at an update before it left.

        Args:
            text: for people; record: JSON values. Both are in exports: no picture and no caption belongs here.
        """
        with self._held():
            body = {"kind": "note", "id": secrets.token_hex(8), "text": text, "time": self._now()}
            self._chain.append(body | {"record": dict(record or {})})

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
            "spent_here": _json_number(self._epsilon(links, _mechanisms(links))),
            "elsewhere": [
                {"room": one.room, "purpose": one.purpose, "time": one.time, "noised": not one.is_unbounded}
                for one in self.elsewhere
            ],
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
        known = {str(link.body.get("id")): dict(link.body) for link in self._links()}
        missing = [k["body"].get("id") for k in exported["ledger"] if str(k["body"].get("id")) not in known]
        if missing:
            raise LedgerError(
                f"{len(missing)} lines of the export are not in this ledger: it was put back or begun anew since. "
                "What the export says was spent, counts."
            )
        changed = [k["body"]["id"] for k in exported["ledger"] if known[str(k["body"]["id"])] != dict(k["body"])]
        if changed:
            raise LedgerError(
                f"{len(changed)} lines of the export say something else in this ledger: it was changed since. What the "
                "export says was spent, counts."
            )

    def _again(self, links: Sequence[Link], paid: Mapping[str, Any], what: tuple[Mechanism, str]) -> Entry:
        if (mechanism_of(dict(paid["mechanism"])), paid["once"][1]) != what:
            raise LedgerError(
                f"{str(paid['purpose']).capitalize()} was already paid for, with something else than what is about to "
                "leave now: another kernel, or a copy of the session's folder, has been there. Nothing was sent; close "
                "one of the two."
            )
        record = dict(paid.get("record", {}))
        return Entry(what[0], str(paid["purpose"]), str(paid["time"]), self._cost(links, (), held=True), record)

    def _cost(self, links: Sequence[Link], more: Sequence[Mechanism], *, held: bool = False) -> float:
        return max(self._epsilon(links, [*spent, *more]) for spent in self._paths(links, held=held))

    def _epsilon(self, links: Sequence[Link], parts: Sequence[Mechanism]) -> float:
        budget = _budget_of(links)
        accountant = budget.accountant
        if accountant == "prv" and any(not isinstance(part, Gaussian) for part in parts):
            accountant = "rdp"  # noise of whole artists from another room; this bound is right too
        return epsilon(parts, delta=budget.delta, accountant=accountant)

    def _paths(self, links: Sequence[Link], *, held: bool = False) -> list[list[Mechanism]]:
        """What adds up, for each picture that is asked about; what this ledger alone knows counts for all of them."""
        lists, here = self._counted(links, held=held)
        unit: Unit = links[0].body["unit"]
        return [[*here, *(cost_of(one, unit) for one in spendings)] for spendings in lists]

    def _counted(self, links: Sequence[Link], *, held: bool) -> tuple[list[tuple[Spending, ...]], list[Mechanism]]:
        if self._tally is None or not self.pictures:
            return [()], list(_mechanisms(links))
        everything = self._tally.read() if held else self._tally.spendings
        self._chain.warnings += [sentence for sentence in self._tally.warnings if sentence not in self.warnings]
        known = {one.id for one in everything}
        own = [k.body for k in links if k.body["kind"] == "spent" and k.body["id"] not in known]
        lists = paths(everything, self.pictures, links[0].body["unit"]) or [()]
        return lists, [mechanism_of(dict(body["mechanism"])) for body in own]

    def _why_unbounded(self, links: Sequence[Link], *, held: bool = False) -> str:
        """Why no noise keeps any limit any more, or ""."""
        lists, here = self._counted(links, held=held)
        unit: Unit = links[0].body["unit"]
        for spendings in lists:
            for one in spendings:
                cost = cost_of(one, unit)
                if isinstance(cost, Gaussian) and cost.noise_multiplier == 0:
                    what = "without noise" if one.is_unbounded else "with noise for single pictures alone"
                    return (
                        f"Of these pictures something has left {what} ({one.purpose}, {one.room}, {one.time[:10]}): "
                        f"their epsilon per {unit} is infinite, and no noise keeps a limit. {_WAYS_ON}"
                    )
        if any(isinstance(part, Gaussian) and part.noise_multiplier == 0 for part in here):
            return f"In this room something has left without noise, and no noise keeps a limit any more. {_WAYS_ON}"
        return ""

    def _links(self) -> list[Link]:
        with self._chain.lock():
            links = self._chain.read()
        if not links:
            raise LedgerError(f"The ledger at {str(self.path)!r} and its witness are gone.")
        return links

    @contextmanager
    def _held(self) -> Iterator[list[Link]]:
        """The lines, and nobody else writes for the time of the `with` block; always the tally's lock first."""
        with self._tally.held() if self._tally is not None else nullcontext(), self._chain.lock():
            links = self._chain.read()
            if not links:
                raise LedgerError(f"The ledger at {str(self.path)!r} and its witness are gone. Nothing is trained.")
            yield links

    def _now(self) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))


def _mechanisms(links: Sequence[Link]) -> tuple[Mechanism, ...]:
    return tuple(mechanism_of(dict(k.body["mechanism"])) for k in links if k.body["kind"] == "spent")


def _budget_of(links: Sequence[Link]) -> Budget:
    limits = [k.body for k in links if k.body["kind"] in ("opened", "budget")]
    known: dict[str, Any] = {}
    for body in limits:
        known |= {name: body[name] for name in ("epsilon", "delta", "unit", "accountant") if name in body}
    return Budget(known["epsilon"], known["delta"], known["unit"], known["accountant"])


def _neighbours(budget: Budget) -> str:
    return NEIGHBOURS if budget.unit == "picture" else ZEROS


def _told(budget: Budget) -> str:
    limit = "no limit" if budget.epsilon is None else f"epsilon {budget.epsilon:g}"
    return f"{limit} per {budget.unit} at delta {budget.delta:g} by {budget.accountant}"


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
