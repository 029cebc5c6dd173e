"""The scorer: holds the truth that no attack is given, and says how near an attack came, beside three baselines.

A reconstruction is compared with the autoencoder's own version of the picture (`ceiling`), which is the most that an
attack in latent space can reach, or with the picture itself. A grey or mean picture gives 9 to 12 dB already, so no
figure stands without `baselines`: the mean of the public pictures, what the public model draws for the caption without
any update, and the public picture that is nearest to the truth (an attacker could not even choose it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion.backbone import Backbone
from ..diffusion.sampling import draw
from ..errors import AttackError
from ..metrics.fidelity import psnr, ssim
from .outcomes import Frame, Outcome

__all__ = ["Score", "Truth", "baselines", "ceiling", "feature_distance", "score"]

_SAME_TIMESTEP = 0.5  # of a thousand; whole timesteps must agree, those of continuous schedules to this
_EARLY = 20  # the schedule's part at which features are read: the first of so many

_Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Truth:
    """What really was trained on.

    Attributes:
        pictures: uint8 (n, h, w, 3); captions: one for each.
        timesteps: of the step's rows, in any order.
        members: indices among the attacker's candidates (or earlier updates) that are right.
    """

    pictures: _Pictures | None = field(default=None, repr=False)
    captions: tuple[str, ...] = field(default=(), repr=False)
    timesteps: tuple[float, ...] = ()
    members: tuple[int, ...] = ()


@dataclass(frozen=True)
class Score:
    """How near a guess came; what was not guessed is empty, or NaN.

    Attributes:
        psnr_db, ssim: of each true picture, with the reconstruction that fits it best, each taken once.
        captions, timesteps: shares of the true ones that were named.
        rank: best place of a true candidate in the ranking, from 1; 0: there was no ranking. of: how many there were.

    Example:
        >>> Score(ssim=(0.98,), psnr_db=(31.0,)).alt
        'reconstruction, SSIM 0.98'
    """

    psnr_db: tuple[float, ...] = ()
    ssim: tuple[float, ...] = ()
    captions: float = math.nan
    timesteps: float = math.nan
    rank: int = 0
    of: int = 0

    @property
    def alt(self) -> str:
        """Alternative text of the reconstructions."""
        each = ", ".join(f"{value:.2f}" for value in self.ssim)
        return f"reconstruction{'s' if len(self.ssim) > 1 else ''}, SSIM {each}" if each else "no reconstruction"

    def __str__(self) -> str:
        said = []
        if self.ssim:
            said.append(f"SSIM {np.mean(self.ssim):.2f}, PSNR {np.mean(self.psnr_db):.1f} dB")
        if not math.isnan(self.captions):
            said.append(f"{self.captions:.0%} of the captions right")
        if not math.isnan(self.timesteps):
            said.append(f"{self.timesteps:.0%} of the timesteps right")
        if self.rank:
            said.append(f"the right one of {self.of} in place {self.rank}")
        return "; ".join(said) + "." if said else "Nothing was guessed."


def ceiling(backbone: Backbone, pictures: _Pictures) -> _Pictures:
    """The autoencoder's own versions of pictures: what perfect latents decode to."""
    return backbone.decode(backbone.encode(pictures))


def score(guess: Frame | Outcome, truth: Truth) -> Score:
    """Compare a guess with the truth.

    Raises:
        AttackError: reconstructions and true pictures are of different sizes.

    Example:
        >>> score(outcome, Truth(ceiling(backbone, pictures), ("a red fox",))).ssim  # doctest: +SKIP
        (0.98,)
    """
    frame = guess.frame if isinstance(guess, Outcome) else guess
    levels: tuple[float, ...] = ()
    alike: tuple[float, ...] = ()
    if frame.pictures is not None and truth.pictures is not None and len(frame.pictures):
        if frame.pictures.shape[1:] != truth.pictures.shape[1:]:
            raise AttackError(
                f"Reconstructions are {frame.pictures.shape[1:3]} px, the true pictures {truth.pictures.shape[1:3]}."
            )
        levels, alike = _matched(frame.pictures, truth.pictures)
    told = math.nan
    if frame.captions and truth.captions:
        told = _share(truth.captions, list(frame.captions), lambda a, b: a.strip().lower() == b.strip().lower())
    times = math.nan
    if frame.timesteps and truth.timesteps:
        times = _share(truth.timesteps, list(frame.timesteps), lambda a, b: abs(a - b) <= _SAME_TIMESTEP)
    ranked = frame.ranking if frame.ranks == "candidates" else ()  # places on a list of captions are no candidates
    places = [i for i, (candidate, _) in enumerate(ranked, start=1) if candidate in truth.members]
    return Score(levels, alike, told, times, places[0] if places else 0, len(frame.ranking) if places else 0)


def _share(true: Sequence[Any], guessed: list[Any], same: Any) -> float:
    """Share of the true ones that were guessed; each guess serves once."""
    hits = 0
    for one in true:
        found = next((i for i, other in enumerate(guessed) if same(one, other)), None)
        if found is not None:
            guessed.pop(found)
            hits += 1
    return hits / len(true)


def _matched(guesses: _Pictures, true: _Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """PSNR and SSIM of each true picture; pairs are taken off in the order of their PSNR."""
    table = np.array([psnr(np.repeat(one[None], len(guesses), axis=0), guesses) for one in true])
    pairs: dict[int, int] = {}
    for flat in np.argsort(-table, axis=None):
        row, column = divmod(int(flat), len(guesses))
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    if len(pairs) < len(true):  # fewer guesses than pictures: what is left takes the nearest
        pairs |= {row: int(table[row].argmax()) for row in range(len(true)) if row not in pairs}
    alike = [float(ssim(true[row : row + 1], guesses[pairs[row]][None])[0]) for row in range(len(true))]
    return tuple(min(99.0, float(table[row, pairs[row]])) for row in range(len(true))), tuple(alike)


def baselines(
    truth: Truth, *, backbone: Backbone | None = None, public: _Pictures | None = None, seed: int = 0, steps: int = 8
) -> dict[str, Score]:
    """What scores without looking at the update: "mean picture", "nearest public picture", "prior-only sample".

    Args:
        backbone: draws the prior-only sample for each true caption, from `seed` in so many `steps`; none without it.
        public: pictures that anybody has.
    """
    if truth.pictures is None:
        raise AttackError("There are no true pictures to compare with; give Truth(pictures=...).")
    found: dict[str, _Pictures] = {}
    if public is not None and len(public):
        mean = public.astype(np.float64).mean(0).round().astype(np.uint8)
        found["mean picture"] = np.repeat(mean[None], len(truth.pictures), axis=0)
        found["nearest public picture"] = np.stack([public[_nearest(public, one)] for one in truth.pictures])
    if backbone is not None:
        captions = list(truth.captions) or [""] * len(truth.pictures)
        found["prior-only sample"] = draw(
            backbone, captions, seeds=[seed + i for i in range(len(captions))], steps=steps
        )
    out = {}
    for name, pictures in found.items():
        rows = [_matched(one[None], other[None]) for one, other in zip(pictures, truth.pictures, strict=True)]
        out[name] = Score(tuple(r[0][0] for r in rows), tuple(r[1][0] for r in rows))
    return out


def _nearest(public: _Pictures, one: _Pictures) -> int:
    return int(np.argmin([np.square(p.astype(np.float32) - one).mean() for p in public]))


@torch.no_grad()
def feature_distance(backbone: Backbone, x: _Pictures, y: _Pictures) -> NDArray[np.float64]:
    """Distance of pictures in the backbone's own middle, (n,), from 0 (equal) up; about 1 for unrelated pictures.

    Like LPIPS (1801.03924) without a download: squared distance of the denoiser's middle features, channels brought to
    unit length, at an early timestep without noise and without a caption, over its mean between neighbours in `y`'s
    order (with one picture: not divided).
    """
    network: Any = backbone.denoiser
    kept: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, out: Any) -> None:
        kept.append(out[0] if isinstance(out, tuple) else out)

    t = backbone.process.stratified_t(_EARLY, 0.0)[1:2].float()
    handle = network.mid_block.register_forward_hook(keep)
    try:
        for pictures in (x, y):
            backbone.predict(backbone.encode(pictures), t, backbone.embed([""] * len(pictures)))
    finally:
        handle.remove()
    a, b = (k / k.norm(dim=1, keepdim=True).clamp_min(1e-12) for k in kept)
    distance = (a - b).square().sum(1).mean((1, 2)).double().numpy()
    if len(y) > 1:
        distance = distance / max(1e-12, float((b - b.roll(1, 0)).square().sum(1).mean()))
    return np.asarray(distance)
