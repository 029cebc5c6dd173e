"""Whom a round's secure sum would join an artist with, and whom that artist has confirmed: values, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from .._system.names import look_alike, shown_name
from ..crypto.safety_number import SafetyNumber
from ..errors import RoundError

__all__ = [
    "Person",
    "Pins",
    "RosterShown",
    "Standing",
    "names_for",
    "names_in",
    "runs_here",
    "say_runs_here",
    "short_id",
]

#: "me"; "compared": in the list whose words were compared aloud; "accepted": the artist said yes to this id when asked;
#: "unconfirmed": neither.
Standing = Literal["me", "compared", "accepted", "unconfirmed"]

_SHORT = 8
_NAMES_BYTES = 16_384  # of the names in a roster message; longer ones are cut


_here: set[str] = set()


def say_runs_here(artist: str) -> None:
    """A session of this process holds that artist's key."""
    _here.add(artist)


def runs_here(artist: str) -> bool:
    """Whether a session of this very process holds that artist's key: then it is nobody else."""
    return artist in _here


def short_id(artist: str) -> str:
    """The first eight digits of an id, in two groups: what people read out.

    >>> short_id("3f2a91c07dd2")
    '3f2a 91c0'
    """
    return f"{artist[:4]} {artist[4:_SHORT]}"


def names_in(body: Mapping[str, Any]) -> dict[str, str]:
    """The names in a roster message, safe to show; {} where it has none."""
    named = body.get("names")
    return {str(i): shown_name(name) for i, name in named.items()} if isinstance(named, Mapping) else {}


def names_for(artists: Mapping[str, str]) -> dict[str, str]:
    """Names by id for a roster message, cut so that they fit."""
    room = max(1, _NAMES_BYTES // max(1, 6 * len(artists)))
    return {artist: name[:room] for artist, name in artists.items()}


@dataclass(frozen=True)
class Pins:
    """Whom an artist has confirmed in one room: what is kept on disk. Every method returns new pins.

    Attributes:
        compared: names by id: everybody in the list whose words were compared aloud last.
        accepted: names by id: whom the artist said yes to, without comparing words.
        seen: by id, the first round in whose list it stood.
    """

    compared: Mapping[str, str] = field(default_factory=dict)
    accepted: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, int] = field(default_factory=dict)

    def unconfirmed(self, artists: Iterable[str], me: str) -> tuple[str, ...]:
        """Those of `artists` who are neither `me` nor confirmed."""
        return tuple(a for a in artists if a != me and a not in self.compared and a not in self.accepted)

    def with_compared(self, names: Mapping[str, str]) -> Pins:
        """The words of this list were compared: it alone is confirmed from now on."""
        return replace(self, compared=dict(names), accepted={})

    def with_accepted(self, names: Mapping[str, str]) -> Pins:
        """The artist said yes to these, too."""
        new = {artist: name for artist, name in names.items() if artist not in self.compared}
        return replace(self, accepted={**self.accepted, **new})

    def without(self, artists: Iterable[str]) -> Pins:
        """These are asked about again."""
        gone = set(artists)
        kept = [{a: n for a, n in old.items() if a not in gone} for old in (self.compared, self.accepted)]
        return replace(self, compared=kept[0], accepted=kept[1])

    def with_seen(self, artists: Iterable[str], number: int) -> Pins:
        """These stood in the list of round `number`."""
        return replace(self, seen={**dict.fromkeys(artists, number), **self.seen})

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"compared": dict(self.compared), "accepted": dict(self.accepted), "seen": dict(self.seen)}

    @classmethod
    def from_json(cls, data: Any) -> Pins:
        """The opposite of `to_json`.

        Raises:
            RoundError: this is something else.

        >>> Pins.from_json(Pins().with_accepted({"a" * 32: "Ada"}).to_json()).accepted == {"a" * 32: "Ada"}
        True
        """
        parts = [data.get(name) for name in ("compared", "accepted", "seen")] if isinstance(data, Mapping) else []
        kinds = (str, str, int)
        if len(parts) != len(kinds) or not all(
            isinstance(part, Mapping) and all(isinstance(k, str) and type(v) is kind for k, v in part.items())
            for part, kind in zip(parts, kinds, strict=True)
        ):
            raise RoundError(f"Confirmed artists are {data!r:.120}; expected what `Pins.to_json` gives.")
        return cls(*map(dict, parts))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Person:
    """One line of a roster: `name` is what the host says that this artist typed; the id alone counts.

    `new`: was in no list of an earlier round; `alike`: somebody else, in the list or confirmed before, has a name that
    looks the same.
    """

    id: str
    name: str
    standing: Standing
    new: bool = False
    alike: bool = False

    @property
    def short(self) -> str:
        """The id's first digits, as people read them out."""
        return short_id(self.id)

    def __str__(self) -> str:
        about = {"me": "you", "compared": "confirmed", "accepted": "you said yes", "unconfirmed": "not confirmed"}
        more = ", new" * self.new + ", looks like another name" * self.alike
        return f"{self.name} ({self.short}, {about[self.standing]}{more})"


@dataclass(frozen=True)
class RosterShown:
    """The list of artists whose masks one attempt of a round would use, as its host signed it, before any is used.

    Attributes:
        room, host: of which room, and its host's id.
        number, attempt: of which round, and which try.
        people: everybody in it, oneself first.
        missing: who was in the list whose words were compared, and is not in this one.
        pinned: whether words were ever compared in this room.
    """

    room: str
    host: str
    number: int
    attempt: int
    people: tuple[Person, ...]
    missing: tuple[Person, ...] = ()
    pinned: bool = False

    @classmethod
    def of(
        cls,
        pins: Pins,
        artists: Iterable[str],
        names: Mapping[str, str],
        *,
        me: str,
        room: str,
        host: str,
        number: int,
        attempt: int,
    ) -> RosterShown:
        """Judge the ids of a signed roster by what was confirmed before; a confirmed id keeps its confirmed name."""
        ids = sorted(artists)
        named = {a: pins.compared.get(a) or pins.accepted.get(a) or names.get(a) or "?" for a in ids}

        known = {**pins.accepted, **pins.compared, **named}  # a puppet may take the name of somebody who is missing

        def person(artist: str) -> Person:
            standing: Standing = "unconfirmed"
            if artist == me:
                standing = "me"
            elif artist in pins.compared:
                standing = "compared"
            elif artist in pins.accepted:
                standing = "accepted"
            new = pins.seen.get(artist, number) >= number and any(first < number for first in pins.seen.values())
            alike = any(other != artist and look_alike(named[artist], name) for other, name in known.items())
            return Person(artist, named[artist], standing, new and standing != "me", alike)

        people = sorted(map(person, ids), key=lambda one: (one.id != me, one.name.casefold(), one.id))
        gone = [Person(a, name, "compared") for a, name in pins.compared.items() if a not in named]
        return cls(room, host, number, attempt, tuple(people), tuple(gone), bool(pins.compared))

    @property
    def unconfirmed(self) -> tuple[Person, ...]:
        """Who has to be asked about before anything is masked."""
        return tuple(one for one in self.people if one.standing == "unconfirmed")

    @property
    def names(self) -> dict[str, str]:
        """Names by id of everybody in it."""
        return {one.id: one.name for one in self.people}

    @cached_property
    def words(self) -> SafetyNumber:
        """The safety number of exactly this list."""
        return SafetyNumber.of(self.room, self.host, self.names)

    @property
    def question(self) -> str:
        """What the artist is asked."""
        many = len(self.people)
        return f"{many} artists: are you {many} people?"

    @property
    def warning(self) -> str:
        """What is wrong with it as long as somebody is unconfirmed, in sentences; "" where nobody is."""
        strange = self.unconfirmed
        if not strange:
            return ""
        who = ", ".join(f"{one.name} ({one.short})" for one in strange)
        if self.pinned:
            is_are = "is" if len(strange) == 1 else "are"
            text = (
                f"{len(strange)} of {len(self.people)} artists in the list of round {self.number} {is_are} not among "
                f"those whose words you compared: {who}. If you do not know them, somebody may want to "
                "read your update."
            )
        else:
            text = f"{self.question} Nobody has confirmed yet: {who}."
        return f"{text} Count the people: one person who holds all other places reads your update."

    def __str__(self) -> str:
        return f"Round {self.number}, the list: {', '.join(map(str, self.people))}."
