"""Style by the frozen denoiser itself, as a check that does not depend on ImageNet: IntroStyle (2412.14432)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion import Backbone
from ..errors import MeasureError
from .checking import checked, resized
from .geometry import distances
from .style import StyleAccuracy

__all__ = ["introstyle_accuracy", "introstyle_distance"]

_BATCH = 16


def introstyle_distance(
    backbone: Backbone,
    pictures_a: NDArray[np.uint8],
    pictures_b: NDArray[np.uint8],
    *,
    block: int = 0,
    noise: float = 0.5,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Style distance of every picture of `a` from every picture of `b`, (n_a, n_b); 0 is the same style.

    IntroStyle (2412.14432, §3): encode, add noise, denoise once with the empty prompt, read one up-block of the UNet;
    a picture is the Gaussian with the mean and variance of each channel over positions. The distance is
    2-Wasserstein between diagonal Gaussians: W2² = |μ_a - μ_b|² + |σ_a - σ_b|². No adapter takes part. Read it as a
    comparison (which artist is nearer?), never alone.

    Args:
        backbone: with a UNet denoiser.
        pictures_a: uint8 (n_a, h, w, 3), resized to the backbone's size.
        pictures_b: uint8 (n_b, h, w, 3).
        block: index of the up-block, 0 is the coarsest.
        noise: where on the noise schedule, 0 (clean) to 1.
        seed: of the noise; all pictures get the same.

    Raises:
        MeasureError: no such up-block, noise outside 0 to 1, or other arrays.

    Example:
        >>> introstyle_distance(backbone, mine, drawn).mean()  # doctest: +SKIP
        3.1
    """
    a = _statistics(backbone, pictures_a, block=block, noise=noise, seed=seed)
    b = _statistics(backbone, pictures_b, block=block, noise=noise, seed=seed)
    return distances(a, b)


def introstyle_accuracy(
    backbone: Backbone,
    known: Mapping[str, NDArray[np.uint8]],
    judged: Mapping[str, NDArray[np.uint8]],
    *,
    block: int = 0,
    noise: float = 0.5,
    seed: int = 0,
) -> StyleAccuracy:
    """How often the nearest artist is the right one: an independent check of `StyleJudge.accuracy`.

    An artist is the mean Gaussian of the `known` pictures (their training pictures); statistics are divided by their
    standard deviation over all known pictures, so that no channel speaks louder than another.

    Raises:
        MeasureError: fewer than two artists, an artist in `judged` that is not in `known`, or as `introstyle_distance`.

    Example:
        >>> introstyle_accuracy(backbone, train, held_out).mean  # doctest: +SKIP
        0.8
    """
    strangers = sorted(judged.keys() - known.keys())
    if len(known) < 2 or not judged or strangers:
        raise MeasureError(
            f"{len(known)} known artists, {len(judged)} judged, not known: {strangers}. Give the known pictures of 2 "
            "artists or more, and among them of everyone who is judged."
        )
    read = partial(_statistics, backbone, block=block, noise=noise, seed=seed)
    seen = {name: read(pictures) for name, pictures in known.items()}
    everyone = np.concatenate(list(seen.values()))
    spread = np.maximum(everyone.std(0), 1e-9)
    centroids = np.stack([statistics.mean(0) for statistics in seen.values()]) / spread
    names = list(seen)
    per_artist = {}
    for name, pictures in judged.items():
        nearest = distances(read(pictures) / spread, centroids).argmin(1)
        per_artist[name] = float((nearest == names.index(name)).mean())
    return StyleAccuracy(per_artist, float(np.mean(list(per_artist.values()))), 1 / len(names))


@torch.no_grad()
def _statistics(
    backbone: Backbone, pictures: NDArray[np.uint8], *, block: int, noise: float, seed: int
) -> NDArray[np.float64]:
    """Channel means, then channel standard deviations, of one up-block's output: (n, 2 channels)."""
    pictures = checked(pictures)
    blocks = getattr(backbone.denoiser, "up_blocks", ())
    if not 0 <= block < len(blocks):
        raise MeasureError(f"block is {block}; {backbone.name!r} has {len(blocks)} up-blocks, counted from 0.")
    if not 0 < noise < 1:
        raise MeasureError(f"noise is {noise}; expected a number between 0 and 1 (0.5 is the middle of the schedule).")
    read: list[torch.Tensor] = []

    def keep(_module: Any, _args: Any, output: Any) -> None:
        read.append(output[0] if isinstance(output, tuple) else output)

    out = []
    with backbone.lock:
        empty = backbone.embed([""])
        handle = blocks[block].register_forward_hook(keep)
        try:
            for start in range(0, len(pictures), _BATCH):
                x = resized(pictures[start : start + _BATCH], backbone.size_px)
                x0 = backbone.encode(x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy())
                eps = torch.randn((1, *x0.shape[1:]), generator=torch.Generator().manual_seed(seed)).to(x0)
                t = backbone.process.stratified_t(1, noise).expand(len(x0)).to(x0.device)
                noisy = backbone.process.add_noise(x0, eps.expand_as(x0), t)
                backbone.predict(noisy, t, empty.repeat(len(x0)))
                features = read.pop().double()
                out.append(torch.cat([features.mean((2, 3)), features.std((2, 3))], 1).cpu().numpy())
        finally:
            handle.remove()
    statistics: NDArray[np.float64] = np.concatenate(out)
    return statistics
