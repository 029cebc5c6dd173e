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

from .._system.cancelling import checkpoint
from ..errors import AttackError
from ..federated.tensors import Tensors

__all__ = ["Flat", "Shadows", "Suspects", "auc", "flat"]

Flat = NDArray[np.float32]

_RIDGE = 0.1


def flat(update: Tensors) -> Flat:
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
    middle: Flat = field(repr=False)
    directions: Flat = field(repr=False)

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

    def scores(self, updates: Sequence[Flat]) -> NDArray[np.float64]:
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


@dataclass(frozen=True)
class Shadows:
    """What shadow federations are made of: every artist's members, and each member's update, repeated.

    Two members of an artist have no picture in common, so that it is the hand that is found, not the pictures.

    Attributes:
        suspects: made of works that none of the members trained on.
        members: by artist (the suspects' names), one or more members, and one or more updates of each, from `flat`.
    """

    suspects: Suspects
    members: Mapping[str, Sequence[Sequence[Flat]]] = field(repr=False)

    def largest(self, target: str) -> int:
        """The most places of a federation that can be filled without the target."""
        return sum(len(members) for name, members in self.members.items() if name != target)

    def auc(self, target: str, artists: int, *, cohorts: int, rng: np.random.Generator) -> float:
        """How well sums of so many artists' updates with the target are told from those without, from 0 to 1.

        Args:
            cohorts: so many federations with the target, and so many without, drawn anew.

        Raises:
            AttackError: more artists than there are members beside the target's.
        """
        others = [(name, i) for name, held in self.members.items() if name != target for i in range(len(held))]
        if not 1 <= artists <= len(others):
            raise AttackError(f"A federation of {artists}; there are {len(others)} members beside {target!r}.")
        seen: dict[bool, list[Flat]] = {True: [], False: []}
        for number in range(2 * cohorts):
            checkpoint()
            inside = number % 2 == 0
            who = [others[i] for i in rng.permutation(len(others))[: artists - inside]]
            if inside:
                who.append((target, int(rng.integers(len(self.members[target])))))
            updates = [self.members[name][i] for name, i in who]
            seen[inside].append(np.mean([each[int(rng.integers(len(each)))] for each in updates], axis=0))
        column = self.suspects.names.index(target)
        return auc(self.suspects.scores(seen[True])[:, column], self.suspects.scores(seen[False])[:, column])


def auc(with_it: NDArray[np.float64], without: NDArray[np.float64]) -> float:
    """Area under the receiver operating characteristic: how often one of the former scores above one of the latter.

    0.5 is guessing, 1 is certain; ties count half (Mann and Whitney 1947).

    >>> auc(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    a, b = np.asarray(with_it)[:, None], np.asarray(without)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())
