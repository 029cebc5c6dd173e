"""What a host that breaks the rules can do, each with what stops it in this program. Off by default; see `threat.py`.

imprint   a layer planted before the denoiser sorts the noisy inputs into bins by one projection. The bins' gradients
          are cumulative sums of inputs, so that differences between neighbours are single inputs, exactly, out of a
          sum of any number of artists (Fowl et al. 2110.13057; no mask helps). Stopped by: plans name the backbone's
          hash, and `rounds.tampering.suspicions` finds a layer whose rows all point the same way.
forked    all artists but one are given an adapter of zeros: they send zeros, and the sum is the one's own update
          (Pasquini et al. 2111.07380). Stopped by: artists refuse zeros and every adapter but the last result, and
          masks are bound to the adapter's hash, so that sums over different ones do not open.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion.adapters import Adapter
from ..diffusion.backbone import Backbone
from ..diffusion.process import apart
from ..errors import AttackError
from ..federated.tampering import suspicions
from .identify import identify
from .outcomes import Clock, Frame, Outcome
from .timesteps import timesteps
from .view import ServerView

__all__ = ["detect", "forked", "imprint", "planted", "zeroed"]

_NAME = "imprint"
_SMALL = 1e-6  # of the planted layer's output, so that the model does not notice
_EMPTY = 1e-5  # of the largest difference: a bin with nothing in it
_SHOWN = 16


class _Imprint(torch.nn.Module):
    """z + tiny * sum_k relu(<w, z> - q_k), added to every number; the layer's rows are all w, the q_k quantiles."""

    def __init__(self, along: torch.Tensor, quantiles: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(along.expand(len(quantiles), -1).clone())
        self.bias = torch.nn.Parameter(-quantiles)
        self._tiny = _SMALL / len(quantiles)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        bins = torch.nn.functional.linear(z.flatten(1), self.weight, self.bias).relu()
        return z + self._tiny * bins.sum(1)[:, None, None, None]


@contextmanager
def planted(backbone: Backbone, public: NDArray[np.uint8], *, bins: int = 512, seed: int = 0) -> Iterator[None]:
    """The backbone with an imprint layer before its denoiser, as a foul host would hand it out; taken out at the end.

    Args:
        public: pictures that anybody has, uint8 (m, h, w, 3): the bins are quantiles of their noisy latents.
        bins: how many inputs can be told apart, about half of them at best.

    Raises:
        AttackError: no public pictures, or fewer than two bins.
    """
    if not len(public) or bins < 2:
        raise AttackError(f"{len(public)} public pictures and {bins} bins; expected one picture and two bins at least.")
    denoiser: Any = backbone.denoiser
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        latents = backbone.encode(public)
        many = latents[torch.randint(len(latents), (16 * bins,), generator=generator)]
        eps = torch.randn(many.shape, generator=generator)
        noisy = backbone.process.add_noise(many, eps, backbone.process.sample_t(len(many), generator)).flatten(1)
    along = torch.randn(noisy.shape[1], generator=generator)
    along /= along.norm()
    at = (torch.arange(bins) + 0.5) / bins
    layer = _Imprint(along, torch.quantile(noisy @ along, at)).to(denoiser.device)
    denoiser.add_module(_NAME, layer)

    def before(_module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if given:
            return (layer(given[0]), *given[1:]), named
        name = "sample" if "sample" in named else "hidden_states"
        return given, named | {name: layer(named[name])}

    handle = denoiser.register_forward_pre_hook(before, with_kwargs=True)
    backbone.__dict__.pop("sha256", None)  # it was that of the honest model
    try:
        yield
    finally:
        handle.remove()
        delattr(denoiser, _NAME)
        backbone.__dict__.pop("sha256", None)


def detect(backbone: Backbone) -> tuple[str, ...]:
    """What in a denoiser looks planted, a sentence each; () where nothing does.

    Example:
        >>> detect(Backbone.embedded())  # doctest: +SKIP
        ()
    """
    state = backbone.denoiser.state_dict()
    part = backbone.family.denoiser
    return suspicions({f"{part}.{name}": value.detach().float().cpu().numpy() for name, value in state.items()})


def imprint(
    view: ServerView, backbone: Backbone, *, evaluations: int = 512, budget_s: float = 60.0
) -> Iterator[Frame | Outcome]:
    """Read the noisy inputs of all artists of a sum out of a planted layer's gradient, and denoise each in one step.

    `frame.latents` are the inputs x_t themselves; `frame.pictures` what the public denoiser takes them for.

    Args:
        evaluations: bins to read, at most.

    Raises:
        AttackError: nothing was planted in the model that this update belongs to.
    """
    clock = Clock("imprint", evaluations=evaluations, budget_s=budget_s)
    tensors, layer = view.tensors, f"{backbone.family.denoiser}.{_NAME}"
    if f"{layer}.weight" not in tensors:
        raise AttackError(
            f"The update does not contain {layer!r}: no layer was planted in the model. An honest host sends the "
            "public model, and artists refuse every other."
        )
    weight, bias = (tensors[f"{layer}.{what}"].astype(np.float64) for what in ("weight", "bias"))
    inputs = np.append(weight[:-1] - weight[1:], weight[-1:], axis=0)
    sizes = np.append(bias[:-1] - bias[1:], bias[-1:])
    full = np.flatnonzero(np.abs(sizes) > _EMPTY * np.abs(sizes).max())[:evaluations]
    noisy = torch.from_numpy((inputs[full] / sizes[full, None]).astype(np.float32)).view(-1, *backbone.latent_shape)
    clock.done = len(full)
    known: tuple[float, ...] = ()
    for event in timesteps(view, backbone):
        if isinstance(event, Outcome):
            known = event.frame.timesteps
    yield clock.frame(timesteps=known)
    clean = torch.cat([_denoised(backbone, one[None], known) for one in noisy[:_SHOWN]])
    frame = clock.frame(pictures=backbone.decode(clean), latents=noisy.numpy(), timesteps=known)
    yield Outcome(frame, bool(len(full)), f"{len(full)} of {len(bias)} bins hold an input.")


@torch.no_grad()
def _denoised(backbone: Backbone, x_t: torch.Tensor, known: tuple[float, ...]) -> torch.Tensor:
    """x_0 in one step, at that of the known timesteps whose noise comes out with variance 1."""
    told = backbone.embed([""])
    best, best_x = float("inf"), x_t
    for value in known:
        t = torch.tensor([value])
        x, eps = apart(backbone.process, x_t, backbone.predict(x_t, t, told).float(), t)
        away = abs(float(eps.var()) - 1)
        if away < best:
            best, best_x = away, x
    return best_x


def zeroed(adapter: Adapter) -> Adapter:
    """The adapter of zeros that a foul host gives to everybody but its victim."""
    tensors = {name: np.zeros_like(value) for name, value in adapter.tensors.items()}
    return Adapter(tensors, adapter.config, adapter.backbone_sha256, adapter.part)


def forked(
    view: ServerView, backbone: Backbone, *, evaluations: int | None = None, budget_s: float = 60.0, **options: Any
) -> Iterator[Frame | Outcome]:
    """Identify the victim's picture in a sum to which the others, given zeros, added nothing.

    Args:
        view: a sum with `malicious="forked"`; options: as of `identify`.

    Raises:
        AttackError: the others were not given zeros.
    """
    if view.malicious != "forked":
        raise AttackError(
            "This sum's artists all started from the same adapter; forked needs a host that gave zeros out."
        )
    for event in identify(replace(view, artists=1), backbone, evaluations=evaluations, budget_s=budget_s, **options):
        if isinstance(event, Outcome):
            yield replace(event, frame=replace(event.frame, attack="forked"))
        else:
            yield replace(event, attack="forked")
