"""All keys of one artist in one round, derived from one secret of 32 random bytes.

Nothing else has to be kept to go on after a kernel restart, everything that is derived again is the same again, and
when the file with the secret is deleted after the round, the round's keys are gone (forward secrecy).
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedart_nb.errors import SecAggError

__all__ = [
    "BOX_OVERHEAD_BYTES",
    "RoundKeys",
    "agree",
    "check_usable",
    "derive",
    "mask_key_of_private",
    "pair_mask_key",
]

BOX_OVERHEAD_BYTES = 16
_NONCE = bytes(12)  # every box has a key of its own, used once


def derive(secret: bytes, context: bytes, label: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) to 32 bytes: `context` is the salt, `label` says what the key is for."""
    return HKDF(hashes.SHA256(), 32, context, label).derive(secret)


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519 (RFC 7748); raises SecAggError for a public key that gives no secret."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise SecAggError(f"{public.hex()[:16]}… is no usable X25519 public key ({error}).") from error


def check_usable(public: bytes) -> None:
    """Raise SecAggError for a public key of small order, with which nobody could agree on anything."""
    agree(X25519PrivateKey.generate(), public)


def pair_mask_key(private: X25519PrivateKey, mine: bytes, theirs: bytes, context: bytes) -> bytes:
    """Key of the mask that two artists share: the same from both sides, bound to plan, adapter and roster."""
    low, high = sorted((mine, theirs))
    return derive(agree(private, theirs), context, b"pair mask" + low + high)


def mask_key_of_private(seed: bytes, context: bytes) -> bytes:
    """Key of an artist's private mask PRG(b_u), from b_u."""
    return derive(seed, context, b"private mask")


class RoundKeys:
    """One artist's keys for one round; its repr shows none of them, and it cannot be copied or pickled.

    Args:
        secret: 32 bytes from the operating system's entropy (`secrets.token_bytes(32)`), for this round only.
        binding: 32 bytes that name plan and shared adapter; other bytes give other keys.
    """

    __slots__ = ("_box", "_mask", "_secret", "box_public", "mask_public")

    def __init__(self, secret: bytes, binding: bytes) -> None:
        if len(secret) != 32 or len(binding) != 32:
            raise SecAggError(f"A secret of {len(secret)} and a binding of {len(binding)} bytes; expected 32 and 32.")
        self._secret = secret
        self._box = X25519PrivateKey.from_private_bytes(derive(secret, binding, b"c"))
        self._mask = X25519PrivateKey.from_private_bytes(derive(secret, binding, b"s"))
        self.box_public = self._box.public_key().public_bytes_raw()
        self.mask_public = self._mask.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"RoundKeys({self.mask_public.hex()[:8]}…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("RoundKeys hold secrets and cannot be copied or pickled.")

    def mask_secret(self) -> bytes:
        """s_u^SK, to be shared (never sent whole): with it, the pair masks of an artist who vanished are removed."""
        return self._mask.private_bytes_raw()

    def private_seed(self, context: bytes) -> bytes:
        """b_u, to be shared: with it, the private mask of an artist who stayed is removed."""
        return derive(self._secret, context, b"b")

    def polynomial_seed(self, context: bytes, label: bytes) -> bytes:
        """What chooses the polynomial of a split."""
        return derive(self._secret, context, b"polynomial " + label)

    def pair_mask_key(self, theirs: bytes, context: bytes) -> bytes:
        """Key of the mask shared with the artist whose public mask key is `theirs`."""
        return pair_mask_key(self._mask, self.mask_public, theirs, context)

    def seal(self, theirs: bytes, context: bytes, message: bytes) -> bytes:
        """Encrypt `message` for the holder of the public box key `theirs` (ChaCha20-Poly1305), once per pair."""
        return ChaCha20Poly1305(self._box_key(self.box_public, theirs, theirs, context)).encrypt(
            _NONCE, message, context
        )

    def open(self, theirs: bytes, context: bytes, box: bytes) -> bytes:
        """Decrypt what the holder of `theirs` sealed for us; raises SecAggError when a single bit differs."""
        try:
            return ChaCha20Poly1305(self._box_key(theirs, self.box_public, theirs, context)).decrypt(
                _NONCE, box, context
            )
        except InvalidTag:
            raise SecAggError("A sealed share does not open: it was changed, or made for another round.") from None

    def _box_key(self, sender: bytes, recipient: bytes, theirs: bytes, context: bytes) -> bytes:
        return derive(agree(self._box, theirs), context, b"share box" + sender + recipient)
