"""How unlike a person's writing a text is: what tells the right encoding from those that give garbled letters."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["oddness"]

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


def oddness(text: str, encoding: str) -> float:
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


def _neighbours(word: str) -> Iterator[tuple[str, str, str]]:
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
