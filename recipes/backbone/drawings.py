"""The dense pool: drawings of both pools under canonical captions, with their look, and how often each is trained on.

A drawing of a listed concept is captioned by the concept's one name ("puppy" is "dog"); what a caption says besides
stays ("red apple" is trained on as "red apple" and as "apple"). Concepts with fewer than `LEAST` drawings are dropped.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pool
from PIL import Image

#: A concept is trained on from this many training drawings on.
LEAST = 4
#: Percent of the second pool that nothing is trained on, and of both pools that the judge alone is not trained on.
HELD_OUT, TEST = 3, 12
#: Left out with `pool.EXCLUDED_SOURCES`: their studio also drew a sample artist (freehand).
STUDIO_SOURCES = frozenset({"streamline_emojis", "streamline_ultimate_color"})
LOOKS = ("colour", "line", "solid", "duotone")
COLOURS = {
    "red": (214, 40, 40),
    "orange": (240, 130, 20),
    "yellow": (240, 200, 20),
    "green": (40, 150, 60),
    "blue": (40, 100, 210),
    "purple": (130, 60, 180),
    "pink": (240, 110, 170),
    "brown": (120, 72, 40),
    "gray": (128, 128, 128),
}
_ATTRIBUTES = frozenset([*COLOURS, "grey", "black", "white", "gold", "golden", "silver", "wooden"])
_PORTRAIT = "portrait of a person"
#: How much of the training each look gets, and portraits, whatever its number of drawings.
LOOK_SHARE = {"colour": 0.46, "line": 0.20, "solid": 0.16, "duotone": 0.13, "portrait": 0.05}
_CORE, _EVERYDAY, _OTHER = 6.0, 2.0, 1.0


@dataclass(frozen=True)
class Drawing:
    """One picture: what it shows (`concept`), all that its caption says, its look, source, licence and part.

    `held_out`: nothing is trained on it. `test`: the judge is not trained on it either (a larger part).
    """

    path: Path
    concept: str
    caption: str
    look: str
    source: str
    origin: str
    licence: str
    held_out: bool
    test: bool

    @property
    def style(self) -> str:
        """The word that asks for this look: its source's where it is in colour, else the look's: `<noto>`, `<line>`."""
        return f"<{self.source}>" if self.look in ("colour", "portrait") else f"<{self.look}>"

    @property
    def flippable(self) -> bool:
        return not pool.UNFLIPPABLE.intersection(pool.words_of(self.caption))


@dataclass(frozen=True)
class Concept:
    """A row of `everyday.csv`: an everyday thing, whether it is a core one, and other names of it."""

    name: str
    core: bool
    category: str
    synonyms: tuple[str, ...]


def everyday() -> dict[str, Concept]:
    """The listed everyday things by name, in the file's order."""
    with (Path(__file__).parent / "everyday.csv").open(newline="", encoding="utf-8") as handle:
        return {
            row["concept"]: Concept(
                row["concept"], row["core"] == "1", row["category"], tuple(filter(None, row["synonyms"].split("|")))
            )
            for row in csv.DictReader(handle)
        }


def core_concepts() -> list[str]:
    """The core concepts, in the file's order: what the judge judges."""
    return [name for name, concept in everyday().items() if concept.core]


def read(first: Path, second: Path) -> list[Drawing]:
    """Both pools' usable drawings: nothing of a sample artist's studio, rare concepts dropped, by path.

    Args:
        first: folder of the first pool, with captions of its own.
        second: folder of the second pool, with `concept`, `look` and `studio_of_artist`.
    """
    with (second / "metadata.csv").open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if not row["studio_of_artist"]]
    names = _names(rows)
    drawings = [
        Drawing(
            second / row["file"],
            row["concept"],
            row["caption"].lower(),
            row["look"],
            row["artist"],
            row["source"],
            row["licence"],
            held_out := _in_hash(row["file"], 0, HELD_OUT),
            held_out or _in_hash(row["file"], HELD_OUT, HELD_OUT + TEST),
        )
        for row in rows
    ]
    drawings += _of_first_pool(pool.read_pool(first), names)
    counts = Counter(d.concept for d in drawings if not d.held_out)
    return sorted((d for d in drawings if counts[d.concept] >= LEAST), key=lambda d: str(d.path))


def _names(rows: list[dict[str, str]]) -> dict[str, str]:
    """Name to concept: everyday synonyms first, then the second pool's own concepts and tags."""
    names: dict[str, str] = {}
    for concept in everyday().values():
        names |= {name: concept.name for name in (concept.name, *concept.synonyms) if name not in names}
    tags: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        names.setdefault(row["concept"], row["concept"])
        tags[row["tags"].lower().strip()][row["concept"]] += 1
    for tag, concepts in tags.items():
        if tag:
            names.setdefault(tag, concepts.most_common(1)[0][0])
    return names


def _of_first_pool(records: Iterable[pool.Record], names: dict[str, str]) -> list[Drawing]:
    drawings = []
    for record in records:
        if record.source in STUDIO_SOURCES:
            continue
        held_out = record.part != "train"
        test = held_out or _in_hash(f"{record.source}/{record.path.name}", HELD_OUT, HELD_OUT + TEST)
        if record.source.startswith("dicebear"):
            concept, caption, look = _PORTRAIT, record.caption, "portrait"
        else:
            concept, caption = _canonical(record.caption, names)
            look = "colour" if record.source != "openclipart" else _look_of(record.path)
        origin, licence = record.origin, record.licence
        drawings.append(Drawing(record.path, concept, caption, look, record.source, origin, licence, held_out, test))
    return drawings


def _canonical(caption: str, names: dict[str, str]) -> tuple[str, str]:
    """(concept, caption with the concept's own name): attributes in front of a known name stay in the caption."""
    words = pool.words_of(caption)
    said: list[str] = []
    for start in range(len(words)):
        name = " ".join(words[start:])
        if name in names:
            return names[name], " ".join([*said, names[name]])
        if words[start] not in _ATTRIBUTES:
            break
        said.append(words[start])
    return " ".join(words), " ".join(words)


def _look_of(path: Path) -> str:
    """Colour, or line or solid for what has hardly any (by how much of it is dark)."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB").resize((64, 64)), np.float32) / 255
    colourful = float((pixels.max(2) - pixels.min(2) > 0.15).mean())
    if colourful > 0.02:
        return "colour"
    return "solid" if float((pixels.mean(2) < 0.5).mean()) > 0.25 else "line"


def _in_hash(text: str, low: int, high: int) -> bool:
    """Whether a hash of the text, in percent, is in [low, high): the same for every run."""
    return low <= int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100 < high


def weights(drawings: list[Drawing]) -> np.ndarray:
    """How often each drawing is drawn for training, float64 summing to 1.

    Looks have their fixed shares; in a look, a concept weighs by the square root of its drawings (at most 12 of them),
    core things six times and other everyday things twice as much as the rest.
    """
    listed = everyday()
    cells: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, drawing in enumerate(drawings):
        cells[drawing.look, drawing.concept].append(index)
    out = np.zeros(len(drawings))
    for (_, concept), members in cells.items():
        kind = _OTHER if concept not in listed else _CORE if listed[concept].core else _EVERYDAY
        out[members] = kind * min(len(members), 12) ** 0.5 / len(members)
    for look, share in LOOK_SHARE.items():
        mask = np.array([d.look == look for d in drawings])
        if mask.any():
            out[mask] *= share / out[mask].sum()
    return out / out.sum()


def captions(drawing: Drawing) -> tuple[str, str]:
    """The two captions that a drawing is trained under; mostly they are the same."""
    return drawing.concept, drawing.caption


def tinted(drawing: Drawing) -> tuple[Drawing, tuple[int, int, int]] | None:
    """A solid or duotone drawing in one named colour ("blue house"), chosen by its path; None for other looks."""
    if drawing.look not in ("solid", "duotone"):
        return None
    names = list(COLOURS)
    name = names[int(hashlib.sha256(str(drawing.path.name).encode()).hexdigest()[:8], 16) % len(names)]
    return replace(drawing, caption=f"{name} {drawing.concept}", concept=f"{name} {drawing.concept}"), COLOURS[name]


def data_hash(drawings: list[Drawing]) -> str:
    """SHA-256 over names, captions, looks, parts and bytes: what exactly the weights were trained on."""
    digest = hashlib.sha256()
    for drawing in drawings:
        digest.update(f"{drawing.source}/{drawing.path.name}|{drawing.concept}|{drawing.caption}|".encode())
        digest.update(f"{drawing.look}|{drawing.held_out}\n".encode())
        digest.update(drawing.path.read_bytes())
    return digest.hexdigest()
