"""Whose hand is it? Nearest artist by style, always beside chance, a colour baseline and the discrimination gap.

A raw cosine between style vectors says little: for many artists, pictures of others lie nearer than their own
(2605.09030). So a style result here is a comparison: how often the right artist is nearest, and by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import MeasureError
from .checking import checked
from .estimate import Estimate
from .features import FeatureExtractor
from .geometry import unit
from .whitening import Whitening

__all__ = ["StyleAccuracy", "StyleFeatures", "StyleJudge", "StyleReport", "colour_histogram", "style_report"]

StyleFeatures = Literal["style", "histogram"]
_Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class StyleAccuracy:
    """How often the right artist is the nearest one.

    Attributes:
        per_artist: fraction for each artist that was asked about.
        mean: mean over those artists, each counting once.
        chance: what guessing gives: one over the number of artists to choose from.
    """

    per_artist: dict[str, float]
    mean: float
    chance: float

    def __str__(self) -> str:
        return f"{self.mean:.0%} judged right over {len(self.per_artist)} artists (chance {self.chance:.0%})"


@dataclass(frozen=True)
class StyleReport:
    """Everything that a style result needs to be read rightly.

    Attributes:
        style: accuracy of the style vector.
        histogram: accuracy of colours alone, the baseline.
        chance: what guessing gives.
        interval: mean accuracy of the style vector with its interval over pictures.
        gap: discrimination gap, similarity to the own centroid minus to the best other, from -2 to 2; above 0 is own.
        gap_by_artist: the same for each artist.
    """

    style: StyleAccuracy
    histogram: StyleAccuracy
    chance: float
    interval: Estimate
    gap: Estimate
    gap_by_artist: dict[str, float]

    def __str__(self) -> str:
        return (
            f"style {self.style.mean:.1%}, colour histogram {self.histogram.mean:.1%}, chance {self.chance:.1%}, "
            f"discrimination gap {self.gap}"
        )


@dataclass(frozen=True)
class StyleJudge:
    """Nearest centroid after PCA-64 whitening, both fitted on training pictures.

    Example:
        >>> from fedart_nb.art import ArtSet
        >>> train = {name: (art := ArtSet.sample(name)).pixels(art.included("train")) for name in ArtSet.samples()}
        >>> judge = StyleJudge.fit(train)  # doctest: +SKIP
        >>> judge.judge(train["lorelei"][:2])  # doctest: +SKIP
        ['lorelei', 'lorelei']
    """

    artists: tuple[str, ...]
    features: StyleFeatures
    whitening: Whitening = field(repr=False)
    centroids: NDArray[np.float64] = field(repr=False)
    extractor: FeatureExtractor | None = field(default=None, repr=False)

    @classmethod
    def fit(
        cls,
        pictures_by_artist: Mapping[str, _Pictures],
        features: StyleFeatures = "style",
        *,
        components: int = 64,
        extractor: FeatureExtractor | None = None,
    ) -> StyleJudge:
        """Fit on training pictures, uint8 (n, h, w, 3) for each of two or more artists.

        Args:
            pictures_by_artist: the pictures; never those that are judged later.
            features: "style" (EfficientNet-Lite0, see `FeatureExtractor.style`) or "histogram" (square roots of
                `colour_histogram`: colours alone). On unseen pictures of the ten sample artists: 98 % and 80 %.
            components: of the whitening; fewer with few pictures, see `Whitening.fit`.
            extractor: shared one by default.

        Raises:
            MeasureError: fewer than two artists, or pictures of another kind.
            MissingExtra: features="style" without the measures extra.
        """
        if len(pictures_by_artist) < 2:
            raise MeasureError(f"{list(pictures_by_artist)} to tell apart; give pictures of 2 artists or more.")
        if features not in ("style", "histogram"):
            raise MeasureError(f"features is {features!r}; expected 'style' or 'histogram'.")
        if features == "style":
            extractor = extractor or FeatureExtractor.load()
        vectors = {name: _vectors(features, extractor, pictures) for name, pictures in pictures_by_artist.items()}
        whitening = Whitening.fit(np.concatenate(list(vectors.values())), components=components)
        centroids = np.stack([whitening.apply(x).mean(0) for x in vectors.values()])
        return cls(tuple(vectors), features, whitening, centroids, extractor)

    def distances(self, pictures: _Pictures) -> NDArray[np.float64]:
        """Euclidean distance of every picture to every centroid, whitened: (n, artists), in the order of `artists`."""
        return self._distances(self._whitened(pictures))

    def judge(self, pictures: _Pictures) -> list[str]:
        """The nearest artist of every picture."""
        return [self.artists[index] for index in self.distances(pictures).argmin(1)]

    def accuracy(self, pictures_by_artist: Mapping[str, _Pictures]) -> StyleAccuracy:
        """How often pictures are judged to be the artist's under whose name they stand.

        Raises:
            MeasureError: a name that the judge was not fitted on, or pictures of another kind.
        """
        return self._accuracy({name: self._right(name, self._whitened(x)) for name, x in pictures_by_artist.items()})

    def _whitened(self, pictures: _Pictures) -> NDArray[np.float64]:
        return self.whitening.apply(_vectors(self.features, self.extractor, pictures))

    def _distances(self, whitened: NDArray[np.float64]) -> NDArray[np.float64]:
        out: NDArray[np.float64] = np.linalg.norm(whitened[:, None] - self.centroids[None], axis=2)
        return out

    def _index(self, artist: str) -> int:
        if artist not in self.artists:
            raise MeasureError(f"This judge does not know {artist!r}; it was fitted on {', '.join(self.artists)}.")
        return self.artists.index(artist)

    def _right(self, artist: str, whitened: NDArray[np.float64]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = self._distances(whitened).argmin(1) == self._index(artist)
        return right

    def _accuracy(self, right: Mapping[str, NDArray[np.bool_]]) -> StyleAccuracy:
        if not right:
            raise MeasureError("There are no pictures to judge; give those of one artist or more.")
        per_artist = {name: float(flags.mean()) for name, flags in right.items()}
        return StyleAccuracy(per_artist, float(np.mean(list(per_artist.values()))), 1 / len(self.artists))

    def _gaps(self, artist: str, whitened: NDArray[np.float64]) -> NDArray[np.float64]:
        """Cosine to the own centroid minus the best other, (n,); zero is the mean of all training pictures."""
        similarity = unit(whitened) @ unit(self.centroids).T
        own = self._index(artist)
        best_other = np.delete(similarity, own, axis=1).max(1)
        gaps: NDArray[np.float64] = similarity[:, own] - best_other
        return gaps


def style_report(
    pictures_by_artist: Mapping[str, _Pictures],
    *,
    style: StyleJudge,
    histogram: StyleJudge,
    rng: np.random.Generator,
) -> StyleReport:
    """Judge pictures and say at once what colours alone would give, what chance gives, and how wide the gap is.

    Args:
        pictures_by_artist: pictures to judge, under the artist that they should look like.
        style: a judge of features "style".
        histogram: a judge of features "histogram", fitted on the same pictures.
        rng: drawn from for the intervals (bootstrap over pictures, each artist counting once).

    Raises:
        MeasureError: judges of other features or other artists, or an artist that they do not know.

    Example:
        >>> report = style_report(drawn, style=style, histogram=colours, rng=rng)  # doctest: +SKIP
        >>> print(report)  # doctest: +SKIP
        style 86.0%, colour histogram 78.4%, chance 10.0%, discrimination gap 0.41 [0.38, 0.44]
    """
    kinds = (style.features, histogram.features)
    if kinds != ("style", "histogram") or set(style.artists) != set(histogram.artists):
        raise MeasureError(
            f"The judges use {kinds} for {len(style.artists)} and {len(histogram.artists)} artists; expected "
            "('style', 'histogram'), fitted on the same artists."
        )
    whitened = {name: style._whitened(x) for name, x in pictures_by_artist.items()}
    right = {name: style._right(name, x) for name, x in whitened.items()}
    accuracy = style._accuracy(right)
    gaps = {name: style._gaps(name, x) for name, x in whitened.items()}
    return StyleReport(
        style=accuracy,
        histogram=histogram.accuracy(pictures_by_artist),
        chance=accuracy.chance,
        interval=_over_artists(right, rng),
        gap=_over_artists(gaps, rng),
        gap_by_artist={name: float(values.mean()) for name, values in gaps.items()},
    )


def colour_histogram(pictures: _Pictures) -> NDArray[np.float32]:
    """Joint RGB histogram, (n, 64): the share of pixels in each of 4 x 4 x 4 boxes of colour.

    >>> colour_histogram(np.zeros((1, 2, 2, 3), np.uint8))[0, :2].tolist()
    [1.0, 0.0]
    """
    boxes = checked(pictures) // 64 @ np.array([16, 4, 1])
    flat = boxes.reshape(len(boxes), -1)
    return np.stack([np.bincount(row, minlength=64) / len(row) for row in flat]).astype(np.float32)


def _vectors(features: str, extractor: FeatureExtractor | None, pictures: _Pictures) -> NDArray[np.float32]:
    if extractor is not None and features == "style":
        return extractor.style(pictures)
    roots: NDArray[np.float32] = np.sqrt(colour_histogram(pictures))  # Hellinger: rare colours count, too
    return roots


def _over_artists(values: Mapping[str, NDArray[np.bool_] | NDArray[np.float64]], rng: np.random.Generator) -> Estimate:
    """Mean over artists of the mean over pictures; the interval resamples pictures within each artist."""
    spans = [np.asarray(x, np.float64)[rng.integers(0, len(x), (2000, len(x)))].mean(1) for x in values.values()]
    value = float(np.mean([np.mean(x) for x in values.values()]))
    low, high = np.quantile(np.mean(spans, axis=0), [0.025, 0.975])
    return Estimate(value, float(low), float(high))
