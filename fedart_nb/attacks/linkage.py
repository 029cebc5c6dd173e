"""Which update of an earlier round comes from the same artist? By cosine, after what all artists share is taken away.

An artist's pictures change little from round to round, so neither does the direction that they pull an adapter in.
Masks hide it: a sum has no single artist's update in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..diffusion.backbone import Backbone
from ..errors import AttackError
from ..federated.tensors import Tensors, unpack
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["cosines", "linkage"]

_CLEAR = 0.05


def linkage(
    view: ServerView, backbone: Backbone, *, evaluations: int | None = None, budget_s: float = 30.0
) -> Iterator[Frame | Outcome]:
    """Rank the earlier updates in `view.knows.earlier` by their likeness with this one.

    Raises:
        AttackError: fewer than two earlier updates.

    Example:
        >>> *_, outcome = linkage(view.knowing(earlier=(ada, ben, cy)), backbone)  # doctest: +SKIP
        >>> outcome.frame.ranking[0]  # doctest: +SKIP
        (1, 0.42)
    """
    del backbone, evaluations
    earlier = view.knows.earlier
    if len(earlier) < 2:
        raise AttackError(f"{len(earlier)} earlier updates are known; give Knowledge(earlier=...), two or more.")
    clock = Clock("linkage", evaluations=len(earlier), budget_s=budget_s)
    scores = cosines([view.tensors], [unpack(one) for one in earlier])[0]
    clock.done = len(earlier)
    order = np.argsort(-scores)
    frame = clock.frame(ranking=tuple((int(i), float(scores[i])) for i in order))
    yield frame
    gap = float(scores[order[0]] - scores[order[1]])
    why = f"the likest earlier update leads the next by a cosine of {gap:.2f}."
    yield Outcome(frame, gap > _CLEAR, why)


def cosines(now: Sequence[Tensors], earlier: Sequence[Tensors]) -> NDArray[np.float64]:
    """Cosine of every update with every earlier one, (now, earlier), each round's own mean taken away first.

    With a single update of a round its mean cannot be told; then the earlier round's is taken for it.

    Raises:
        AttackError: updates with other tensors.
    """
    first = earlier[0].keys()
    if any(one.keys() != first for one in (*now, *earlier)):
        raise AttackError("The updates have different tensors; they belong to different adapters.")
    a, b = (np.stack([_flat(one) for one in part]) for part in (now, earlier))
    middle = b.mean(0)
    a, b = a - (a.mean(0) if len(a) > 1 else middle), b - middle
    a /= np.linalg.norm(a, axis=1, keepdims=True).clip(1e-30)
    b /= np.linalg.norm(b, axis=1, keepdims=True).clip(1e-30)
    return np.asarray(a @ b.T)


def _flat(tensors: Tensors) -> NDArray[np.float64]:
    """One vector, every tensor brought to unit mean square first: A and B differ in size by orders."""
    parts = [tensors[name].astype(np.float64).ravel() for name in sorted(tensors)]
    return np.concatenate([p / max(1e-30, float(np.sqrt(np.square(p).mean()))) for p in parts])
