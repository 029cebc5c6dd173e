"""Bytes of a caption file become text: UTF-8 and UTF-16 for certain, older encodings as a guess that is told."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from charset_normalizer import from_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Reading", "certain", "guess", "is_binary", "read_lines", "told", "votes"]

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
_LEVEL_ONE = {  # the first byte of the common characters in each encoding for East Asia
    "cp932": ("euc_jp", range(0xB0, 0xD0)),
    "euc_jp": ("euc_jp", range(0xB0, 0xD0)),
    "gb18030": ("gb2312", range(0xB0, 0xD8)),
    "big5": ("big5", range(0xA4, 0xC7)),
    "cp949": ("euc_kr", range(0xB0, 0xC9)),
}
_WESTERN = frozenset("äöüßéèêëàâáãåæçñóôòõøúùûíìîïÄÖÜÉÈÊËÀÂÁÃÅÆÇÑÓÔÒÕØÚÙÛÍÌÎÏ")
_LETTERS = {  # the letters beyond ASCII that an encoding was made for
    "cp1250": frozenset("ěščřžýáíéúůňťďąćęłńóśźżőűľĺŕôäöüßăâîşţĚŠČŘŽÝÁÍÉÚŮŇŤĎĄĆĘŁŃÓŚŹŻŐŰĽĹŔÔÄÖÜĂÂÎŞŢ"),
    "cp1254": frozenset("ıİşŞğĞçÇöÖüÜâîû"),
    "cp1257": frozenset("āčēģīķļņšūžąęėįųõäöüĀČĒĢĪĶĻŅŠŪŽĄĘĖĮŲÕÄÖÜ"),
}
_LETTERS["iso8859_2"] = _LETTERS["cp1250"]
_FREQUENT = {  # by script: the letters that most of a text is made of
    "CYRILLIC": frozenset("оеаинтсрвлкмдпуяызбьгі"),
    "GREEK": frozenset("αοιετσνηυρπκμλςωάέήίόύώγδ"),
    "HEBREW": frozenset("אבגדהוזחטיכלמנסעפצקרשתםןךףץ"),
    "ARABIC": frozenset("اليمونرتبةعدسفهكقحجأخشصطض"),
}
_SIGNS = frozenset("«»¿¡“”„‘’–—…·€°×½¼¾£§©®²³ªº¹´•™")
_INSIDE_WORDS = frozenset("’‘·—")
_RARITY = {"mac_roman": 0.05, "koi8_r": 0.05, "iso8859_15": 0.02, "iso8859_2": 0.05, "cp850": 0.1, "cp866": 0.1}


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
    encoding, _, text = ranked[0]
    others: dict[str, str] = {}
    for other, oddness, alternative in ranked[1:]:
        if alternative != text and alternative not in others.values() and oddness <= ranked[0][1] + 1.0:
            others[_NAMES[other]] = alternative
    return Reading(text, _NAMES[encoding], tuple(others.items())[:2])


def votes(texts: Iterable[bytes]) -> Counter[str]:
    """How well each encoding suits all of these texts together: what one short caption cannot tell, many can."""
    tally: Counter[str] = Counter()
    for data in texts:
        readings = _readings(data)
        if readings:
            best = min(oddness for _, oddness, _ in readings)
            tally.update(encoding for encoding, oddness, _ in readings if oddness <= best + 0.1)
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
        readings.append((encoding, _oddness(text[:2000], encoding) + 0.2 * language.get(encoding, 0.5), text))
    return readings


def _oddness(text: str, encoding: str) -> float:
    """How unlike a person's text this is, for each letter that is not ASCII: 0 is fine, 1 and more is garbled."""
    strange, foreign = 0.0, 0
    words = text.split()
    if encoding in {"gb18030", "big5", "cp932", "euc_jp"} and sum(_script(word[0]) == "CJK" for word in words) > 1:
        strange += 0.5 * sum(ord(c) > 127 for c in text)  # Chinese and Japanese are written without spaces
    for word in words:
        scripts = {_script(c) for c in word if c.isalpha()}
        foreign += sum(ord(c) > 127 for c in word)
        strange += 4.0 * (len(scripts - {"CJK", "HIRAGANA", "KATAKANA", "HANGUL"}) > 1)
        strange += sum(_strangeness(c, before, after, encoding) for c, before, after in _neighbours(word))
    return _RARITY.get(encoding, 0.0) + strange / max(1, foreign)


def _neighbours(word: str) -> Iterable[tuple[str, str, str]]:
    padded = f" {word} "
    return ((c, padded[i], padded[i + 2]) for i, c in enumerate(word) if ord(c) > 127)


def _strangeness(c: str, before: str, after: str, encoding: str) -> float:
    category, script = unicodedata.category(c), _script(c)
    if category[0] == "C" or c == "\ufffd" or "\u2500" <= c <= "\u259f" or "\uff61" <= c <= "\uff9f":
        return 4.0  # no letter, box drawing, half-width katakana
    if encoding in _LEVEL_ONE or encoding.startswith("utf_16"):
        squeezed = before.isascii() and before.isalpha() and after.isascii() and after.isalpha()
        return _rareness(c, encoding) + 2.0 * squeezed
    if category[0] != "L":
        if c in _INSIDE_WORDS:
            return 0.0
        if before.isalpha() and (after.isalpha() or c not in "”’»“…"):
            return 2.0
        if after.isalpha() and c not in "“„«‘–”»¿¡":
            return 2.0
        return 0.0 if c in _SIGNS else 0.5
    if c.isupper() and (before.islower() or (before.isupper() and after.islower())):
        return 2.0
    if script in _FREQUENT:
        shouted = 0.2 if c.isupper() and before.isalpha() else 0.0
        return shouted + (0.0 if c.lower() in _FREQUENT[script] else 0.3)
    crowded = 0.3 if before.isalpha() and not before.isascii() else 0.0
    if encoding in _LETTERS:
        return crowded + (0.1 if c in _LETTERS[encoding] else 0.5)
    return crowded + (0.0 if c in _WESTERN else 0.4)


def _rareness(c: str, encoding: str) -> float:
    if "\u3040" <= c <= "\u30ff":
        return 0.0 if encoding in {"cp932", "euc_jp"} else 0.3
    if "\u3000" <= c <= "\u303f" or "\uff00" <= c <= "\uff60":
        return 0.1  # punctuation and full-width letters
    if encoding not in _LEVEL_ONE:  # UTF-16 without its mark is rare: only where all else is odder
        return 0.3 + min(_rareness(c, other) for other in _LEVEL_ONE)
    standard, common = _LEVEL_ONE[encoding]
    try:
        return 0.2 if c.encode(standard)[0] in common else 1.0
    except UnicodeEncodeError:
        return 1.5


def _script(c: str) -> str:
    return unicodedata.name(c, "?").split(" ", 1)[0]


def told(reading: Reading, limit: int = 60) -> tuple[str, str]:
    """What to tell of a guessed reading: what was found, and what to do."""
    shown = " ".join(reading.text.split())[:limit]
    other = "; ".join(f"in {name} it would be “{' '.join(text.split())[:limit]}”" for name, text in reading.others)
    reason = f"not UTF-8; read as {reading.encoding}: “{shown}”"
    return (f"{reason} ({other})" if other else reason), "If that is wrong, save the file again as UTF-8"
