"""One tally for each picture, whatever the room, session or adapter: what this user spent of its privacy, and where.

A picture is known by a hash of its content (`ArtSet`'s `Picture.sha256`), so that a second room, another session's name
or a moved folder begins with what was spent before. It lies twice, under the two roots of the user's data folder.
What was done on another computer or by another user of this one, it cannot know.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from fedart_nb._system.folders import UserFolders
from fedart_nb.crypto.hash_chain import Body, Link
from fedart_nb.crypto.mirrored_chain import TwinChain
from fedart_nb.privacy.accounting import Gaussian, Mechanism
from fedart_nb.privacy.ledger_entries import larger, mechanism_in, of_pictures, wrong_in
from fedart_nb.privacy.planning import Unit

__all__ = ["Spending", "Tally", "cost_of", "paths"]

_FORMAT = 1
_NAME = "tally.jsonl"
_WRITTEN = ("id", "unit", "purpose", "room", "artist", "ledger", "time", "left")


@dataclass(frozen=True)
class Spending:
    """One training that was counted: what it cost, of which pictures, for what, where and when.

    `left` is False for what has not left the kernel, such as a personal adapter trained with noise.
    """

    id: str
    mechanism: Mechanism
    unit: Unit
    pictures: frozenset[str] = field(repr=False)
    purpose: str
    room: str
    artist: str
    ledger: str
    time: str
    left: bool = True

    @property
    def is_unbounded(self) -> bool:
        """Whether it was without noise."""
        return isinstance(self.mechanism, Gaussian) and self.mechanism.noise_multiplier == 0


class Tally:
    """What was spent of every picture of this user. Every call reads the files again, if they have changed.

    Example:
        >>> tally = Tally(UserFolders.of_user())
        >>> for spending in tally.of(pictures):
        ...     print(spending.time, spending.room, spending.purpose)
    """

    def __init__(self, folders: UserFolders, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._chain = TwinChain(
            folders.data / _NAME,
            folders.state / _NAME,
            check=_wrong_in_tally,
            larger=larger,
            counts=lambda body: body.get("kind") in ("spent", "pictures") and not _wrong_in_tally(body, False),
            name="the tally of your pictures",
        )
        self._parsed: tuple[list[Link], tuple[Spending, ...]] | None = None

    @property
    def warnings(self) -> list[str]:
        """Sentences about what was found odd in the files, and counted all the same."""
        return self._chain.warnings

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from counting for the time of the `with` block, in which `add` is called."""
        with self._chain.lock():
            yield

    @property
    def spendings(self) -> tuple[Spending, ...]:
        """Everything, oldest first."""
        if not self._chain.is_there:
            return ()
        with self._chain.lock():
            return self.read()

    def of(self, pictures: Collection[str]) -> tuple[Spending, ...]:
        """What touched any of these pictures, by their hashes."""
        wanted = set(pictures)
        return tuple(one for one in self.spendings if one.pictures & wanted)

    def read(self) -> tuple[Spending, ...]:
        """Everything, for callers that hold it already (`held`)."""
        links = self._chain.read()
        if self._parsed is None or self._parsed[0] is not links:
            self._parsed = (links, tuple(_spendings(links)))
        return self._parsed[1]

    def add(self, spending: Spending) -> None:
        """Count one more; one that is there already (by its id) is no news. Called under `held`."""
        if any(one.id == spending.id for one in self.read()):
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        links = self._chain.read()
        bodies: list[dict[str, Any]] = []
        if not links:
            bodies.append({"kind": "opened", "format": _FORMAT, "id": secrets.token_hex(8), "time": now})
        named = _name_of(spending.pictures)
        if all(link.body["id"] != named for link in links):  # written once, named from then on
            bodies.append({"kind": "pictures", "id": named, "pictures": sorted(spending.pictures), "time": now})
        told = {name: getattr(spending, name) for name in _WRITTEN} | {
            "kind": "spent",
            "mechanism": {"kind": type(spending.mechanism).__name__, **asdict(spending.mechanism)},
            "pictures": named,
        }
        self._chain.append(*bodies, told)


def paths(spendings: Iterable[Spending], pictures: Collection[str], unit: Unit) -> list[tuple[Spending, ...]]:
    """The lists of spendings that add up: one for each picture, but none that is part of another.

    For an artist, whose pictures are one unit, everything that touched any of them and has left is one list.
    """
    wanted = set(pictures)
    touched = [one for one in spendings if one.pictures & wanted]
    if unit == "artist":
        return [tuple(one for one in touched if one.left)]
    lists = {tuple(i for i, one in enumerate(touched) if picture in one.pictures) for picture in wanted}
    largest = [one for one in lists if not any(set(one) < set(other) for other in lists)]
    return [tuple(touched[i] for i in one) for one in sorted(largest)]


def cost_of(spending: Spending, unit: Unit) -> Mechanism:
    """What a spending costs one picture, or one artist: noise on single pictures says nothing of all of them."""
    if unit == "picture":
        return of_pictures(spending.mechanism) if spending.unit == "artist" else spending.mechanism
    return spending.mechanism if spending.unit == "artist" else Gaussian(0.0)


def _spendings(links: Iterable[Link]) -> Iterator[Spending]:
    sets: dict[str, frozenset[str]] = {}
    for body in (link.body for link in links):
        if body["kind"] == "pictures":
            sets[body["id"]] = frozenset(body["pictures"])
        elif body["kind"] == "spent":
            texts = {name: body[name] for name in ("id", "unit", "purpose", "room", "artist", "ledger", "time")}
            pictures = sets.get(body["pictures"], frozenset())
            yield Spending(mechanism=mechanism_in(body), pictures=pictures, left=body["left"], **texts)


def _name_of(pictures: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(pictures)).encode()).hexdigest()


def _wrong_in_tally(body: Body, first: bool) -> str:
    kind = body.get("kind")
    if kind == "opened" and first:
        return "" if body.get("format") == _FORMAT and isinstance(body.get("id"), str) else "its format is another one"
    if kind == "pictures":
        listed = body.get("pictures")
        good = isinstance(listed, list) and all(isinstance(one, str) for one in listed)
        return "" if good and body.get("id") == _name_of(listed or ()) else "its pictures were changed"
    if kind != "spent" or first:
        return wrong_in(body, first) or f"its kind is {kind!r:.80}"
    texts = ("pictures", "room", "artist", "ledger")
    if not all(isinstance(body.get(name), str) for name in texts) or body.get("unit") not in ("picture", "artist"):
        return "it does not say of which pictures, where, or whose"
    return wrong_in(body, first) if isinstance(body.get("left"), bool) else "it does not say whether it left"
