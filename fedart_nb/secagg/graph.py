"""Who shares masks with whom: everybody with everybody, or k neighbours each (Bell et al. 2020, "SecAgg+").

The sparse graph is for simulated rooms of more than 64 artists; its guarantees hold with high probability over the
graph, against a server that follows the protocol. Real rooms are complete.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedart_nb.errors import SecAggError

__all__ = ["neighbours", "quorum_of", "threshold_of"]


def threshold_of(artists: int, degree: int = 0) -> int:
    """How many shares rebuild a secret. Complete graph: floor(2n/3) + 1, right also when the server plays foul.

    >>> [threshold_of(n) for n in (3, 5, 10, 30)]
    [3, 4, 7, 21]
    """
    return 2 * artists // 3 + 1 if degree == 0 else (degree + 1) // 2 + 1


def quorum_of(artists: int, degree: int = 0) -> int:
    """How many artists must have sent a vector, and signed the list of those who did, before anybody unmasks."""
    return threshold_of(artists) if degree == 0 else artists // 2 + 1


def neighbours(artists: int, degree: int, seed: bytes) -> tuple[tuple[int, ...], ...]:
    """Each artist's neighbours, ascending: a random circle in which everybody knows the `degree` nearest.

    Args:
        degree: even and below `artists`; 0 for everybody.
        seed: 32 bytes, known to all, fixed after all keys are.
    """
    if degree == 0:
        return tuple(tuple(j for j in range(artists) if j != i) for i in range(artists))
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
