"""Who somebody is on the wire: an Ed25519 key pair, and the short id that is the hash of its public key."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedart_nb.errors import WireError

__all__ = ["Identity", "identity_id", "verify"]

_ID_CHARACTERS = 32  # 128 bits of sha256: nobody finds a second key with the same id


def identity_id(public_key: bytes) -> str:
    """Return the id of a raw public key (32 bytes): the first 32 hex digits of its sha256.

    >>> identity_id(bytes(32))
    '66687aadf862bd776c8fc18b8e9f8e20'
    """
    if len(public_key) != 32:
        raise WireError(f"A public key of {len(public_key)} bytes arrived; an Ed25519 public key has 32.")
    return hashlib.sha256(public_key).hexdigest()[:_ID_CHARACTERS]


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """True when `signature` (64 bytes) over `message` was made with the private half of `public_key` (32 bytes).

    Never raises: a key or signature of the wrong shape is simply not a valid one.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


class Identity:
    """A key pair that signs; its private half leaves it only into its own file.

    >>> me = Identity.generate()
    >>> verify(me.public_key, me.sign(b"hello"), b"hello")
    True
    """

    __slots__ = ("_key", "_public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public_key = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Identity:
        """Make a new key pair from the operating system's entropy."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> Identity:
        """Read the key pair in file `path`, or make one there (mode 0600, written whole or not at all).

        When several processes create it at once, all of them end with the same key.
        Raises WireError when the file exists and is not an Ed25519 private key: it is never overwritten.
        """
        path = Path(path)
        if not path.exists():
            _create(path, cls.generate()._pem())
        with contextlib.suppress(OSError):  # a file that came from a backup may have become readable by others
            path.chmod(0o600)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise WireError(_damaged(path)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise WireError(_damaged(path))
        return cls(key)

    @property
    def id(self) -> str:
        """32 hex digits that name this identity on the wire."""
        return identity_id(self._public_key)

    @property
    def public_key(self) -> bytes:
        """The raw public key, 32 bytes."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """Return the signature over `message`, 64 bytes; the same message gives the same signature."""
        return self._key.sign(message)

    def _pem(self) -> bytes:
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __repr__(self) -> str:
        return f"Identity(id={self.id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other._public_key == self._public_key

    def __hash__(self) -> int:
        return hash(self._public_key)

    def __reduce__(self) -> NoReturn:
        raise TypeError("An Identity holds a private key and cannot be copied or pickled; load it from its file.")


def _damaged(path: Path) -> str:
    return (
        f"{path} is not an Ed25519 private key in PEM form. Put the right file back, or move this one away "
        "to get a new identity (rooms will then see a new artist)."
    )


def _create(path: Path, content: bytes) -> None:
    """Write `content` to `path` unless somebody else was quicker; readers see nothing or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike a rename, this fails when the file is there already
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.exists():
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
