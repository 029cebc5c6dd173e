"""Pixels out of a noised update, polished by the public model: what a prior adds to `pixels`.

Noise on the update becomes noise on the reconstruction, and taking noise off a picture is what a diffusion model has
learnt (GGDM 2406.09484; GradInvDiff, MICCAI 2025, guide the whole reverse process; one step is enough here). The
reconstruction x_1 is taken for x_0 plus noise of unknown strength s: scaled to the timestep t whose noise is s, the
model predicts x_0 from it. Nobody tells the attacker s, so several timesteps are tried, and the one whose polished
picture explains the update best is kept: that compares with what was seen, not with the truth.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..diffusion.backbone import Backbone
from ..diffusion.exclusive import gives_way
from ..diffusion.families import Conditioning
from .opened import Opened, opened, relative_distance
from .outcomes import Clock, Frame, Outcome
from .pixels import guessed_update, pixels, rows_of
from .view import ServerView

__all__ = ["polished", "prior"]

_STRENGTHS = (0.02, 0.05, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5)  # shares of the schedule
_EXPLAINED = 0.5


@gives_way
def prior(
    view: ServerView,
    backbone: Backbone,
    *,
    evaluations: int = 120,
    budget_s: float = 120.0,
    smooth: float = 0.0,
    seed: int = 0,
) -> Iterator[Frame | Outcome]:
    """Reconstruct by `pixels`, stopped early, then polish; needs the same knowledge.

    The outcome's pictures are the polished ones; with next to no noise the plain ones explain the update better, and
    are kept.

    Example:
        >>> *_, outcome = prior(noised.knowing(seed=7, captions=("a fox",)), backbone)  # doctest: +SKIP
    """
    clock = Clock("prior", evaluations=evaluations + len(_STRENGTHS) + 1, budget_s=budget_s)
    plain: Outcome | None = None
    for event in pixels(view, backbone, evaluations=evaluations, budget_s=budget_s * 0.9, smooth=smooth, seed=seed):
        if isinstance(event, Outcome):
            plain = event
        else:
            clock.done = event.evaluations
            yield clock.frame(event.residual, pictures=event.pictures)
    if plain is None or plain.frame.latents is None:
        return
    rows = rows_of(view, backbone)
    x = torch.from_numpy(plain.frame.latents)
    told = backbone.embed(view.knows.captions or [""] * rows.pictures)
    with opened(backbone, view) as model:
        names = [n for n in model.names if not view.first_round or ".lora_B." in n]
        guess, seen = guessed_update(view, model, rows, names)
        eps = rows.eps if rows.eps is not None else torch.zeros((len(rows), *backbone.latent_shape))

        def left(guessed: torch.Tensor) -> float:
            clock.done += 1
            return float(relative_distance([g.detach() for g in guess(guessed, eps)], seen))

        best, best_x = left(x), x
        raw = best
        for strength in _STRENGTHS:
            tried = polished(model, x, told, strength=strength)
            now = left(tried)
            if rows.eps is None or now < best:  # without the noise nothing can be compared: the strongest is taken
                best, best_x = now, tried
            yield clock.frame(best, pictures=model.pictures(best_x))
            if clock.late:
                break
        frame = clock.frame(best, pictures=model.pictures(best_x))
    why = f"{best:.2g} of the update is left unexplained, {raw:.2g} before polishing; noise is not to be explained."
    yield Outcome(frame, best < _EXPLAINED, why, stopped=clock.late)


@torch.no_grad()
def polished(model: Opened, x: torch.Tensor, told: Conditioning, *, strength: float) -> torch.Tensor:
    """One step of the public model from latents (n, c, h, w) with noise to latents without.

    Args:
        strength: at which share of the schedule the noise in `x` belongs, above 0 and below 1.
    """
    process = model.backbone.process
    ladder = process.stratified_t(1000, 0.0)
    t = ladder[int(strength * len(ladder))].expand(len(x)).float()
    one, none = torch.ones_like(x), torch.zeros_like(x)
    clean, noise = process.add_noise(one, none, t), process.add_noise(none, one, t)
    noisy = clean * x
    predicted = model.backbone.predict(noisy, t, told).float()
    # the prediction is u eps + v x0, and noisy is noise eps + clean x0: solve the two for x0
    u, v = process.target(none, one, t), process.target(one, none, t)
    found: torch.Tensor = (noise * predicted - u * noisy) / (noise * v - u * clean)
    return found
