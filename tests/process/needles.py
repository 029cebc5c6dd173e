"""Search many bytes for any window of many others, at every offset."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

__all__ = ["WINDOW_BYTES", "matches", "windows"]

WINDOW_BYTES = 64


def windows(data: bytes) -> set[bytes]:
    """The windows of 64 bytes that follow one another in `data`, less those of four values or fewer.

    Those say nothing: the zeros of an untrained adapter look like the black border of a picture. Whoever holds 127
    bytes of `data` in a row holds one window whole.
    """
    cuts = (data[i : i + WINDOW_BYTES] for i in range(0, len(data) - WINDOW_BYTES + 1, WINDOW_BYTES))
    return {cut for cut in cuts if len(set(cut)) > 4}


def matches(needles: Iterable[bytes], haystack: bytes) -> set[bytes]:
    """Those of `needles` (64 bytes each) that lie in `haystack`, wherever they begin."""
    wanted = set(needles)
    begins = np.zeros(2**24, bool)  # the first three bytes rule out almost every place
    begins[[int.from_bytes(needle[:3], "little") for needle in wanted]] = True
    found: set[bytes] = set()
    step = 2**22
    for start in range(0, max(1, len(haystack) - WINDOW_BYTES + 1), step):
        part = np.frombuffer(haystack[start : start + step + 2], np.uint8).astype(np.uint32)
        places = np.flatnonzero(begins[part[:-2] | part[1:-1] << 8 | part[2:] << 16])
        cuts = (haystack[start + place : start + place + WINDOW_BYTES] for place in places.tolist())
        found |= wanted.intersection(cuts)
    return found
