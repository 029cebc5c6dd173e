"""Cached latents and conditioning: pictures and captions are encoded once, and training never touches pixels again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from .._system.arguments import texts
from ..art import ArtSet
from ..errors import TrainingError
from .backbone import Backbone
from .families import Conditioning

__all__ = ["LatentSet", "cache_latents", "latents_of"]


@dataclass(frozen=True)
class LatentSet:
    """What training reads: latents (n, c, h, w), what the denoiser is told of each, and of the empty caption (one row).

    `ids` are the pictures' ids, in the same order; nothing else of a picture is kept.
    """

    latents: torch.Tensor = field(repr=False)
    embeddings: Conditioning = field(repr=False)
    empty: Conditioning = field(repr=False)
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


def latents_of(backbone: Backbone, pixels: NDArray[np.uint8], captions: Sequence[str], ids: Sequence[str]) -> LatentSet:
    """The same from plain arrays: pixels uint8 (n, h, w, 3) with one caption and one id each.

    Raises:
        TrainingError: the cache would take more than half of the memory that is free.
    """
    captions, ids = texts("captions", captions, TrainingError), texts("ids", ids, TrainingError)
    if not len(pixels) == len(captions) == len(ids):
        raise TrainingError(
            f"{len(pixels)} pictures, {len(captions)} captions and {len(ids)} ids; expected one of each for a picture."
        )
    with backbone.lock:
        empty = backbone.embed([""])
        _check_memory(backbone, empty, len(captions))
        return LatentSet(
            backbone.encode(pixels),
            Conditioning.cat([backbone.embed(captions[i : i + 64]) for i in range(0, len(captions), 64)]),
            empty,
            ids,
        )


def _check_memory(backbone: Backbone, empty: Conditioning, n: int) -> None:
    """Refuse before anything is allocated: T5 embeddings take megabytes for every caption."""
    needed = n * (empty.nbytes + 4 * math.prod(backbone.latent_shape))
    on_gpu = backbone.device.type == "cuda"
    free = torch.cuda.mem_get_info(backbone.device)[0] if on_gpu else psutil.virtual_memory().available
    if needed > free / 2:
        raise TrainingError(
            f"The latents and captions of {n:,} pictures need {needed / 2**20:,.0f} MiB, more than half of the "
            f"{free / 2**20:,.0f} MiB that are free. Include fewer pictures, or load the backbone with "
            "dtype=torch.bfloat16 or a smaller size_px."
        )
