"""The book of consent of one artist: asks its receipts before anything leaves, and writes a new one first."""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedart_nb._system.files import is_secret, locked, private_folder, set_aside, write_private
from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import ConsentError

from .choices import CHOICES, Choice, How, Outcome
from .disclosure import Leaving
from .influence import Influence, influence_of
from .receipt_report import statement
from .receipts import FORMAT, Fault, Receipt, check, lines_of, read_receipts, signed, whole_part, write_receipts

__all__ = ["Consent"]


class Consent:
    """What an artist agreed to, in all rooms; kept in `consent.jsonl` of the session's folder.

    Without a choice nothing leaves: a round is contributed to when `Session.rounds(consent=...)` asks and the answer is
    "contribute", or under a standing consent for its room, which covers rounds of the same terms alone. A choice is
    written down, signed, before anything follows from it; if that fails, nothing is sent.

    Attributes:
        room: which room the next calls are about; `Session.join` sets it.
        leaving: what was shown of the running round, or None.

    Example:
        >>> session.consent.stand()  # contribute to every round of this room from now on
        >>> session.consent.change("skip")  # no, not to the one that is running
        'Round 3: nothing of it has left, and nothing will.'
        >>> print(session.consent.influence(picture_id))
    """

    def __init__(self, folder: Path, identity: Identity, *, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / "consent.jsonl"
        self.room = ""
        self.leaving: Leaving | None = None
        self._identity, self._clock = identity, clock
        self._lock = threading.RLock()
        self._seen: tuple[bytes, list[Receipt]] = (b"", [])

    def __repr__(self) -> str:
        return f"Consent({len(self.receipts)} receipts, {'standing' if self.standing else 'asks'} in {self.room!r})"

    # --- choices ---

    @property
    def standing(self) -> bool:
        """Whether there is a standing consent for this room; there is none unless `stand` was called."""
        mine = [r.body["choice"] for r in self._choices() if not r.body["round"]]
        return bool(mine) and mine[-1] == "stand"

    def stand(self) -> None:
        """Contribute to every round of this room without being asked, as long as the room's terms stay as they are."""
        if not self.standing:
            self._choose("stand", "changed")

    def ask_again(self) -> None:
        """Take the standing consent back: from the next round on, somebody asks or nothing is sent."""
        if self.standing:
            self._choose("ask", "changed")

    def covers(self, terms: str) -> bool:
        """Whether the standing consent covers a plan of these terms: the first ones that it was used for, no others."""
        if not self.standing:
            return False
        used: set[str] = set()
        for receipt in self._choices():
            if not receipt.body["round"]:
                used = set()  # given anew, it is given for what comes next
            elif receipt.body["how"] == "standing":
                used.add(str(receipt.body["leaving"]["terms"]))
        return not used or used == {terms}

    def choose(self, choice: Choice, how: How, *, leaving: Leaving, pictures: Iterable[str] = ()) -> None:
        """Write down what was chosen for a round, before it is acted upon.

        Args:
            leaving: what was shown; pictures: ids of the pictures that it is trained on.
        """
        if choice not in CHOICES:
            raise ConsentError(f"The choice is {choice!r}; expected {', '.join(CHOICES)}.")
        with self._lock:
            self._choose(choice, how, leaving=leaving, pictures=pictures)
            self.leaving = leaving if choice == "contribute" else None

    def depart(self, choice: Choice, *, why: str = "") -> None:
        """Write down that the room is left: "leave" or "withdraw"."""
        self._choose(choice, "changed", why=why)

    def change(self, choice: Choice) -> str:
        """Change the choice for the running round, from any thread; returns what that means, as a sentence.

        Raises:
            ConsentError: no round is running that this artist agreed to, or the choice is none for a round.
        """
        if choice not in ("contribute", "skip"):
            raise ConsentError(
                f"The choice is {choice!r}; a running round can be skipped, or contributed to after all."
            )
        with self._lock:
            leaving = self.leaving
            if leaving is None:
                raise ConsentError("No round that you agreed to is running now. The next one is asked about first.")
            place = f"Round {leaving.number}"
            if self.sent(leaving.plan):
                return (
                    f"{place}: your update has left, masked, and a sum cannot be called back. What can be done: leave "
                    "with withdraw=True; the host is asked whether the room goes back and trains without you."
                )
            self._choose(choice, "changed", leaving=leaving)
            if choice == "skip":
                return f"{place}: nothing of it has left, and nothing will."
            return f"{place}: you contribute after all."

    def word(self, room: str, number: int, turn: int = 0) -> Choice | None:
        """The last choice for a round, in whatever attempt; None before one was made. A room that is rewound asks anew.

        `turn`: how many times it was.
        """
        for receipt in reversed(self.receipts):
            body = receipt.body
            same = receipt.kind == "choice" and (body["room"], body["round"]) == (room, number)
            if same and body["leaving"]["turn"] == turn:
                choice: Choice = body["choice"]
                return choice
        return None

    def skips(self, room: str, number: int, turn: int = 0) -> bool:
        """Whether the last choice for a round was to send nothing."""
        return self.word(room, number, turn) == "skip"

    # --- what came of them ---

    @contextmanager
    def sending(self, leaving: Leaving) -> Iterator[bool]:
        """Hold changes of mind off while an update leaves; gives True only where the last word was to contribute.

        With True, the caller calls `left` before the first byte leaves.
        """
        with self._lock:
            yield self.word(leaving.room, leaving.number, leaving.turn) == "contribute"

    def left(self, leaving: Leaving, *, pictures: Iterable[str], size_bytes: int) -> None:
        """Write down that an update is about to be handed to the relay. The same one again is no news."""
        with self._lock:
            if self.sent(leaving.plan):
                return
            told = {
                "size_bytes": size_bytes,
                "unit": leaving.unit,
                "epsilon": leaving.epsilon if math.isfinite(leaving.epsilon) else None,
                "epsilon_after": leaving.epsilon_after if math.isfinite(leaving.epsilon_after) else None,
                "delta": leaving.delta,
            }
            self._came("sent", leaving.room, leaving.number, leaving.plan, pictures=pictures, **told)

    def stayed(self, leaving: Leaving, why: str) -> None:
        """Write down that a round was agreed to, or asked about, and nothing was sent."""
        with self._lock:
            self._came("not sent", leaving.room, leaving.number, leaving.plan, why=why)
            self.leaving = None

    def closed(
        self, room: str, number: int, plan: str, *, counted: bool | None, shared: str, contributors: int
    ) -> None:
        """Write down that a round ended with a shared adapter, and whether the sum holds this artist's update.

        Args:
            counted: None where this kernel did not see whom the room counted.
            shared: SHA-256 of the new shared adapter's bytes.
        """
        with self._lock:
            if not any(r.body.get("room") == room for r in self.receipts):
                return  # an artist who never chose anything here has nothing to follow
            over = ("in the sum", "not in the sum", "perhaps in the sum")
            if self._outcomes(room, plan) & set(over):
                return  # a kernel that came back hears of it again
            sent = "sent" in self._outcomes(room, plan)
            outcome: Outcome = "not in the sum"
            if sent and counted is not False:
                outcome = "in the sum" if counted else "perhaps in the sum"
            self._came(outcome, room, number, plan, shared=shared, contributors=contributors)
            self.leaving = None

    def rewound(self, room: str, number: int, *, why: str, plan: str) -> None:
        """Write down that the room went back to before round `number`; `plan` is the one that it goes on with."""
        with self._lock:
            if "rewound" not in self._outcomes(room, plan):
                self._came("rewound", room, number, plan, why=why)

    def shown(self, plan: str) -> Leaving | None:
        """What was shown when the artist agreed to a plan, by its digest; also after a restart."""
        if self.leaving is not None and self.leaving.plan == plan:
            return self.leaving
        for receipt in reversed(self.receipts):
            if receipt.kind == "choice" and receipt.body["plan"] == plan:
                return Leaving.from_json(receipt.body["leaving"])
        return None

    def sent(self, plan: str) -> bool:
        """Whether an update of the round with this plan was handed to the relay."""
        return any(
            r.kind == "outcome" and r.body["plan"] == plan and r.body["outcome"] == "sent" for r in self.receipts
        )

    # --- to look at ---

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """All receipts, oldest first; () before the first choice.

        Raises:
            ConsentError: the file is not whole.
        """
        with self._lock:
            return tuple(self._read())

    def check(self, exported: Mapping[str, Any] | None = None) -> Fault | None:
        """Where the file was tampered with, or None; also against an earlier `to_json`, which shows a cut end."""
        if not self.path.exists():
            return None if not exported else Fault(1, "it is missing; the export has it.")
        return check(lines_of(self.path), artist=self._identity.id, holds=exported["receipts"] if exported else ())

    def mend(self) -> str:
        """Set a file aside that is not whole, and go on with the receipts before the damage; "" where nothing is wrong.

        A standing consent among them ends: nobody knows whether it was taken back in what cannot be read.
        """
        told = []
        with self._lock:
            try:
                self._read()
            except ConsentError:
                with self._held():
                    whole = whole_part(self.path, artist=self._identity.id)
                    kept = set_aside(self.path)
                    if whole:
                        write_receipts(self.path, whole)
                told.append(
                    f"{self.path.name} in {str(self.path.parent)!r} is damaged, and is kept as {kept.name}. Its first "
                    f"{len(whole)} receipts are whole and stay; before the next round you are asked again."
                )
                room = self.room
                for self.room in {str(r.body["room"]) for r in whole if r.kind == "choice"}:
                    self.ask_again()
                self.room = room
            secret = self.path.with_name("consent.key")
            if secret.exists() and not is_secret(secret.read_bytes()):
                kept = set_aside(secret)
                told.append(
                    f"{secret.name} in {str(secret.parent)!r} is damaged, and is kept as {kept.name}. What your "
                    "pictures influenced until now cannot be looked up any more."
                )
        return " ".join(told)

    def influence(self, picture: str) -> Influence:
        """What one picture has influenced so far, by its id."""
        return influence_of(self.receipts, self.mark(picture), picture)

    def rounds_with(self, room: str) -> tuple[int, ...]:
        """The rounds of a room whose shared adapters have an update of this artist in them now, in order."""
        return tuple(sorted(number for number, mine in self._made(room).items() if mine))

    def rounds_since(self, room: str, number: int) -> int:
        """How many finished rounds of a room there are from `number` on, as far as this kernel saw."""
        return sum(done >= number for done in self._made(room))

    def mark(self, picture: str) -> str:
        """A picture's name in the receipts: HMAC-SHA256 of its id under this artist's secret, 32 hex digits.

        An id is a hash of pixels: whoever has the picture could find it in an export. A mark tells nobody but the
        artist, who can show one by showing the secret.
        """
        return hmac.new(self._secret(), picture.encode(), hashlib.sha256).hexdigest()[:32]

    def to_json(self, pictures: Sequence[str] = ()) -> dict[str, Any]:
        """All receipts, and the influence of `pictures` (ids), as JSON values; `check` takes the receipts back."""
        receipts = self.receipts
        return {
            "artist": self._identity.id,
            "receipts": [receipt.to_json() for receipt in receipts],
            "influence": [influence_of(receipts, self.mark(one), one).to_json() for one in pictures],
        }

    def statement(self, pictures: Sequence[str] = (), *, name: str = "") -> str:
        """The same as Markdown, for people."""
        receipts = self.receipts
        told = [influence_of(receipts, self.mark(one), one) for one in pictures]
        return statement(receipts, influences=told, name=name)

    # --- writing ---

    def _choices(self) -> list[Receipt]:
        return [r for r in self.receipts if r.kind == "choice" and r.body["room"] == self.room]

    def _made(self, room: str) -> dict[int, bool]:
        """The finished rounds of a room that were not rewound, and whether this artist is, or may be, in the sum."""
        made: dict[int, bool] = {}
        for body in (r.body for r in self.receipts if r.kind == "outcome" and r.body["room"] == room):
            if body["outcome"] == "rewound":
                made = {number: mine for number, mine in made.items() if number < body["round"]}
            elif body["outcome"] in ("in the sum", "perhaps in the sum", "not in the sum"):
                made[body["round"]] = body["outcome"] != "not in the sum"
        return made

    def _outcomes(self, room: str, plan: str) -> set[str]:
        return {
            str(r.body["outcome"])
            for r in self.receipts
            if r.kind == "outcome" and (r.body["room"], r.body["plan"]) == (room, plan)
        }

    def _choose(
        self, choice: str, how: How, *, leaving: Leaving | None = None, pictures: Iterable[str] = (), why: str = ""
    ) -> None:
        if not self.room:
            raise ConsentError("No room is known yet to choose for. Call session.join(invite) first.")
        body: dict[str, Any] = {
            "kind": "choice",
            "room": self.room,
            "round": leaving.number if leaving else 0,
            "plan": leaving.plan if leaving else "",
            "choice": choice,
            "how": how,
            "leaving": leaving.to_json() if leaving else None,
        }
        self._append(body | ({"why": why} if why else {}), pictures)

    def _came(
        self, outcome: Outcome, room: str, number: int, plan: str, *, pictures: Iterable[str] = (), **told: Any
    ) -> None:
        body = {"kind": "outcome", "room": room, "round": number, "plan": plan, "outcome": outcome, **told}
        self._append(body, pictures)

    def _append(self, body: dict[str, Any], pictures: Iterable[str]) -> None:
        marks = sorted(self.mark(picture) for picture in pictures)
        with self._lock, self._held():
            receipts = self._read()
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
            me = self._identity
            if not receipts:
                first = {"kind": "opened", "format": FORMAT, "artist": me.id, "key": me.public_key.hex(), "time": now}
                receipts.append(signed(first, None, me))
            named = hashlib.sha256("\n".join(marks).encode()).hexdigest() if marks else ""
            known = {r.body["set"] for r in receipts if r.kind == "pictures"}
            if named and named not in known:  # written once, named from then on
                one = {"kind": "pictures", "set": named, "marks": marks, "time": now}
                receipts.append(signed(one, receipts[-1], me))
            whole = body | {"pictures": named, "time": now, "id": secrets.token_hex(8)}
            receipts.append(signed(whole, receipts[-1], me))
            write_receipts(self.path, receipts)

    def _held(self) -> Any:
        private_folder(self.path.parent)
        return locked(self.path.with_suffix(".lock"))

    def _read(self) -> list[Receipt]:
        """The file's receipts, checked again only when it has changed."""
        data = self.path.read_bytes() if self.path.exists() else b""
        digest = hashlib.sha256(data).digest()
        if self._seen[0] != digest:
            self._seen = (digest, read_receipts(self.path, artist=self._identity.id))
        return list(self._seen[1])

    def _secret(self) -> bytes:
        path = self.path.with_name("consent.key")
        with self._lock:
            if not path.exists():
                with self._held():
                    if not path.exists():
                        write_private(path, secrets.token_bytes(32))
            return path.read_bytes()
