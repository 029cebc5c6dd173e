"""What an attack yields: a `Frame` now and then, and one `Outcome` at its end. `str()` of both is a sentence."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .._system.cancelling import checkpoint

__all__ = ["Clock", "Frame", "Outcome"]


@dataclass(frozen=True)
class Frame:
    """How far an attack is.

    Attributes:
        attack: its name.
        evaluations, of: how many gradients (or candidates, for attacks without gradients) were tried, and of how many.
        residual: relative squared distance between the update seen and the one that the guess would give; what the
            attacker can know of its success. NaN where an attack has none.
        seconds: since it began, wall clock; cpu_seconds: of this process.
        pictures: reconstructions, uint8 (n, h, w, 3).
        ranking: (index, score), best first; of what `ranks` says: "candidates" (pictures, or earlier updates) or
            "captions" of the attacker's list.
        captions, timesteps: guesses.
        latents: what `pictures` were decoded from, (n, c, h, w), at an attack's end.
    """

    attack: str
    evaluations: int
    of: int
    residual: float
    seconds: float
    cpu_seconds: float = 0.0
    pictures: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    ranking: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    captions: tuple[str, ...] = field(default=(), repr=False)
    timesteps: tuple[float, ...] = ()
    latents: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    ranks: Literal["candidates", "captions"] = field(default="candidates", repr=False)

    def __str__(self) -> str:
        left = "" if math.isnan(self.residual) else f", {self.residual:.2g} of the update is not explained yet"
        return f"{self.attack}: {self.evaluations} of {self.of} tries after {self.seconds:.0f} s{left}{self.found}"

    @property
    def found(self) -> str:
        """What the frame holds, as the end of a sentence; "" for nothing to tell in words. No caption is repeated."""
        if self.captions:
            many = len(self.captions)
            return f"; reads {many} caption{'s' if many > 1 else ''}"
        if self.timesteps:
            return f"; timesteps {', '.join(f'{t:.1f}' for t in self.timesteps[:16])}"
        if self.ranking:
            return f"; most like candidate {self.ranking[0][0] + 1} of {len(self.ranking)}"
        return ""


@dataclass(frozen=True)
class Outcome:
    """How an attack ended.

    Attributes:
        frame: the best guess.
        recovered: whether the attacker itself can take it for recovered (a small residual, a clear winner). Only the
            scorer (`scoring.py`), who holds the truth, knows whether it is right.
        why: the end of the sentence: what the attacker goes by.
        stopped: the budget ran out before the attack was done.
    """

    frame: Frame
    recovered: bool
    why: str
    stopped: bool = False

    @property
    def attack(self) -> str:
        """The attack's name."""
        return self.frame.attack

    def __str__(self) -> str:
        spent = f"{self.frame.evaluations} tries, {self.frame.seconds:.0f} s"
        if self.recovered:
            return f"{self.attack}: recovered{self.frame.found} ({spent}); {self.why}"
        return (
            f"{self.attack}: not recovered by this attack within this budget ({spent}); {self.why} "
            "That is not evidence of safety."
        )


class Clock:
    """Seconds and evaluations of one attack, and when its budget is spent.

    >>> Clock("pixels", evaluations=10, budget_s=60.0).frame(0.5).of
    10
    """

    def __init__(self, attack: str, *, evaluations: int, budget_s: float) -> None:
        self.attack, self.of, self.budget_s = attack, evaluations, budget_s
        self.done = 0
        self._wall, self._cpu = time.monotonic(), time.process_time()

    @property
    def seconds(self) -> float:
        """Since the attack began."""
        return time.monotonic() - self._wall

    @property
    def late(self) -> bool:
        """Whether the time is over; a place where an attack may be cancelled."""
        checkpoint()
        return self.seconds >= self.budget_s

    @property
    def spent(self) -> bool:
        """Whether time or evaluations are over."""
        return self.late or self.done >= self.of

    def frame(self, residual: float = math.nan, **found: object) -> Frame:
        """A frame of now."""
        cpu = time.process_time() - self._cpu
        plain = Frame(self.attack, self.done, self.of, residual, self.seconds, cpu)
        return replace(plain, **found)  # type: ignore[arg-type]
