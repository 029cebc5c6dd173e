"""One picture, exactly, by linear algebra: no gradient is matched, and the seed may stay secret.

A convolution's gradient is G = D U^T: D its outputs' gradients, U its input's patches, a column for each position.
Where a layer has fewer positions than channels, G's rows span exactly the patches, but mixed (ranks: R-GAP,
Zhu & Blaschko 2010.07733; SPEAR, Dimitrov et al. 2403.03945). Patches overlap, and at the border they hold zeros, so
that among all inputs whose patches lie in that span there is one alone, up to its size:

    h  =  the null vector of  sum_p U_p^T (1 - S S^T) U_p,      S the span of G's rows, U_p h the patch at p

The layers before it are public, and fall to L-BFGS without any second derivative: x_t. From a known seed's noise
follows x_0. With the seed secret, the last layer's gradient D U^T, with U known, is a linear system for
D = 2 (v - v*) / numel: the true target v*, hence x_0 and the noise too.

Noise of any size worth the name fills the span, and ends this attack at its first line; so does a second picture in the
layer chosen, clipping does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ..diffusion.backbone import Backbone
from ..diffusion.process import Process
from ..errors import AttackError
from .frames import Clock, Frame, Outcome
from .opened import Opened, opened, relative_distance
from .pixels import Rows, rows_of
from .timesteps import timesteps
from .view import ServerView

__all__ = ["exact"]

_CUT = 1e-6  # of the largest singular value; float32 leaves 3e-8 where there should be nothing
_MOST = 8192  # numbers in a layer's input: its normal matrix is dense
_INNER = 25  # L-BFGS iterations between two frames
_EXPLAINED = 1e-3
_ALONE = 1e-6  # of the second smallest eigenvalue: the smallest is zero, and there is one


def exact(
    view: ServerView, backbone: Backbone, *, evaluations: int = 500, budget_s: float = 60.0, seed: int = 0
) -> Iterator[Frame | Outcome]:
    """Reconstruct the one picture of one step's gradient of the whole denoiser.

    Args:
        evaluations: passes through the layers before the one that is read, at most.
        seed: of the noise to begin with, where the artist's own is secret.

    Raises:
        AttackError: an adapter's update (its rank is below the number of positions), several pictures or steps,
            unknown captions, or a backbone without a layer to read.

    Example:
        >>> *_, outcome = exact(view.knowing(captions=("a red fox",)), backbone)  # doctest: +SKIP
        >>> outcome.frame.pictures.shape  # doctest: +SKIP
        (1, 128, 128, 3)
    """
    clock = Clock("exact", evaluations=evaluations, budget_s=budget_s)
    rows = _row_of(view, backbone)
    process = backbone.process
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((1, *backbone.latent_shape), generator=generator) if rows.eps is None else rows.eps
    with opened(backbone, view) as model:
        layer = _layer_of(model, view, process.add_noise(torch.zeros_like(noise), noise, rows.t), rows)
        gradient = view.tensors[layer.wire].astype(np.float64)
        known, why = _input_of(torch.from_numpy(gradient), layer)
        if known is None:
            yield Outcome(clock.frame(), False, why)
            return
        target = known.float()
        x = process.add_noise(torch.zeros_like(noise), noise, rows.t).contiguous().requires_grad_(True)
        optimiser = torch.optim.LBFGS(
            [x],
            lr=1.0,
            max_iter=_INNER,
            history_size=50,
            line_search_fn="strong_wolfe",
            tolerance_grad=1e-14,
            tolerance_change=1e-16,
        )
        best, best_x = math.inf, x.detach().clone()

        def closure() -> torch.Tensor:
            nonlocal best, best_x
            optimiser.zero_grad(set_to_none=True)
            h = layer.reach(x)
            along = (h * target).sum() * target  # its size is not known
            loss = (h - along).square().sum() / h.detach().square().sum()
            loss.backward(inputs=[x])
            if x.grad is not None:
                x.grad = x.grad.contiguous()
            clock.done += 1
            now = float(loss.detach())
            if now < best:
                best, best_x = now, x.detach().clone()
            return loss

        def guess(x_t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Clean latents and noise: the denoiser's own guess where the noise is not known."""
            if rows.eps is not None:
                return _without(process, x_t, rows.eps, rows.t), rows.eps
            with torch.no_grad():
                return _apart(process, x_t, backbone.predict(x_t, rows.t, rows.told).float(), rows.t)

        while not clock.spent:
            before = clock.done
            optimiser.param_groups[0]["max_eval"] = max(1, min(2 * _INNER, evaluations - clock.done))
            optimiser.step(closure)
            yield clock.frame(pictures=model.pictures(guess(best_x)[0]))
            if clock.done - before <= 1:  # the line search finds nothing better
                break
        stopped = clock.spent
        x_0, eps = guess(best_x)
        if rows.eps is None:
            x_0, eps = _apart(process, best_x, _target_of(model, view, best_x, rows), rows.t)
        found = model.gradient(x_0, eps, rows.t, rows.told, again=False)
        left = float(relative_distance(found, model.seen(view)))
        frame = clock.frame(left, pictures=model.pictures(x_0), latents=x_0.numpy())
    yield Outcome(frame, left < _EXPLAINED, f"{layer.name}: {why} {left:.2g} of the update is left.", stopped=stopped)


def _row_of(view: ServerView, backbone: Backbone) -> Rows:
    if not view.full:
        raise AttackError(
            "The update is an adapter's: its gradients have the adapter's rank, and hold mixtures of so many patches "
            "alone. This attack needs the gradient of the whole denoiser; use pixels."
        )
    if view.artists * view.local_steps * view.batch != 1:
        raise AttackError(
            f"{view.artists} artists, {view.local_steps} steps and batches of {view.batch}; this attack reads one "
            "picture of one step. Use pixels."
        )
    if view.knows.seed is None and view.knows.timesteps is None:
        for event in timesteps(view, backbone):
            if isinstance(event, Outcome):
                view = view.knowing(timesteps=event.frame.timesteps[:1])
    return rows_of(view, backbone)


@dataclass(frozen=True)
class _Layer:
    """A 3 x 3 convolution to read: input (channels, height, width), and how to reach that input from x_t."""

    name: str
    wire: str
    shape: tuple[int, int, int]
    reach: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)


class _Reached(Exception):
    """No error: the pass through the network may end here."""

    def __init__(self, h: torch.Tensor) -> None:
        self.h = h


def _layer_of(model: Opened, view: ServerView, x: torch.Tensor, rows: Rows) -> _Layer:
    """The first convolution with fewer positions than the span can hold, and more numbers than the latents."""
    backbone, part = model.backbone, model.backbone.family.denoiser
    denoiser: Any = backbone.denoiser
    passed: list[tuple[str, Any, tuple[int, int, int]]] = []
    handles = []
    for name, module in denoiser.named_modules():
        if isinstance(module, torch.nn.Conv2d) and (module.kernel_size, module.stride, module.padding) == (
            (3, 3),
            (1, 1),
            (1, 1),
        ):

            def note(module: Any, given: Any, name: str = name) -> None:
                passed.append((name, module, tuple(given[0].shape[1:])))

            handles.append(module.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            backbone.predict(x, rows.t, rows.told)
    finally:
        for handle in handles:
            handle.remove()
    for name, module, (c, h, w) in passed:
        room = min(module.out_channels, 9 * c) - 1
        if h * w <= room and x.numel() <= c * h * w <= _MOST and f"{part}.{name}.weight" in view.tensors:
            return _Layer(name, f"{part}.{name}.weight", (c, h, w), _reach(backbone, module, rows))
    raise AttackError(
        f"None of the {len(passed)} convolutions of {backbone.name!r} has fewer positions than channels and "
        f"{x.numel():,} to {_MOST:,} numbers at its input; this attack cannot read pictures of this size. Use pixels."
    )


def _reach(backbone: Backbone, module: torch.nn.Module, rows: Rows) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from x_t to a layer's input (c, h, w); the layers after it are not run."""

    def stop(_module: Any, given: Any) -> None:
        raise _Reached(given[0])

    def reach(x_t: torch.Tensor) -> torch.Tensor:
        handle = module.register_forward_pre_hook(stop)
        try:
            backbone.predict(x_t, rows.t, rows.told)
        except _Reached as reached:
            return reached.h[0].float()
        finally:
            handle.remove()
        raise AttackError("The layer was passed in one pass, and not in the next; the backbone changes as it runs.")

    return reach


def _input_of(gradient: torch.Tensor, layer: _Layer) -> tuple[torch.Tensor | None, str]:
    """The layer's input (c, h, w) with length 1, out of its gradient (c_out, c, 3, 3), float64; and a sentence."""
    c, height, width = layer.shape
    positions, size = height * width, c * height * width
    _, sizes, right = torch.linalg.svd(gradient.reshape(len(gradient), -1), full_matrices=False)
    rank = int((sizes > _CUT * sizes[0]).sum())
    if rank > positions or not float(sizes[0]):
        return None, (
            f"the gradient of {layer.name} has rank {rank}, and one picture has {positions} positions: "
            "it is noised, or there is more than one picture in it."
        )
    outside = torch.eye(9 * c, dtype=torch.float64) - right[:rank].T @ right[:rank]
    index = torch.arange(1, size + 1, dtype=torch.float64).view(1, c, height, width)
    places = functional.unfold(index, 3, padding=1)[0].long()  # (9 c, positions); 0 is the border
    normal = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    for p in range(positions):
        at = places[:, p]
        inside = at > 0  # a border's zero is known to be zero
        at = at[inside]
        normal[at[:, None], at] += outside[inside][:, inside]
    normal = normal[1:, 1:]
    factor = torch.linalg.cholesky(normal + 1e-12 * torch.eye(size, dtype=torch.float64))
    some = torch.randn(size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for _ in range(8):
        some, _ = torch.linalg.qr(torch.cholesky_solve(some, factor))
    values, vectors = torch.linalg.eigh(some.T @ normal @ some)
    if float(values[0]) > _ALONE * float(values[1]):
        return None, f"no input's patches lie in the span of {layer.name}'s gradient: it is noised."
    h = (some @ vectors[:, 0]).view(c, height, width)
    why = f"one input alone fits its gradient's {rank} dimensions."
    return h * h.sum().sign(), why  # after SiLU the larger part is positive


def _coefficients(process: Process, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(a, s, c, d): x_t = a x_0 + s eps, target = c x_0 + d eps."""
    one, none = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    return (
        process.add_noise(one, none, t),
        process.add_noise(none, one, t),
        process.target(one, none, t),
        process.target(none, one, t),
    )


def _without(process: Process, x_t: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    a, s, _, _ = _coefficients(process, t)
    return (x_t - s * eps) / a.clamp_min(1e-6)


def _apart(
    process: Process, x_t: torch.Tensor, target: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean latents and noise, of x_t and the target."""
    a, s, c, d = _coefficients(process, t)
    det = a * d - s * c
    return (d * x_t - s * target) / det, (a * target - c * x_t) / det


@torch.no_grad()
def _target_of(model: Opened, view: ServerView, x_t: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The denoiser's true target, from the gradient of its last convolution, whose input is known with x_t."""
    denoiser: Any = model.backbone.denoiser
    part = model.backbone.family.denoiser
    given: list[torch.Tensor] = []
    handle = denoiser.conv_out.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    try:
        predicted = model.backbone.predict(x_t, rows.t, rows.told).float()
    finally:
        handle.remove()
    patches = functional.unfold(given[0].double(), 3, padding=1)[0]
    patches = torch.cat([patches, torch.ones(1, patches.shape[1], dtype=torch.float64)])
    weight = torch.from_numpy(view.tensors[f"{part}.conv_out.weight"].astype(np.float64))
    bias = torch.from_numpy(view.tensors[f"{part}.conv_out.bias"].astype(np.float64))
    seen = torch.cat([weight.reshape(len(weight), -1), bias[:, None]], dim=1)
    slopes = torch.linalg.lstsq(patches, seen.T).solution.T.reshape(predicted.shape)
    target: torch.Tensor = predicted - (slopes * predicted.numel() / 2).float()
    return target
