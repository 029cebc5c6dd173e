"""Caption texts as people write them become one clean line; what had to be taken out or cut is told."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

__all__ = [
    "CAPTION_LIMIT",
    "CaptionFrom",
    "Record",
    "Tidied",
    "caption_from_name",
    "cleaned",
    "says_nothing",
    "tidied",
]

CAPTION_LIMIT = 500  # characters; text encoders read the first 77 tokens at most

CaptionFrom = Literal["table", "text file", "folder name", "file name"]

_JOINERS = frozenset("\u200c\u200d")  # invisible, but they spell words and emoji
_QUIET = frozenset("\ufeff\u00ad\u200b\u2060")  # invisible marks of editors and web pages that carry no meaning
#: Names that cameras, phones and programs give: they say nothing of what is on the picture.
_MACHINE_NAME = re.compile(
    r"(?:(?:img|image|dsc[fn]?|dscn|pict|p|pxl|mvimg|scan|photo|foto|bild|capture|screenshot|whatsapp image|wa|vid|sam|"
    r"gopr|dji|untitled|unbenannt|unknown|download|file|page)[\W_]*)?[\d\W_]*\d[\d\W_]*(?:at|wa|edited|copy|kopie)?[\d\W_]*",
    re.IGNORECASE,
)
_HASH_NAME = re.compile(r"(?=.*\d)[0-9a-f]{12,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a table; None (or no tags) where the table says nothing. `caption` is as written, not yet cleaned."""

    caption: str | None = None
    split: Literal["train", "test"] | None = None
    licence: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tidied:
    """One line of text, and what was done to it: characters cut off, characters taken out, lines joined."""

    text: str
    shortened: bool = False
    removed: int = 0
    lines: int = 1


def tidied(text: str, *, limit: int = CAPTION_LIMIT) -> Tidied:
    r"""One line without control characters, at most `limit` characters.

    >>> tidied("a\x00 cat\n on a mat")
    Tidied(text='a cat on a mat', shortened=False, removed=1, lines=2)
    """
    cut = text[: 20 * limit]  # a hostile text is not normalised at full length
    kept, removed = [], 0
    for character in unicodedata.normalize("NFC", cut):
        category = unicodedata.category(character)
        if category.startswith("Z") or character in "\t\n\v\f\r\x85":
            kept.append(" ")
        elif not category.startswith("C") or character in _JOINERS:
            kept.append(character)
        elif character not in _QUIET:
            removed += 1
    line = " ".join("".join(kept).split())
    lines = sum(bool(part.strip()) for part in cut.splitlines())
    return Tidied(line[:limit].rstrip(), len(line) > limit or len(cut) < len(text), removed, lines)


def cleaned(text: str, *, limit: int = CAPTION_LIMIT) -> tuple[str, bool]:
    r"""The text of `tidied`, and whether it was shortened.

    >>> cleaned("a\x00 cat\n on a mat")
    ('a cat on a mat', False)
    """
    done = tidied(text, limit=limit)
    return done.text, done.shortened


def caption_from_name(name: str) -> str:
    """`art/maple-leaf_two.png` -> "maple leaf two"."""
    return " ".join(re.split(r"[\s_\-]+", PurePosixPath(name).stem)).strip()


def says_nothing(name: str) -> bool:
    """Whether a file's name was given by a camera or a program: `IMG_2041.jpg`, `00012.png`.

    >>> says_nothing("IMG_2041.jpg"), says_nothing("red-fox.png")
    (True, False)
    """
    stem = PurePosixPath(name).stem
    return bool(_MACHINE_NAME.fullmatch(stem) or _HASH_NAME.fullmatch(stem))
