"""A PNG file without the parts that are not the picture: texts of any length are dropped before anything reads them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

__all__ = ["PROFILE_LIMIT_BYTES", "StrippedPng", "strip_png"]

PROFILE_LIMIT_BYTES = 8 * 2**20

_PICTURE = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_HELPFUL = frozenset({b"tRNS", b"eXIf", b"gAMA", b"cHRM", b"sRGB"})  # transparency, orientation, colours


@dataclass(frozen=True, slots=True)
class StrippedPng:
    """`data` is a PNG of the same picture; `frames` counts an animation's pictures (1: it is none)."""

    data: bytes = field(repr=False)
    profile: bytes | None = field(default=None, repr=False)
    frames: int = 1
    profile_dropped: bool = False


def strip_png(data: bytes) -> StrippedPng:
    """Keep the chunks that make the picture; a colour profile is unpacked to at most `PROFILE_LIMIT_BYTES`.

    Damaged chunks of the picture itself stay as they are, so that the decoder says what is wrong.
    """
    view, position = memoryview(data), 8
    kept: list[memoryview | bytes] = [view[:8]]
    profile, frames, dropped = None, 1, False
    while position + 12 <= len(data):
        length = int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        end = position + 12 + length
        body = view[position + 8 : end - 4]
        if kind in _PICTURE:
            kept.append(view[position:end])
        elif end <= len(data) and zlib.crc32(view[position + 4 : end - 4]) == int.from_bytes(
            view[end - 4 : end], "big"
        ):
            if kind in _HELPFUL:
                kept.append(view[position:end])
            elif kind == b"acTL" and length == 8:
                frames = int.from_bytes(body[:4], "big")
            elif kind == b"iCCP" and profile is None:
                profile, dropped = _profile(bytes(body))
        position = end
        if kind == b"IEND":
            break
    return StrippedPng(b"".join(kept), profile, frames, dropped)


def _profile(body: bytes) -> tuple[bytes | None, bool]:
    """The unpacked colour profile, or None; and whether one was left out for its size."""
    _name, _, packed = body.partition(b"\0")
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], PROFILE_LIMIT_BYTES)
    except zlib.error:
        return None, True
    return (None, True) if unpacker.unconsumed_tail else (profile, False)
