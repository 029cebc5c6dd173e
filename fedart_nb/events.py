"""Frozen events that long work yields: the only way in which progress leaves a computation.

`str(event)` is a sentence for a person; nothing in it tells a loss to anybody but the artist who reads it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Found",
    "GradientNorms",
    "Joined",
    "Note",
    "RoomPaused",
    "RoundClosed",
    "RoundOpened",
    "SampleStep",
    "Sampled",
    "Step",
    "Trained",
    "UpdateSent",
    "Waiting",
]


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Norms of the pictures' gradients in one private step, before they were clipped to `clip_norm`.

    They are computed from the pictures and carry no noise, so they stay in the kernel, as losses do.
    """

    values: tuple[float, ...] = field(repr=False)
    clip_norm: float

    @property
    def median(self) -> float:
        """The median norm; 0 where the step's sample was empty."""
        return statistics.median(self.values) if self.values else 0.0

    @property
    def clipped(self) -> float:
        """Share of the pictures whose gradient was shortened."""
        return sum(v > self.clip_norm for v in self.values) / max(1, len(self.values))

    def __str__(self) -> str:
        return f"{len(self.values)} pictures, median gradient norm {self.median:.3g}, {self.clipped:.0%} clipped"


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at an update came to before it left, in sentences; goes into the receipt of the decision."""

    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.sentences)


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step. `index` counts from 1 to `total`; `held_out_loss` is None between validations.

    In private training `norms` says how long the pictures' gradients were, and `loss` is NaN for an empty sample.
    """

    index: int
    total: int
    loss: float
    held_out_loss: float | None
    seconds: float
    state: Any = field(repr=False, compare=False, default=None)  # diffusion.TrainState: resume from here
    norms: GradientNorms | None = field(repr=False, default=None)

    def __str__(self) -> str:
        held = "" if self.held_out_loss is None else f", held-out {self.held_out_loss:.4f}"
        loss = "no picture in the sample" if math.isnan(self.loss) else f"loss {self.loss:.4f}"
        return f"step {self.index} of {self.total}: {loss}{held}"


@dataclass(frozen=True, slots=True)
class Trained:
    """Training finished (or was stopped at a whole step): the adapter and its held-out loss before and after."""

    adapter: Any = field(repr=False)
    steps: int
    loss_before: float | None
    loss_after: float | None
    seconds: float

    def __str__(self) -> str:
        known = self.loss_before is not None and self.loss_after is not None
        gain = f": held-out loss {self.loss_before:.4f} before, {self.loss_after:.4f} after" if known else ""
        return f"trained {self.steps} steps in {self.seconds:.0f} s{gain}"


@dataclass(frozen=True, slots=True)
class SampleStep:
    """One sampling step; `previews` is uint8 (n, height, width, 3) at latent size, or None between previews."""

    index: int
    total: int
    previews: Any = field(repr=False, default=None)

    def __str__(self) -> str:
        return f"drawing, step {self.index} of {self.total}"


@dataclass(frozen=True, slots=True)
class Sampled:
    """Finished pictures, uint8 (n, height, width, 3), with the prompts and seeds that made them."""

    pictures: Any = field(repr=False)
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{len(self.prompts)} pictures drawn in {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Joined:
    """This kernel is in the room; `others` is the number of further members seen so far."""

    room: str
    name: str
    others: int = 0

    def __str__(self) -> str:
        return f"{self.name} is in the room {self.room}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing to do but wait; `reason` is a sentence for a person."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class RoomPaused:
    """The rounds stand still: the host stopped them, or is not heard any more; `reason` is a sentence for a person."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should read: `level` is "info", "warning" or "error"."""

    text: str
    level: str = "info"

    def __str__(self) -> str:
        return self.text if self.level == "info" else f"{self.level.upper()}: {self.text}"


@dataclass(frozen=True, slots=True)
class RoundOpened:
    """A round began; `number` counts from 1 to `total`."""

    number: int
    total: int
    artists: tuple[str, ...] = ()

    def __str__(self) -> str:
        who = f" with {', '.join(self.artists)}" if self.artists else ""
        return f"round {self.number} of {self.total} is open{who}"


@dataclass(frozen=True, slots=True)
class UpdateSent:
    """This kernel's update left for the relay: how many bytes, and the L2 norm of what left."""

    number: int
    size_bytes: int
    norm: float

    def __str__(self) -> str:
        return f"round {self.number}: update sent, {self.size_bytes:,} bytes, norm {self.norm:.2f}"


@dataclass(frozen=True, slots=True)
class RoundClosed:
    """A round ended with a new shared adapter made of `contributors` updates; `metrics` are means over them."""

    number: int
    total: int
    contributors: int
    adapter: Any = field(repr=False, default=None)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def means(self) -> str:
        """The metrics as the end of a sentence; "" when there are none. Squares are for spreads, not for people.

        >>> RoundClosed(1, 2, 5, metrics={"gain": 0.02, "gain_squared": 0.0005, "gained": 0.8}).means
        ', mean gain 0.0200, 4 of them gained'
        """
        told = ""
        for name, value in sorted(self.metrics.items()):
            if name == "gained":
                told += f", {round(value * self.contributors)} of them gained"
            elif not name.endswith("_squared"):
                told += f", mean {name.replace('_', ' ')} {value:.4f}"
        return told

    def __str__(self) -> str:
        made = f"a new shared adapter from {self.contributors} artists"
        return f"round {self.number} of {self.total} is over: {made}{self.means}"
