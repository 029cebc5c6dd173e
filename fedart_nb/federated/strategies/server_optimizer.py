"""Optimisers of the host (Reddi et al. 2003.00295, algorithm 2): the mean update is a gradient, the host steps.

    average:   w + eta D                                            D: weighted mean of the updates
    momentum:  m = b m + D,                      w + eta m           b = 0.9 (FedAvgM, Hsu et al. 1909.06335)
    adam:      m = b1 m + (1 - b1) D,  v = b2 v + (1 - b2) D^2,      w + eta m / (sqrt(v) + t)
               b1 = 0.9, b2 = 0.99, t = 1e-3, v starts at t^2

Everything works on the sum alone. The moments are kept as float32 bytes and always read from them, so a restarted host
goes on bit for bit as one that was not. Factors that a round does not train keep their moments until they are again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...errors import RoundError
from ..tensors import pack, unpack
from .strategy import Sums

__all__ = ["SERVERS", "server_step"]

#: Name of a host's optimiser to one sentence for a person.
SERVERS: Mapping[str, str] = {
    "average": "The mean update is added as it is.",
    "momentum": "The host goes on in the direction of earlier rounds: faster where they agree, or past the goal.",
    "adam": "The host scales every number's step by how large its steps were before.",
}
_BETA = 0.9
_BETA_2, _TAU = 0.99, 1e-3


def server_step(name: str, mean: Sums, state: bytes, *, rate: float) -> tuple[dict[str, NDArray[np.float64]], bytes]:
    """The step for a mean update, and the state to be given with the next round's.

    Args:
        name: of `SERVERS`; mean: weighted mean of what was sent, by tensor; state: b"" in the first round.
        rate: eta.

    >>> step, state = server_step("momentum", {"x": np.ones(1)}, b"", rate=1.0)
    >>> server_step("momentum", {"x": np.ones(1)}, state, rate=1.0)[0]["x"].round(4).tolist()
    [1.9]
    """
    if name == "average":
        return {key: rate * value for key, value in mean.items()}, b""
    if name not in SERVERS:
        raise RoundError(f"Unknown optimiser of the host {name!r}; known are {', '.join(SERVERS)}.")
    held = dict(unpack(state)) if state else {}
    for key, value in mean.items():
        m = held.get(f"m.{key}", np.zeros((), np.float32)).astype(np.float64)
        held[f"m.{key}"] = (_BETA * m + (value if name == "momentum" else (1 - _BETA) * value)).astype(np.float32)
        if name == "adam":
            v = held.get(f"v.{key}", np.full((), _TAU**2, np.float32)).astype(np.float64)
            held[f"v.{key}"] = (_BETA_2 * v + (1 - _BETA_2) * value**2).astype(np.float32)
    steps = {key: rate * held[f"m.{key}"].astype(np.float64) for key in mean}
    if name == "adam":
        steps = {key: step / (np.sqrt(held[f"v.{key}"].astype(np.float64)) + _TAU) for key, step in steps.items()}
    return steps, pack(held)
