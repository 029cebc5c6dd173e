"""Reading captions for text encoders that know whole words only: nothing is swapped or left out without being said."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import BackboneError

__all__ = ["TABLE_FILE", "How", "Lexicon", "Reading", "Understood", "explain", "load_table", "read_words"]

#: The table of nearest words, beside the tokenizer that it was made for (`recipes/backbone/words.py`).
TABLE_FILE = "nearest_words.json"
_LIMIT_BYTES = 4 * 2**20

How = Literal["known", "form", "meaning", "spelling", "ignored"]

#: A style word in angle brackets, or letters and digits; an apostrophe inside belongs to the word.
_WORD = re.compile(r"<[a-z0-9_]+>|[^\W_]+(?:['’][^\W_]+)*", re.IGNORECASE)
_SHORTEST_PART = 3  # of a compound: "policecar" is two words, "carafe" is not "car" and "afe"
_SHORTEST_TYPO = 5
_NUMBERS_LISTED = 6
_IRREGULAR = {
    "an": "a",
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "men": "man",
    "mice": "mouse",
    "oxen": "ox",
    "people": "person",
    "teeth": "tooth",
    "women": "woman",
}
_EITHER_WAY = _IRREGULAR | {one: many for many, one in _IRREGULAR.items()}
#: Endings that are exchanged: number, verb forms, British and American spelling. Each works in both directions.
_ENDINGS = (
    ("s", ""),
    ("es", ""),
    ("ies", "y"),
    ("ves", "f"),
    ("ves", "fe"),
    ("ing", ""),
    ("ing", "e"),
    ("ed", ""),
    ("ed", "e"),
    ("ied", "y"),
    ("our", "or"),
    ("oured", "ored"),
    ("re", "er"),
    ("ise", "ize"),
    ("yse", "yze"),
    ("ogue", "og"),
    ("ence", "ense"),
    ("amme", "am"),
)
#: British and American spellings inside a word.
_INSIDE = (
    ("grey", "gray"),
    ("moust", "must"),
    ("aero", "air"),
    ("jewell", "jewel"),
    ("pyj", "paj"),
    ("plough", "plow"),
)


@dataclass(frozen=True)
class Reading:
    """How one word of a caption is read.

    Attributes:
        word: as the caption has it.
        used: what the text encoder reads in its place; empty when the word is ignored.
        how: "known" has a token; "form" is another form of known words (number, tense, British or American spelling, a
            compound); "meaning" is the nearest known word in the table; "spelling" is one slip of the fingers away;
            "ignored" is none of these.
    """

    word: str
    used: tuple[str, ...]
    how: How

    def __str__(self) -> str:
        if self.how == "known":
            return f"“{self.word}” is known"
        if self.how == "ignored":
            return f"“{self.word}” is not known and is ignored"
        return f"“{self.word}” is read as “{' '.join(self.used)}”"


@dataclass(frozen=True)
class Understood:
    """A caption as the text encoder will read it, and how each of its words came about, in order.

    A text encoder that knows parts of words reads every caption as it stands: then there are no readings.
    """

    text: str
    readings: tuple[Reading, ...] = ()

    @property
    def changed(self) -> tuple[Reading, ...]:
        """The words that are read as others or ignored, each once."""
        return tuple(dict.fromkeys(reading for reading in self.readings if reading.how != "known"))


@dataclass(frozen=True)
class Lexicon:
    """What a word-level tokenizer knows: its words, and the table of nearest words beside it (often empty).

    Example:
        >>> Lexicon(frozenset({"red", "cat"}), {"kitty": "cat"}).understand("A red kitty").text
        'red cat'
    """

    vocabulary: frozenset[str] = field(repr=False)
    table: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, tokenizer: Any) -> Lexicon | None:
        """The lexicon of a transformers tokenizer; None when it knows parts of words, and so reads every word.

        Raises:
            BackboneError: the table beside the tokenizer is damaged.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if type(getattr(backend, "model", None)).__name__ != "WordLevel":
            return None
        words = frozenset(tokenizer.get_vocab()).difference(tokenizer.all_special_tokens)
        return cls(words, load_table(Path(tokenizer.name_or_path) / TABLE_FILE))

    def understand(self, caption: str) -> Understood:
        """The caption in known words only, and how each of its words was read."""
        readings = read_words(caption, self.vocabulary, self.table)
        return Understood(" ".join(word for reading in readings for word in reading.used), readings)


def read_words(caption: str, vocabulary: Collection[str], table: Mapping[str, str]) -> tuple[Reading, ...]:
    """How each word of a caption is read, in order.

    Args:
        caption: any text; words are letters and digits, or a style word such as `<noto>`.
        vocabulary: the words that have a token.
        table: from a word to the known word nearest in meaning, or to "" where guessing would mislead. It has a word
            only where the forms of the word fail or mean something else, so it is asked first. Entries that name a word
            outside the vocabulary do not count.

    Example:
        >>> [str(r) for r in read_words("Two kitties, zorblax", {"two", "cat"}, {"kitty": "cat"})]
        ['“two” is known', '“kitties” is read as “cat”', '“zorblax” is not known and is ignored']
    """
    return tuple(_read(found, vocabulary, table) for found in _WORD.findall(caption))


def explain(captions: Iterable[Understood]) -> tuple[str, ...]:
    """Sentences on all words that are read as others, then on those that are ignored; most frequent words first.

    Bare numbers without a token are summed up in one sentence.

    Example:
        >>> explain([Understood("cat", (Reading("kitty", ("cat",), "meaning"), Reading("7", (), "ignored")))])
        ('“kitty” is read as “cat”.', 'The number “7” is ignored.')
    """
    counts: dict[Reading, int] = {}
    for understood in captions:
        for reading in understood.readings:
            if reading.how != "known":
                counts[reading] = counts.get(reading, 0) + 1
    order = sorted(counts, key=lambda r: (-counts[r], r.word))
    numbers = [f"“{r.word}”" for r in order if r.how == "ignored" and r.word.isdigit()]
    lines = [f"{r}." for r in order if r.how != "ignored"]
    lines += [f"{r}." for r in order if r.how == "ignored" and not r.word.isdigit()]
    if len(numbers) == 1:
        lines.append(f"The number {numbers[0]} is ignored.")
    elif numbers:
        more = f" and {len(numbers) - _NUMBERS_LISTED} more" if len(numbers) > _NUMBERS_LISTED else ""
        lines.append(f"The numbers {', '.join(numbers[:_NUMBERS_LISTED])}{more} are ignored.")
    return tuple(lines)


def load_table(path: Path) -> dict[str, str]:
    """Read a table of nearest words; an empty one where there is no such file.

    Raises:
        BackboneError: the file is not a JSON object of words to words, or larger than 4 MiB.
    """
    if not path.is_file():
        return {}
    problem = ""
    if path.stat().st_size > _LIMIT_BYTES:
        problem = f"it holds {path.stat().st_size} bytes"
    else:
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            problem = str(error)
        else:
            if isinstance(table, dict) and all(isinstance(near, str) for near in table.values()):
                return table
            problem = "it is not an object of words to words"
    raise BackboneError(
        f"{path.name} beside the tokenizer cannot be read: {problem}. Make it again with recipes/backbone/words.py, or "
        "remove it: words without a token are then ignored."
    )


def _read(found: str, vocabulary: Collection[str], table: Mapping[str, str]) -> Reading:
    word = found if found in vocabulary else found.lower()
    if word in vocabulary:
        return Reading(word, (word,), "known")
    if word.isdigit() or word.startswith("<"):
        return Reading(word, (), "ignored")
    if (near := table.get(word)) is not None and (not near or near in vocabulary):
        return Reading(word, (near,), "meaning") if near else Reading(word, (), "ignored")
    forms = list(dict.fromkeys(_forms(word)))
    if parts := next(((form,) for form in forms if form in vocabulary), None) or _compound(word, vocabulary):
        return Reading(word, parts, "form")
    if near := next((table[form] for form in forms if table.get(form) in vocabulary), ""):
        return Reading(word, (near,), "meaning")
    if near := _respelled(word, vocabulary):
        return Reading(word, (near,), "spelling")
    return Reading(word, (), "ignored")


def _forms(word: str) -> Iterator[str]:
    """Other forms of a word, nearest first; most of them are no words at all."""
    plain = unicodedata.normalize("NFKD", word)
    plain = "".join(c for c in plain if not unicodedata.combining(c)).replace("’", "'")
    stem = plain.removesuffix("'s")
    yield from (plain, stem, stem.replace("'", ""))
    if stem in _EITHER_WAY:
        yield _EITHER_WAY[stem]
    yield from _endings(stem)
    for one, other in (*_INSIDE, *((b, a) for a, b in _INSIDE)):
        if one in stem:
            yield from (stem.replace(one, other), *_endings(stem.replace(one, other)))


def _endings(stem: str) -> Iterator[str]:
    yield f"{stem}s"  # before others, so that "earring" is "earrings" and not "ear"
    if len(stem) <= _SHORTEST_PART:
        return
    for one, other in _ENDINGS:
        if stem.endswith(one) and not (one == "s" and stem.endswith(("ss", "us", "is"))):
            base = stem[: -len(one)]
            if len(base) + len(other) >= _SHORTEST_PART:
                yield base + other
            if one in ("ing", "ed") and len(base) > _SHORTEST_PART and base[-1] == base[-2]:
                yield base[:-1]  # "swimming", "hugged"
    for other, one in _ENDINGS:
        if one and stem.endswith(one):
            yield stem[: -len(one)] + other
    yield from (stem + ending for ending in ("es", "ing", "ed"))
    yield from (f"{stem}{stem[-1]}{ending}" for ending in ("ing", "ed"))


def _compound(word: str, vocabulary: Collection[str]) -> tuple[str, str] | None:
    """Two known words written as one, the longer first part preferred; the second may be a plural."""
    for cut in range(len(word) - _SHORTEST_PART, _SHORTEST_PART - 1, -1):
        first, second = word[:cut], word[cut:]
        if first in vocabulary:
            if second in vocabulary:
                return first, second
            if len(second) > _SHORTEST_PART and second.endswith("s") and second[:-1] in vocabulary:
                return first, second[:-1]
    return None


def _respelled(word: str, vocabulary: Collection[str]) -> str:
    """The known word that one slip (two letters swapped, one too many, one missing, one wrong) turned into this one.

    The first letter is taken to be right. Of several, in this order of slips, the first in the alphabet.
    """
    if len(word) < _SHORTEST_TYPO:
        return ""
    cuts = range(1, len(word) + 1)
    slips: Sequence[Iterable[str]] = (
        (word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in cuts[:-2]),
        (word[:i] + word[i + 1 :] for i in cuts[:-1]),
        (word[:i] + letter + word[i:] for i in cuts for letter in string.ascii_lowercase),
        (word[:i] + letter + word[i + 1 :] for i in cuts[:-1] for letter in string.ascii_lowercase),
    )
    for slip in slips:
        if near := sorted(candidate for candidate in slip if len(candidate) > 3 and candidate in vocabulary):
            return near[0]
    return ""
