"""What the benchmarks that judge pictures share: held-out captions, and the referee who scores pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedart_nb.art import ArtSet
from fedart_nb.art.collecting import Picture
from fedart_nb.diffusion import Backbone
from fedart_nb.metrics import ConceptRetrieval, FeatureExtractor, StyleJudge

Pictures = NDArray[np.uint8]
Item = TypeVar("Item")

#: The artists who drew the same 240 concepts: their drawings are the gallery in which captions are looked for.
TRIO = ("fluent3d", "fluent_ink", "openmoji")
FEWEST = 4  # retrieval takes the mean style of the pictures away, so it needs a few
TOP = 5


def evenly(items: list[Item], limit: int | None) -> list[Item]:
    """At most `limit` of the items, evenly spaced; all of them for None."""
    if limit is None or len(items) <= limit:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def held_out(art: ArtSet, limit: int | None = None) -> list[Picture]:
    """Test pictures with a caption that no train picture and no earlier one has; `limit` takes evenly spaced ones."""
    seen = {picture.caption.lower() for picture in art.included("train")}
    found = []
    for picture in art.included("test"):
        if picture.caption.lower() not in seen:
            seen.add(picture.caption.lower())
            found.append(picture)
    return evenly(found, limit)


def concept(caption: str) -> str:
    """A caption without its article, in lower case: "A cow" and "cow" are one concept."""
    return caption.lower().removeprefix("a ").removeprefix("an ")


class Remembering:
    """A feature extractor that reads every picture once: the judge and four galleries share most of theirs."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor = extractor
        self._known: dict[tuple[str, bytes], NDArray[np.float32]] = {}

    def style(self, pictures: Pictures) -> NDArray[np.float32]:
        return self._read("style", self._extractor.style, pictures)

    def head(self, pictures: Pictures) -> NDArray[np.float32]:
        return self._read("head", self._extractor.head, pictures)

    def _read(self, kind: str, read: Callable[[Pictures], NDArray[np.float32]], pictures: Pictures) -> Any:
        keys = [(kind, hashlib.sha256(picture.tobytes()).digest()) for picture in pictures]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            self._known |= dict(zip(new, read(pictures[list(new.values())]), strict=True))
        return np.stack([self._known[key] for key in keys])


@dataclass(frozen=True)
class Verdict:
    """What the referee says of one artist's pictures: their style, the same by its stricter judge and by colours alone.

    `ranks` holds one rank for every picture whose concept is in the gallery, in the order of the pictures.
    """

    judged: tuple[str, ...]
    by_strict: tuple[str, ...]
    by_colour: tuple[str, ...]
    ranks: NDArray[np.int64] = field(repr=False)

    def accuracy(self, artist: str) -> float:
        return self.judged.count(artist) / len(self.judged)

    def strict_accuracy(self, artist: str) -> float:
        return self.by_strict.count(artist) / len(self.by_strict)

    def colour_accuracy(self, artist: str) -> float:
        return self.by_colour.count(artist) / len(self.by_colour)

    def hits(self) -> NDArray[np.bool_]:
        return self.ranks <= TOP

    def mistaken_for(self, artist: str) -> dict[str, int]:
        """The other artists whom the pictures were taken for, most frequent first."""
        return dict(Counter(name for name in self.judged if name != artist).most_common())


@dataclass(frozen=True)
class Referee:
    """Judges fitted on the artists' train pictures, and galleries of real drawings of the shared concepts.

    `style` and `colours` are fitted on every train picture twice: as it is, and as the backbone's autoencoder gives it
    back. A judge fitted on the files alone (`strict`) tells one artist by pixels that are all of one size, which no
    drawing of the backbone can have: it calls the artist's own pictures, merely encoded and decoded, somebody else's.
    Both judges are reported.

    An artist's captions are looked for among drawings by others only (`TRIO` without that artist), so that the right
    hand is no help in finding the right concept.
    """

    style: StyleJudge
    strict: StyleJudge
    colours: StyleJudge
    galleries: dict[str, ConceptRetrieval] = field(repr=False)

    @classmethod
    def fit(cls, art: Mapping[str, ArtSet], backbone: Backbone) -> Referee:
        extractor: Any = Remembering(FeatureExtractor.load())
        train = {name: a.pixels(a.included("train")) for name, a in art.items()}
        both = {name: np.concatenate([x, backbone.decode(backbone.encode(x))]) for name, x in train.items()}
        drawings = {
            name: (art[name].pixels(art[name].included()), [concept(p.caption) for p in art[name].included()])
            for name in TRIO
            if name in art
        }
        galleries = {}
        for left_out in ("", *drawings):
            others = {name: drawn for name, drawn in drawings.items() if name != left_out}
            if others:
                galleries[left_out] = ConceptRetrieval.fit(others, extractor=extractor)
        return cls(
            StyleJudge.fit(both, "style", extractor=extractor),
            StyleJudge.fit(train, "style", extractor=extractor),
            StyleJudge.fit(both, "histogram"),
            galleries,
        )

    def gallery(self, artist: str) -> ConceptRetrieval | None:
        return self.galleries.get(artist, self.galleries.get(""))

    def found_in_gallery(self, artist: str, captions: list[str]) -> list[int]:
        """Which captions the gallery can be asked for; none, if they are fewer than `FEWEST`."""
        gallery = self.gallery(artist)
        known = set(gallery.concepts) if gallery else set()
        found = [i for i, caption in enumerate(captions) if concept(caption) in known]
        return found if len(found) >= FEWEST else []

    def verdict(self, artist: str, pictures: Pictures, captions: list[str]) -> Verdict:
        asked = self.found_in_gallery(artist, captions)
        gallery = self.gallery(artist)
        ranks = np.zeros(0, np.int64)
        if asked and gallery:
            ranks = gallery.rank(pictures[asked], [concept(captions[i]) for i in asked])
        by_judge = [tuple(judge.judge(pictures)) for judge in (self.style, self.strict, self.colours)]
        return Verdict(*by_judge, ranks)
