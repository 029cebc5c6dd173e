"""Masks: 256-bit keys expanded by AES-256 in counter mode to uniform uint32 words, added in place, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from fedart_nb.errors import SecAggError

__all__ = ["Expander", "Words", "expand"]

Words = NDArray[np.uint32]

_BLOCK_BYTES = 2**17  # block, mask and zeros stay in the second-level cache; larger ones are slower
_AT_ONCE = 64


class Expander:
    """Adds and subtracts masks, modulo 2^32. Holds three blocks of memory, whatever the vector's length."""

    def __init__(self) -> None:
        self._zeros = bytes(_BLOCK_BYTES)
        self._out = bytearray(_BLOCK_BYTES + 15)  # the cipher asks for room for one more block
        self._mask = np.frombuffer(self._out, "<u4", _BLOCK_BYTES // 4)
        self._block = np.empty(_BLOCK_BYTES // 4, np.uint32)

    def add(self, words: Words, key: bytes, *, sign: int = 1) -> None:
        """Add sign * PRG(key) to `words` modulo 2^32, in place; a key serves one mask only.

        Args:
            words: uint32 (d,).
            key: 32 bytes.
            sign: 1 or -1.
        """
        self.add_all(words, [(key, sign)])

    def add_all(self, words: Words, masks: Iterable[tuple[bytes, int]]) -> None:
        """`add` for many (key, sign), `_AT_ONCE` of them in one pass over the blocks of `words`."""
        if words.dtype != np.uint32 or words.ndim != 1:
            raise SecAggError(f"Masks are added to uint32 (d,); got {words.dtype} {words.shape}.")
        left = iter(masks)
        while streams := [(_stream(key), np.add if sign > 0 else np.subtract) for key, sign in islice(left, _AT_ONCE)]:
            self._pass_over(words, streams)

    def _pass_over(self, words: Words, streams: Sequence[tuple[CipherContext, np.ufunc]]) -> None:
        step = _BLOCK_BYTES // 4
        for start in range(0, len(words), step):
            part = words[start : start + step]
            block, mask, zeros = self._block[: len(part)], self._mask[: len(part)], self._zeros
            if len(part) < step:
                zeros = zeros[: 4 * len(part)]
            block[:] = part
            for stream, apply in streams:
                stream.update_into(zeros, self._out)
                apply(block, mask, out=block)
            part[:] = block


def _stream(key: bytes) -> CipherContext:
    if len(key) != 32:
        raise SecAggError(f"A mask key of {len(key)} bytes; expected 32.")
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


def expand(key: bytes, size: int) -> Words:
    """PRG(key): `size` uniform uint32 words.

    >>> expand(bytes(32), 2).tolist()  # AES-256 of a zero block under a zero key: dc95c078 a2408989 ... (FIPS 197)
    [2025887196, 2307473570]
    """
    words = np.zeros(size, np.uint32)
    Expander().add(words, key)
    return words
