"""The vector of a round with noise on whole artists: one update as noised words, the check words, and nothing else.

Everything that is summed is covered by the noise: weights are equal, and numbers of pictures, clipped values and
metrics do not travel. The sum shows how many artists are in it, which relay and artists see anyway.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from ..crypto.random_streams import SecureRandom
from ..errors import SecAggError
from ..privacy.distributed import SkellamSum, Words
from ..privacy.guarantee import ArtistPromise
from ..secagg.encoding import CHECK_WORDS
from ..secagg.graph import quorum_of
from ..secagg.keys import derive
from .plan import RoundPlan

__all__ = ["NoisedWords", "noise_stream", "promise_of", "skellam_of"]

_LABEL = b"noise on this update"


def skellam_of(plan: RoundPlan, size: int, artists: int) -> SkellamSum:
    """The noise of a plan on updates of `size` numbers by `artists` artists, sized for those who are in for certain."""
    return SkellamSum(
        size=size,
        artists=artists,
        survivors=max(plan.survivors, quorum_of(artists, plan.degree)),
        clip_norm=plan.clip_norm,
        noise_multiplier=plan.noise_multiplier,
        seed=bytes.fromhex(plan.digest),
    )


def promise_of(plan: RoundPlan, size: int, *, artists: int = 0) -> ArtistPromise | None:
    """What all rounds of a plan promise one artist, with so many artists or the least; None without noise."""
    if plan.protection != "artist":
        return None
    return ArtistPromise(skellam_of(plan, size, artists or plan.min_artists), plan.total, plan.delta)


class NoisedWords:
    """Encoder and decoder of one round, in the place of `FixedPoint`.

    Attributes:
        code: the noise; size: words of an encoded vector, check words included.
    """

    def __init__(self, plan: RoundPlan, size: int, artists: int) -> None:
        self.code = skellam_of(plan, size, artists)
        self.size = self.code.words + CHECK_WORDS

    def encode(self, update: NDArray[np.float64], random: SecureRandom, out: Words) -> None:
        """Write one artist's clipped, rounded and noised update, (d,), and the check words to `out`."""
        out[:-CHECK_WORDS] = self.code.encode(update, random=random)
        out[-CHECK_WORDS:] = 1

    def decode(self, total: Words, count: int) -> NDArray[np.float64]:
        """The noised sum of the `count` updates in `total`, (d,); SecAggError when it does not open."""
        if total.shape != (self.size,) or (total[-CHECK_WORDS:] != count).any():
            raise SecAggError(
                f"The sum does not open: its check words are {total[-CHECK_WORDS:].tolist()}, expected {count} in "
                "each. The artists did not hold the same plan, shared adapter and roster, or one of them sent nonsense."
            )
        return self.code.decode(total[:-CHECK_WORDS])


def noise_stream(secret: bytes, context: bytes, update: NDArray[np.float64]) -> SecureRandom:
    """Chance for one update in one attempt: from the attempt's secret, the roster's context and the update itself.

    A kernel that was killed says the same words again; another update under the same secret, which is refused anyway,
    would get other noise, so that no difference of two vectors ever shows updates without noise.
    """
    content = hashlib.sha256(np.ascontiguousarray(update, "<f8").tobytes()).digest()
    return SecureRandom(derive(secret, context, _LABEL + content))
