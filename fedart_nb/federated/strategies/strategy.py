"""What every aggregation rule says of itself, and the few things that all of them do with LoRA factors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import RoundError
from ..tensors import Tensors

__all__ = ["Factors", "Rule", "Sums", "factor_of", "matrices", "pairs", "stepped"]

#: Which of a LoRA adapter's factors, B (out, r) and A (r, in), are trained in a round.
Factors = Literal["A", "B", "both"]
Sums = Mapping[str, NDArray[np.float64]]

_BLOCK = 2**16


@dataclass(frozen=True)
class Rule:
    """How a sum of updates becomes the next shared adapter. Every rule here needs one sum a round, and nothing else.

    Attributes:
        name: as plans and `RULES` call it; meaning: one sentence for a person.
        factors: round number (from 1) to what is trained and sent in it; the rest stays as it is, bit for bit.
        aggregate: (shared, sum of weights times what was sent, sum of weights) to the next shared tensors.
        cores: whether it is for cores (`AdapterConfig(core_seed=...)`) in the place of LoRA factors.
        sends_products: whether each artist sends its change of B A, a dense matrix for each layer, instead of factors.
        refactors: whether the next shared adapter has other factors than the last one plus a step; then a factor that
            was not trained changes too, and steps of two rounds cannot be added up.
        no_artist_noise: why the rule does not go with noise on whole artists, or "".
    """

    name: str
    meaning: str
    factors: Callable[[int], Factors]
    aggregate: Callable[[Tensors, Sums, float], Tensors]
    cores: bool = False
    sends_products: bool = False
    refactors: bool = False
    no_artist_noise: str = ""

    def trained(self, number: int, shared: Tensors) -> tuple[str, ...]:
        """Names of the tensors that are trained in round `number`, sorted; RoundError where there are none."""
        chosen = self.factors(number)
        names = tuple(sorted(name for name in shared if chosen == "both" or factor_of(name) == chosen))
        if self.cores and not all(name.endswith(".lora_core.weight") for name in names):
            raise RoundError(
                f"The rule {self.name!r} averages cores; this round's adapter has none "
                f"({min(shared, default='none')!r}). Make it with AdapterConfig(core_seed=...), or take another rule."
            )
        if not names or (self.sends_products and not pairs(shared)):
            raise RoundError(
                f"The rule {self.name!r} needs the factors A and B of a LoRA adapter; this round's tensors are of "
                f"another kind ({min(shared, default='none')!r}). Take the rule 'fedsb' for a core, else 'fedavg'."
            )
        return names

    def sent_like(self, number: int, shared: Tensors) -> Tensors:
        """Arrays with the names and shapes of what is sent in round `number`; only those are meant, not the values."""
        names = self.trained(number, shared)
        if not self.sends_products:
            return {name: shared[name] for name in names}
        shapes = {module: (shared[b].shape[0], shared[a][0].size) for module, (a, b) in pairs(shared).items()}
        return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}

    def size(self, number: int, shared: Tensors) -> int:
        """How many numbers an artist sends in round `number`."""
        return sum(array.size for array in self.sent_like(number, shared).values())

    def sent(self, number: int, shared: Tensors, update: Tensors) -> Tensors:
        """What of an update is sent in round `number`.

        Raises:
            RoundError: a factor changed that this round leaves as it is; the artist's kernel trained another rule.
        """
        names = self.trained(number, shared)
        for name in update.keys() - set(names):
            if np.any(update[name]):
                raise RoundError(
                    f"The update changes {name!r}, which the rule {self.name!r} leaves as it is in round {number}. "
                    f"Train with factors={self.factors(number)!r}. Nothing was sent."
                )
        if not self.sends_products:
            return {name: update[name] for name in names}
        after = {name: shared[name] + update[name] for name in shared}
        return {name: change.astype(np.float32) for name, change in _change(shared, after).items()}

    def moved(self, number: int, before: Tensors, after: Tensors) -> Tensors:
        """What a round did to the shared adapter, in the place of what was sent: the mean update under plain averaging.

        Where factors were made anew, of the products: exactly B's mean for frozen A, and the nearest of rank r for
        products.
        """
        if self.sends_products:
            return {name: change.astype(np.float32) for name, change in _change(before, after).items()}
        if not self.refactors:
            return {name: after[name] - before[name] for name in self.trained(number, before)}
        out = {}
        for module, (a, b) in pairs(before).items():
            A, B = matrices(before, module)
            A2, B2 = matrices(after, module)
            was = np.linalg.pinv(A)
            out[b] = (B2 @ (A2 @ was) - B @ (A @ was)).astype(np.float32).reshape(before[b].shape)
            del a
        return out


def factor_of(name: str) -> str:
    """Which factor a tensor is, by its name: "A", "B", or "" for neither.

    >>> factor_of("unet.mid_block.to_q.lora_A.weight")
    'A'
    """
    return "A" if name.endswith(".lora_A.weight") else "B" if name.endswith(".lora_B.weight") else ""


def pairs(shared: Tensors) -> dict[str, tuple[str, str]]:
    """Module to the names of its A and its B, in name order."""
    found = {}
    for name in sorted(shared):
        module = name.removesuffix(".lora_A.weight")
        if factor_of(name) == "A" and f"{module}.lora_B.weight" in shared:
            found[module] = (name, f"{module}.lora_B.weight")
    return found


def matrices(tensors: Tensors | Sums, module: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A (r, in) and B (out, r) of a module in float64; a convolution's window counts as more inputs."""
    A, B = (np.asarray(tensors[f"{module}.lora_{factor}.weight"], np.float64) for factor in "AB")
    return A.reshape(A.shape[0], -1), B.reshape(B.shape[0], -1)


def stepped(shared: Tensors, total: Sums, weight: float) -> dict[str, NDArray[np.float32]]:
    """The shared tensors plus the weighted mean of what was sent; what was not sent stays as it is."""
    return {name: _stepped(old, total[name], weight) if name in total else old for name, old in shared.items()}


def _stepped(shared: NDArray[np.float32], total: NDArray[np.float64], weight: float) -> NDArray[np.float32]:
    """One tensor, block by block: beside the result no second array is taken."""
    out = np.empty(shared.size, np.float32)
    old, added = shared.reshape(-1), total.reshape(-1)
    for at in range(0, shared.size, _BLOCK):
        part = slice(at, at + _BLOCK)
        out[part] = old[part] + added[part] / weight
    return out.reshape(shared.shape)


def _change(before: Tensors, after: Tensors) -> dict[str, NDArray[np.float64]]:
    """Change of B A, (out, in), by module."""
    changes = {}
    for module in pairs(before):
        (A, B), (A2, B2) = matrices(before, module), matrices(after, module)
        changes[module] = B2 @ A2 - B @ A
    return changes
