"""Clipping: what bounds how much one picture or one artist can move a sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedart_nb.errors import PrivacyError

__all__ = ["check_clip_norm", "clip_factors", "clip_update"]

_Name = TypeVar("_Name")


def check_clip_norm(clip_norm: float) -> float:
    """The clip norm, if it is one.

    Raises:
        PrivacyError: it is not a finite number above 0.
    """
    good = isinstance(clip_norm, (int, float)) and not isinstance(clip_norm, bool)
    if not (good and 0 < clip_norm < math.inf):
        raise PrivacyError(
            f"clip_norm is {clip_norm!r}; expected a number above 0. About the median norm of a picture's gradient is "
            "a good one."
        )
    return float(clip_norm)


def clip_factors(norms: NDArray[np.floating], clip_norm: float) -> NDArray[np.float64]:
    """min(1, C / norm) for every norm, (n,): what each gradient is multiplied with (Abadi et al. 1607.00133, alg. 1).

    A norm that is not finite gives 0: such a gradient must count for nothing, or one picture could move everything.

    >>> clip_factors(np.array([0.5, 2.0, np.inf]), 1.0).tolist()
    [1.0, 0.5, 0.0]
    """
    check_clip_norm(clip_norm)
    norms = np.asarray(norms, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        factors: NDArray[np.float64] = np.where(np.isfinite(norms), np.minimum(1.0, clip_norm / norms), 0.0)
    return factors


def clip_update(
    update: Mapping[_Name, NDArray[np.floating]], clip_norm: float
) -> tuple[dict[_Name, NDArray[np.float64]], float]:
    """A whole update scaled so that its L2 norm over all tensors is at most `clip_norm`, and the norm that it had.

    Raises:
        PrivacyError: a value is not finite: such an update is refused, not clipped.

    >>> clip_update({"a": np.array([3.0]), "b": np.array([4.0])}, 1.0)[1]
    5.0
    """
    arrays = {name: np.asarray(array, np.float64) for name, array in update.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise PrivacyError(f"{name!r} holds values that are not finite. Train again with a lower learning rate.")
    norm = math.sqrt(sum(float(np.vdot(array, array)) for array in arrays.values()))
    factor = float(clip_factors(np.array([norm]), clip_norm)[0]) if norm else 1.0
    return {name: factor * array for name, array in arrays.items()}, norm
