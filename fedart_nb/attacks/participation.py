"""Which artist took part? A sum of updates held against what each suspect's published works would have sent.

The attacker trains on works that anybody can see, from the same public shared adapter, and keeps those updates as
references. What all references share (drawing at all, the backbone's own lacks) is taken away; what is left of the sum
is then explained by all references at once (ridge regression), so that two artists of like hands are not taken for
each other. Style is what leaks here: the reference's pictures need not be among those trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import AttackError
from ..rounds.tensors import Tensors

__all__ = ["Suspects", "auc", "flat"]

_RIDGE = 0.1


def flat(update: Tensors) -> NDArray[np.float32]:
    """All numbers of an update in one vector, by tensors' names; each tensor brought to unit mean square.

    A's and B's changes differ in size by orders, and so do layers'.
    """
    parts = [np.asarray(update[name], np.float32).ravel() for name in sorted(update)]
    return np.concatenate([p / max(1e-30, float(np.sqrt(np.square(p).mean()))) for p in parts])


@dataclass(frozen=True)
class Suspects:
    """Artists who may have taken part, and the direction in which each one's published works pull the adapter.

    Attributes:
        names: in the order of every score.
        middle: (d,), what all references share; directions: (names, d), what is each one's own, of length one.

    Example:
        >>> one = {"x.lora_B.weight": np.array([[1.0, 0.0, 0.2]])}
        >>> two = {"x.lora_B.weight": np.array([[0.0, 1.0, 0.2]])}
        >>> suspects = Suspects.of({"ada": [one], "ben": [two]})
        >>> suspects.likeness(one)["ada"] > suspects.likeness(one)["ben"]
        True
    """

    names: tuple[str, ...]
    middle: NDArray[np.float32] = field(repr=False)
    directions: NDArray[np.float32] = field(repr=False)

    @classmethod
    def of(cls, references: Mapping[str, Sequence[Tensors]]) -> Suspects:
        """From one or more reference updates for each of two or more artists, all from one shared adapter.

        Raises:
            AttackError: fewer than two suspects, one without a reference, or references of different adapters.
        """
        if len(references) < 2 or not all(references.values()):
            raise AttackError(
                f"References of {list(references)}; expected one update or more for each of two suspects or more."
            )
        if len({frozenset(update) for updates in references.values() for update in updates}) > 1:
            raise AttackError("The references have different tensors; train all of them from one shared adapter.")
        means = np.stack([np.mean([flat(update) for update in updates], axis=0) for updates in references.values()])
        middle = means.mean(0)
        apart = means - middle
        lengths = np.linalg.norm(apart, axis=1, keepdims=True).clip(1e-30)
        return cls(tuple(references), middle.astype(np.float32), (apart / lengths).astype(np.float32))

    def likeness(self, update: Tensors) -> dict[str, float]:
        """How much of each suspect's direction the update (or a sum of several) holds; higher: rather took part.

        Raises:
            AttackError: the update has other tensors than the references.
        """
        return dict(zip(self.names, self.scores([flat(update)])[0].tolist(), strict=True))

    def scores(self, updates: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """The same for updates that `flat` made: (updates, names)."""
        if any(update.shape != self.middle.shape for update in updates):
            raise AttackError(
                f"An update of {updates[0].size:,} numbers; the references have {self.middle.size:,}. "
                "They belong to different adapters."
            )
        seen = np.stack(updates) - self.middle
        seen /= np.linalg.norm(seen, axis=1, keepdims=True).clip(1e-30)
        gram = self.directions @ self.directions.T + _RIDGE * np.eye(len(self.names))
        return np.asarray(np.linalg.solve(gram, self.directions @ seen.T).T, np.float64)


def auc(with_it: NDArray[np.float64], without: NDArray[np.float64]) -> float:
    """Area under the receiver operating characteristic: how often one of the former scores above one of the latter.

    0.5 is guessing, 1 is certain; ties count half (Mann and Whitney 1947).

    >>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    a, b = np.asarray(with_it)[:, None], np.asarray(without)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())
