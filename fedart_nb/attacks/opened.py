"""The public model, opened for an attack: gradients of the loss for guessed pictures, that can be differentiated again.

Everything is in float32. PyTorch's fused attention has no second derivative, so the mathematical kernel is chosen,
around each gradient and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..diffusion.adapters import Adapter, attached
from ..diffusion.backbone import Backbone
from ..diffusion.families import Conditioning
from ..diffusion.per_picture import PerPicture
from ..errors import AttackError
from .view import ServerView

__all__ = ["Opened", "opened", "relative_distance", "wire_name"]

_ROWS = 32  # guesses that go through the network together
_ADAPTER = ".adapter_0."


def wire_name(part: str, name: str) -> str:
    """A parameter's name on the wire, from its name in the network."""
    return f"{part}.{name.replace(_ADAPTER, '.')}"


@dataclass(frozen=True)
class Opened:
    """The public network with the public adapter in it.

    Attributes:
        parameters: by their names on the wire, in the network's order.
    """

    backbone: Backbone
    parameters: dict[str, torch.nn.Parameter] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names on the wire."""
        return tuple(self.parameters)

    def told(self, captions: Sequence[str]) -> Conditioning:
        """Conditioning of captions, without gradients."""
        return self.backbone.embed(captions)

    def losses(self, x: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        """The training loss of each guess, (n,): latents x and noise eps (n, c, h, w), timesteps t (n,)."""
        process = self.backbone.process
        predicted = self.backbone.predict(process.add_noise(x, eps, t), t, told)
        return (predicted.float() - process.target(x, eps, t)).square().mean(dim=(1, 2, 3))

    def gradient(
        self,
        x: torch.Tensor,
        eps: torch.Tensor,
        t: torch.Tensor,
        told: Conditioning,
        *,
        names: Sequence[str] | None = None,
        again: bool = True,
    ) -> list[torch.Tensor]:
        """Gradient of the mean loss with respect to the parameters of these names; `again`: to be differentiated."""
        wanted = [self.parameters[name] for name in names or self.names]
        with sdpa_kernel(SDPBackend.MATH):
            loss = self.losses(x, eps, t, told).mean()
            return list(torch.autograd.grad(loss, wanted, create_graph=again))

    def seen(self, view: ServerView, names: Sequence[str] | None = None) -> list[torch.Tensor]:
        """The update's tensors in the parameters' order."""
        tensors = view.tensors
        if missing := sorted(self.parameters.keys() ^ tensors.keys()):
            raise AttackError(
                f"The update and the public model differ in {len(missing)} tensors (first: {missing[0]!r}). Give the "
                "shared adapter that the update was trained from."
            )
        return [
            torch.from_numpy(np.array(tensors[name])).to(self.parameters[name].device) for name in names or self.names
        ]

    def by_picture(
        self,
        latents: torch.Tensor,
        told: Conditioning,
        eps: torch.Tensor,
        t: torch.Tensor,
        *,
        step: int = 8,
    ) -> Iterator[torch.Tensor]:
        """Gradient of each picture's mean loss over M draws that all pictures share, rows of (n, parameters) in parts.

        Args:
            latents: (n, c, h, w); told: n rows; eps: (M, c, h, w); t: (M,).
        """
        draws = len(t)
        with PerPicture(self.backbone.denoiser, self.parameters).watching() as gradients:
            for start in range(0, len(latents), step):
                x, caption = latents[start : start + step], told[start : start + step]
                gradients.begin(pictures=len(x), draws=draws)
                index = torch.arange(len(x)).repeat_interleave(draws)
                row = torch.arange(draws).repeat(len(x))
                loss = self.losses(x[index], eps[row], t[row], caption[index])
                (loss.sum() / draws).backward()
                yield gradients.rows

    def flat(self, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        """One vector in the order of `by_picture`."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

    def pictures(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Guessed latents as pictures."""
        return self.backbone.decode(latents.detach().float())

    @torch.no_grad()
    def losses_of(self, latents: torch.Tensor, told: Conditioning, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Losses of n pictures under M shared draws, (n, M), without gradients."""
        out = []
        for x, caption in zip(latents, (told[i : i + 1] for i in range(len(told))), strict=True):
            parts = []
            for start in range(0, len(t), _ROWS):
                part = slice(start, start + _ROWS)
                n = len(t[part])
                parts.append(self.losses(x.expand(n, *x.shape), eps[part], t[part], caption.repeat(n)))
            out.append(torch.cat(parts))
        return torch.stack(out)


def relative_distance(
    guess: Sequence[torch.Tensor], seen: Sequence[torch.Tensor], norm2: float | None = None
) -> torch.Tensor:
    """Squared distance between two updates over the squared length of the one seen, over all tensors together."""
    total = torch.stack([(g - s).square().sum() for g, s in zip(guess, seen, strict=True)]).sum()
    return total / (norm2 if norm2 is not None else max(1e-30, float(sum(s.square().sum() for s in seen))))


@contextmanager
def opened(backbone: Backbone, view: ServerView, *, moved: float = 0.0) -> Iterator[Opened]:
    """Open the public model that a view belongs to; the backbone's lock is held, and it is left as it was found.

    Args:
        moved: so many times the mean update is added to the shared adapter first (what training was near to at its
            end, at 1).

    Raises:
        AttackError: another backbone.
    """
    if backbone.sha256 != view.backbone_sha256:
        raise AttackError(
            f"The update belongs to the backbone {view.backbone_sha256[:12]}…, this is {backbone.name!r} "
            f"({backbone.sha256[:12]}…). Load the one that it was trained on."
        )
    adapter = Adapter.from_bytes(view.shared) if view.shared else None
    if adapter is not None and moved:
        times = np.float32(moved / view.artists)
        adapter = adapter.plus({name: times * value for name, value in view.tensors.items()})
    adapters: list[tuple[Adapter, float]] = [(adapter, 1.0)] if adapter else []
    with attached(backbone, adapters, trainable=0 if adapter else None):
        denoiser: Any = backbone.denoiser
        if adapter is None:
            denoiser.requires_grad_(True)
        sent = set(view.tensors)  # a rule may send one factor alone: the other says nothing
        learning = {}
        for name, parameter in denoiser.named_parameters():
            if parameter.requires_grad and (told := wire_name(backbone.family.denoiser, name)) in sent:
                learning[told] = parameter
            else:
                parameter.requires_grad_(False)
        with torch.enable_grad():
            yield Opened(backbone, learning)
