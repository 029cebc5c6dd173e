"""Was this picture trained on? Three scores, each compared with the same score of pictures that certainly were not.

"loss": how much the adapter lowered the picture's loss, mean over fixed noises (the loss-threshold attack of Yeom et
al. 1709.01604, calibrated by the public model, as Watson et al. 2111.08440 do). "one_query": after SimA (2509.25003),
the norm of the noise that the model sees in the clean picture, with one query each to the model before and after.
"gradient": cosine of the update with the picture's gradient, what only somebody with an update has (`identify.py`).
Higher always means "more like a member".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffusion.backbone import Backbone
from ..diffusion.exclusive import gives_way
from ..diffusion.families import Conditioning
from ..errors import AttackError
from .identify import Features, features_of, scores_of
from .opened import Opened, opened
from .outcomes import Clock, Frame, Outcome
from .view import ServerView

__all__ = ["METHODS", "Method", "membership"]

Method = Literal["loss", "one_query", "gradient"]
METHODS: tuple[Method, ...] = ("loss", "one_query", "gradient")
_ALARM = 0.01


@gives_way
def membership(
    view: ServerView,
    backbone: Backbone,
    *,
    method: Method = "loss",
    draws: int = 8,
    budget_s: float = 60.0,
    evaluations: int | None = None,
) -> Iterator[Frame | Outcome]:
    """Score the candidates of `view.knows`, in the order of their scores, against its public pictures.

    The ranking's scores are standard deviations above the public pictures' mean. "Recovered" are candidates that score
    above 99 % of the public pictures; with fewer than 100 of them, above all.

    Args:
        method: one of `METHODS`.
        draws: noises and timesteps for each picture ("one_query" takes one).

    Raises:
        AttackError: no candidates, or fewer than ten public pictures to compare with.
    """
    knows = view.knows
    if knows.candidates is None or knows.public is None or len(knows.public) < 10:
        raise AttackError(
            f"membership needs candidates ({'none given' if knows.candidates is None else len(knows.candidates)}) and "
            f"ten public pictures or more ({0 if knows.public is None else len(knows.public)} given)."
        )
    if method not in METHODS:
        raise AttackError(f"method is {method!r}; known are {', '.join(METHODS)}.")
    n, m = len(knows.candidates), len(knows.public)
    clock = Clock("membership", evaluations=min(n + m, evaluations or n + m), budget_s=budget_s)
    scores: torch.Tensor | None = None
    for event in _scores(view, backbone, method, draws, clock):
        if isinstance(event, Frame):
            yield event
            if clock.spent and clock.done < n + m:
                break
        else:
            scores = event
    if scores is None:
        yield Outcome(clock.frame(), False, "not every picture was looked at.", stopped=True)
        return
    asked, others = scores[:n], scores[n:]
    z = (asked - others.mean()) / others.std().clamp_min(1e-12)
    ranking = tuple((int(i), float(z[i])) for i in torch.argsort(z, descending=True))
    frame = clock.frame(ranking=ranking)
    yield frame
    line = float(torch.quantile(others, 1 - _ALARM)) if m >= 1 / _ALARM else float(others.max())
    over = int((asked > line).sum())
    share = "99 % of" if m >= 1 / _ALARM else "all"
    yield Outcome(frame, over > 0, f"{over} of {n} pictures score above {share} {m} public ones ({method}).")


def _scores(
    view: ServerView, backbone: Backbone, method: Method, draws: int, clock: Clock
) -> Iterator[Frame | torch.Tensor]:
    """Scores of candidates, then of public pictures."""
    knows = view.knows
    if knows.candidates is None or knows.public is None:
        return
    everybody = np.concatenate([knows.candidates, knows.public])
    captions = (
        *(knows.candidate_captions or ("",) * len(knows.candidates)),
        *(knows.public_captions or ("",) * len(knows.public)),
    )
    if method == "gradient":
        both = replace(view, knows=replace(knows, candidates=everybody, candidate_captions=captions))
        for event in features_of(both, backbone, draws=draws):
            if isinstance(event, Features):
                with opened(backbone, view) as model:
                    yield scores_of(view, event, model.flat(model.seen(view)))
            else:
                clock.done = event.evaluations
                yield clock.frame()
        return
    if view.full:
        raise AttackError(
            f"{method!r} compares the adapter with its backbone; a full gradient has none: use 'gradient'."
        )
    yield from _before_and_after(view, backbone, everybody, captions, method=method, draws=draws, clock=clock)


def _before_and_after(
    view: ServerView,
    backbone: Backbone,
    everybody: NDArray[np.uint8],
    captions: Sequence[str],
    *,
    method: Method,
    draws: int,
    clock: Clock,
) -> Iterator[Frame | torch.Tensor]:
    """How much the update lowers what the method looks at, picture by picture."""
    latents, told = backbone.encode(everybody), backbone.embed(captions)
    generator = torch.Generator().manual_seed(0)
    eps = torch.randn((draws, *backbone.latent_shape), generator=generator)
    t = backbone.process.stratified_t(draws, 0.5).float()
    found = []
    for moved in (0.0, 1.0):
        part = []
        with opened(backbone, view, moved=moved) as model:
            for i in range(len(latents)):
                one = slice(i, i + 1)
                if method == "loss":
                    part.append(model.losses_of(latents[one], told[one], eps, t).mean())
                else:
                    part.append(_noise_seen(model, latents[one], told[one]))
                if moved:
                    clock.done += 1
                    if clock.done % 8 == 0:
                        yield clock.frame()
                if clock.late:
                    return
        found.append(torch.stack(part))
    yield found[0] - found[1]


@torch.no_grad()
def _noise_seen(model: Opened, x: torch.Tensor, told: Conditioning) -> torch.Tensor:
    """Norm of the noise that the model sees in clean latents, at a tenth of the schedule, a scalar tensor."""
    backbone = model.backbone
    t = backbone.process.stratified_t(10, 0.0)[1:2].float()
    predicted = backbone.predict(x, t, told).float()
    one, none = torch.ones_like(x), torch.zeros_like(x)
    noise = float(backbone.process.add_noise(none, one, t).mean())
    clean = float(backbone.process.add_noise(one, none, t).mean())
    sign = float(backbone.process.target(one, none, t).mean())  # of x0 in what is predicted; 0: it is the noise itself
    # x_t = clean x0 + noise eps, and the prediction is u eps + sign x0: solve the two for eps
    u = float(backbone.process.target(none, one, t).mean())
    seen: torch.Tensor = ((clean * predicted - sign * x) / (clean * u - sign * noise)).norm()
    return seen
