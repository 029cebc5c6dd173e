"""An artist's side of the secure sum: Bonawitz et al. 2017 (eprint 2017/281), figure 4, user u, one method per round.

    advertise()            round 0   c_u^PK, s_u^PK, signed
    read(roster)           round 1   check who takes part, before anything is dealt
    share(roster)          round 1   Shamir shares of s_u^SK and b_u, sealed for each other artist
    receive(delivery)      round 2   take our shares of the others' secrets
    mask(words)            round 2   y_u = x_u + PRG(b_u) + sum_v +-PRG(s_uv)   (mod 2^32)
    confirm(survivors)     round 3   a signature over the set U3 of those whose vectors were counted
    unmask(confirmed)      round 4   for each v: a share of b_v if v is in U3, else of s_v^SK; never both, never twice

Bytes in, bytes out; no clock, no network, no file. Everything is derived from `secret`, so that a kernel that was
killed builds the same client again, hears the same messages again, and says the same again. What it must not forget is
`state`: hashes of what it has committed itself to. `remember(state)` is called before each such message is returned and
must not return before the state is safe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from fedart_nb.crypto.identity import Identity
from fedart_nb.errors import SecAggError
from fedart_nb.secagg.keys import BOX_OVERHEAD_BYTES, RoundKeys, mask_key_of_private
from fedart_nb.secagg.masks import Expander, Words
from fedart_nb.secagg.messages import (
    MIN_ARTISTS,
    NO_HOLDER,
    Draft,
    Kind,
    Roster,
    bitmap,
    commitment,
    members_of,
    opened,
    signed,
    split_fixed,
)
from fedart_nb.secagg.shamir import SHARE_BYTES, split

__all__ = ["BOX_BYTES", "SecAggClient"]

BOX_BYTES = 2 * SHARE_BYTES + BOX_OVERHEAD_BYTES
_SMALL_ROOM = 5
_State = Mapping[str, str]


def _forget(state: _State) -> None:
    """For simulations, where nothing outlives the process."""


class SecAggClient:
    """One artist in one attempt of one round.

    Args:
        identity: the artist's long-lived key pair.
        host_public_key: 32 bytes, checked against the invite.
        binding: 32 bytes, hash of the plan that this artist agreed to and of the shared adapter that it really holds.
        secret: 32 random bytes, kept private and deleted after the round; never used for another binding.
        state: what `remember` was last given for this secret, after a restart.
        remember: stores the state; it holds hashes only, no key.
        previous: ids of the artists in the last sum, for a warning.
        degree: of the graph that was agreed; 0 is the complete one. A roster with another one is refused: whoever
            chooses the degree chooses how few colluders it takes.
        at_least: a roster of fewer artists than was agreed is refused.
        survivors: a sum of fewer artists than was agreed is not signed, and so not opened; never fewer than the quorum.

    Attributes:
        roster: known after `share`.
        warnings: sentences for the artist, about small rooms and tell-tale differences between rounds.
    """

    def __init__(
        self,
        identity: Identity,
        host_public_key: bytes,
        binding: bytes,
        secret: bytes,
        *,
        state: _State | None = None,
        remember: Callable[[_State], None] = _forget,
        previous: frozenset[str] = frozenset(),
        degree: int = 0,
        at_least: int = MIN_ARTISTS,
        survivors: int = 0,
    ) -> None:
        self._identity = identity
        self._host = host_public_key
        self._binding = binding
        self._keys = RoundKeys(secret, binding)
        self._state = dict(state or {})
        self._remember = remember
        self._previous = previous
        self._degree, self._at_least, self._survivors = degree, at_least, survivors
        self._commit("binding", binding + self._keys.mask_public)
        self.roster: Roster | None = None
        self._met: tuple[bytes, Roster] | None = None  # a roster that was checked, and its message
        self.warnings: list[str] = []
        self._held: dict[int, bytes] = {}  # dealer to our share of b and of s, 66 bytes
        self._dealers: tuple[int, ...] = ()  # U2
        self._counted: tuple[int, ...] = ()  # U3

    def __repr__(self) -> str:
        return f"SecAggClient({self._identity.id[:8]}, {self._binding.hex()[:8]})"

    @property
    def context(self) -> bytes:
        """32 bytes that name plan, shared adapter and roster; known after `share`."""
        return self._known().context

    @property
    def counted_ids(self) -> tuple[str, ...]:
        """Ids of the artists in the sum, once confirmed."""
        return tuple(self._known().entries[i].id for i in self._counted) if self._counted else ()

    def transcript(self) -> str:
        """Hash (hex) of plan, roster and who is in the sum: the same for everybody who signed the same."""
        roster = self._known()
        return hashlib.sha256(roster.context + self._sets(roster)).hexdigest()

    def advertise(self) -> bytes:
        """Round 0: our two public keys of this round."""
        body = self._identity.public_key + self._keys.box_public + self._keys.mask_public
        return signed(self._identity, Kind.ADVERTISE, self._binding, body)

    def read(self, roster: bytes) -> Roster:
        """Round 1, first half: check the roster, and be bound to nothing. Look at it before anything is dealt for it.

        Raises:
            SecAggError: fewer artists or another graph than agreed, keys that are not their owners', or our own keys
                not among them.
        """
        if self._met is not None and self._met[0] == roster:
            return self._met[1]
        read = Roster.read(self._host, self._binding, roster)
        if read.degree != self._degree:
            raise SecAggError(
                f"The roster gives everybody {read.degree or 'all'} neighbours, agreed were {self._degree or 'all'}. "
                "With few neighbours few colluders are enough; nothing was sent."
            )
        if len(read.entries) < self._at_least:
            raise SecAggError(
                f"The roster has {len(read.entries)} artists, agreed were at least {self._at_least}. Among fewer your "
                "update hides worse; nothing was sent."
            )
        me = read.position(self._identity.id)
        entry = read.entries[me]
        if (entry.box, entry.mask) != (self._keys.box_public, self._keys.mask_public):
            raise SecAggError("The roster holds other keys of ours than we sent. Somebody replaced them.")
        self._met = (roster, read)
        return read

    def share(self, roster: bytes) -> bytes:
        """Round 1, second half: check the roster, then deal shares of both secrets to our neighbours.

        Raises:
            SecAggError: as for `read`, or another roster than the one that we had dealt for.
        """
        read = self.read(roster)
        me = read.position(self._identity.id)
        self._commit("roster", read.context)
        self.roster, self._me = read, me
        if len(read.entries) < _SMALL_ROOM:
            self._warn(
                f"Only {len(read.entries)} artists: your update hides among {len(read.entries) - 1} others, if "
                f"they are as many people. With {_SMALL_ROOM} or more it hides better."
            )
        holders = read.neighbours[me]
        private, mask = self._deal(b"b"), self._deal(b"s")
        self._held = {me: private[me + 1] + mask[me + 1]}
        parts = [commitment(read.context, me, NO_HOLDER, b"b", self._keys.private_seed(read.context))]
        for h in sorted((*holders, me)):
            parts.append(commitment(read.context, me, h, b"b", private[h + 1]))
            parts.append(commitment(read.context, me, h, b"s", mask[h + 1]))
        parts += [self._keys.seal(read.entries[h].box, read.context, private[h + 1] + mask[h + 1]) for h in holders]
        return signed(self._identity, Kind.SHARE, read.context, b"".join(parts))

    def receive(self, delivery: bytes) -> None:
        """Round 2, first half: open the boxes that the others sealed for us.

        Raises:
            SecAggError: a share that does not open, too few artists left, or another set of dealers than before.
        """
        roster = self._known()
        dealers, boxes = self._delivered(roster, delivery)
        shares = {d: self._keys.open(roster.entries[d].box, roster.context, box) for d, box in boxes.items()}
        self._commit("dealers", bitmap(dealers, len(roster.entries)))
        self._held |= shares
        self._dealers = dealers

    def mask(self, words: Words) -> bytes:
        """Round 2, second half: hide `words`, uint32 (d,), behind all masks. They themselves are left as they are.

        The message has 4 bytes a word and 97 more. A kernel that was restarted may ask again with the same words.

        Raises:
            SecAggError: a second, different vector under the same masks: the difference of both would lie open.
        """
        if words.dtype != np.uint32 or words.ndim != 1:
            raise SecAggError(f"A vector of {words.dtype} {words.shape}; expected uint32 (d,).")
        return self.mask_written(len(words), lambda body: np.copyto(body, words))

    def mask_written(self, size: int, write: Callable[[Words], object]) -> bytes:
        """`mask` for a vector of `size` words that `write` puts into the message itself: it exists once."""
        roster = self._known()
        if not self._dealers:
            raise SecAggError("Asked to mask before the others' shares arrived.")
        draft = Draft(Kind.MASKED, roster.context, size)
        body = draft.body
        write(body)
        self._commit("words", body.view(np.uint8).data)
        masks = [(mask_key_of_private(self._keys.private_seed(roster.context), roster.context), 1)]
        for other in self._dealers:
            if other != self._me and other in self._held:
                key = self._keys.pair_mask_key(roster.entries[other].mask, roster.context)
                masks.append((key, 1 if self._me < other else -1))
        Expander().add_all(body, masks)
        del body
        return draft.signed(self._identity)

    def confirm(self, survivors: bytes) -> bytes:
        """Round 3: sign the set of artists whose vectors are said to be in the sum.

        Raises:
            SecAggError: the set has strangers, leaves us out, is too small, or differs from one that we signed.
        """
        roster = self._known()
        size = len(roster.entries)
        body = opened(self._host, Kind.SURVIVORS, roster.context, survivors)
        counted = members_of(body, size)
        if not self._dealers or not set(counted) <= set(self._dealers):
            raise SecAggError("The sum is said to hold artists who never dealt shares. The host or relay lies.")
        if self._me not in counted:
            raise SecAggError("The sum is said not to hold our vector; we sign and release nothing for it.")
        needed = max(roster.quorum, self._survivors)
        if len(counted) < needed:
            raise SecAggError(
                f"Only {len(counted)} of {size} vectors arrived; it takes {needed} to hide each among the "
                "others. Nothing was released; the next attempt starts afresh."
            )
        self._commit("survivors", bytes(body))
        self._counted = counted
        ids = frozenset(roster.entries[i].id for i in counted)
        if len(ids ^ self._previous) == 1 and self._previous:
            self._warn(
                "This sum holds the same artists as the last one but one. The difference of the two sums says much "
                "about that artist; only noise (differential privacy) helps against it."
            )
        return signed(self._identity, Kind.CONFIRM, roster.context, self._sets(roster))

    def unmask(self, confirmed: bytes) -> bytes:
        """Round 4: when enough artists signed the same set, release one share per artist, once.

        Raises:
            SecAggError: too few valid signatures, signatures over another set, or anything that was released before
                for another set.
        """
        roster = self._known()
        if not self._counted:
            raise SecAggError("Asked to unmask before a set of artists was confirmed.")
        size = len(roster.entries)
        body = opened(self._host, Kind.CONFIRMED, roster.context, confirmed)
        width = (size + 7) // 8
        signers = members_of(body[:width], size)
        signatures = split_fixed(body[width:], 64)
        if len(signers) != len(signatures) or not set(signers) <= set(self._counted) or len(signers) < roster.quorum:
            raise SecAggError(
                f"{len(signatures)} signatures over the set of artists; it takes {roster.quorum}, of artists in the "
                "set. Nothing was released."
            )
        head = bytes([Kind.CONFIRM]) + roster.context + self._sets(roster)
        for signer, signature in zip(signers, signatures, strict=True):
            entry = roster.entries[signer]
            try:
                opened(entry.identity, Kind.CONFIRM, roster.context, head + signature)
            except SecAggError as error:
                raise SecAggError(
                    f"{entry.id[:8]} did not sign the set of artists that we were shown. Somebody tells different "
                    "artists different things about who is in the sum. Nothing was released."
                ) from error
        shares: list[bytes] = []
        for dealer in self._dealers:
            if dealer in self._held:
                private, mask = self._held[dealer][:SHARE_BYTES], self._held[dealer][SHARE_BYTES:]
                shares.append(private if dealer in self._counted else mask)
        message = signed(self._identity, Kind.UNMASK, roster.context, b"".join(shares))
        self._commit("unmask", message)
        return message

    def _deal(self, label: bytes) -> dict[int, bytes]:
        roster = self._known()
        secret = self._keys.private_seed(roster.context) if label == b"b" else self._keys.mask_secret()
        holders = [i + 1 for i in sorted((*roster.neighbours[self._me], self._me))]
        return split(secret, holders, roster.threshold, self._keys.polynomial_seed(roster.context, label))

    def _delivered(self, roster: Roster, delivery: bytes) -> tuple[tuple[int, ...], dict[int, bytes]]:
        """U2, and the boxes of those of our neighbours who are in it."""
        size = len(roster.entries)
        body = opened(self._host, Kind.DELIVERY, roster.context, delivery)
        width = (size + 7) // 8
        dealers = members_of(body[:width], size)
        if self._me not in dealers or len(dealers) < roster.quorum:
            raise SecAggError(
                f"{len(dealers)} of {size} artists dealt their shares; it takes {roster.quorum}, ourselves among them."
            )
        senders = [d for d in dealers if d in roster.neighbours[self._me]]
        if len(senders) + 1 < roster.threshold:
            raise SecAggError(f"Only {len(senders)} neighbours are left; it takes {roster.threshold - 1}.")
        boxes = split_fixed(body[width:], BOX_BYTES)
        if len(boxes) != len(senders):
            raise SecAggError(f"{len(boxes)} sealed shares arrived for {len(senders)} neighbours.")
        return dealers, dict(zip(senders, boxes, strict=True))

    def _sets(self, roster: Roster) -> bytes:
        size = len(roster.entries)
        return bitmap(self._dealers, size) + bitmap(self._counted, size)

    def _known(self) -> Roster:
        if self.roster is None:
            raise SecAggError("No roster has been agreed yet.")
        return self.roster

    def _warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _commit(self, step: str, what: bytes | memoryview) -> None:
        """Be bound to `what` in this step, for good: said again it must be the same, also after a crash."""
        digest = hashlib.sha256(what).hexdigest()
        known = self._state.get(step)
        if known is None:
            self._state[step] = digest
            self._remember(dict(self._state))
        elif known != digest:
            raise SecAggError(
                f"Asked a second time for the step {step!r}, with something else than before. Answering both would "
                "show what the masks hide; nothing was sent."
            )
