"""What artists gain, told as sums alone: the mean, its spread and how many gained, and nobody's own number.

    mean = sum g / N,    spread = sqrt(sum g^2 / N - mean^2),    gained = sum [g > 0]

A gain g is the fall of the loss on an artist's own held-out pictures from the bare backbone to the shared adapter. The
three numbers travel in the masked vector, like everything else that a plan asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import RoundError

__all__ = ["FEWEST", "GAIN_METRICS", "Gains", "addends", "asked"]

#: What a plan asks for to learn of gains, and the largest one that counts.
GAIN_METRICS: Mapping[str, float] = {"gain": 1.0, "gain_squared": 1.0, "gained": 1.0}

#: Of three artists each knows one gain, and from two sums the other two. Fewer than this are not asked.
FEWEST = 5


def asked(metrics: Iterable[str]) -> bool:
    """Whether a plan's metrics have any number of gains in them.

    >>> asked(("gain", "loss_after")), asked(("loss_after",))
    (True, False)
    """
    return any(name in GAIN_METRICS for name in metrics)


def addends(gain: float) -> dict[str, float]:
    """What one artist adds to the sums; clipped to 1 either way, so that nobody can pull the mean far.

    >>> addends(-0.25)
    {'gain': -0.25, 'gain_squared': 0.0625, 'gained': 0.0}
    """
    if not math.isfinite(gain):
        raise RoundError(f"The gain is {gain!r}; expected a finite number, the fall of a loss.")
    gain = min(max(gain, -GAIN_METRICS["gain"]), GAIN_METRICS["gain"])
    return {"gain": gain, "gain_squared": gain * gain, "gained": float(gain > 0)}


@dataclass(frozen=True)
class Gains:
    """What the host learns of a round's gains.

    Attributes:
        mean: of the artists' gains; spread: their standard deviation, in the same unit.
        gained: how many gained; artists: of how many.
    """

    mean: float
    spread: float
    gained: int
    artists: int

    def __str__(self) -> str:
        return (
            f"{self.gained} of {self.artists} artists gained; the loss on their own held-out pictures fell by "
            f"{self.mean:.4f} on average, give or take {self.spread:.4f} from artist to artist"
        )

    @classmethod
    def of(cls, metrics: Mapping[str, float], artists: int) -> Gains | None:
        """From a result's means over its contributors; None where the plan did not ask for gains.

        >>> print(Gains.of({"gain": 0.02, "gain_squared": 0.0005, "gained": 0.8}, 5))
        4 of 5 artists gained; the loss on their own held-out pictures fell by 0.0200 on average, give or take 0.0100 \
from artist to artist
        """
        if artists < 1 or not GAIN_METRICS.keys() <= metrics.keys():
            return None
        mean = metrics["gain"]
        return cls(
            mean,
            math.sqrt(max(0.0, metrics["gain_squared"] - mean * mean)),
            round(metrics["gained"] * artists),
            artists,
        )
