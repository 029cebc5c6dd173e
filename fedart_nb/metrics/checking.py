"""What every measure asks of its input before it computes: real pictures, enough of them, as many labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import MeasureError

__all__ = ["checked", "labelled", "resized"]


def checked(pictures: Any, *, what: str = "pictures", at_least: int = 1) -> NDArray[np.uint8]:
    """The same array when it is uint8 (n, height, width, 3) with n of `at_least` or more; else `MeasureError`."""
    array = np.asarray(pictures)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise MeasureError(
            f"{what} are {array.dtype} of shape {array.shape}; expected uint8 (n, height, width, 3), 0 to 255."
        )
    if len(array) < at_least:
        raise MeasureError(f"{len(array)} {what}; expected {at_least} or more.")
    return array


def labelled(pictures: Any, labels: Sequence[str], *, what: str) -> tuple[NDArray[np.uint8], list[str]]:
    """Checked pictures with one label each; `MeasureError` when the counts differ."""
    array = checked(pictures)
    if len(array) != len(labels):
        raise MeasureError(f"{len(array)} pictures and {len(labels)} {what}; give one for each picture.")
    return array, list(labels)


def resized(pictures: NDArray[np.uint8], size_px: int) -> torch.Tensor:
    """Pictures as float32 (n, 3, size_px, size_px), 0 to 255, bilinear with antialiasing."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    if x.shape[-2:] != (size_px, size_px):
        x = F.interpolate(x, size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False)
    return x
