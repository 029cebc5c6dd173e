"""The same step under more and more noise: what is rebuilt, who is picked out, and what the formulas promise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from ..attacks.bounds import identification_bound, mu_of, psnr_without_prior
from ..attacks.opened import opened
from ..attacks.pixels import rows_of
from ..attacks.threat import ThreatModel
from ..attacks.view import ServerView
from ..privacy.accounting import Gaussian, epsilon
from .runs import Shot, take_of
from .scene import Defence, Scene

__all__ = ["DELTA", "KNOWING", "Level", "curve", "levels"]

DELTA = 1e-5
#: The attacker's best case: everything but the picture.
KNOWING = ThreatModel("relay", "lora", frozenset({"seed", "captions", "candidates"}), first_round=True)
_DRAWS = 20  # of noise for each candidate; the share's standard error is told with it


@dataclass(frozen=True)
class Level:
    """One amount of noise on one step.

    Attributes:
        noise_multiplier: sigma; epsilon: of this one step for one picture added or left out, at `DELTA`.
        shot: the end of the reconstruction.
        ranking: (candidate, score), best first, for this scene's own noise.
        picked: how often the right candidate came first, over all candidates and `trials` draws of noise in all.
        bound: more often than this nobody can be right.
    """

    noise_multiplier: float
    epsilon: float
    shot: Shot = field(repr=False)
    ranking: tuple[tuple[int, float], ...] = field(repr=False)
    picked: float
    trials: int
    bound: float

    def __str__(self) -> str:
        return (
            f"Noise {self.noise_multiplier:g}, epsilon {self.epsilon:.3g}: {self.shot.score} Picked out of "
            f"{len(self.ranking)} in {self.picked:.0%} of {self.trials} draws; nobody can beat {self.bound:.0%}."
        )


def levels(
    scene: Scene, noise_multipliers: Sequence[float], *, evaluations: int = 300, budget_s: float = math.inf
) -> Iterator[Shot | Level]:
    """A `Level` for each amount of noise, 0 for none, with the shots of its reconstruction before it.

    Candidates' gradients are taken with the step's own noise and timestep (the attacker knows the seed), so this is
    the attack that the bound is about.
    """
    plain = scene.view(KNOWING, Defence())
    directions = _directions(scene, plain)
    for sigma in noise_multipliers:
        defence = Defence(noise_multiplier=sigma)
        shot: Shot | None = None
        for event in take_of(scene, KNOWING, defence, "pixels", evaluations=evaluations, budget_s=budget_s):
            if isinstance(event, Shot):
                shot = event
                yield event
        if shot is not None:
            yield _level(scene, scene.view(KNOWING, defence), directions, sigma, shot)


def curve(
    candidates: int, *, numbers: int, lowest: float = 0.003, highest: float = 8.0
) -> list[tuple[float, float, float]]:
    """(epsilon, bound on picking one out of N, PSNR in dB without a prior) of one step, for `risk_corridor`.

    Args:
        numbers: of values in the picture.
    """
    points = 40
    out = []
    for i in range(points):
        sigma = lowest * (highest / lowest) ** (i / (points - 1))
        cost = epsilon([Gaussian(sigma)], delta=DELTA)
        bound = identification_bound(mu_of(sigma), candidates)
        out.append((cost, bound, psnr_without_prior(sigma, numbers=numbers)))
    return out


def _directions(scene: Scene, view: ServerView) -> torch.Tensor:
    """Each candidate's gradient under the step's own noise and timestep, clipped to length 1, (N, parameters)."""
    rows = rows_of(view, scene.backbone)
    if rows.eps is None:
        raise ValueError("the seed is not known in this view")
    latents, told = scene.backbone.encode(scene.lineup), scene.backbone.embed(scene.lineup_captions)
    with opened(scene.backbone, view) as model:
        found = torch.cat(list(model.by_picture(latents, told, rows.eps, rows.t)))
    out: torch.Tensor = found / found.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return out


def _level(scene: Scene, view: ServerView, directions: torch.Tensor, sigma: float, shot: Shot) -> Level:
    with opened(scene.backbone, view) as model:
        seen = model.flat(model.seen(view))
    scores = directions @ seen / seen.norm().clamp_min(1e-30)  # the likeliest, for directions of one length
    order = torch.argsort(scores, descending=True)
    generator = torch.Generator().manual_seed(scene.seed)
    right, trials = 0, 0
    for i, row in enumerate(directions):
        for _ in range(_DRAWS if sigma else 1):
            noised = row + sigma * torch.randn(row.shape, generator=generator)
            right += int((directions @ noised).argmax()) == i
            trials += 1
    return Level(
        sigma,
        epsilon([Gaussian(sigma)], delta=DELTA) if sigma else math.inf,
        shot,
        tuple((int(i), float(scores[i])) for i in order),
        right / trials,
        trials,
        identification_bound(mu_of(sigma), len(directions)),
    )
