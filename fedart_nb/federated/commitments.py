"""What an artist's side must not lose while a round runs: its secret, and what it has committed itself to."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Protocol

__all__ = ["Keeper", "MemoryKeeper"]


class Keeper(Protocol):
    """Keeps, by the digest of a plan, one secret and one state; each call returns when it is safe."""

    def secret(self, digest: str) -> bytes:
        """The plan's secret, 32 bytes: made from the operating system's entropy when first asked for."""

    def state(self, digest: str) -> Mapping[str, str]:
        """What `remember` was last given; {} at first. Hashes only."""

    def remember(self, digest: str, state: Mapping[str, str]) -> None:
        """Keep the state before anything that it speaks of is sent."""

    def forget(self, digest: str) -> None:
        """Delete the secret for good: the round is over."""

    def over(self, digest: str) -> bool:
        """Whether something was remembered, and the secret forgotten since: nothing can be said under it any more."""


class MemoryKeeper:
    """A Keeper for simulations, where nothing outlives the process."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}
        self._states: dict[str, Mapping[str, str]] = {}

    def secret(self, digest: str) -> bytes:
        """The plan's secret, 32 bytes."""
        return self._secrets.setdefault(digest, secrets.token_bytes(32))

    def state(self, digest: str) -> Mapping[str, str]:
        """What was last remembered."""
        return self._states.get(digest, {})

    def remember(self, digest: str, state: Mapping[str, str]) -> None:
        """Keep the state."""
        self._states[digest] = dict(state)

    def forget(self, digest: str) -> None:
        """Delete the secret."""
        self._secrets.pop(digest, None)

    def over(self, digest: str) -> bool:
        """Whether something was remembered, and the secret forgotten since."""
        return digest in self._states and digest not in self._secrets
