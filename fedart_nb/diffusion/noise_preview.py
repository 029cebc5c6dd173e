"""What noise does to art: one private training at one epsilon, as a frame that can be looked at, kept and compared."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._system.files import user_path
from ..errors import PrivacyError
from ..events import Sampled, SampleStep, Step
from ..privacy.accounting import Gaussian, epsilon
from ..privacy.planning import default_delta, plan, solve_noise
from .adapters import initial_adapter
from .backbone import Backbone
from .dp_sgd import CLIP_NORM, PrivateTraining
from .latents import LatentSet
from .sampling import sample
from .training import TrainConfig, denoising_loss, train

__all__ = ["NoiseFrame", "Seen", "load_frames", "noise_frame", "save_frames"]

_POINTS = 10


@dataclass(frozen=True)
class Seen:
    """What others make of a frame: its pictures to a judge of style, and one step at its noise to an attacker.

    Attributes:
        right, judged: pictures that the judge gave to the right artist, and of how many; artists: whom it chose from.
        rebuilt: the attacker's best reconstruction of one picture, uint8 (height, width, 3).
        similarity: SSIM of it to the autoencoder's own version of the picture; guess: the highest SSIM of a guess
            without the update (the mean of other pictures, the nearest of them): what is not above it shows nothing.
        picked, candidates: how often the right one of so many candidates came first; bound: nobody can do better.
    """

    right: int
    judged: int
    artists: int
    similarity: float
    guess: float
    picked: float
    candidates: int
    bound: float
    rebuilt: NDArray[np.uint8] = field(repr=False, compare=False)

    def __str__(self) -> str:
        style = f"{self.right} of {self.judged} pictures judged to be the artist's; " if self.judged else ""
        rebuilt = f"reconstruction of SSIM {self.similarity:.2f} (without the update {self.guess:.2f})"
        return f"{style}{rebuilt}, picked out of {self.candidates} in {self.picked:.0%} of tries"


@dataclass(frozen=True)
class NoiseFrame:
    """One training at one epsilon.

    Attributes:
        epsilon: infinite for training without noise; delta: of the same promise.
        noise_multiplier, clip_norm, steps, batch, trained_on: how it was trained, and on how many pictures.
        loss_before, loss_after: on held-out pictures; None where there are none.
        norms: gradient norms before clipping, over all steps.
        spent: (step, epsilon up to it).
        sentence: the plan's, about noise and signal.
        prompts, pictures: what the adapter drew, uint8 (n, height, width, 3).
        seen: what a judge of style and an attacker make of it; None where nobody has looked.
    """

    epsilon: float
    delta: float
    noise_multiplier: float
    clip_norm: float
    steps: int
    batch: int
    trained_on: int
    loss_before: float | None
    loss_after: float | None
    norms: tuple[float, ...] = field(repr=False)
    spent: tuple[tuple[int, float], ...] = field(repr=False)
    sentence: str = field(repr=False)
    prompts: tuple[str, ...]
    pictures: NDArray[np.uint8] = field(repr=False, compare=False)
    seen: Seen | None = None

    def __str__(self) -> str:
        which = f"epsilon {self.epsilon:g}" if math.isfinite(self.epsilon) else "no noise"
        if self.loss_before is None or self.loss_after is None:
            return f"{which}: {len(self.prompts)} pictures"
        return f"{which}: held-out loss {self.loss_before:.4f} before, {self.loss_after:.4f} after"


def noise_frame(
    backbone: Backbone,
    data: LatentSet,
    *,
    wished: float,
    prompts: Sequence[str],
    held_out: LatentSet | None = None,
    steps: int = 45,
    batch: int = 16,
    learning_rate: float = 2e-2,
    clip_norm: float = CLIP_NORM,
    draws: int = 1,
    seed: int = 1,
) -> Iterator[Step | SampleStep | NoiseFrame]:
    """Train once at epsilon `wished` (infinity: without noise, but clipped alike), draw, and yield the frame at last.

    The adapter is thrown away and no ledger pays: it is for the artist's eyes, in the artist's kernel. Pictures that
    are shown to others are covered by this epsilon, but add up if several are shown.

    Raises:
        PrivacyError: epsilon is not above 0.
    """
    delta = default_delta(len(data))
    rate = min(1.0, batch / len(data))
    sigma = 0.0
    if wished != math.inf:
        sigma = solve_noise(wished, delta=delta, sample_rate=rate, steps=steps)
    private = PrivateTraining(sigma, clip_norm=clip_norm, draws=draws)
    start = initial_adapter(backbone)
    before = denoising_loss(backbone, held_out) if held_out else None
    config = TrainConfig(steps=steps, batch=batch, learning_rate=learning_rate, validate_every=0)
    adapter, norms = start, list[float]()
    for event in train(backbone, data, config=config, start=start, private=private):
        if isinstance(event, Step):
            norms += event.norms.values if event.norms else ()
            yield event
        else:
            adapter = event.adapter
    after = denoising_loss(backbone, held_out, [(adapter, 1.0)]) if held_out else None
    pictures = np.empty((0, backbone.size_px, backbone.size_px, 3), np.uint8)
    if prompts:
        for drawn in sample(backbone, prompts, seeds=[seed] * len(prompts), adapters=[(adapter, 1.0)]):
            if isinstance(drawn, Sampled):
                pictures = drawn.pictures
            else:
                yield drawn
    outlook = plan(
        pictures=len(data),
        batch=batch,
        steps=steps,
        parameters=private.size(start.tensors),
        noise_multiplier=sigma,
        delta=delta,
    )
    points = sorted({max(1, round(steps * i / _POINTS)) for i in range(1, _POINTS + 1)})
    costs = ((n, epsilon([Gaussian(sigma, rate, n)], delta=delta)) for n in points)
    yield NoiseFrame(
        epsilon=wished,
        delta=delta,
        noise_multiplier=sigma,
        clip_norm=clip_norm,
        steps=steps,
        batch=batch,
        trained_on=len(data),
        loss_before=before,
        loss_after=after,
        norms=tuple(norms),
        spent=tuple(costs),
        sentence=str(outlook),
        prompts=tuple(prompts),
        pictures=pictures,
    )


def save_frames(frames: Sequence[NoiseFrame], folder: str | Path, *, about: str) -> None:
    """Write frames as `frames.json` and one PNG each, a row of its pictures and of what was rebuilt, if anything was.

    `about` says what they are of.
    """
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = []
    for number, frame in enumerate(frames):
        row = [*frame.pictures, *([frame.seen.rebuilt] if frame.seen else [])]
        Image.fromarray(np.concatenate(row, axis=1)).save(folder / f"{number}.png", optimize=True)
        values: dict[str, Any] = {name: getattr(frame, name) for name in _fields(NoiseFrame, "pictures", "norms")}
        if frame.seen is not None:
            values["seen"] = {name: getattr(frame.seen, name) for name in _fields(Seen, "rebuilt")}
        values["epsilon"] = frame.epsilon if math.isfinite(frame.epsilon) else None
        values["spent"] = [(n, cost) for n, cost in frame.spent if math.isfinite(cost)]
        kept.append(values | {"norms": [float(f"{norm:.3g}") for norm in frame.norms]})
    text = json.dumps({"about": about, "frames": kept}, indent=1)
    (folder / "frames.json").write_text(text + "\n", encoding="utf-8")


def _fields(of: type[NoiseFrame | Seen], *without: str) -> list[str]:
    return [one.name for one in fields(of) if one.name not in without]


def load_frames(folder: str | Path) -> tuple[str, tuple[NoiseFrame, ...]]:
    """What `save_frames` wrote: what the frames are of, and the frames.

    Raises:
        PrivacyError: a file is missing or damaged.
    """
    folder = user_path(folder)
    try:
        told = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
        frames = []
        for number, values in enumerate(told["frames"]):
            with Image.open(io.BytesIO((folder / f"{number}.png").read_bytes())) as image:
                row = np.asarray(image.convert("RGB"))
            values |= {
                "epsilon": math.inf if values["epsilon"] is None else values["epsilon"],
                "spent": tuple((int(n), float(cost)) for n, cost in values["spent"]),
                "norms": tuple(values["norms"]),
                "prompts": tuple(values["prompts"]),
            }
            seen = values.pop("seen")
            pictures = np.stack(np.split(row, len(values["prompts"]) + (seen is not None), axis=1))
            if seen is not None:
                seen, pictures = Seen(**seen, rebuilt=pictures[-1]), pictures[:-1]
            frames.append(NoiseFrame(**values, pictures=pictures, seen=seen))
        return str(told["about"]), tuple(frames)
    except (OSError, SyntaxError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PrivacyError(
            f"The frames in {str(folder)!r} cannot be read ({type(error).__name__}). Make them again with "
            "recipes/noise/make.py, or compute your own."
        ) from error
