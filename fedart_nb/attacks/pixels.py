"""The pictures themselves, out of an update: L-BFGS on the distance between the update seen and the guess's own.

    min over x (and eps, where the seed is secret) of  sum_l |g_l(x, eps, t) - g*_l|^2 / sum_l |g*_l|^2

in latent space, over all tensors l together; the autoencoder, which is public, makes pictures of the latents. Deep
leakage from gradients (Zhu et al. 1906.08935) with its own optimiser, given enough tries; for diffusion models GIDM
(2405.20380). One global distance converges where cosines and distances by layer do not. In the first round only B's
gradient carries anything: A's is left out.

Several local steps of gradient descent are compared with their mean gradient at the public adapter; `unroll=True`
goes through the steps themselves (Dimitrov et al. 2206.12395), best from the solution of the former. AdamW's first
steps tell hardly more than signs: the guess's gradient is squashed the same way before it is compared.

A sum of n updates is explained by n times as many pictures at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..diffusion.backbone import Backbone
from ..diffusion.exclusive import gives_way
from ..diffusion.families import Conditioning
from ..diffusion.training import TrainConfig, draws_of
from ..errors import AttackError
from .opened import Opened, opened, relative_distance
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["Rows", "guessed_update", "pixels", "rows_of", "variation"]

_INNER = 5  # L-BFGS iterations between two frames
_EXPLAINED = 1e-3
_SOFT = 0.1


@dataclass(frozen=True)
class Rows:
    """What the attacker takes the training rows to have been; R rows of n pictures.

    Attributes:
        picture: (R,), which picture a row shows; eps: (R, c, h, w) or None where it is secret; t: (R,).
        told: R rows; pictures: n.
    """

    picture: torch.Tensor
    eps: torch.Tensor | None = field(repr=False)
    t: torch.Tensor
    told: Conditioning = field(repr=False)
    pictures: int

    def __len__(self) -> int:
        return len(self.t)


def rows_of(view: ServerView, backbone: Backbone) -> Rows:
    """From the seed, or from timesteps with the noise secret.

    Raises:
        AttackError: neither seed nor timesteps are known, or too few captions or timesteps are.
    """
    knows = view.knows
    each = max(view.pictures, view.batch)
    n = each * view.artists
    captions = knows.captions or ()
    if len(captions) != n:
        raise AttackError(f"{len(captions)} captions are known of {n} pictures; give Knowledge(captions=...) for each.")
    told = backbone.embed(captions)
    if knows.seed is None:
        given = knows.timesteps or ()
        want = view.local_steps * view.batch * view.artists
        if len(given) != want:
            raise AttackError(f"{len(given)} timesteps are known, and no seed; {want} rows were trained on.")
        index = torch.arange(want) % n
        return Rows(index, None, torch.tensor(given, dtype=torch.float32), told[index], n)
    seeds = (knows.seed,) if isinstance(knows.seed, int) else knows.seed
    if len(seeds) != view.artists:
        raise AttackError(f"{len(seeds)} seeds are known of {view.artists} artists; give one for each.")
    config = TrainConfig(batch=view.batch, caption_dropout=view.caption_dropout)
    empty = backbone.embed([""])
    picture, eps, t, rows = [], [], [], []
    for artist, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(view.local_steps):
            index = torch.randperm(each, generator=generator)[: view.batch] + artist * each
            drawn = draws_of(backbone, len(index), config, generator)
            picture.append(index)
            eps.append(drawn.eps)
            t.append(drawn.t.float())
            rows.append(told[index].where(~drawn.dropped, empty))
    return Rows(torch.cat(picture), torch.cat(eps), torch.cat(t), Conditioning.cat(rows), n)


@gives_way
def pixels(
    view: ServerView,
    backbone: Backbone,
    *,
    evaluations: int = 350,
    budget_s: float = 120.0,
    unroll: bool = False,
    history: int = 60,
    smooth: float = 0.0,
    start: torch.Tensor | None = None,
    seed: int = 0,
) -> Iterator[Frame | Outcome]:
    """Reconstruct the pictures of an update.

    Args:
        evaluations: gradients of gradients, at most; a secret seed needs a thousand and more.
        unroll: go through the local steps instead of taking their mean gradient.
        history: of L-BFGS; 100 for secret seeds.
        smooth: weight of total variation, for noised updates (3e-2 to 1e-1).
        start: latents to begin with, (n, c, h, w); small noise by default.
        seed: of that noise.

    Raises:
        AttackError: what the attack needs is not known (`rows_of`).

    Example:
        >>> *_, outcome = pixels(view.knowing(seed=7, captions=("a red fox",)), backbone)  # doctest: +SKIP
        >>> outcome.frame.pictures.shape  # doctest: +SKIP
        (1, 128, 128, 3)
    """
    clock = Clock("pixels", evaluations=evaluations, budget_s=budget_s)
    rows = rows_of(view, backbone)
    generator = torch.Generator().manual_seed(seed)
    shape = backbone.latent_shape
    x = (
        0.1 * torch.randn((rows.pictures, *shape), generator=generator)
        if start is None
        else start.clone(memory_format=torch.contiguous_format)
    )
    eps = rows.eps if rows.eps is not None else torch.randn((len(rows), *shape), generator=generator)
    unknown = [x] if rows.eps is not None else [x, eps]
    for part in unknown:
        part.requires_grad_(True)
    with opened(backbone, view) as model:
        names = [n for n in model.names if not view.first_round or ".lora_B." in n]
        guess, seen = guessed_update(view, model, rows, names, unroll=unroll)
        norm2 = max(1e-30, float(torch.stack([s.square().sum() for s in seen]).sum()))
        optimiser = torch.optim.LBFGS(
            unknown,
            lr=1.0,
            max_iter=_INNER,
            history_size=history,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-14,
            tolerance_change=1e-16,
        )
        best, best_x = float("inf"), x.detach().clone()

        def closure() -> torch.Tensor:
            nonlocal best, best_x
            optimiser.zero_grad(set_to_none=True)
            distance = relative_distance(guess(x, eps), seen, norm2)
            loss = distance + smooth * variation(x) if smooth else distance
            loss.backward(inputs=unknown)
            clock.done += 1
            now = float(distance.detach())
            if now < best:
                best, best_x = now, x.detach().clone()
            return loss

        yield clock.frame(1.0, pictures=model.pictures(x))
        while not clock.spent and best > 1e-10:
            before = clock.done
            optimiser.param_groups[0]["max_eval"] = max(1, min(2 * _INNER, evaluations - clock.done))
            optimiser.step(closure)
            yield clock.frame(best, pictures=model.pictures(best_x))
            if clock.done - before <= 1:  # the line search finds nothing better
                break
        frame = clock.frame(best, pictures=model.pictures(best_x), latents=best_x.numpy())
    why = f"{best:.2g} of the update is left unexplained."
    yield Outcome(frame, best < _EXPLAINED, why, stopped=clock.spent)


_Guess = Callable[[torch.Tensor, torch.Tensor], Sequence[torch.Tensor]]


def guessed_update(
    view: ServerView, model: Opened, rows: Rows, names: Sequence[str], *, unroll: bool = False
) -> tuple[_Guess, list[torch.Tensor]]:
    """A function of (x, eps) that gives what these pictures would have sent, and what was seen, tensor by tensor."""
    seen = model.seen(view, names)
    if view.kind == "gradient":
        return _mean_gradient(model, rows, names), [s / view.artists for s in seen]
    if unroll:
        return _unrolled(view, model, rows, names), [s / view.artists for s in seen]
    plain = _mean_gradient(model, rows, names)
    if view.optimiser == "sgd":
        rate = view.learning_rate * view.local_steps * view.artists
        return plain, [-s / rate for s in seen]
    # AdamW: m / sqrt(v) is a sign after one step, and a mean of such after few; its size by tensor says nothing
    towards = [-s / s.square().mean().sqrt().clamp_min(1e-30) for s in seen]
    return lambda x, eps: [_squashed(g) for g in plain(x, eps)], towards


def _squashed(g: torch.Tensor) -> torch.Tensor:
    size = g.square().mean().sqrt() * _SOFT + 1e-30
    out = g / (g.square() + size.square()).sqrt()
    return out / out.square().mean().sqrt()


def _mean_gradient(model: Opened, rows: Rows, names: Sequence[str]) -> _Guess:
    def guess(x: torch.Tensor, eps: torch.Tensor) -> Sequence[torch.Tensor]:
        return model.gradient(x[rows.picture], eps, rows.t, rows.told, names=names)

    return guess


class _Losses(torch.nn.Module):
    """The loss as a module, so that `functional_call` can put other parameters in."""

    def __init__(self, model: Opened) -> None:
        super().__init__()
        self.network = model.backbone.denoiser
        self._model = [model]

    def forward(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        return self._model[0].losses(x, eps, t, told).mean()


def _unrolled(view: ServerView, model: Opened, rows: Rows, names: Sequence[str]) -> _Guess:
    """The steps of gradient descent themselves, differentiable all through; one artist."""
    if view.optimiser != "sgd" or view.artists != 1:
        raise AttackError("unroll goes through gradient descent of one artist; leave unroll at False.")
    losses = _Losses(model)
    inside = {id(p): f"network.{n}" for n, p in model.backbone.denoiser.named_parameters()}
    keys = [inside[id(p)] for p in model.parameters.values()]
    before = dict(zip(keys, model.parameters.values(), strict=True))
    wanted = [inside[id(model.parameters[name])] for name in names]

    def guess(x: torch.Tensor, eps: torch.Tensor) -> Sequence[torch.Tensor]:
        now: dict[str, torch.Tensor] = dict(before)
        with sdpa_kernel(SDPBackend.MATH):
            for k in range(view.local_steps):
                part = slice(k * view.batch, (k + 1) * view.batch)
                told: Any = rows.told[part]
                told_x = x[rows.picture[part]]
                loss = torch.func.functional_call(losses, now, (told_x, eps[part], rows.t[part], told))
                slopes = torch.autograd.grad(loss, list(now.values()), create_graph=True)
                now = {key: p - view.learning_rate * g for (key, p), g in zip(now.items(), slopes, strict=True)}
        return [now[key] - before[key] for key in wanted]

    return guess


def variation(x: torch.Tensor) -> torch.Tensor:
    """Total variation of latents (n, c, h, w): mean absolute difference between neighbours."""
    return (x[..., 1:] - x[..., :-1]).abs().mean() + (x[..., 1:, :] - x[..., :-1, :]).abs().mean()
