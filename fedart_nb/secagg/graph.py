"""Who shares masks with whom: everybody with everybody, or k neighbours each (Bell et al. 2020, "SecAgg+").

The sparse graph is for simulated rooms of more than `COMPLETE_UP_TO` artists; its guarantees hold with high probability
over the graph (`risks`), against a server that follows the protocol. Real rooms are complete, and an artist refuses any
roster whose degree is not the one that was agreed.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedart_nb.errors import SecAggError

__all__ = ["COMPLETE_UP_TO", "neighbours", "quorum_of", "risks", "threshold_of"]

COMPLETE_UP_TO = 64  #: with so many artists and fewer, everybody shares masks with everybody


def threshold_of(artists: int, degree: int = 0) -> int:
    """How many shares rebuild a secret. Complete graph: floor(2n/3) + 1, right also when the server plays foul.

    >>> [threshold_of(n) for n in (3, 5, 10, 30)]
    [3, 4, 7, 21]
    """
    return 2 * artists // 3 + 1 if degree == 0 else (degree + 1) // 2 + 1


def quorum_of(artists: int, degree: int = 0) -> int:
    """How many artists must have sent a vector, and signed the list of those who did, before anybody unmasks."""
    return threshold_of(artists) if degree == 0 else artists // 2 + 1


def risks(artists: int, degree: int, *, gone: int, colluders: int) -> tuple[float, float]:
    """What a sparse graph leaves to chance: union bounds of a failed and of an open round, each at most 1.

    The first is for some artist keeping fewer than `threshold_of` of its holders (the neighbours and, unless it is gone
    itself, the artist) when `gone` artists vanish; the second for some artist having so many of `colluders` as
    neighbours that they rebuild its secrets (Bell et al. 2020, section 3.2: hypergeometric tails).

    >>> [round(risks(500, degree, gone=150, colluders=50)[0], 3) for degree in (60, 80, 100)]
    [0.11, 0.008, 0.0]
    """
    threshold, others = threshold_of(artists, degree), artists - 1
    lost = (artists - gone) * _tail(others, gone, degree, degree + 2 - threshold)
    lost += gone * _tail(others, gone - 1, degree, degree + 1 - threshold) if gone else 0.0
    seen = artists * _tail(others, colluders, degree, threshold)
    return min(1.0, lost), min(1.0, seen)


def neighbours(artists: int, degree: int, seed: bytes) -> tuple[tuple[int, ...], ...]:
    """Each artist's neighbours, ascending: a random circle in which everybody knows the `degree` nearest.

    Args:
        degree: even and below `artists`; 0 for everybody.
        seed: 32 bytes, known to all, fixed after all keys are.
    """
    if degree == 0:
        return _complete(artists)
    if degree % 2 or not 2 <= degree < artists:
        raise SecAggError(
            f"A degree of {degree} with {artists} artists; expected an even number below {artists}, or 0."
        )
    stream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor().update(bytes(8 * artists))
    order = sorted(range(artists), key=lambda i: stream[8 * i : 8 * i + 8])
    near: list[tuple[int, ...]] = [()] * artists
    for place, artist in enumerate(order):
        steps = [s for s in range(-degree // 2, degree // 2 + 1) if s]
        near[artist] = tuple(sorted(order[(place + s) % artists] for s in steps))
    return tuple(near)


@lru_cache(maxsize=8)
def _complete(artists: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(j for j in range(artists) if j != i) for i in range(artists))


def _tail(population: int, marked: int, drawn: int, at_least: int) -> float:
    """The chance that `drawn` of `population`, without putting back, hold `at_least` of the `marked` ones or more."""
    ways = sum(comb(marked, k) * comb(population - marked, drawn - k) for k in range(at_least, drawn + 1))
    return ways / comb(population, drawn)
