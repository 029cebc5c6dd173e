"""Artist-level privacy inside the secure sum: every artist adds a share of Skellam noise, in whole numbers modulo 2^32.

Nobody adds all the noise, and nobody can leave it out for the others: the sum has enough of it as long as the artists
that the secure sum needs anyway have added their shares. The way of one update (Kairouz, Liu & Steinke 2102.06387,
section 4; Skellam noise: Agarwal, Kairouz & Liu 2110.04995):

    clip to norm C -> signs and Walsh-Hadamard (every number becomes about C / sqrt(d)) -> times s -> round to whole
    numbers by chance, until the norm is within its bound -> add Poisson(mu / 2) - Poisson(mu / 2) -> modulo 2^32

and of the sum: centred modulo -> divided by s -> rotated back. Sums of Skellam noise are Skellam noise of the summed
variance, so what `Skellam` accounts for is exactly what is there, also after dropouts.

The neighbour of a sum is the same sum with one artist's update replaced by zeros: who takes part, relay and artists see
anyway. Beside the vector nothing may go into the sum unnoised: no weights, no numbers of pictures, no clip counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedart_nb._system.cancelling import checkpoint
from fedart_nb.crypto.random_streams import SecureRandom
from fedart_nb.errors import PrivacyError
from fedart_nb.privacy.accounting import Skellam, epsilon
from fedart_nb.privacy.clipping import check_clip_norm, clip_factors

__all__ = ["SkellamSum", "Words", "hadamard", "solve_skellam"]

Words = NDArray[np.uint32]

_MODULUS_BITS = 32
_BETA = math.exp(-0.5)  #: a rounding is too long, and done again, with at most this chance
_FINE = 32.0  #: clip norm in units of sqrt(d): rounding then adds 1 / (4 * 32^2) to the squared sensitivity
_TAILS = 10.0  #: so many standard deviations of the sum fit into the modulus
_MAX_TRIES = 10_000


@dataclass(frozen=True)
class SkellamSum:
    """What all artists of one sum agree on.

    Attributes:
        size: numbers in an update, d.
        artists: how many may be in the sum, n.
        survivors: how many are in it for certain, or it is not opened: the threshold of the secure sum.
        clip_norm: C, the longest that one artist's whole update may be.
        noise_multiplier: z, the noise's standard deviation in the sum of `survivors` artists, in clip norms.
        seed: 32 bytes, known to all, for the rotation: the plan's digest, say. It need not be secret.

    Example:
        >>> code = SkellamSum(size=768, artists=10, survivors=7, clip_norm=1.0, noise_multiplier=1.6, seed=bytes(32))
        >>> words = sum((code.encode(update) for update in updates), np.zeros(code.words, np.uint32))
        >>> mean = code.decode(words) / len(updates)
    """

    size: int
    artists: int
    survivors: int
    clip_norm: float
    noise_multiplier: float
    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        check_clip_norm(self.clip_norm)
        for name, value, most in (("size", self.size, 2**26), ("artists", self.artists, 100_000)):
            if type(value) is not int or not 1 <= value <= most:
                raise PrivacyError(f"{name} is {value!r}; expected a whole number from 1 to {most:,}.")
        if type(self.survivors) is not int or not 1 <= self.survivors <= self.artists:
            raise PrivacyError(
                f"survivors is {self.survivors!r}; expected a whole number from 1 to {self.artists}, the artists: the "
                "threshold below which the sum is not opened."
            )
        z = self.noise_multiplier
        if not (isinstance(z, (int, float)) and not isinstance(z, bool) and 0 <= z < 1e6):
            raise PrivacyError(f"noise_multiplier is {z!r}; expected a number from 0 to a million.")
        if len(self.seed) != 32:
            raise PrivacyError(f"The rotation's seed has {len(self.seed)} bytes; expected 32.")
        spread = math.hypot(
            self.artists * _FINE, math.sqrt(self.artists * self.share_variance), math.sqrt(self.artists) / 2
        )
        if self.artists * self.l2 >= 2 ** (_MODULUS_BITS - 2) or 2 * _TAILS * spread >= 2**_MODULUS_BITS:
            raise PrivacyError(
                f"Sums of {self.artists:,} artists with noise multiplier {z:g} and {self.size:,} numbers do not fit "
                f"into {_MODULUS_BITS} bits. Take a smaller core or less noise."
            )

    @property
    def words(self) -> int:
        """Whole numbers in an encoded update: d, up to the next power of two."""
        return 1 << (self.size - 1).bit_length()

    @property
    def scale(self) -> float:
        """s, whole numbers for 1: the clip norm is 32 sqrt(d), coarse enough to draw Poisson numbers exactly."""
        return _FINE * math.sqrt(self.words) / self.clip_norm

    @property
    def l2(self) -> float:
        """The longest that one artist's rounded update can be, in whole numbers (conditional rounding, 2102.06387)."""
        c, d = self.clip_norm * self.scale, float(self.words)
        by_chance = c**2 + d / 4 + math.sqrt(2 * math.log(1 / _BETA)) * (c + math.sqrt(d) / 2)
        return min(c + math.sqrt(d), math.sqrt(by_chance))

    @property
    def l1(self) -> float:
        """Most that its numbers can add up to, without signs."""
        return self.l2 * min(math.sqrt(self.words), self.l2)

    @property
    def share_variance(self) -> float:
        """Variance of the noise that one artist adds to every number: `survivors` of them make the promised one."""
        return (self.noise_multiplier * self.clip_norm * self.scale) ** 2 / self.survivors

    def mechanism(self, *, rounds: int = 1, colluders: int = 0) -> Skellam:
        """`rounds` such sums for an accountant, as they are for a group of so many artists who tell each other all.

        They know their own shares of the noise and subtract them; the least that is left are the shares of
        `survivors - colluders` artists. One artist who looks at the others is a group of 1.

        Raises:
            PrivacyError: the group is as large as the sum needs: none of the noise is certain to be left.
        """
        if type(colluders) is not int or not 0 <= colluders < self.survivors:
            raise PrivacyError(
                f"{colluders!r} colluders, of {self.survivors} artists that are in the sum for certain: no noise is "
                f"certain to be left. The promise can be made against up to {self.survivors - 1}."
            )
        return Skellam(self.share_variance * (self.survivors - colluders), self.l2, self.l1, rounds)

    def noise_std(self, artists: int) -> float:
        """Standard deviation of the noise in every number of the decoded sum of so many artists."""
        return math.sqrt(artists * self.share_variance) / self.scale

    def noise_to_signal(self, artists: int) -> float:
        """Norm of the noise over the norm of the sum of so many updates: at best, where all pull the same way.

        Updates that disagree, or are shorter than the clip norm, leave more noise than that.
        """
        return self.noise_std(artists) * math.sqrt(self.size) / (artists * self.clip_norm)

    def encode(self, update: NDArray[np.floating], *, random: SecureRandom | None = None) -> Words:
        """One artist's clipped, rotated, rounded and noised update, uint32 (words,).

        Args:
            update: (size,), finite.
            random: where chance comes from; the operating system's entropy unless given. Whoever must say the same
                again after a restart gives a stream whose key is secret and belongs to this update alone.

        Raises:
            PrivacyError: another size, or values that are not finite.
        """
        flat = np.asarray(update, np.float64).reshape(-1)
        if len(flat) != self.size or not np.isfinite(flat).all():
            what = "holds values that are not finite" if len(flat) == self.size else f"has {len(flat):,} numbers"
            raise PrivacyError(f"The update {what}; expected {self.size:,} finite ones.")
        random = random or SecureRandom()
        flat = flat * clip_factors(np.array([np.linalg.norm(flat)]), self.clip_norm)[0] if flat.any() else flat
        padded = np.zeros(self.words)
        padded[: self.size] = flat
        whole = self._rounded(hadamard(padded * self._signs) * self.scale, random)
        if self.share_variance:
            half = self.share_variance / 2
            whole += random.poisson(half, self.words) - random.poisson(half, self.words)
        return whole.astype(np.uint32)  # two's complement: negative numbers become 2^32 less, as the modulus wants

    def decode(self, total: Words) -> NDArray[np.float64]:
        """The sum of the clipped updates and of all noise, (size,), from a sum of encoded ones modulo 2^32."""
        if total.shape != (self.words,) or total.dtype != np.uint32:
            raise PrivacyError(f"A sum of {total.dtype} {total.shape}; expected uint32 ({self.words},).")
        centred = total.view(np.int32).astype(np.float64) / self.scale
        out: NDArray[np.float64] = hadamard(centred) * self._signs
        return out[: self.size]

    @cached_property
    def _signs(self) -> NDArray[np.float64]:
        stream = Cipher(algorithms.AES256(self.seed), modes.CTR(bytes(16))).encryptor()
        bits = np.unpackbits(np.frombuffer(stream.update(bytes(-(-self.words // 8))), np.uint8))[: self.words]
        return np.where(bits, -1.0, 1.0)

    def _rounded(self, x: NDArray[np.float64], random: SecureRandom) -> NDArray[np.int64]:
        """Rounded up or down by chance, right on average, and again until the norm is within `l2`."""
        down = np.floor(x)
        for _ in range(_MAX_TRIES):
            whole: NDArray[np.float64] = down + (random.uniform(len(x)) < x - down)
            if float(whole @ whole) <= self.l2**2:
                return whole.astype(np.int64)
        raise PrivacyError("No rounding within its bound was found. Send the update again.")  # chance below 0.61^10000


def hadamard(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthonormal Walsh-Hadamard transform of x, (2^k,): its own inverse, in k 2^k additions.

    >>> hadamard(np.array([1.0, 0.0])).round(3).tolist()
    [0.707, 0.707]
    """
    size = len(x)
    if size & (size - 1) or not size:
        raise PrivacyError(f"A Walsh-Hadamard transform of {size} numbers; expected a power of two.")
    out, width = np.array(x, np.float64), 1
    while width < size:
        pairs = out.reshape(-1, 2, width)
        out = np.stack((pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]), axis=1).reshape(-1)
        width *= 2
    return out / math.sqrt(size)


def solve_skellam(code: SkellamSum, *, target: float, delta: float, rounds: int = 1, colluders: int = 0) -> SkellamSum:
    """The same sum with the least noise with which `rounds` of it cost an artist no more than epsilon `target`.

    Raises:
        PrivacyError: no noise that fits into the modulus is enough.
    """
    low, high = 1e-2, 1e5

    def enough(z: float) -> bool:
        part = replace(code, noise_multiplier=1.0).mechanism(rounds=rounds, colluders=colluders)
        return epsilon([replace(part, variance=part.variance * z**2)], delta=delta) <= target

    if not enough(high):
        raise PrivacyError(f"No noise keeps epsilon at {target!r} over {rounds} rounds. Take a larger epsilon.")
    while high / low > 1 + 1e-5:
        checkpoint()
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return replace(code, noise_multiplier=high)
