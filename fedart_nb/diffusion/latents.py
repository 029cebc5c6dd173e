"""Cached latents and caption embeddings: pictures are encoded once, and training never touches pixels again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..art import ArtSet
from ..errors import TrainingError
from .backbone import Backbone

__all__ = ["LatentSet", "cache_latents", "latents_of"]


@dataclass(frozen=True)
class LatentSet:
    """What training reads: latents (n, c, h, w), caption embeddings (n, tokens, width) and the empty caption's.

    `ids` are the pictures' ids, in the same order; nothing else of a picture is kept.
    """

    latents: torch.Tensor = field(repr=False)
    embeddings: torch.Tensor = field(repr=False)
    empty: torch.Tensor = field(repr=False)
    ids: tuple[str, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.latents)


def cache_latents(backbone: Backbone, art: ArtSet, split: str | None = "train") -> LatentSet:
    """Encode the included pictures of a split ("train", "test", or None for all). Excluded pictures are not read.

    Raises:
        TrainingError: no picture is left to train on.
    """
    pictures = art.included(split)
    if not pictures:
        which = f"{split} " if split else ""
        raise TrainingError(
            f"{art.name!r} has no included {which}picture ({len(art)} pictures in all). Include at least one."
        )
    if art.size_px != backbone.size_px:
        raise TrainingError(
            f"{art.name!r} holds pictures of {art.size_px} px; this backbone works at {backbone.size_px} px. "
            f"Load the art with size_px={backbone.size_px}."
        )
    return latents_of(backbone, art.pixels(pictures), [p.caption for p in pictures], [p.id for p in pictures])


def latents_of(backbone: Backbone, pixels: object, captions: Sequence[str], ids: Sequence[str]) -> LatentSet:
    """The same from plain arrays: pixels uint8 (n, h, w, 3) with one caption and one id each."""
    with backbone.lock:
        return LatentSet(
            backbone.encode(pixels),  # type: ignore[arg-type]
            torch.cat([backbone.embed(captions[i : i + 64]) for i in range(0, len(captions), 64)]),
            backbone.embed([""]),
            tuple(ids),
        )
