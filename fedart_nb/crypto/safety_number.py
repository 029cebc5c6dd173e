"""The safety number: the room's identities as six words and a small picture that two people compare aloud.

It says: we hold the same host's key and the same artists' keys for the same room, in the list that both of us see now.
A relay or host that shows two people different lists gives them different words. It does not say that every id is a
person (count yourselves), nor anything about the list of a later round: what was compared is kept as ids
(`rounds.roster.Pins`), and another list is asked about.

Six words are 66 bits, and who invents keys for both views may try until two of them agree: about 2^33 tries (a
birthday) for each, of 32 MiB and a tenth of a second (scrypt): some fifty years of one core, some weeks of a thousand.
It can be done beforehand: identities are long-lived, and a host picks the room's name and the keys that it invents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape

from mnemonic import Mnemonic

from fedart_nb.errors import SecAggError

__all__ = ["SafetyNumber"]

_WORDS, _WORD_BITS = 6, 11
_SIDE = 7  # cells of the picture, mirrored left to right
_LABEL = b"fedart-safety-number-v2\n"
_SCRYPT_N = 2**15


@cache
def _word_list() -> tuple[str, ...]:
    return tuple(Mnemonic("english").wordlist)  # BIP-39: 2,048 words that differ in their first four letters


@lru_cache(maxsize=64)
def _slow_hash(said: str) -> bytes:
    return hashlib.scrypt(said.encode(), salt=_LABEL, n=_SCRYPT_N, r=8, p=1, maxmem=2**26, dklen=32)


@dataclass(frozen=True)
class SafetyNumber:
    """The safety number of a room and the people in it; equal for equal keys, whatever the order.

    >>> one = SafetyNumber.of("studio", "a" * 32, ["b" * 32, "c" * 32])
    >>> one == SafetyNumber.of("studio", "a" * 32, ["c" * 32, "b" * 32])
    True
    >>> str(one)
    'fitness lend yellow wrap abuse ripple'
    """

    digest: bytes
    artists: int

    @classmethod
    def of(cls, room: str, host_id: str, artist_ids: Iterable[str]) -> SafetyNumber:
        """From the room's name, the host's id (from the invite) and the ids in the signed roster."""
        ids = sorted(set(artist_ids))
        if not ids:
            raise SecAggError("A safety number needs at least one artist's id.")
        return cls(_slow_hash("\n".join([room, host_id, *ids])), len(ids))

    @property
    def words(self) -> tuple[str, ...]:
        """Six words, 66 bits."""
        value = int.from_bytes(self.digest, "big") >> (256 - _WORDS * _WORD_BITS)
        places = [value >> (_WORD_BITS * i) & (2**_WORD_BITS - 1) for i in reversed(range(_WORDS))]
        return tuple(_word_list()[place] for place in places)

    def __str__(self) -> str:
        return " ".join(self.words)

    def svg(self, size_px: int = 84) -> str:
        """The picture: a mirrored pattern from the same hash, for a glance; the words decide."""
        bits = int.from_bytes(self.digest[-8:], "big")
        half = (_SIDE + 1) // 2
        cells = []
        for row in range(_SIDE):
            for column in range(half):
                if bits >> (row * half + column) & 1:
                    mirrored = {column, _SIDE - 1 - column}
                    cells += [f'<rect x="{x}" y="{row}" width="1.03" height="1.03"/>' for x in sorted(mirrored)]
        alt = escape(f"Pattern of the safety number {self}")
        return (
            f'<svg role="img" aria-label="{alt}" viewBox="-0.5 -0.5 {_SIDE + 1} {_SIDE + 1}" width="{size_px}" '
            f'height="{size_px}" fill="currentColor"><title>{alt}</title>{"".join(cells)}</svg>'
        )
