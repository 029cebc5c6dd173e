"""Who comes into a host's room: who asks, whom the host admits, and invites that are made for one person each."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from .._system.files import write_private
from .._system.names import checked_name, look_alike
from ..errors import FedArtError, RoundError
from ..federated.roster import short_id
from ..relay.invite import new_token, proof_of

__all__ = ["MAX_GUESTS", "MAX_TICKETS", "Admission", "Guest", "Ticket"]

MAX_TICKETS = MAX_GUESTS = 512


@dataclass(frozen=True)
class Guest:
    """Somebody who asks to come in: a name that they typed, and an id that nobody else has.

    Attributes:
        since: unix seconds.
        before: the name under which this host admitted the same id before; "" for somebody new.
        alike: whether somebody who is in, or asks too, has a name that looks the same.
    """

    id: str
    name: str
    since: float
    before: str = ""
    alike: bool = False

    @property
    def short(self) -> str:
        """The id's first digits, as people read them out."""
        return short_id(self.id)

    def __str__(self) -> str:
        known = f"was here before as {self.before}" if self.before else "new"
        return f"{self.name} ({self.short}) asks to come in: {known}{', looks like another name' * self.alike}."


@dataclass(frozen=True)
class Ticket:
    """An invite made for one person; `secret` is in its link, `used_by` the one id that came in with it."""

    label: str
    secret: str
    used_by: str = ""


class Admission:
    """Whom a host has let into its room, kept in one file, so that a restarted host knows them.

    Every method may be called from any thread.

    Args:
        path: the file.
        clock: unix seconds.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock, self._lock = path, clock, threading.RLock()
        self._room = self._host_id = ""
        self._admitted: dict[str, str] = {}
        self._known: dict[str, str] = {}  # whom this host ever admitted, in whatever room
        self._removed: set[str] = set()
        self._guests: dict[str, Guest] = {}
        self._tickets: list[Ticket] = []
        self._restore()

    def reset(self) -> None:
        """Begin a room: nobody is in it, nobody asks."""
        with self._lock:
            self._admitted, self._removed, self._guests, self._tickets = {}, set(), {}, []
            self._save()

    def bind(self, room: str, host_id: str) -> None:
        """Say of which room the proofs of one-time invites are about."""
        self._room, self._host_id = room, host_id

    def lets_in(self, artist: str) -> bool:
        """Whether an artist may take part."""
        with self._lock:
            return artist in self._admitted

    def was_removed(self, artist: str) -> bool:
        """Whether the host took an artist out of the room."""
        with self._lock:
            return artist in self._removed

    def asks(self, artist: str, name: str, *, is_open: bool = False, proof: str = "", mine: bool = False) -> bool:
        """Somebody says hello: True where they are in, or come in now; otherwise they ask, and wait.

        Args:
            is_open: whether whoever has the link is in.
            proof: `Invite.proof` of a link made for one person.
            mine: whether the artist is a session of the host's own process.
        """
        name = checked_name(name)
        with self._lock:
            if artist in self._admitted:
                return True
            ticket = self._ticket_of(artist, proof)
            if artist not in self._removed and (is_open or mine or ticket is not None):
                if ticket is not None and not ticket.used_by:
                    self._tickets[self._tickets.index(ticket)] = replace(ticket, used_by=artist)
                self._let_in(artist, name)
                return True
            asked = self._guests.get(artist)
            if (asked is None or asked.name != name) and len(self._guests) < MAX_GUESTS:
                since = asked.since if asked else self._clock()
                self._guests[artist] = Guest(artist, name, since, self._known.get(artist, ""))
                self._save()
            return False

    def forget_guest(self, artist: str) -> None:
        """Somebody who asked has gone away again."""
        with self._lock:
            if self._guests.pop(artist, None) is not None:
                self._save()

    @property
    def guests(self) -> tuple[Guest, ...]:
        """Who asks to come in, first come first."""
        with self._lock:
            names = {**self._admitted, **{guest.id: guest.name for guest in self._guests.values()}}
            return tuple(
                replace(guest, alike=any(look_alike(guest.name, n) for i, n in names.items() if i != guest.id))
                for guest in sorted(self._guests.values(), key=lambda one: one.since)
            )

    @property
    def admitted(self) -> dict[str, str]:
        """Names by id of everybody who is in."""
        with self._lock:
            return dict(self._admitted)

    @property
    def tickets(self) -> tuple[Ticket, ...]:
        """The invites made for one person each."""
        with self._lock:
            return tuple(self._tickets)

    def admit(self, who: str | Guest) -> Guest:
        """Let somebody in who asks: by id, by the beginning of an id (four digits or more), or as a `Guest`.

        Raises:
            RoundError: nobody who asks has that id, or more than one.
        """
        with self._lock:
            guest = self._guests[self._found(who.id if isinstance(who, Guest) else who, self._guests, "asks")]
            self._removed.discard(guest.id)
            self._let_in(guest.id, guest.name)
            return guest

    def admit_all(self) -> tuple[Guest, ...]:
        """Let everybody in who asks now."""
        with self._lock:
            return tuple(self.admit(guest) for guest in self.guests)

    def remove(self, who: str) -> str:
        """Let somebody take part no more; they ask again if they come back. Returns the id.

        Raises:
            RoundError: nobody who is in, or asks, has that id, or more than one.
        """
        with self._lock:
            artist = self._found(who, {**self._admitted, **self._guests}, "is in")
            self._admitted.pop(artist, None)
            self._guests.pop(artist, None)
            self._removed.add(artist)
            self._save()
            return artist

    def ticket(self, label: str = "") -> Ticket:
        """Make an invite for one person; `label` is for the host's own list."""
        with self._lock:
            if len(self._tickets) >= MAX_TICKETS:
                raise RoundError(f"There are {MAX_TICKETS} invites for one person each, as many as there may be.")
            label = checked_name(label or f"Guest {len(self._tickets) + 1}")
            made = Ticket(label, new_token())
            self._tickets.append(made)
            self._save()
            return made

    def revoke(self, label: str) -> None:
        """Take back an invite for one person that nobody has used.

        Raises:
            RoundError: there is none of that label, or somebody came in with it.
        """
        with self._lock:
            found = [ticket for ticket in self._tickets if label in (ticket.label, ticket.secret)]
            if not found:
                labels = ", ".join(ticket.label for ticket in self._tickets) or "none"
                raise RoundError(f"There is no invite for {label!r}; there are: {labels}.")
            if used := [ticket for ticket in found if ticket.used_by]:
                raise RoundError(
                    f"{self._admitted.get(used[0].used_by, used[0].used_by[:8])} came in with the invite for "
                    f"{used[0].label!r}. Remove the artist in its place."
                )
            self._tickets = [ticket for ticket in self._tickets if ticket not in found]
            self._save()

    # --- inside, under the lock ---

    def _ticket_of(self, artist: str, proof: str) -> Ticket | None:
        """The invite that a proof is of, if this id may come in with it."""
        for ticket in self._tickets if proof else ():
            good = proof_of(ticket.secret, self._room, self._host_id, artist)
            if hmac.compare_digest(good.encode(), proof.encode()) and ticket.used_by in ("", artist):
                return ticket
        return None

    def _let_in(self, artist: str, name: str) -> None:
        self._guests.pop(artist, None)
        self._admitted[artist] = self._known[artist] = name
        self._save()

    def _found(self, who: str, among: Iterable[str], does: str) -> str:
        wanted = who.replace(" ", "").lower()
        found = [artist for artist in among if artist.startswith(wanted)] if len(wanted) >= 4 else []
        if len(found) != 1:
            many = f"{len(found)} artists have" if found else f"nobody who {does} has"
            raise RoundError(f"The id is {who!r:.80}; {many} an id that begins so. Give more of its digits.")
        return found[0]

    def _save(self) -> None:
        state = {
            "admitted": self._admitted,
            "known": self._known,
            "removed": sorted(self._removed),
            "guests": [[one.id, one.name, one.since, one.before] for one in self._guests.values()],
            "tickets": [asdict(ticket) for ticket in self._tickets],
        }
        write_private(self._path, json.dumps(state).encode())

    def _restore(self) -> None:
        """What the file says; a damaged one is set aside, and everybody has to be admitted again."""
        try:
            state: dict[str, Any] = json.loads(self._path.read_text(encoding="utf-8"))
            admitted, known = dict(state["admitted"]), dict(state["known"])
            guests = [Guest(i, checked_name(name), float(s), str(b)) for i, name, s, b in state["guests"]]
            tickets = [Ticket(**ticket) for ticket in state["tickets"]]
            removed = set(state["removed"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError, FedArtError):
            self._path.replace(self._path.with_suffix(".damaged"))
            return
        self._admitted, self._known, self._removed = admitted, known, removed
        self._guests, self._tickets = {guest.id: guest for guest in guests}, tickets
