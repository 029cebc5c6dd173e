"""Which of N candidate pictures was trained on? The attack that works on realistic rounds.

An update points, on average over noise and timesteps, against the gradient of the loss of the pictures that it was
trained on. So each candidate's mean gradient at the public adapter is compared with it; what all candidates have in
common is taken away first. The seed need not be known, and more local steps help (they average over the noise).
After Hayes, Mahloujifar & Balle 2302.07225 for known noise; here the noise is averaged over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist

import torch

from ..diffusion.backbone import Backbone
from ..diffusion.exclusive import gives_way
from ..errors import AttackError
from .opened import opened
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["Features", "features_of", "identify", "scores_of"]

_LEAST, _MOST = 0.05, 0.95  # shares of the schedule between which timesteps are averaged over
_SURE = 0.01


@dataclass(frozen=True)
class Features:
    """Candidates' mean gradients, (N, parameters); the same for every update from one shared adapter."""

    rows: torch.Tensor = field(repr=False)
    draws: int


@gives_way
def features_of(view: ServerView, backbone: Backbone, *, draws: int = 12, seed: int = 0) -> Iterator[Frame | Features]:
    """Compute them, with a frame for every few candidates: the slow part, shared by updates of one round."""
    yield from _features(view, backbone, Clock("identify", evaluations=_count(view), budget_s=math.inf), draws, seed)


def _count(view: ServerView) -> int:
    candidates = view.knows.candidates
    if candidates is None or len(candidates) < 2:
        raise AttackError(
            "There are no candidates to choose from. Give Knowledge(candidates=...), two pictures or more."
        )
    return len(candidates)


def _features(view: ServerView, backbone: Backbone, clock: Clock, draws: int, seed: int) -> Iterator[Frame | Features]:
    candidates = view.knows.candidates
    captions = view.knows.candidate_captions or ("",) * _count(view)
    if candidates is None:
        return
    latents, told = backbone.encode(candidates), backbone.embed(captions)
    generator = torch.Generator().manual_seed(seed)
    eps = torch.randn((draws, *backbone.latent_shape), generator=generator)
    top = backbone.process.stratified_t(draws, 0.5)
    t = top * (_MOST - _LEAST) + top.max() * _LEAST if top.is_floating_point() else top
    rows: list[torch.Tensor] = []
    with opened(backbone, view) as model:
        for part in model.by_picture(latents, told, eps, t.float()):
            rows.append(part)
            clock.done += len(part)
            yield clock.frame()
            if clock.late:
                return
    yield Features(torch.cat(rows), draws)


def scores_of(view: ServerView, features: Features, seen: torch.Tensor) -> torch.Tensor:
    """Each candidate's cosine with minus the update (plus a gradient), after what they share is taken away, (N,).

    An adaptive optimiser levels the parameters' scales, so for its updates every parameter's gradients are divided by
    their root mean square over the candidates.
    """
    rows = features.rows
    towards = seen if view.kind == "gradient" else -seen
    if view.kind == "steps":
        rows = rows / rows.square().mean(0).sqrt().clamp_min(1e-12)
    rows = rows - rows.mean(0)
    lengths = rows.norm(dim=1).clamp_min(1e-12)
    scores: torch.Tensor = (rows @ towards) / lengths / towards.norm().clamp_min(1e-12)
    return scores


@gives_way
def identify(
    view: ServerView,
    backbone: Backbone,
    *,
    draws: int = 12,
    features: Features | None = None,
    budget_s: float = 60.0,
    evaluations: int | None = None,
) -> Iterator[Frame | Outcome]:
    """Rank the candidates of `view.knows` by how well they explain the update.

    Args:
        draws: noises and timesteps that each candidate's gradient is averaged over.
        features: from an earlier run with the same shared adapter and candidates.
        evaluations: how many candidates to look at, at most; all of them by default.

    Raises:
        AttackError: fewer than two candidates.

    Example:
        >>> *_, outcome = identify(view, backbone)  # doctest: +SKIP
        >>> print(outcome)  # doctest: +SKIP
    """
    clock = Clock("identify", evaluations=min(_count(view), evaluations or _count(view)), budget_s=budget_s)
    if features is None:
        for event in _features(view, backbone, clock, draws, 0):
            if isinstance(event, Features):
                features = event
            else:
                yield event
                if clock.spent and clock.done < _count(view):
                    break
    if features is None:
        yield Outcome(clock.frame(), False, "not every candidate was looked at.", stopped=True)
        return
    clock.done = len(features.rows)
    with opened(backbone, view) as model:
        scores = scores_of(view, features, model.flat(model.seen(view)))
    order = torch.argsort(scores, descending=True)
    ranking = tuple((int(i), float(scores[i])) for i in order)
    chance = _chance(scores)
    frame = clock.frame(ranking=ranking)
    yield frame
    why = f"so clear a winner comes about in {chance:.2g} of updates that have nothing to do with any candidate."
    yield Outcome(frame, chance < _SURE, why)


def _chance(scores: torch.Tensor) -> float:
    """How often the best of N scores would stand out as far by chance, taking the others for Gaussian."""
    best, rest = scores.max(), scores[scores < scores.max()]
    if len(rest) < 2 or not float(rest.std()):
        return 1.0
    z = float((best - rest.mean()) / rest.std())
    return 1 - NormalDist().cdf(z) ** len(scores)
