"""Does a picture show what its caption says? Retrieval of the concept among drawings by other hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MeasureError
from .checking import checked, labelled
from .features import FeatureExtractor
from .geometry import unit

__all__ = ["ConceptFeatures", "ConceptRetrieval"]

ConceptFeatures = Literal["style", "head", "both"]
_FEWEST = 4  # a smaller query set has no mean style to take away


@dataclass(frozen=True)
class ConceptRetrieval:
    """A gallery with one vector for each concept; a picture finds its concept when that vector is nearest (cosine).

    Attributes:
        concepts: what can be found.
        features: which vectors of `FeatureExtractor` are compared.

    Protocol. Every picture's vector is centred by the mean of its own source (that takes the hand away) and z-scored by
    the gallery, and a concept is the mean over the sources that drew it. Asked pictures are centred by their own set's
    mean. The score means something only beside chance (k / number of concepts) and beside the *ceiling*: real
    drawings, by a hand that is not in the gallery, of the same concepts. "both" was chosen on real drawings alone
    (gallery: 240 concepts by openmoji, fluent3d and fluent_ink; asked: four emoji sets; top-5): both 80 to 96 %, head
    80 to 94 %, style 66 to 88 %, chance 2 %.

    Example:
        >>> gallery = {"openmoji": (drawings, captions), "fluent3d": (others, their_captions)}  # doctest: +SKIP
        >>> retrieval = ConceptRetrieval.fit(gallery)  # doctest: +SKIP
        >>> retrieval.top(5, pictures, captions)  # doctest: +SKIP
        0.42
    """

    concepts: tuple[str, ...]
    features: ConceptFeatures
    gallery: NDArray[np.float64] = field(repr=False)
    scale: NDArray[np.float64] = field(repr=False)
    extractor: FeatureExtractor = field(repr=False)

    @classmethod
    def fit(
        cls,
        gallery: Mapping[str, tuple[NDArray[np.uint8], Sequence[str]]],
        *,
        features: ConceptFeatures = "both",
        extractor: FeatureExtractor | None = None,
    ) -> ConceptRetrieval:
        """Fit on {source: (pictures, their concepts)}.

        Args:
            gallery: pictures uint8 (n, h, w, 3) of several hands, with the concept of each.
            features: vectors to compare; "both" puts style and head behind one another. Every feature is z-scored.
            extractor: shared one by default.

        Raises:
            MeasureError: no source, counts that differ, fewer than two concepts, or pictures of another kind.
            MissingExtra: the measures extra is not installed.
        """
        extractor = extractor or FeatureExtractor.load()
        if not gallery:
            raise MeasureError("The gallery is empty; give {source: (pictures, concepts)} of one source or more.")
        vectors, labels = [], []
        for pictures, concepts in gallery.values():
            x = _vectors(extractor, features, labelled(pictures, concepts, what="concepts")[0])
            vectors.append(x - x.mean(0))
            labels += list(concepts)
        known = tuple(dict.fromkeys(labels))
        if len(known) < 2:
            raise MeasureError(f"The gallery shows only {list(known)}; give 2 concepts or more.")
        centred = np.concatenate(vectors)
        scale = np.maximum(centred.std(0), 1e-6)
        flat, rows = centred / scale, np.array(labels)
        means = np.stack([flat[rows == concept].mean(0) for concept in known])
        return cls(known, features, unit(means), scale, extractor)

    def rank(self, pictures: NDArray[np.uint8], concepts: Sequence[str]) -> NDArray[np.int64]:
        """Rank of the right concept for every picture, (n,): 1 is best, `len(concepts of the gallery)` worst.

        The pictures' own mean is taken away first, so rank pictures of one hand together, 4 or more. Ties count against
        the picture: pictures that are all alike find nothing.

        Raises:
            MeasureError: counts that differ, fewer than 4 pictures, a concept that the gallery does not show.
        """
        array, labels = labelled(pictures, concepts, what="concepts")
        strangers = sorted(set(labels) - set(self.concepts))
        if strangers:
            raise MeasureError(f"The gallery does not show {strangers[:5]}; leave such pictures out.")
        checked(array, at_least=_FEWEST)
        x = _vectors(self.extractor, self.features, array)
        similarity = unit((x - x.mean(0)) / self.scale) @ self.gallery.T
        right = similarity[np.arange(len(labels)), [self.concepts.index(label) for label in labels]]
        ranks: NDArray[np.int64] = (similarity >= right[:, None]).sum(1)
        return ranks

    def top(self, k: int, pictures: NDArray[np.uint8], concepts: Sequence[str]) -> float:
        """Fraction of pictures whose concept is among the k nearest; chance is k / number of concepts."""
        return float((self.rank(pictures, concepts) <= k).mean())


def _vectors(extractor: FeatureExtractor, features: str, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    if features == "style":
        return extractor.style(pictures).astype(np.float64)
    if features == "head":
        return extractor.head(pictures).astype(np.float64)
    return np.concatenate([extractor.style(pictures), extractor.head(pictures)], 1).astype(np.float64)
