"""Near copies of training pictures among the finished adapter's own samples.

Carlini et al. 2301.13188: draw many pictures for a caption; samples that agree with one another far better than samples
of the model without the adapter do were learnt by heart. The scorer, who has the training pictures, then asks whether a
sample lies nearer to one of them than to anything else (`copied`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..diffusion.adapters import Adapter
from ..diffusion.backbone import Backbone
from ..diffusion.sampling import draw
from ..errors import AttackError
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["copied", "extraction"]

_ALPHA = 0.5
_NEAREST = 50

_Pictures = NDArray[np.uint8]


def extraction(
    view: ServerView,
    backbone: Backbone,
    *,
    each: int = 8,
    steps: int = 12,
    evaluations: int = 64,
    budget_s: float = 120.0,
    seed: int = 0,
) -> Iterator[Frame | Outcome]:
    """Draw `each` pictures for every known caption, with the update applied and without, and compare their agreement.

    The frame's pictures are, caption by caption, the sample that agrees best with its fellows; the ranking is
    (caption's index, how many times nearer its samples lie to one another than the public model's do).

    Args:
        each: samples for a caption, two or more.
        steps: drawing steps.
        evaluations: captions at most.

    Raises:
        AttackError: no captions, or a full denoiser's update.
    """
    captions = view.knows.captions or view.knows.caption_list
    if not captions or view.full or each < 2:
        raise AttackError(
            f"extraction draws from an adapter ({'none' if view.full else 'given'}) with captions "
            f"({len(captions)} given), two samples or more for each ({each})."
        )
    captions = captions[:evaluations]
    start = Adapter.from_bytes(view.shared)
    trained = start.plus({name: value / np.float32(view.artists) for name, value in view.tensors.items()})
    clock = Clock("extraction", evaluations=len(captions), budget_s=budget_s)
    shown: list[_Pictures] = []
    scores: list[float] = []
    seeds = list(range(seed, seed + each))
    for caption in captions:
        with_it = draw(backbone, [caption], seeds=seeds, adapters=[(trained, 1.0)], steps=steps)
        without = draw(backbone, [caption], seeds=seeds, adapters=[(start, 1.0)], steps=steps)
        apart, usual = _apart(with_it), _apart(without)
        shown.append(with_it[int(apart.mean(1).argmin())])
        scores.append(float(_middle(usual) / max(1e-9, _middle(apart))))
        clock.done += 1
        order = np.argsort(-np.array(scores))
        frame = clock.frame(
            pictures=np.stack(shown), ranking=tuple((int(i), scores[i]) for i in order), ranks="captions"
        )
        yield frame
        if clock.late:
            break
    most = max(scores)
    why = f"its samples agree {most:.2g} times as well as the public model's, at most; 2 would be suspicious."
    yield Outcome(frame, most > 1 / _ALPHA, why, stopped=clock.done < len(captions))


def copied(samples: _Pictures, training: _Pictures, others: _Pictures, *, alpha: float = _ALPHA) -> NDArray[np.bool_]:
    """Which samples are copies of a training picture, (samples,); for the scorer.

    A sample is one when its distance to a training picture is below `alpha` times its mean distance to the 50 nearest
    pictures that were not trained on (Carlini et al., section 4.2).

    Raises:
        AttackError: fewer than two other pictures.
    """
    if len(others) < 2:
        raise AttackError(f"{len(others)} pictures that were not trained on; give two or more to compare with.")
    near = _between(samples, training).min(1)
    far = np.sort(_between(samples, others), axis=1)[:, :_NEAREST].mean(1)
    return np.asarray(near < alpha * far)


def _between(x: _Pictures, y: _Pictures) -> NDArray[np.float64]:
    """Root mean square distance of every x to every y."""
    a, b = (p.reshape(len(p), -1).astype(np.float64) for p in (x, y))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0) / a.shape[1]))


def _apart(x: _Pictures) -> NDArray[np.float64]:
    return _between(x, x)


def _middle(apart: NDArray[np.float64]) -> float:
    """Mean distance between two different samples."""
    n = len(apart)
    return float(apart.sum() / (n * (n - 1)))
