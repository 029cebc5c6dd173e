"""What a frame of noise looks like to others: to a judge of style, and to an attacker who got one step in the clear."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..art import ArtSet
from ..attacks.scoring import baselines
from ..diffusion.backbone import Backbone
from ..diffusion.noise_preview import NoiseFrame, Seen
from ..errors import MissingExtra
from ..events import Note
from .runs import Shot
from .scene import scene_of
from .sweep import Level, levels

__all__ = ["seen_by_others"]

_FEWEST, _MOST = 4, 24  # train pictures that an artist is known to the judge by


def seen_by_others(
    backbone: Backbone, art: ArtSet, frame: NoiseFrame, *, evaluations: int = 200, budget_s: float = math.inf
) -> Iterator[Note | Shot | Seen]:
    """Judge a frame's pictures, attack one step at its noise, and yield the `Seen` at last.

    The attacker holds the worst case: the first step's update of one single picture, clipped to one length, in the
    clear, with seed and captions known; noise is the frame's. Nothing leaves this kernel.

    The judge (`measures.StyleJudge`) chooses between the sample artists and this one, known by its train pictures as
    files and as the autoencoder gives them back. Without the extra "measures" nobody judges, and a `Note` says so.

    Args:
        art: what the frame was trained on.
        evaluations: tries of the reconstruction; budget_s: seconds of it at most.

    Raises:
        AttackError: fewer than three pictures.

    Example:
        >>> *_, seen = seen_by_others(backbone, art, frame, budget_s=20)  # doctest: +SKIP
        >>> print(seen)  # doctest: +SKIP
        3 of 4 pictures judged to be the artist's; reconstruction of SSIM 0.12 (without the update 0.61), picked ...
    """
    right, artists = 0, 0
    try:
        yield Note("Judging the pictures' style")
        right, artists = _judged(backbone, art, frame)
    except MissingExtra as missing:
        yield Note(f"Nobody judges the style. {missing}", "warning")
    level: Level | None = None
    scene = scene_of(backbone, art)
    for event in levels(scene, [frame.noise_multiplier], evaluations=evaluations, budget_s=budget_s):
        if isinstance(event, Shot):
            yield event
        else:
            level = event
    if level is None or level.shot.frame.pictures is None:
        return
    yield Seen(
        right=right,
        judged=len(frame.pictures) if artists else 0,
        artists=artists,
        similarity=max(level.shot.score.ssim, default=0.0),
        guess=max(ssim for one in baselines(scene.truth, public=scene.others).values() for ssim in one.ssim),
        picked=level.picked,
        candidates=len(level.ranking),
        bound=level.bound,
        rebuilt=level.shot.frame.pictures[0],
    )


def _judged(backbone: Backbone, art: ArtSet, frame: NoiseFrame) -> tuple[int, int]:
    """How many of the frame's pictures are given to this artist, and among how many artists."""
    from ..metrics import FeatureExtractor, StyleJudge

    own = art.included("train") or art.included()
    if not len(frame.pictures) or len(own) < _FEWEST:
        return 0, 0
    extractor = FeatureExtractor.load()
    mine, drawings = {p.id for p in own}, {}
    for name in ArtSet.samples():
        one = ArtSet.sample(name, limit=_MOST, size_px=backbone.size_px)
        if not mine & {p.id for p in one.included("train")}:  # else the artist is that sample
            drawings[name] = one.pixels(one.included("train"))
    places = np.linspace(0, len(own) - 1, min(_MOST, len(own))).round().astype(int)
    drawings[""] = art.pixels([own[i] for i in places])
    both = {name: np.concatenate([x, backbone.decode(backbone.encode(x))]) for name, x in drawings.items()}
    judge = StyleJudge.fit(both, extractor=extractor)
    return judge.judge(frame.pictures).count(""), len(both)
