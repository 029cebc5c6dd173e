"""What a host can build into a model or shared adapter to single an artist out or to read inputs; numpy alone.

- Factors of zeros: an artist who starts from A = 0 and B = 0 sends exactly nothing, so that among such artists' sum
  the one who was given real factors stands alone (gradient suppression, Pasquini et al. 2111.07380).
- A layer whose rows all point the same way: its gradient sorts inputs into bins, and differences between neighbouring
  bins are the inputs themselves, out of any sum (imprint, Fowl et al. 2110.13057).

- A style token: what it adds to every caption would be trained on as if the artist had said it.

Hashes pin the backbone, and every adapter but the first. This looks at the first, and at backbones before their use.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .tensors import Tensors

__all__ = ["most_parallel", "parallel_rows", "suspicions"]

_SAME = 0.999  # cosine
_ROWS = 16  # fewer rows in a backbone's layer sort nothing
_SHARE = 0.5
_FEW = 2  # rows of a factor: so few may be parallel by chance where they are short
_WIDE = 16  # no chance makes two such long rows of a fresh factor parallel


def parallel_rows(matrix: NDArray[np.floating]) -> float:
    """Share of a weight's rows that point along one direction, either way; zeros point nowhere.

    Args:
        matrix: (rows, ...); what follows the first axis is one row.

    >>> parallel_rows(np.outer(np.arange(1.0, 5.0), np.ones(8)))
    1.0
    >>> parallel_rows(np.eye(4))
    0.25
    """
    rows = matrix.reshape(len(matrix), -1).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, None]
    if not len(rows):
        return 0.0
    middle = rows[0]
    for start in rows[:: max(1, len(rows) // 3)]:  # a direction that many share is near one of a few rows
        along = start
        for _ in range(8):
            along = rows.T @ (rows @ along)
            along /= np.linalg.norm(along)
        if np.abs(rows @ along).sum() > np.abs(rows @ middle).sum():
            middle = along
    return float((np.abs(rows @ middle) > _SAME).sum() / len(matrix))


def most_parallel(factor: NDArray[np.floating]) -> int:
    """How many rows of a factor point along one direction, either way: 1 where no two do. Zeros point nowhere.

    >>> most_parallel(np.vstack([np.outer([1, -2, 3], np.ones(8)), np.arange(8.0)]))
    3
    """
    rows = factor.reshape(len(factor), -1).astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, None]
    return int((np.abs(rows @ rows.T) > _SAME).sum(axis=1).max(initial=0))


def _fresh(name: str, factor: NDArray[np.floating], tensors: Tensors) -> bool:
    """Whether a factor is long and nobody has trained on it yet: its B is zero."""
    other = tensors.get(name.replace(".lora_A.", ".lora_B."))
    return factor[0].size >= _WIDE and other is not None and not other.any()


def suspicions(tensors: Tensors) -> tuple[str, ...]:
    """Sentences about tensors of a shared adapter, or of a backbone, that no training makes; () where there are none.

    Example:
        >>> suspicions({"unet.x.lora_A.weight": np.zeros((4, 8), np.float32)})[0][:38]
        "'unet.x.lora_A.weight' is zero: with B "
    """
    found = []
    for name, value in sorted(tensors.items()):
        if ".lora_token" in name:
            found.append(f"{name!r} is a style token: it would add to every caption of yours, and no room trains one.")
        elif ".lora_A." in name:
            if not value.any():
                found.append(f"{name!r} is zero: with B zero as well, nothing could ever be learned there.")
            elif (same := most_parallel(value)) > _FEW or (same == _FEW and _fresh(name, value, tensors)):
                found.append(f"{name!r} has {len(value)} rows, and {same} of them point the same way.")
        elif value.ndim >= 2 and len(value) >= _ROWS and ".lora_B." not in name:
            share = parallel_rows(value)
            if share > _SHARE:
                rows = round(share * len(value))
                found.append(f"{name!r} has {rows} of {len(value)} rows that point the same way: it sorts its inputs.")
    return tuple(found)
