"""The unmasked sum: every update is readable by the host and the relay. Named so that nobody mistakes it for secure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import RoundError
from .tensors import Tensors, unpack_like

__all__ = ["ClearSum"]


class ClearSum:
    """Collects checked updates and adds them up in float64, in the order of the artists' ids, so that the sum does not
    depend on who was faster.
    """

    name = "clear"
    hides_updates = False
    empty_phases = ("share", "consistency", "unmask")

    def __init__(self, shared: Tensors) -> None:
        self._shared = shared
        self._updates: dict[str, Tensors] = {}
        self._digests: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._updates)

    def has(self, artist: str) -> bool:
        """Whether an artist's update is in."""
        return artist in self._updates

    def add(self, artist: str, data: bytes, digest: str) -> bool:
        """Check and take one update; False when the same bytes had arrived before (a retry).

        Raises:
            RoundError: it does not fit the shared adapter, or a different update of this artist is already in.
        """
        if artist in self._digests:
            if self._digests[artist] == digest:
                return False
            raise RoundError("A different update of yours is already part of this round. The first one counts.")
        self._updates[artist] = unpack_like(data, self._shared)
        self._digests[artist] = digest
        return True

    def total(self) -> dict[str, NDArray[np.float64]]:
        """The sum over all artists."""
        out = {name: np.zeros(array.shape) for name, array in self._shared.items()}
        for artist in sorted(self._updates):
            for name, array in self._updates[artist].items():
                out[name] += array
        return out
