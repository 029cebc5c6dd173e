"""What a room's noise promises one artist, over all rounds and against groups that tell each other all."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedart_nb.privacy.accounting import epsilon
from fedart_nb.privacy.distributed import SkellamSum
from fedart_nb.privacy.planning import artist_sentence

__all__ = ["ArtistPromise", "Group"]


@dataclass(frozen=True)
class Group:
    """What is left against so many artists who put together what they know.

    Attributes:
        colluders: how many, k. They know their own shares of the noise and take them off.
        noise_multiplier: what is left at least, in clip norms: z sqrt((survivors - k) / survivors).
        epsilon: for each of the others, over all rounds, at the promise's delta.
    """

    colluders: int
    noise_multiplier: float
    epsilon: float


@dataclass(frozen=True)
class ArtistPromise:
    """A room's noise, as numbers and as a sentence.

    Attributes:
        code: what the artists of a round agree on; rounds: how many such sums; delta: with which epsilon is told.

    >>> code = SkellamSum(size=896, artists=10, survivors=7, clip_norm=1.0, noise_multiplier=2.6, seed=bytes(32))
    >>> [round(ArtistPromise(code, rounds=3, delta=1e-3).against(k).epsilon, 1) for k in (0, 1, 3)]
    [2.3, 2.5, 3.2]
    """

    code: SkellamSum
    rounds: int
    delta: float

    def against(self, colluders: int) -> Group:
        """What `colluders` artists leave; raises PrivacyError for as many as the sum needs: nothing is certain then."""
        part = self.code.mechanism(rounds=self.rounds, colluders=colluders)
        left = math.sqrt((self.code.survivors - colluders) / self.code.survivors)
        return Group(colluders, self.code.noise_multiplier * left, epsilon([part], delta=self.delta))

    @property
    def groups(self) -> tuple[Group, ...]:
        """Nobody; one who looks at the others; a third, and all but one, of those who are in the sum for certain."""
        most = self.code.survivors - 1
        return tuple(self.against(k) for k in sorted({0, min(1, most), min(most, max(2, most // 2)), most}))

    @property
    def noise_to_signal(self) -> float:
        """In one round, if nobody drops out and all pull the same way."""
        return self.code.noise_to_signal(self.code.artists)

    @property
    def sentence(self) -> str:
        """For a person: how loud the noise is, what epsilon it buys, and what groups take off again."""
        alone, *groups = self.groups
        over = f" over {self.rounds} rounds" if self.rounds > 1 else ""
        text = artist_sentence(self.noise_to_signal, artists=self.code.artists, rounds=self.rounds, delta=self.delta)
        text += f" It keeps epsilon at {alone.epsilon:.2f} per artist{over}, at delta {self.delta:g}."
        for group in groups:
            who = "Another artist knows its own share of the noise and takes it off"
            if group.colluders > 1:
                who = f"{group.colluders} who put theirs together leave noise {group.noise_multiplier:.2f} of "
                who += f"{self.code.noise_multiplier:.2f}"
            text += f" {who}: epsilon {group.epsilon:.2f}."
        return f"{text} Against {self.code.survivors} nothing is promised."

    def __str__(self) -> str:
        return self.sentence
