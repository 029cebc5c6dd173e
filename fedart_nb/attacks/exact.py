"""Pictures, exactly, by linear algebra: no gradient is matched, sums and batches come apart, seeds may stay secret.

A convolution's gradient is G = D U^T: D its outputs' gradients, U its input's patches, a column for each position of
each picture. Where a layer has fewer of these than channels, the rows of G span exactly the patches (ranks of
gradients: R-GAP, Zhu & Blaschko 2010.07733; SPEAR, Dimitrov et al. 2403.03945; guesses tested by spans: DAGER,
Petrov et al. 2405.15586). With S an orthonormal basis of that span, and U(x_t) the patches that noisy
latents x_t at a row's timestep would have:

    min over x_t of  sum over layers of  |(1 - S S^T) U(x_t)|^2 / |U(x_t)|^2

Every picture of a sum or batch is a zero of its own; no second derivative is taken, and the network is run to the last
such layer alone. Group norms hide the size of x_t: too large ones are fined until the valley is found.

From a known seed's noise follows x_0. With it secret, the last layer's gradient D U^T, with U known, is a linear
system for D = 2 (v - v*) / numel: the true target v*, hence x_0 and the noise too, of as many pictures as it has
equations for.

Noise of any size worth the name fills the span, and ends this attack at its first line; clipping does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .._system.cancelling import checkpoint
from ..diffusion.backbone import Backbone
from ..diffusion.exclusive import gives_way
from ..diffusion.families import Conditioning
from ..diffusion.process import Process, apart, coefficients
from ..errors import AttackError
from .opened import Opened, opened, relative_distance
from .outcomes import Clock, Frame, Outcome
from .pixels import Rows, rows_of
from .timesteps import timesteps
from .view import ServerView

__all__ = ["exact"]

_CUT = 1e-6  # of the largest singular value; float32 leaves 3e-8 where there should be nothing
_LAYERS = 3  # read together; the first are the nearest to the picture
_INNER = 50  # L-BFGS iterations between two frames
_STARTS = 12
_FIRST = 200  # evaluations with the fine, from each start
_FINE = 0.1
_VALLEY = 1e-2  # outside the spans after them: above, another start is better
_FOUND = 1e-5
_EXPLAINED = 1e-3


@gives_way
def exact(
    view: ServerView, backbone: Backbone, *, evaluations: int = 2500, budget_s: float = 120.0, seed: int = 0
) -> Iterator[Frame | Outcome]:
    """Reconstruct the pictures of one step's gradient of the whole denoiser: of one artist, or of a sum.

    Args:
        evaluations: passes through the layers that are read, at most, for each picture (and each caption that it may
            have, where the seed is secret).
        seed: of what is begun with.

    Raises:
        AttackError: an adapter's update (its rank is below the number of positions), several steps, unknown captions,
            or more pictures than any layer of the backbone can hold apart.

    Example:
        >>> *_, outcome = exact(view.knowing(captions=("a red fox",)), backbone)  # doctest: +SKIP
        >>> outcome.frame.pictures.shape  # doctest: +SKIP
        (1, 128, 128, 3)
    """
    rows = _rows_of(view, backbone)
    n, process = len(rows), backbone.process
    clock = Clock("exact", evaluations=evaluations * n, budget_s=budget_s)
    generator = torch.Generator().manual_seed(seed)
    with opened(backbone, view) as model:
        layers = _layers_of(model, view, rows)
        if noised := next((layer for layer in layers if layer.rank > layer.most), None):
            why = (
                f"the gradient of {noised.name} has rank {noised.rank}, and {n} pictures have {noised.most} patches: "
                "it is noised, or there are more pictures in it."
            )
            yield Outcome(clock.frame(), False, why)
            return
        noisy = torch.zeros(n, *backbone.latent_shape)
        clean, order, worst = noisy.clone(), list(range(n)), 0.0
        for row in range(n):
            t, best, picked = rows.t[row : row + 1], math.inf, order[row]
            own = None if rows.eps is None else rows.eps[row : row + 1]
            for choice in order[row:] if own is None else [row]:
                told = rows.told[choice : choice + 1]
                outside = _outside(backbone, layers, t, told)

                def begin(own: torch.Tensor | None = own, t: torch.Tensor = t) -> torch.Tensor:
                    drawn = torch.randn(2, *backbone.latent_shape, generator=generator)
                    return process.add_noise(drawn[:1], drawn[1:] if own is None else own, t)

                for away, x in _descents(outside, begin, _variance(process, t), clock, evaluations):
                    if away < best:
                        best, noisy[row], picked = away, x[0], choice
                        clean[row] = _guess(backbone, x, own, t, told)[0]
                    yield clock.frame(pictures=model.pictures(clean))
                if best < _FOUND or clock.late:
                    break
            order.remove(picked)
            order.insert(row, picked)
            worst = max(worst, best)
        told, eps = rows.told[torch.tensor(order)], rows.eps
        if eps is None:
            clean, eps = apart(process, noisy, _targets(model, view, noisy, rows.t, told), rows.t)
        found = model.gradient(clean, eps, rows.t, told, again=False)
        left = float(relative_distance([g * view.artists for g in found], model.seen(view)))
        frame = clock.frame(left, pictures=model.pictures(clean), latents=clean.numpy())
    names = ", ".join(layer.name for layer in layers)
    why = f"{worst:.1g} of a picture's patches lies outside the spans of {names}; {left:.2g} of the update is left."
    yield Outcome(frame, left < _EXPLAINED, why, stopped=clock.late)


def _rows_of(view: ServerView, backbone: Backbone) -> Rows:
    if not view.full:
        raise AttackError(
            "The update is an adapter's: its gradients have the adapter's rank, and hold mixtures of so many patches "
            "alone. This attack needs the gradient of the whole denoiser; use pixels."
        )
    if view.local_steps != 1:
        raise AttackError(f"{view.local_steps} local steps; this attack reads one step's gradient. Use pixels.")
    if view.knows.seed is None and view.knows.timesteps is None:
        for event in timesteps(view, backbone):
            if isinstance(event, Outcome):
                view = view.knowing(timesteps=event.frame.timesteps)
    return rows_of(view, backbone)


# --- the layers that are read ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A 3 x 3 convolution whose gradient spans its input's patches: `basis` (rank, 9 c_in); `most`, its patches."""

    name: str
    module: torch.nn.Conv2d = field(repr=False)
    most: int
    rank: int
    basis: torch.Tensor = field(repr=False)

    def patches(self, h: torch.Tensor) -> torch.Tensor:
        """Of an input (n, c_in, height, width): (n, 9 c_in, positions)."""
        return functional.unfold(h, 3, padding=1, stride=self.module.stride)

    def outside(self, h: torch.Tensor) -> torch.Tensor:
        """The share of the patches' squared length that is outside the span; differentiable but for the length."""
        patches = self.patches(h.float())[0]
        left = patches - self.basis.T @ (self.basis @ patches)
        return left.square().sum() / patches.detach().square().sum()


def _layers_of(model: Opened, view: ServerView, rows: Rows) -> list[_Layer]:
    """The first few convolutions with fewer patches than they can hold apart, in the order in which they are passed."""
    backbone, part, tensors = model.backbone, model.backbone.family.denoiser, view.tensors
    denoiser: Any = backbone.denoiser
    passed: list[tuple[str, torch.nn.Conv2d, int]] = []
    handles = []
    for name, module in denoiser.named_modules():
        if isinstance(module, torch.nn.Conv2d) and (module.kernel_size, module.padding) == ((3, 3), (1, 1)):

            def note(module: Any, given: Any, name: str = name) -> None:
                passed.append((name, module, functional.unfold(given[0][:, :1], 3, 1, 1, module.stride).shape[2]))

            handles.append(module.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            backbone.predict(torch.zeros(1, *backbone.latent_shape), rows.t[:1], rows.told[:1])
    finally:
        for handle in handles:
            handle.remove()
    found: list[_Layer] = []
    for name, module, positions in passed:
        most, wire = positions * len(rows), f"{part}.{name}.weight"
        if wire not in tensors or most >= min(module.out_channels, 9 * module.in_channels):
            continue
        gradient = torch.from_numpy(tensors[wire].astype(np.float64)).flatten(1)
        _, sizes, right = torch.linalg.svd(gradient, full_matrices=False)
        rank = int((sizes > _CUT * sizes[0]).sum())
        found.append(_Layer(name, module, most, rank, right[: min(rank, most)].float()))
        if len(found) == _LAYERS:
            return found
    raise AttackError(
        f"{len(found)} of the {len(passed)} convolutions of {backbone.name!r} have fewer positions than channels for "
        f"{len(rows)} pictures of this size; expected {_LAYERS} to read. Use pixels, or fewer pictures."
    )


class _Passed(Exception):
    """No error: the pass through the network may end here."""


def _outside(
    backbone: Backbone, layers: Sequence[_Layer], t: torch.Tensor, told: Conditioning
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function of x_t: how much of its patches lies outside the spans, over all layers; the rest is not run."""

    def outside(x_t: torch.Tensor) -> torch.Tensor:
        shares: list[torch.Tensor] = []

        def read(layer: _Layer) -> Callable[[Any, Any], None]:
            def hook(_module: Any, given: Any) -> None:
                shares.append(layer.outside(given[0]))
                if len(shares) == len(layers):
                    raise _Passed

            return hook

        handles = [layer.module.register_forward_pre_hook(read(layer)) for layer in layers]
        try:
            backbone.predict(x_t, t, told)
        except _Passed:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(shares).sum()

    return outside


# --- from the spans to noisy latents --------------------------------------------------------------------------------


def _descents(
    outside: Callable[[torch.Tensor], torch.Tensor],
    begin: Callable[[], torch.Tensor],
    variance: float,
    clock: Clock,
    evaluations: int,
) -> Iterator[tuple[float, torch.Tensor]]:
    """L-BFGS from one start after another until one ends in a zero: (share outside, x_t), of the present start."""
    end = clock.done + evaluations
    for _ in range(_STARTS):
        x = begin().contiguous().requires_grad_(True)
        away = math.inf
        for fine, until in ((_FINE, min(end, clock.done + _FIRST)), (0.0, end)):
            for away in _descent(outside, x, fine, variance, clock, until):
                yield away, x.detach().clone()
            if away > _VALLEY:
                break
        if away < _FOUND or clock.done >= end or clock.late:
            return


def _descent(
    outside: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    fine: float,
    variance: float,
    clock: Clock,
    until: int,
) -> Iterator[float]:
    """Move x in place, and yield the share outside; L-BFGS forgets what it learned when it stands still, twice."""
    now, fresh = math.nan, math.nan

    def closure() -> torch.Tensor:
        nonlocal now
        optimiser.zero_grad(set_to_none=True)
        share = outside(x)
        loss = share + fine * (x.square().mean() / variance - 1).relu().square() if fine else share
        loss.backward(inputs=[x])
        if x.grad is not None:
            x.grad = x.grad.contiguous()
        clock.done += 1
        now = float(share.detach())
        checkpoint()
        return loss

    while clock.done < until and not clock.late and not now > fresh / 2:
        fresh = now
        optimiser = torch.optim.LBFGS(
            [x],
            max_iter=_INNER,
            history_size=_INNER,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-14,
            tolerance_change=1e-16,
        )
        moved = True
        while moved and clock.done < until and not clock.late:
            before = clock.done
            optimiser.param_groups[0]["max_eval"] = max(1, min(2 * _INNER, until - clock.done))
            optimiser.step(closure)
            moved = clock.done - before > _INNER // 2
            yield now


def _variance(process: Process, t: torch.Tensor) -> float:
    """Of x_t, for latents of variance 1."""
    a, s, _, _ = coefficients(process, t)
    return float(a.square() + s.square())


# --- from noisy latents to pictures ---------------------------------------------------------------------------------


@torch.no_grad()
def _guess(
    backbone: Backbone, x_t: torch.Tensor, eps: torch.Tensor | None, t: torch.Tensor, told: Conditioning
) -> torch.Tensor:
    """Clean latents: by the known noise, else what the denoiser takes them for."""
    if eps is None:
        return apart(backbone.process, x_t, backbone.predict(x_t, t, told).float(), t)[0]
    a, s, _, _ = coefficients(backbone.process, t)
    return (x_t - s * eps) / a.clamp_min(1e-6)


@torch.no_grad()
def _targets(model: Opened, view: ServerView, x_t: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
    """What the denoiser should have said, from its last convolution's gradient; for want of equations, what it said."""
    denoiser: Any = model.backbone.denoiser
    part = model.backbone.family.denoiser
    given: list[torch.Tensor] = []
    handle = denoiser.conv_out.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    try:
        said = model.backbone.predict(x_t, t, told).float()
    finally:
        handle.remove()
    patches = torch.cat(list(functional.unfold(given[0].double(), 3, padding=1)), dim=1)  # (9 c, n positions)
    patches = torch.cat([patches, torch.ones(1, patches.shape[1], dtype=torch.float64)])
    if patches.shape[1] > patches.shape[0]:
        return said
    weight = torch.from_numpy(view.tensors[f"{part}.conv_out.weight"].astype(np.float64)).flatten(1)
    bias = torch.from_numpy(view.tensors[f"{part}.conv_out.bias"].astype(np.float64))
    seen = torch.cat([weight, bias[:, None]], dim=1) / view.artists
    slopes = torch.linalg.lstsq(patches, seen.T).solution  # (n positions, channels)
    slopes = slopes.reshape(len(said), -1, said.shape[1]).transpose(1, 2).reshape(said.shape)
    true: torch.Tensor = said - (slopes * said.numel() / 2).float()
    return true
