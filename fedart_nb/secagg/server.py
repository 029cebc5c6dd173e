"""The server's side of the secure sum: Bonawitz et al. 2017, figure 4. It holds no key and learns the sum alone.

Each round takes the artists' messages, in any order and as often as they come, and is closed by one method that gives
what goes out. `only` closes with exactly the named artists: a server that was killed says again what it had said.

    advertise(artist, message) ...  roster()      -> one message for all                    U1
    share(artist, message) ...      deliveries()  -> one message for each                   U2
    masked(artist, message) ...     survivors()   -> one message for all                    U3
    confirm(artist, message) ...    confirmed()   -> one message for all                    U4
    unmask(artist, message) ...     total()       -> the sum, uint32 (d,)                   U5
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import SecAggError
from fedart_nb.secagg.client import BOX_BYTES
from fedart_nb.secagg.keys import check_usable, mask_key_of_private, pair_mask_key
from fedart_nb.secagg.masks import Expander, Words
from fedart_nb.secagg.messages import (
    COMMITMENT_BYTES,
    NO_HOLDER,
    Entry,
    Kind,
    Roster,
    bitmap,
    commitment,
    opened,
    signed,
    split_fixed,
)
from fedart_nb.secagg.shamir import SHARE_BYTES, combine_many

__all__ = ["SecAggServer"]

_PHASES = ("advertise", "share", "masked", "confirm", "unmask", "done")


class SecAggServer:
    """The sum of one attempt of one round.

    Args:
        host: signs what the server says.
        binding: 32 bytes, hash of plan and shared adapter.
        size: words of a vector.
        degree: 0 for the complete graph; see `graph`.

    Attributes:
        phase: which round's messages are taken now.
        survivors_ids: ids of the artists in the sum, once known.
    """

    def __init__(self, host: Identity, binding: bytes, size: int, *, degree: int = 0) -> None:
        self._host, self._binding, self._size, self._degree = host, binding, size, degree
        self.phase = "advertise"
        self.survivors_ids: tuple[str, ...] = ()
        self._entries: dict[str, Entry] = {}
        self._heard: dict[tuple[str, str], bytes] = {}
        self._roster: Roster | None = None
        self._dealt: dict[int, tuple[dict[tuple[int, bytes], bytes], dict[int, bytes], bytes]] = {}
        self._dealers: tuple[int, ...] = ()
        self._vectors: set[int] = set()
        self._counted: tuple[int, ...] = ()
        self._sum = np.zeros(0, np.uint32)
        self._signatures: dict[int, bytes] = {}
        self._shares: dict[int, dict[int, bytes]] = {}

    def __repr__(self) -> str:
        return f"SecAggServer({self.phase}, {len(self._entries)} artists, {self._size} words)"

    def heard(self, phase: str) -> frozenset[str]:
        """Ids of the artists whose message of a phase is in."""
        return frozenset(artist for said, artist in self._heard if said == phase)

    def has_quorum(self) -> bool:
        """Whether the running phase may be closed with those who were heard."""
        return len(self.heard(self.phase)) >= self._known().quorum

    # --- round 0 ---

    def advertise(self, artist: str, message: bytes) -> None:
        """Take an artist's keys; raises SecAggError for a bad signature or a second, different message.

        A key that nobody can use is refused here: in the roster it would stop everybody.
        """
        if self._due("advertise", artist, message):
            entry = Entry.read(self._binding, message)
            if entry.id != artist:
                raise SecAggError(f"{artist[:8]} sent the keys of {entry.id[:8]}.")
            check_usable(entry.box)
            check_usable(entry.mask)
            self._entries[artist] = entry
            self._note("advertise", artist, message)

    def roster(self, only: Iterable[str] | None = None) -> bytes:
        """Close round 0; raises SecAggError below three artists."""
        chosen = self._chosen("advertise", only)
        self._roster = Roster.of(self._binding, [self._entries[a] for a in chosen], self._degree)
        self.phase = "share"
        self._sum = np.zeros(self._size, np.uint32)
        return self._roster.message(self._host)

    # --- round 1 ---

    def share(self, artist: str, message: bytes) -> None:
        """Take an artist's sealed shares and its commitments to them."""
        roster, me = self._member(artist)
        if not self._due("share", artist, message):
            return
        body = opened(roster.entries[me].identity, Kind.SHARE, roster.context, message)
        others = roster.neighbours[me]
        holders = sorted((*others, me))
        seals = COMMITMENT_BYTES * (1 + 2 * len(holders))
        if len(body) != seals + BOX_BYTES * len(others):
            raise SecAggError(f"{artist[:8]} dealt {len(body)} bytes; expected {seals + BOX_BYTES * len(others)}.")
        first, *rest = split_fixed(body[:seals], COMMITMENT_BYTES)
        labelled = [(h, label) for h in holders for label in (b"b", b"s")]
        boxes = split_fixed(body[seals:], BOX_BYTES)
        self._dealt[me] = (dict(zip(labelled, rest, strict=True)), dict(zip(others, boxes, strict=True)), first)
        self._note("share", artist, message)

    def deliveries(self, only: Iterable[str] | None = None) -> dict[str, bytes]:
        """Close round 1; every dealer's id to the message for it."""
        roster = self._known()
        dealers = self._quorum("share", only)
        out: dict[str, bytes] = {}
        head = bitmap(dealers, len(roster.entries))
        for holder in dealers:
            near = set(roster.neighbours[holder])
            boxes = [self._dealt[d][1][holder] for d in dealers if d in near]
            body = head + b"".join(boxes)
            out[roster.entries[holder].id] = signed(self._host, Kind.DELIVERY, roster.context, body)
        self._dealers = dealers
        self.phase = "masked"
        return out

    # --- round 2 ---

    def masked(self, artist: str, message: bytes) -> None:
        """Take a masked vector and add it up at once; it is not kept."""
        roster, me = self._member(artist)
        if not self._due("masked", artist, message):
            return
        if me not in self._dealers:
            raise SecAggError(
                f"{artist[:8]} sent a vector without having dealt shares; its masks could not be removed."
            )
        body = opened(roster.entries[me].identity, Kind.MASKED, roster.context, message)
        if len(body) != 4 * self._size:
            raise SecAggError(f"{artist[:8]} sent {len(body):,} bytes; expected {4 * self._size:,}.")
        np.add(self._sum, np.frombuffer(body, "<u4"), out=self._sum)
        self._vectors.add(me)
        self._note("masked", artist, message)

    def survivors(self, only: Iterable[str] | None = None) -> bytes:
        """Close round 2: who is in the sum. `only` must name exactly those who were heard."""
        roster = self._known()
        counted = self._quorum("masked", only)
        if set(counted) != self._vectors:
            raise SecAggError("Vectors were added that are not to be counted; the sum cannot be opened.")
        self._counted = counted
        self.survivors_ids = tuple(roster.entries[i].id for i in counted)
        self.phase = "confirm"
        return signed(self._host, Kind.SURVIVORS, roster.context, bitmap(counted, len(roster.entries)))

    # --- round 3 ---

    def confirm(self, artist: str, message: bytes) -> None:
        """Take an artist's signature over who is in the sum."""
        roster, me = self._member(artist)
        if not self._due("confirm", artist, message):
            return
        size = len(roster.entries)
        body = opened(roster.entries[me].identity, Kind.CONFIRM, roster.context, message)
        if me not in self._counted or body != bitmap(self._dealers, size) + bitmap(self._counted, size):
            raise SecAggError(f"{artist[:8]} confirms another set of artists than it was told.")
        self._signatures[me] = message[-64:]
        self._note("confirm", artist, message)

    def confirmed(self, only: Iterable[str] | None = None) -> bytes:
        """Close round 3: the signatures, so that everybody sees that everybody was told the same."""
        roster = self._known()
        signers = self._quorum("confirm", only)
        body = bitmap(signers, len(roster.entries)) + b"".join(self._signatures[i] for i in signers)
        self.phase = "unmask"
        return signed(self._host, Kind.CONFIRMED, roster.context, body)

    # --- round 4 ---

    def unmask(self, artist: str, message: bytes) -> None:
        """Take an artist's shares; each is checked against what its dealer had committed to."""
        roster, me = self._member(artist)
        if not self._due("unmask", artist, message):
            return
        body = opened(roster.entries[me].identity, Kind.UNMASK, roster.context, message)
        near = {*roster.neighbours[me], me}
        dealers = [d for d in self._dealers if d in near]
        shares = split_fixed(body, SHARE_BYTES)
        if me not in self._counted or len(shares) != len(dealers):
            raise SecAggError(f"{artist[:8]} released {len(shares)} shares; expected {len(dealers)}.")
        good: dict[int, bytes] = {}
        for dealer, share in zip(dealers, shares, strict=True):
            label = b"b" if dealer in self._counted else b"s"
            if commitment(roster.context, dealer, me, label, share) == self._dealt[dealer][0][me, label]:
                good[dealer] = share
        for dealer, share in good.items():
            self._shares.setdefault(dealer, {})[me] = share
        self._note("unmask", artist, message)
        if len(good) < len(dealers):
            wrong = ", ".join(roster.entries[d].id[:8] for d in dealers if d not in good)
            raise SecAggError(f"{artist[:8]} released shares of {wrong} that were not dealt to it; they are not used.")

    def enough(self) -> bool:
        """Whether every secret that is needed can be rebuilt from the shares that are in."""
        roster = self._known()
        return self.phase == "unmask" and all(
            len(self._shares.get(d, ())) >= roster.threshold for d in self._needed(roster)
        )

    def total(self) -> Words:
        """Close round 4: rebuild the secrets, take the masks off, and give the sum modulo 2^32, (d,).

        Raises:
            SecAggError: too few shares for a secret, or one that is not what its owner had committed to.
        """
        roster = self._known()
        if not self.enough():
            few = min(len(self._shares.get(d, ())) for d in self._needed(roster))
            raise SecAggError(
                f"{few} shares of a secret are in; it takes {roster.threshold}. Too many artists vanished while "
                "unmasking: the sum stays closed, the next attempt starts afresh."
            )
        if self.phase != "unmask":
            raise SecAggError(f"The sum was asked for in the phase {self.phase!r}.")
        masks: list[tuple[bytes, int]] = []
        for dealer, secret in self._rebuilt(roster).items():
            entry = roster.entries[dealer]
            if dealer in self._counted:
                if commitment(roster.context, dealer, NO_HOLDER, b"b", secret) != self._dealt[dealer][2]:
                    raise SecAggError(f"{entry.id[:8]} had dealt shares of something else than its secret.")
                masks.append((mask_key_of_private(secret, roster.context), -1))
                continue
            private = X25519PrivateKey.from_private_bytes(secret)
            if private.public_key().public_bytes_raw() != entry.mask:
                raise SecAggError(f"{entry.id[:8]} had dealt shares of something else than its mask key.")
            for other in roster.neighbours[dealer]:
                if other in self._vectors:  # it had added (other < dealer) or subtracted the mask
                    key = pair_mask_key(private, entry.mask, roster.entries[other].mask, roster.context)
                    masks.append((key, -1 if other < dealer else 1))
        total, self._sum = self._sum, np.zeros(0, np.uint32)
        Expander().add_all(total, masks)
        self.phase = "done"
        return total

    def transcript(self) -> str:
        """Hash (hex) of plan, roster and who is in the sum: everybody can compare it."""
        roster = self._known()
        size = len(roster.entries)
        return hashlib.sha256(roster.context + bitmap(self._dealers, size) + bitmap(self._counted, size)).hexdigest()

    def _needed(self, roster: Roster) -> list[int]:
        """Dealers whose secret must be rebuilt: all, but for those that vanished and have no survivor beside them."""
        counted = set(self._counted)
        return [d for d in self._dealers if d in counted or counted & set(roster.neighbours[d])]

    def _rebuilt(self, roster: Roster) -> dict[int, bytes]:
        """The needed secrets; those with the same holders share their Lagrange weights."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for dealer in self._needed(roster):
            groups.setdefault(tuple(sorted(self._shares[dealer])[: roster.threshold]), []).append(dealer)
        secrets: dict[int, bytes] = {}
        for holders, dealers in groups.items():
            rows = [[self._shares[d][h] for h in holders] for d in dealers]
            secrets |= dict(zip(dealers, combine_many(rows, [h + 1 for h in holders]), strict=True))
        return secrets

    def _due(self, phase: str, artist: str, message: bytes) -> bool:
        """Whether a message is to be read; False for one that came before."""
        known = self._heard.get((phase, artist))
        if known is not None:
            if known == hashlib.sha256(message).digest():
                return False
            raise SecAggError(f"{artist[:8]} sent a second, different {phase} message; the first one counts.")
        if self.phase != phase:
            late = _PHASES.index(self.phase) > _PHASES.index(phase)
            raise SecAggError(f"{artist[:8]} is too {'late' if late else 'early'}: {phase} came during {self.phase}.")
        return True

    def _note(self, phase: str, artist: str, message: bytes) -> None:
        self._heard[phase, artist] = hashlib.sha256(message).digest()

    def _chosen(self, phase: str, only: Iterable[str] | None) -> list[str]:
        if self.phase != phase:
            raise SecAggError(f"Asked to close the phase {phase!r} during {self.phase!r}.")
        heard = self.heard(phase)
        chosen = heard if only is None else frozenset(only)
        if missing := chosen - heard:
            raise SecAggError(f"{min(missing)[:8]} is to be in the phase {phase!r}, but was not heard.")
        return sorted(chosen)

    def _quorum(self, phase: str, only: Iterable[str] | None) -> tuple[int, ...]:
        roster = self._known()
        places = tuple(roster.position(a) for a in self._chosen(phase, only))
        if len(places) < roster.quorum:
            raise SecAggError(
                f"{len(places)} of {len(roster.entries)} artists are left in the phase {phase!r}; it takes "
                f"{roster.quorum}. This attempt ends here; the protocol has opened no update. Sums of the same artists "
                "in further attempts tell more than one of them."
            )
        return places

    def _member(self, artist: str) -> tuple[Roster, int]:
        roster = self._known()
        return roster, roster.position(artist)

    def _known(self) -> Roster:
        if self._roster is None:
            raise SecAggError("No roster has been made yet.")
        return self._roster
