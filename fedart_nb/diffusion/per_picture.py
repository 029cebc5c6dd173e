"""Gradients of every single picture for an adapter's layers, exact, in one backward pass.

A LoRA layer is a plain `Linear` or `Conv2d` of rank r, so its gradient for one picture is tiny: for activations x and
output gradients g at the positions l it is sum_l g_l x_l^T. Summed over the batch that is one matrix product; kept
apart by pictures it is the same product in n blocks, of the same cost (Lee & Kifer 2009.03106; Opacus' hooks do this
too, and let autograd compute the sum as well). Here the block product takes the place of the sum: nothing is computed
twice.

While `PerPicture` is open, the adapter's layers run through an autograd function that writes into one matrix
(pictures, parameters), and leave `Parameter.grad` alone.

That matrix is what a large adapter cannot afford. Then the backward pass is done twice ("fast gradient clipping", Lee &
Kifer 2009.03106, section 4): first for the lengths alone, layer after layer, then for the sum of the losses, each
weighted with what its picture's gradient must be shortened by. Ghost norms (Li et al. 2110.05679, section 4), which
avoid a layer's gradients by picture too, are left out: they need l^2 numbers for l positions, and a factor's gradient
is r times one side, so that for Stable Diffusion's 4096 positions they would cost far more than they avoid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F

from ..errors import PrivacyError

__all__ = ["Kept", "PerPicture"]

Kept: TypeAlias = Literal["rows", "squares", "total"]

_MIXING = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.CrossMapLRN2d)


class PerPicture:
    """Gradients by picture of the parameters that learn.

    Args:
        network: the denoiser with its adapter attached.
        learning: the parameters that learn, by name; each belongs to a `Linear` or `Conv2d` without bias.

    Attributes:
        size: how many numbers one picture's gradient has.
        halved: whether a layer computed in a type of 16 bits.

    Raises:
        PrivacyError: another kind of layer learns, or a layer of the network mixes the pictures of a batch.

    Example:
        >>> with PerPicture(network, learning).watching() as gradients:
        ...     gradients.begin(pictures=8, draws=4)
        ...     loss_of(32 rows, picture after picture).backward()
        ...     gradients.rows  # (8, size)
        ...     gradients.begin(pictures=8, draws=4, keep="squares")
        ...     loss_of(32 rows, picture after picture).backward()
        ...     gradients.squares  # (8,), squared lengths of the rows, which were never held together
    """

    def __init__(self, network: torch.nn.Module, learning: Mapping[str, torch.nn.Parameter]) -> None:
        for name, module in network.named_modules():
            if isinstance(module, _MIXING):
                raise PrivacyError(
                    f"{name!r} is a {type(module).__name__}, which mixes the pictures of a batch: no gradient belongs "
                    "to one picture alone. Choose a backbone that normalises every picture by itself."
                )
        self.parameters = dict(learning)
        self.size = sum(p.numel() for p in learning.values())
        self.rows = self.squares = self.total = torch.empty(0)
        self.halved = False
        self._places: dict[str, slice] = {}
        start = 0
        for name, parameter in learning.items():
            self._places[name] = slice(start, start + parameter.numel())
            start += parameter.numel()
        self._layers = dict(self._find(network))
        self._pictures, self._draws = 0, 1
        self._keep: Kept = "rows"
        self._left_out = torch.empty(0)
        self._written: set[str] = set()

    @contextmanager
    def watching(self) -> Iterator[PerPicture]:
        """Route the adapter's layers through here for the time of the `with` block."""
        try:
            for name, layer in self._layers.items():
                layer.forward = MethodType(_forward_of(self, name), layer)
            yield self
        finally:
            for layer in self._layers.values():
                layer.__dict__.pop("forward", None)

    def begin(
        self, *, pictures: int, draws: int = 1, keep: Kept = "rows", left_out: torch.Tensor | None = None
    ) -> None:
        """Ready for one backward pass over `pictures` times `draws` rows; the rows of one picture are neighbours.

        Args:
            keep: `rows` (pictures, size); their `squares`, squared lengths (pictures,); or their `total`, (size,), and
                again the squares.
            left_out: (pictures,), which are to count for nothing in the total, whatever their gradients are.
        """
        device = next(iter(self.parameters.values())).device
        self.rows = torch.zeros((pictures, self.size) if keep == "rows" else 0, device=device)
        self.squares = torch.zeros(0 if keep == "rows" else pictures, device=device)
        self.total = torch.zeros(self.size if keep == "total" else 0, device=device)
        self._keep, self._left_out = keep, torch.zeros(pictures, dtype=torch.bool) if left_out is None else left_out
        self._pictures, self._draws = pictures, draws
        self._written.clear()

    def check(self) -> None:
        """Raises PrivacyError if a layer of the adapter had no part in the last backward pass, or autograd summed."""
        silent = sorted(self.parameters.keys() - self._written)
        summed = sorted(name for name, p in self.parameters.items() if p.grad is not None)
        if silent or summed:
            raise PrivacyError(
                f"{(silent or summed)[0]!r} and {len(silent or summed) - 1} others got no gradient by pictures, so "
                "training would spend epsilon and learn nothing there. The network was changed after its adapter was "
                "attached; attach it anew."
            )

    def write(self, name: str, gradient: torch.Tensor) -> None:
        """Add one layer's gradients by row, (pictures, ...) or (pictures * draws, ...)."""
        flat = gradient.reshape(self._pictures, -1, self.parameters[name].numel())
        rows = flat[:, 0] if flat.shape[1] == 1 else flat.sum(1, dtype=torch.float32)
        if self._keep == "rows":
            self.rows[:, self._places[name]] += rows
        else:
            if name in self._written:
                raise PrivacyError(f"{name!r} is used twice in one pass, so its lengths do not add up. Take passes=1.")
            self.squares += rows.float().square().sum(1)
        if self._keep == "total":
            self.total[self._places[name]] += rows[~self._left_out.to(rows.device)].sum(0, dtype=torch.float32)
        self._written.add(name)

    def blocks(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """(rows, ..., features) as (pictures, draws * positions, features)."""
        if len(value) != self._pictures * self._draws:
            raise PrivacyError(
                f"{name!r} saw {len(value)} rows; expected {self._pictures} pictures x {self._draws} draws. This "
                "network folds the batch into something else, and cannot be trained picture by picture."
            )
        return value.reshape(self._pictures, -1, value.shape[-1])

    def _find(self, network: torch.nn.Module) -> Iterator[tuple[str, Any]]:
        names = {id(parameter): name for name, parameter in self.parameters.items()}
        found = set()
        for path, module in network.named_modules():
            for parameter in module._parameters.values():
                name = names.get(id(parameter)) if parameter is not None else None
                if name is None:
                    continue
                plain = type(module) is torch.nn.Linear or (
                    type(module) is torch.nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros"
                )
                if not plain or module.bias is not None or isinstance(getattr(module, "padding", 0), str):
                    raise PrivacyError(
                        f"{path!r} is a {type(module).__name__} that learns; expected a Linear or Conv2d without bias, "
                        "as adapters have. Freeze it, or train without privacy."
                    )
                found.add(name)
                yield name, module
        if missing := sorted(self.parameters.keys() - found):
            raise PrivacyError(f"{missing[0]!r} belongs to no layer of the network; attach the adapter anew.")


def _forward_of(gradients: PerPicture, name: str) -> Any:
    def forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            return type(layer).forward(layer, x)  # type: ignore[no-any-return]
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else layer.weight.dtype
        gradients.halved |= dtype.itemsize < 4
        function: Any = _Linear if isinstance(layer, torch.nn.Linear) else _Conv2d
        out: torch.Tensor = function.apply(x.to(dtype), layer.weight, gradients, name, layer)
        return out

    return forward


class _Linear(torch.autograd.Function):
    """y = x W^T; x (rows, ..., in), W (out, in)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, gradients: PerPicture, name: str, _: Any) -> Any:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.gradients, ctx.name = gradients, name
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        into: PerPicture = ctx.gradients
        into.write(ctx.name, torch.bmm(into.blocks(ctx.name, g).mT, into.blocks(ctx.name, x)))
        return (g @ weight if ctx.needs_input_grad[0] else None), None, None, None, None


class _Conv2d(torch.autograd.Function):
    """y = x * W; x (rows, in, h, w), W (out, in, k, k)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, gradients: PerPicture, name: str, layer: Any) -> Any:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.gradients, ctx.name, ctx.layer = gradients, name, layer
        return F.conv2d(x, weight, None, layer.stride, layer.padding, layer.dilation)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Any:
        x, weight = ctx.saved_tensors
        into: PerPicture = ctx.gradients
        layer = ctx.layer
        if len(x) != into._pictures * into._draws:
            into.blocks(ctx.name, x)  # says what is wrong
        into.write(ctx.name, _conv_gradients(x, g, layer))
        back = None
        if ctx.needs_input_grad[0]:
            ways = (layer.stride, layer.padding, layer.dilation, False, (0, 0), 1, (True, False, False))
            back = torch.ops.aten.convolution_backward(g, x, weight, None, *ways)[0]
        return back, None, None, None, None


def _conv_gradients(x: torch.Tensor, g: torch.Tensor, layer: Any) -> torch.Tensor:
    """Weight gradients by row, (rows, out, in, k, k): dW[o, c, i] = sum_p g[o, p] x[c, p + i - pad].

    With q = p + i - pad it is sum_q g[o, q - i + pad] x[c, q]: for a stride of 1 the few channels of g are spread out
    into columns instead of the many of x, which is far less to copy.
    """
    height, width = layer.kernel_size
    margins = (height - 1 - layer.padding[0], width - 1 - layer.padding[1])
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0):
        return torch.bmm(g.flatten(2), x.flatten(2).mT)
    if layer.stride != (1, 1) or layer.dilation != (1, 1) or min(margins) < 0:
        return torch.bmm(g.flatten(2), F.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).mT)
    columns = F.unfold(g, layer.kernel_size, padding=margins)
    turned = torch.bmm(columns, x.flatten(2).mT).view(len(x), g.shape[1], height, width, x.shape[1])
    return turned.flip(2, 3).permute(0, 1, 4, 2, 3)
