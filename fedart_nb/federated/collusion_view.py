"""What a relay, and artists who collude with it, can see of one artist in a finished round: computed, not promised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import RoundError
from ..secagg.graph import threshold_of

__all__ = ["RelayView", "Sight", "Values", "correlation"]

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Sight:
    """What lies open with some number of colluders.

    Attributes:
        colluders, honest: how many artists help the relay, and how many (you among them) do not.
        exposed: whether your update itself lies open.
        values: the numbers that they can compute, (d,); None where this kernel does not know them.
        correlation: of these numbers with your update; expected, not measured, where `values` is None.
        sentence: the same for a person.
    """

    colluders: int
    honest: int
    exposed: bool
    values: Values | None = field(repr=False)
    correlation: float
    sentence: str


@dataclass(frozen=True)
class RelayView:
    """One artist's finished round, as this artist's kernel knows it.

    Args:
        number: which round.
        update: this artist's update, (d,): known here only.
        held: the masked words that the relay holds of this artist, uint32 (d,).
        mean: the mean update that came out, (d,).
        others: the other artists' updates by name, where they are known: in rehearsals and simulations, whose
            artists all live in this kernel. {} in a real room.
        contributors: how many updates are in the sum; `roster`: how many artists had exchanged keys.
        noise_std: of this artist's own share of the noise, for each number of the update; 0: the round had none.
    """

    number: int
    update: Values = field(repr=False)
    held: NDArray[np.uint32] = field(repr=False)
    mean: Values = field(repr=False)
    contributors: int
    roster: int
    others: Mapping[str, Values] = field(default_factory=dict, repr=False)
    noise_std: float = 0.0

    def __post_init__(self) -> None:
        sizes = {len(self.update), len(self.held), len(self.mean), *map(len, self.others.values())}
        if len(sizes) != 1:
            raise RoundError(f"Update, masked words and mean have {sorted(sizes)} numbers; expected one size.")

    @property
    def threshold(self) -> int:
        """How many artists together can rebuild anybody's secrets, if relay and host only watch."""
        return threshold_of(self.roster)

    @property
    def foul_limit(self) -> int:
        """How many colluders it takes when relay and host lie as well: 2t - n."""
        return 2 * self.threshold - self.roster

    def breaks_at(self, *, foul: bool = False) -> int:
        """The fewest colluders among the others in the sum to whom your update lies open (see `sight`).

        That many hold enough shares, or are all others and subtract their own updates from the sum.
        """
        return min(self.foul_limit if foul else self.threshold, self.contributors - 1)

    def relay_correlation(self) -> float:
        """Correlation of the words that the relay holds with your update: about 0, within 1 / sqrt(d)."""
        return correlation(self.held.astype(np.float64), self.update)

    def sum_correlation(self) -> float:
        """Correlation of the mean that came out with your update."""
        return correlation(self.mean, self.update)

    def _opened(self, honest: int, colluders: int, sentence: str) -> Sight:
        """Your update lies open; in a noised round, what lies open is your clipped update under your own noise."""
        if not self.noise_std:
            return Sight(colluders, honest, True, self.update, 1.0, sentence)
        signal = float(np.std(self.update))
        expected = signal / math.hypot(signal, self.noise_std) if signal else 0.0
        noised = (
            f"{sentence} You had clipped it and added your own share of the noise before it was masked, and that "
            "share stays on: the correlation is an expectation."
        )
        return Sight(colluders, honest, True, None, expected, noised)

    def sight(self, colluders: int, *, foul: bool = False) -> Sight:
        """What `colluders` of the other artists see together with a relay and host that watch, or (`foul`) lie too.

        Raises:
            RoundError: more colluders than there are other artists.
        """
        if not 0 <= colluders < self.contributors:
            raise RoundError(f"{colluders} colluders; expected 0 to {self.contributors - 1}, the other artists.")
        honest = self.contributors - colluders
        limit = self.foul_limit if foul else self.threshold
        if colluders >= limit:
            how = "lie about who has dropped out and collect" if foul else "put together"
            sentence = (
                f"{colluders} colluders are enough to {how} the {self.threshold} shares of your mask key: your masks "
                "come off, and your update lies open."
            )
            return self._opened(honest, colluders, sentence)
        if honest == 1:
            sentence = f"All {colluders} others subtract their own updates from the sum. What is left is yours."
            return self._opened(honest, colluders, sentence)
        known = sorted(self.others)[:colluders]
        if len(self.others) < self.contributors - 1:
            sentence = (
                f"They subtract what they know. Left is the sum of {honest} updates, yours among them. This kernel "
                "does not know the others' updates, so the correlation is an expectation: "
                f"1 / sqrt({honest}), if updates are alike in size and unrelated."
            )
            values = self.mean if colluders == 0 else None
            measured = self.sum_correlation() if colluders == 0 else 1 / math.sqrt(honest)
            return Sight(colluders, honest, False, values, measured, sentence)
        left = self.contributors * self.mean - sum((self.others[name] for name in known), np.zeros_like(self.mean))
        who = f" ({', '.join(known)})" if known else ""
        sentence = (
            f"{'Nobody colludes: the relay' if not known else f'They{who} subtract their own updates and'} "
            f"{'sees' if not known else 'see'} the sum of {honest} updates, yours among them."
        )
        return Sight(colluders, honest, False, left / honest, correlation(left, self.update), sentence)


def correlation(a: Values, b: Values) -> float:
    """Pearson's correlation; 0 when one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else 0.0
