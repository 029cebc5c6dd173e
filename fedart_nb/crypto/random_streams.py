"""Random numbers that nobody can predict: AES-256 in counter mode under a key from the operating system.

Epsilon holds only if noise and sampling stay secret. The generators of torch and numpy are fast and statistically good,
but who sees enough of their output can compute the rest; Opacus' `secure_mode` needs torchcsprng, which is archived and
has no build for today's torch. So the noise of training is drawn here.

What is left: real numbers are rounded to floats, and the pattern of the lowest bits of a noisy float can tell something
of the exact value (Mironov 2012, CCS). Each Gaussian value here is a sum of two of Box and Muller's, made of four
numbers of 53 bits, which is meant to put a search for these out of reach (after Holohan & Braghin 2107.10138, section
5.1; Opacus sums four in secure mode). It is a hardening, no proof; noise in whole numbers (`privacy.distributed`) does
not have the problem.
"""

from __future__ import annotations

import math
import secrets
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedart_nb.errors import PrivacyError

__all__ = ["SecureRandom"]

_AT_ONCE = 2**16
_MOST_POISSON = 2.0**38  # its table would not fit into a kernel's memory
_TAILS = 12.0  # standard deviations on both sides of a table; beyond lies less than 53 random bits can say


class SecureRandom:
    """A stream of unpredictable numbers; every instance has a key of its own, which is never written anywhere.

    Args:
        key: 32 bytes, secret, for who must say the same numbers again (a round's noise after a restart, a test); the
            operating system's entropy otherwise.

    >>> SecureRandom(bytes(32)).uniform(2).round(3).tolist() == SecureRandom(bytes(32)).uniform(2).round(3).tolist()
    True
    """

    def __init__(self, key: bytes | None = None) -> None:
        key = secrets.token_bytes(32) if key is None else key
        self._stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def __repr__(self) -> str:
        return "SecureRandom()"

    def uniform(self, n: int) -> NDArray[np.float64]:
        """N numbers strictly between 0 and 1, with 53 random bits each."""
        words = np.frombuffer(self._stream.update(bytes(8 * n)), "<u8")
        out: NDArray[np.float64] = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        return np.minimum(out, np.nextafter(1.0, 0.0))

    def chosen(self, n: int, rate: float) -> NDArray[np.bool_]:
        """For each of n units whether it is in a Poisson sample: independent coins, any number of heads."""
        return self.uniform(n) < rate if rate < 1 else np.ones(n, np.bool_)

    def poisson(self, mean: float, n: int) -> NDArray[np.int64]:
        """N independent Poisson numbers, by inversion: a table of the distribution, and 53 random bits for each.

        The table is right to about 1e-13 in all, which no delta that is worth stating notices.

        Raises:
            PrivacyError: a mean above 2^38, whose table would be too large.
        """
        if not 0 <= mean <= _MOST_POISSON:
            raise PrivacyError(
                f"Noise of mean {mean:.3g} cannot be drawn; expected 0 to {_MOST_POISSON:.3g}. Take less."
            )
        first, chances = _poisson_table(float(mean))
        out: NDArray[np.int64] = first + np.searchsorted(chances, self.uniform(n), side="right")
        return out

    def gaussian(self, n: int) -> NDArray[np.float64]:
        """N independent N(0, 1) values, each from two by Box and Muller."""
        out = np.empty(n)
        for start in range(0, n, _AT_ONCE):
            size = min(_AT_ONCE, n - start)
            total = np.zeros(size)
            for _ in range(2):
                total += np.sqrt(-2 * np.log(self.uniform(size))) * np.sin(2 * math.pi * self.uniform(size))
            out[start : start + size] = total / math.sqrt(2)
        return out


@lru_cache(maxsize=2)
def _poisson_table(mean: float) -> tuple[int, NDArray[np.float64]]:
    """The least number of the table, and the chances of at most that number, at most the next one, and so on, below 1.

    Each term is the one beside it times mean / k, from the mode on: no cancellation, whatever the mean.
    """
    width = _TAILS * math.sqrt(mean) + 50
    mode = math.floor(mean)
    first, last = max(0, math.floor(mean - width)), math.ceil(mean + width)
    above = np.cumprod(mean / np.arange(mode + 1, last + 1, dtype=np.float64))
    below = np.cumprod(np.arange(mode, first, -1, dtype=np.float64) / mean) if mean else np.empty(0)
    terms = np.concatenate((below[::-1], [1.0], above))
    chances = np.cumsum(terms)
    return first, chances[:-1] / chances[-1]
