"""The first pool: which pictures are trained on, which are held out, and the words of their captions."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

#: Left out: the same designer drew one of the ten artists (lorelei), so the backbone must not know the hand.
EXCLUDED_SOURCES = frozenset({"dicebear_adventurer"})
#: Mirroring these would make the caption wrong.
UNFLIPPABLE = frozenset(
    [
        "left",
        "right",
        "east",
        "west",
        "arrow",
        "clockwise",
        "counterclockwise",
        "button",
        "symbol",
        "sign",
        "letter",
        "text",
        "clock",
        "new",
        "top",
        "soon",
        "back",
        "end",
        "on",
        "ok",
        "id",
        "sos",
        "free",
        "cool",
        "up",
        "vs",
        "zzz",
        "abc",
        "number",
        "input",
        "keyboard",
        "calendar",
        "reverse",
        "mail",
    ]
)
_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Record:
    """One picture of the pool: path, caption, source (the style word), origin (package, author), licence and part."""

    path: Path
    caption: str
    source: str
    origin: str
    licence: str
    part: str

    @property
    def words(self) -> list[str]:
        return words_of(self.caption)

    @property
    def flippable(self) -> bool:
        return not UNFLIPPABLE.intersection(self.words)


def words_of(caption: str) -> list[str]:
    """Lower-case words of a caption, punctuation dropped."""
    return _WORD.findall(caption.lower())


def _digest(text: str) -> int:
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16)


def curation() -> dict[str, str]:
    """What was decided by looking at every sheet (`curation_*.csv`): file to better caption, empty where dropped."""
    decided = {}
    for path in sorted(Path(__file__).parent.glob("curation_*.csv")):
        with path.open(newline="", encoding="utf-8") as handle:
            for row in csv.DictReader(handle):
                decided[row["file"]] = row["caption"] if row["action"] == "caption" else ""
    return decided


def read_pool(folder: Path) -> list[Record]:
    """Read `metadata.csv` and split it by a hash, so that every run on the same pool holds out the same pictures.

    - `captions`: whole caption strings never trained on, in any style, though each of their words is (12 % of the
      captions whose words all occur in at least three other captions);
    - `pictures`: single pictures never trained on, though their caption may be, in another style (3 %);
    - `train`: the rest.
    """
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["artist"] not in EXCLUDED_SOURCES]
    curated = curation()
    unknown = curated.keys() - {row["file"] for row in rows}
    if unknown:
        raise ValueError(f"{len(unknown)} curated files are not in {folder}, such as {min(unknown)!r}")
    rows = [row | {"caption": curated.get(row["file"], row["caption"])} for row in rows]
    rows = [row for row in rows if row["caption"]]
    captions_by_word: dict[str, set[str]] = {}
    for row in rows:
        for word in words_of(row["caption"]):
            captions_by_word.setdefault(word, set()).add(row["caption"].lower())
    records = []
    for row in rows:
        caption = row["caption"].lower()
        words = words_of(caption)
        if not words:
            continue
        composed = len(words) > 1 and all(len(captions_by_word[word]) > 3 for word in words)
        if composed and _digest("caption:" + caption) % 100 < 12:
            part = "captions"
        elif _digest("picture:" + row["file"]) % 100 < 3:
            part = "pictures"
        else:
            part = "train"
        records.append(Record(folder / row["file"], caption, row["artist"], row["source"], row["licence"], part))
    return records


class HasPath(Protocol):
    """A record of either pool."""

    @property
    def path(self) -> Path: ...


def pixels(records: Sequence[HasPath]) -> np.ndarray:
    """Pictures as uint8, shape (n, 128, 128, 3)."""
    out = np.empty((len(records), 128, 128, 3), np.uint8)
    for index, record in enumerate(records):
        with Image.open(record.path) as image:
            out[index] = np.asarray(image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS))
    return out
