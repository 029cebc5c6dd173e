"""Keep what an adapter learns apart from what frozen adapters under it already write: a soft orthogonality penalty.

    loss + apart * sum over modules of |Q^T B|^2_F,    Q an orthonormal basis of the frozen adapter's B

HiLoRA (CVPR 2026) keeps its levels in orthogonal column spaces; here it is a wish, not a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from .adapters import Adapter
from .composing import span_of

__all__ = ["Apart"]


class Apart:
    """Adds the penalty to losses; `last` is what it added, so that it need not be told as part of a loss.

    Args:
        frozen: the adapters below, with weights; those of weight 0 do not count.
        learning: parameters that learn, by name; `name` is their adapter's in the network.
        strength: 0 adds nothing.
    """

    def __init__(
        self,
        frozen: Sequence[tuple[Adapter, float]],
        learning: Mapping[str, torch.nn.Parameter],
        *,
        name: str,
        strength: float,
    ) -> None:
        self.strength, self.last = strength, 0.0
        self._pairs: list[tuple[torch.Tensor, torch.nn.Parameter]] = []
        for adapter, weight in frozen if strength else ():
            for module, basis in span_of(adapter).items():
                parameter = learning.get(f"{module}.lora_B.{name}.weight")
                if parameter is not None and weight:
                    self._pairs.append((torch.from_numpy(basis.T.copy()).to(parameter), parameter))

    def __call__(self, losses: torch.Tensor) -> torch.Tensor:
        """The losses, (n,), with the penalty added to each."""
        if not self._pairs:
            return losses
        penalty = self.strength * torch.stack([(Q @ B.flatten(1)).square().sum() for Q, B in self._pairs]).sum()
        self.last = float(penalty.detach())
        return losses + penalty
