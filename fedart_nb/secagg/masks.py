"""Masks: 256-bit keys expanded by AES-256 in counter mode to uniform uint32 words, added in place, block by block."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedart_nb.errors import SecAggError

__all__ = ["Expander", "Words", "expand"]

Words = NDArray[np.uint32]

_BLOCK_BYTES = 2**18  # block and mask stay in the second-level cache; larger ones are slower


class Expander:
    """Adds or subtracts masks, modulo 2^32. Holds two blocks of memory, whatever the vector's length."""

    def __init__(self) -> None:
        self._zeros = bytes(_BLOCK_BYTES)
        self._out = bytearray(_BLOCK_BYTES + 15)  # the cipher asks for room for one more block
        self._words = np.frombuffer(self._out, "<u4", _BLOCK_BYTES // 4)

    def add(self, words: Words, key: bytes, *, sign: int = 1) -> None:
        """Add sign * PRG(key) to `words` modulo 2^32, in place; a key serves one mask only.

        Args:
            words: uint32 (d,), contiguous.
            key: 32 bytes.
            sign: 1 or -1.
        """
        if len(key) != 32:
            raise SecAggError(f"A mask key of {len(key)} bytes; expected 32.")
        if words.dtype != np.uint32 or words.ndim != 1:
            raise SecAggError(f"Masks are added to uint32 (d,); got {words.dtype} {words.shape}.")
        apply = np.add if sign > 0 else np.subtract
        stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
        step = _BLOCK_BYTES // 4
        for start in range(0, len(words), step):
            part = words[start : start + step]
            size = 4 * len(part)
            stream.update_into(self._zeros if size == _BLOCK_BYTES else self._zeros[:size], self._out)
            apply(part, self._words[: len(part)], out=part)


def expand(key: bytes, size: int) -> Words:
    """PRG(key): `size` uniform uint32 words.

    >>> expand(bytes(32), 2).tolist()  # AES-256 of a zero block under a zero key: dc95c078 a2408989 ... (FIPS 197)
    [2025887196, 2307473570]
    """
    words = np.zeros(size, np.uint32)
    Expander().add(words, key)
    return words
