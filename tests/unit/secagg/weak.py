"""Weak on purpose: small broken variants of the protocol, after real systems, and the attacks that break them.

Never import this from the package. Each variant changes one thing; the table of where it was seen in the wild is in the
docstring of `test_pitfalls.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from fedart_nb.secagg import keys as keys_module
from fedart_nb.secagg.client import SecAggClient
from fedart_nb.secagg.keys import RoundKeys
from fedart_nb.secagg.masks import Words, expand
from fedart_nb.secagg.shamir import PRIME, lagrange_at_zero

__all__ = [
    "SEED_BITS",
    "Forgetful",
    "brute_force",
    "careless_combine",
    "clear_seal",
    "folded",
    "group_key",
    "guess_key",
    "mersenne",
    "predict_mersenne",
    "scalar",
    "wrapping_encode",
]

SEED_BITS = 14  # Flower 1.42 keeps 28 to 32 bits, a night's work; fourteen are done in a second, by the same search


# 1. A generator that is not made for secrets


def mersenne(key: bytes, size: int) -> Words:
    """Masks from MT19937, seeded with 256 bits: plenty of entropy, and no help."""
    state = np.random.RandomState(np.frombuffer(key, "<u4"))
    return state.randint(0, 2**32, size, dtype=np.uint32)


def predict_mersenne(outputs: Words, size: int) -> Words:
    """From 624 outputs, all that follow: MT19937's tempering is undone bit by bit (Matsumoto, Nishimura 1998)."""

    def undo_right(y: int, shift: int) -> int:
        value = y
        for _ in range(32 // shift):
            value = y ^ value >> shift
        return value

    def undo_left(y: int, shift: int, mask: int) -> int:
        value = y
        for _ in range(32 // shift):
            value = y ^ value << shift & mask
        return value & 0xFFFFFFFF

    state = []
    for output in outputs[:624].tolist():
        y = undo_right(output, 18)
        y = undo_left(y, 15, 0xEFC60000)
        y = undo_left(y, 7, 0x9D2C5680)
        state.append(undo_right(y, 11))
    copy = np.random.RandomState()
    copy.set_state(("MT19937", np.array(state, np.uint32), 624))
    return copy.randint(0, 2**32, size, dtype=np.uint32)


# 2. A key that is folded into a short seed


def folded(key: bytes, size: int) -> Words:
    """Masks from a strong generator under a key of `SEED_BITS` bits."""
    return expand(guess_key(int.from_bytes(key[:4], "little") % 2**SEED_BITS), size)


def guess_key(seed: int) -> bytes:
    return hashlib.sha256(seed.to_bytes(4, "big")).digest()


def brute_force(mask: Words) -> int | None:
    """The seed whose mask begins like this one, or None after all have been tried."""
    return next((s for s in range(2**SEED_BITS) if np.array_equal(expand(guess_key(s), len(mask)), mask)), None)


# 3. One number for all


def scalar(key: bytes, size: int) -> Words:
    """The same random number added to every coordinate."""
    return np.full(size, expand(key, 1)[0])


# 4 and 6. Shares that whoever carries them can read


def clear_seal(_keys: RoundKeys, _theirs: bytes, _context: bytes, message: bytes) -> bytes:
    """Not sealed at all; sixteen bytes of padding keep the length."""
    return message + bytes(keys_module.BOX_OVERHEAD_BYTES)


# 7. One secret for the whole group


def group_key(_keys: RoundKeys, theirs: bytes, context: bytes) -> bytes:
    """Pair masks from a secret that every member holds."""
    return keys_module.derive(b"the group's secret", context, b"pair" + theirs[:0])


# 8 and 9. A client that does not remember what it has committed itself to


class Forgetful(SecAggClient):
    """Answers everything it is asked, as often as it is asked."""

    def _commit(self, step: str, what: bytes | memoryview) -> None:
        pass


# 13. A sum that may wrap


def wrapping_encode(values: np.ndarray, limit: float, bits: int = 31) -> Words:
    """As many bits for one artist as there are, without asking how many will be added."""
    return np.rint((values + limit) / (2 * limit) * (2**bits - 1)).astype(np.uint32)


# 18. Too few shares, combined all the same


def careless_combine(shares: dict[int, bytes]) -> int:
    holders = sorted(shares)
    weights = lagrange_at_zero(holders)
    return sum(w * int.from_bytes(shares[x], "big") for w, x in zip(weights, holders, strict=True)) % PRIME


Prg = Callable[[bytes, int], Words]
