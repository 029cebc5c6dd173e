"""Draw pictures from prompts with any composition of adapters: fixed seeds, latent previews, cancel at any step.

Anchored drawing. A small personal adapter learns a hand from a hundred pictures, and forgets words meanwhile: asked for
a whale it draws, in the right hand, something. But the backbone still knows whales. Let p be the backbone with adapters
and b without, c the caption, 0 none, g the guidance. Plain guidance follows p_0 + g (p_c - p_0) at every step; anchored
drawing follows

    p_0 + g (p_c - p_0) + h (b_c - b_0)    while t > u: the backbone says what is drawn, when that is decided
    p_0 + g (p_c - p_0) + s (p_0 - b_0)    afterwards: the adapter's own direction, in which no caption has a part

Sums of guidance: Liu et al. 2206.01714; guidance in a part of the steps: Kynkaanniemi et al. 2404.07724; this
combination and its numbers were found by `recipes/personal/anchor.py`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from .._system.arguments import number, texts, whole, whole_numbers
from ..errors import BackboneError, BackboneTaken
from ..events import Sampled, SampleStep
from .adapters import Adapter, attached, detached
from .backbone import Backbone
from .exclusive import GAVE_WAY, gives_way
from .families import Conditioning

__all__ = ["ANCHOR", "Anchor", "anchor_of", "draw", "latent_colours", "sample"]

_MAX_PICTURES = 64


@dataclass(frozen=True)
class Anchor:
    """How strongly drawing with adapters is tied to what the bare backbone knows (this module's text has the formula).

    Attributes:
        caption: h, the backbone's own guidance by the caption, added in the early steps.
        style: s, more of the adapters' direction, added in the late ones.
        until: u, the share of the noise schedule at which early turns into late; 1 is pure noise.
    """

    caption: float = 4.0
    style: float = 1.0
    until: float = 0.8


#: What an artist's pictures are drawn with, on the embedded backbone.
ANCHOR = Anchor()


def anchor_of(backbone: Backbone) -> Anchor | None:
    """The anchor that is known to help this backbone's adapters: `ANCHOR` for the embedded one, else none."""
    return ANCHOR if backbone.name == "embedded" else None


@gives_way
def sample(
    backbone: Backbone,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    adapters: Sequence[tuple[Adapter, float]] = (),
    steps: int | None = None,
    guidance: float | None = None,
    anchor: Anchor | None = None,
    preview_every: int = 0,
) -> Iterator[SampleStep | Sampled]:
    """Yield a `SampleStep` after every step and one `Sampled` at the end; one picture per (prompt, seed) pair.

    Without an anchor the same call in a plain diffusers pipeline (same prompts, one generator per seed, same steps and
    guidance) gives the same pixels. Classifier-free guidance: Ho & Salimans 2207.12598.

    Args:
        prompts: n prompts; a single prompt is repeated for every seed.
        seeds: n seeds, or one seed for all prompts.
        adapters: (adapter, weight) pairs, added up.
        steps: denoising steps, 1 to 200; the backbone's own number when None (20 for most, 4 for distilled ones).
        guidance: 1 switches guidance off; the backbone's own strength when None.
        anchor: ties drawing to the bare backbone, for adapters that forgot words; it takes a third to two thirds more
            time. Fades in with the adapters' weights up to a sum of 1, and does nothing without adapters, without
            guidance, or for a backbone that is told its guidance.
        preview_every: decode colours straight from the latents every so many steps; 0 never.

    Raises:
        BackboneError: numbers that do not fit.
    """
    prompts = list(texts("prompts", prompts, BackboneError))
    seeds = list(whole_numbers("seeds", seeds, -(2**63), 2**64 - 1, BackboneError))
    if len(prompts) == 1:
        prompts *= len(seeds)
    if len(seeds) == 1:
        seeds *= len(prompts)
    if not prompts or len(prompts) != len(seeds) or len(prompts) > _MAX_PICTURES:
        raise BackboneError(
            f"{len(prompts)} prompts and {len(seeds)} seeds; expected as many of each, from 1 to {_MAX_PICTURES}."
        )
    steps = backbone.steps_and_guidance[0] if steps is None else steps
    guidance = backbone.steps_and_guidance[1] if guidance is None else guidance
    steps = whole("steps", steps, 1, 200, BackboneError, hint="20 is plenty.")
    guidance = number("guidance", guidance, 0.0, 1000.0, BackboneError)
    preview_every = whole("preview_every", preview_every, 0, 200, BackboneError)
    started = time.monotonic()
    drawing = _Drawing(backbone, prompts, seeds, steps, guidance, anchor)
    while drawing.pictures is None:
        try:
            with attached(backbone, adapters):
                anchored = min(1.0, sum(abs(weight) for _, weight in adapters))
                for index in drawing.steps_left(anchored):
                    due = preview_every and index % preview_every == 0 and index < steps
                    yield SampleStep(index, steps, latent_colours(drawing.x) if due else None)
                drawing.pictures = backbone.decode(drawing.x)
        except BackboneTaken:  # paused, and other work came: go on from the last step
            yield GAVE_WAY
    yield Sampled(drawing.pictures, tuple(prompts), tuple(seeds), time.monotonic() - started)


class _Drawing:
    """Pictures on their way from noise: what is known between two steps, and the step.

    Attributes:
        x: noisy latents, (n, c, h, w).
        pictures: uint8 (n, h, w, 3), at the end.
    """

    @torch.no_grad()
    def __init__(
        self,
        backbone: Backbone,
        prompts: list[str],
        seeds: list[int],
        steps: int,
        guidance: float,
        anchor: Anchor | None,
    ) -> None:
        self.backbone, self.guidance, self.anchor = backbone, guidance, anchor
        self.pictures: NDArray[np.uint8] | None = None
        self._done = 0
        shape = (1, *backbone.latent_shape)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        scheduler = type(backbone.pipeline.scheduler).from_config(backbone.pipeline.scheduler.config)
        backbone.family.set_timesteps(backbone.pipeline, scheduler, steps, backbone.latent_shape, backbone.device)
        takes_noise = "generator" in inspect.signature(scheduler.step).parameters
        self._scheduler, self._extra = scheduler, {"generator": generators} if takes_noise else {}
        x = torch.cat([torch.randn(shape, generator=g, dtype=backbone.dtype) for g in generators]).to(backbone.device)
        self.x = x * getattr(scheduler, "init_noise_sigma", 1.0)  # flow-matching schedulers begin at unit noise
        told = backbone.embed(prompts)
        if told.guidance is not None:
            told = replace(told, guidance=torch.full_like(told.guidance, guidance))
        self._guided = guidance > 1 and not backbone.family.guidance_is_told
        self._untold = backbone.embed([""] * len(prompts)) if self._guided else None
        self._told = told if self._untold is None else Conditioning.cat([self._untold, told])

    def steps_left(self, anchored: float) -> Iterator[int]:
        """Take the steps that are left, within `attached`; yields the number of each, from 1."""
        for t in self._scheduler.timesteps[self._done :]:
            self._step(t, anchored if self.anchor and self._guided else 0.0)
            self._done += 1
            yield self._done

    @torch.no_grad()
    def _step(self, t: torch.Tensor, anchored: float) -> None:
        scheduler, backbone, anchor, x = self._scheduler, self.backbone, self.anchor, self.x
        both = torch.cat([x, x]) if self._guided else x
        both = scheduler.scale_model_input(both, t) if hasattr(scheduler, "scale_model_input") else both
        predicted = backbone.predict(both, t, self._told)
        if self._untold is not None:
            without, with_text = predicted.chunk(2)
            predicted = without + self.guidance * (with_text - without)
            if anchor and anchored:
                is_early = float(t) > anchor.until * scheduler.config.num_train_timesteps
                with detached(backbone):
                    if is_early:
                        bare, bare_with_text = backbone.predict(both, t, self._told).chunk(2)
                        predicted = predicted + anchored * anchor.caption * (bare_with_text - bare)
                    else:
                        bare = backbone.predict(both[: len(x)], t, self._untold)
                        predicted = predicted + anchored * anchor.style * (without - bare)
        self.x = scheduler.step(predicted, t, x, return_dict=False, **self._extra)[0]


def draw(
    backbone: Backbone,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    adapters: Sequence[tuple[Adapter, float]] = (),
    steps: int | None = None,
    guidance: float | None = None,
    anchor: Anchor | None = None,
) -> NDArray[np.uint8]:
    """`sample` without the steps in between: uint8 (n, height, width, 3)."""
    *_, last = sample(backbone, prompts, seeds=seeds, adapters=adapters, steps=steps, guidance=guidance, anchor=anchor)
    pictures: NDArray[np.uint8] = cast("Sampled", last).pictures
    return pictures


def latent_colours(latents: torch.Tensor) -> NDArray[np.uint8]:
    """A rough look at latents without the decoder: the first three channels, stretched; uint8 (n, h, w, 3)."""
    x = latents[:, :3].float().cpu()
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    x = (x - low) / (high - low).clamp(min=1e-6)
    out: NDArray[np.uint8] = (x.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    return out
