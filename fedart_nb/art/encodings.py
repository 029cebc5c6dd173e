"""Bytes of a caption file become text: UTF-8 and UTF-16 for certain, older encodings as a guess that is told."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charset_normalizer import from_bytes

from fedart_nb.art.oddness import oddness

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Reading", "certain", "guess", "is_binary", "read_lines", "told", "twice_encoded", "votes"]

_SAMPLE_BYTES = 4096  # how much of a text is looked at to guess its encoding
_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
#: What people's computers write, the likelier first where nothing else decides: encoding -> its name for people.
_NAMES = {
    "cp1252": "Windows-1252 (Western Europe)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp932": "Shift-JIS (Japanese)",
    "gb18030": "GBK (Chinese)",
    "cp949": "EUC-KR (Korean)",
    "big5": "Big5 (Chinese)",
    "cp1250": "Windows-1250 (Central Europe)",
    "mac_roman": "Mac Roman",
    "euc_jp": "EUC-JP (Japanese)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1255": "Windows-1255 (Hebrew)",
    "cp1256": "Windows-1256 (Arabic)",
    "cp1257": "Windows-1257 (Baltic)",
    "koi8_r": "KOI8-R (Cyrillic)",
    "iso8859_15": "ISO 8859-15 (Western Europe)",
    "iso8859_2": "ISO 8859-2 (Central Europe)",
    "cp850": "DOS code page 850",
    "cp866": "DOS code page 866 (Cyrillic)",
    "utf_16_le": "UTF-16",
    "utf_16_be": "UTF-16",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """A text and how it was read; `encoding` is a name for people, None where there was nothing to guess.

    `others` are what the same bytes would be in other encodings, so that a wrong guess can be recognised.
    """

    text: str
    encoding: str | None = None
    others: tuple[tuple[str, str], ...] = ()


def is_binary(data: bytes) -> bool:
    """Whether bytes cannot be a text in any encoding: many control characters, and not as UTF-16 has them."""
    head = data[:_SAMPLE_BYTES]
    controls = sum(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in head)
    return controls * 8 > len(head) and certain(data) is None


def certain(data: bytes) -> str | None:
    """The text where its encoding is beyond doubt: marked, valid UTF-8, or UTF-16 by its zeros; else None."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    if b"\x1b$" in data:  # Japanese mail; ASCII otherwise
        try:
            return data.decode("iso2022_jp")
        except UnicodeDecodeError:
            return None
    wide = _unmarked_utf16(data)
    if wide is not None:
        return wide
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _unmarked_utf16(data: bytes) -> str | None:
    """UTF-16 without its mark: every second byte is mostly 0 (Latin), or a control character (Cyrillic, Greek)."""
    head = data[:_SAMPLE_BYTES]
    if len(data) < 4 or len(data) % 2:
        return None
    for encoding, high in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        if sum(byte < 9 for byte in high) * 10 >= 7 * len(high):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if sum(c.isalnum() or c.isspace() or c.isprintable() for c in text[:2000]) >= 0.95 * len(text[:2000]):
                return text
    return None


def guess(data: bytes, *, likely: Counter[str] | None = None) -> Reading:
    """The likeliest text of bytes in an older encoding; `likely` counts what other files of the same folder seem to be.

    >>> guess("röter Fuchs".encode("cp1252")).text
    'röter Fuchs'
    """
    readings = _readings(data)
    if not readings:
        return Reading(data.decode("utf-8", errors="replace"), "UTF-8 with damaged letters")
    seen, order = likely or Counter(), list(_NAMES)
    ranked = sorted(readings, key=lambda r: (round(r[1], 1), -seen[r[0]], round(r[1], 2), order.index(r[0])))
    text = ranked[0][2]
    encoding = next(one for one in order if any(one == r[0] and text == r[2] for r in readings))
    others: dict[str, str] = {}
    for other, strange, alternative in ranked[1:]:
        if alternative != text and alternative not in others.values() and strange <= ranked[0][1] + 1.0:
            others[_NAMES[other]] = alternative
    return Reading(text, _NAMES[encoding], tuple(others.items())[:2])


def votes(texts: Iterable[bytes]) -> Counter[str]:
    """How well each encoding suits all of these texts together: what one short caption cannot tell, many can."""
    tally: Counter[str] = Counter()
    for data in texts:
        readings = _readings(data)
        if readings:
            best = min(strange for _, strange, _ in readings)
            tally.update(encoding for encoding, strange, _ in readings if strange <= best + 0.1)
    return tally


def read_lines(data: bytes) -> tuple[str, dict[int, Reading]]:
    """A table's text, and the lines (counted from 1) whose encoding had to be guessed."""
    text = certain(data)
    if text is not None:
        return text, {}
    lines = re.split(rb"\r\n|\n|\r", data)
    doubtful = {}
    plain: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            plain[number] = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            doubtful[number] = line
    sample = list(doubtful.values())[:: max(1, len(doubtful) // 200)]
    likely = votes(sample)
    whole = guess(b"\n".join(sample)[:_SAMPLE_BYTES], likely=likely)
    readings = {}
    for number, line in doubtful.items():
        encoding = next((key for key, name in _NAMES.items() if name == whole.encoding), None)
        reading = _as(line, encoding) if encoding and len(doubtful) > 200 else None
        readings[number] = reading or guess(line, likely=likely)
    return "\n".join(
        plain.get(n) or (readings[n].text if n in readings else "") for n in range(1, len(lines) + 1)
    ), readings


def _as(data: bytes, encoding: str) -> Reading | None:
    try:
        return Reading(data.decode(encoding), _NAMES[encoding])
    except UnicodeDecodeError:
        return None


def _readings(data: bytes) -> list[tuple[str, float, str]]:
    """(encoding, how odd the text is, text) of every encoding in which the bytes are one."""
    matches = from_bytes(data[:_SAMPLE_BYTES], cp_isolation=list(_NAMES))
    language = {match.encoding: match.chaos - match.coherence for match in matches}
    readings = []
    for encoding in _NAMES:
        if encoding.startswith("utf_16") and encoding not in language:
            continue
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        readings.append((encoding, oddness(text[:2000], encoding) + 0.2 * language.get(encoding, 0.5), text))
    return readings


def twice_encoded(text: str) -> str | None:
    """What was meant by a text that was saved as UTF-8, read as Windows-1252, and saved again; None for others.

    >>> twice_encoded("rÃ¶ter Fuchs"), twice_encoded("röter Fuchs")
    ('röter Fuchs', None)
    """
    try:
        meant = text.encode("cp1252").decode("utf-8")
    except UnicodeError:
        return None
    return meant if meant != text else None


def told(reading: Reading, limit: int = 60) -> tuple[str, str]:
    """What to tell of a guessed reading: what was found, and what to do."""
    shown = " ".join(reading.text.split())[:limit]
    other = "; ".join(f"in {name} it would be “{' '.join(text.split())[:limit]}”" for name, text in reading.others)
    reason = f"not UTF-8; read as {reading.encoding}: “{shown}”"
    return (f"{reason} ({other})" if other else reason), "If that is wrong, save the file again as UTF-8"
