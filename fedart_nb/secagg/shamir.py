"""Shamir's secret sharing (Shamir 1979, "How to share a secret") of 32-byte secrets over a prime field.

A secret is the constant term of a random polynomial of degree t - 1 over the integers modulo `PRIME`; the share of the
holder with index x >= 1 is its value at x. Any t shares give the secret back, t - 1 say nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedart_nb.errors import SecAggError

__all__ = ["PRIME", "SECRET_BYTES", "SHARE_BYTES", "combine", "combine_many", "lagrange_at_zero", "split"]

PRIME = 2**256 + 297  #: the smallest prime above 2^256: every 32-byte secret is an element of its field
SECRET_BYTES = 32
SHARE_BYTES = 33
_WIDE_BYTES = 48  # 384 random bits modulo a 257-bit prime: 2^-127 from uniform


def split(secret: bytes, holders: Sequence[int], threshold: int, seed: bytes) -> dict[int, bytes]:
    """Share `secret` (32 bytes) among `holders`, so that any `threshold` of them can combine it.

    Args:
        holders: their indices, distinct, from 1 on.
        seed: 32 secret, uniformly random bytes, used for this split only; they choose the polynomial, so that a kernel
            that was restarted sends the same shares again and never a second polynomial for one secret.

    Returns:
        Index to share, 33 bytes each, big-endian.

    >>> shares = split(bytes(range(32)), [1, 2, 3, 4, 5], 3, seed=bytes(32))
    >>> combine({i: shares[i] for i in (1, 3, 5)}, threshold=3) == bytes(range(32))
    True
    """
    if len(secret) != SECRET_BYTES or len(seed) != 32:
        raise SecAggError(f"A secret of {len(secret)} and a seed of {len(seed)} bytes; expected 32 and 32.")
    if not 1 <= threshold <= len(holders):
        raise SecAggError(f"A threshold of {threshold} with {len(holders)} holders; expected 1 to {len(holders)}.")
    if len(set(holders)) != len(holders) or any(not 1 <= x < PRIME for x in holders):
        raise SecAggError("Holders' indices must be distinct whole numbers from 1 on.")
    stream = Cipher(algorithms.AES256(seed), modes.CTR(bytes(16))).encryptor()
    random = stream.update(bytes(_WIDE_BYTES * (threshold - 1)))
    polynomial = [int.from_bytes(secret, "big")] + [
        int.from_bytes(random[i : i + _WIDE_BYTES], "big") % PRIME for i in range(0, len(random), _WIDE_BYTES)
    ]
    return {x: _value(polynomial, x).to_bytes(SHARE_BYTES, "big") for x in holders}


def combine(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """The secret behind `shares` (index to 33 bytes); with more than `threshold` of them, the first ones are used.

    Shares are not checked against each other here: whoever combines compares what comes out with a commitment.

    Raises:
        SecAggError: fewer than `threshold` shares, or bytes that are no share.
    """
    if len(shares) < threshold:
        raise SecAggError(f"{len(shares)} shares; this secret needs {threshold}. Fewer combine to garbage.")
    holders = sorted(shares)[:threshold]
    return combine_many([[shares[x] for x in holders]], holders)[0]


def combine_many(shares: Sequence[Sequence[bytes]], holders: Sequence[int]) -> list[bytes]:
    """Several secrets from the same `holders`: one Lagrange vector for all. Each inner sequence is in their order."""
    weights = lagrange_at_zero(holders)
    secrets: list[bytes] = []
    for row in shares:
        value = sum(w * _element(share) for w, share in zip(weights, row, strict=True)) % PRIME
        if value >> 256:
            raise SecAggError("These shares combine to no 32-byte secret; at least one of them is wrong.")
        secrets.append(value.to_bytes(SECRET_BYTES, "big"))
    return secrets


def lagrange_at_zero(holders: Sequence[int]) -> list[int]:
    """The weights w_i with f(0) = sum_i w_i f(x_i) for every polynomial of degree below len(holders)."""
    if len(set(holders)) != len(holders) or not holders or any(not 1 <= x < PRIME for x in holders):
        raise SecAggError("Holders' indices must be distinct whole numbers from 1 on.")
    weights: list[int] = []
    for x in holders:
        above, below = 1, 1
        for other in holders:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return weights


def _value(polynomial: Sequence[int], x: int) -> int:
    result = 0
    for coefficient in reversed(polynomial):
        result = (result * x + coefficient) % PRIME
    return result


def _element(share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise SecAggError(f"A share of {len(share)} bytes is outside the field; expected {SHARE_BYTES} bytes below p.")
    return value
