"""How close two versions of the same picture are: PSNR and SSIM, picture by picture."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from ..errors import MeasureError
from .checking import checked

__all__ = ["psnr", "ssim"]

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio, (n,) in dB, over all pixels and channels; infinite for equal pictures.

    10 log10(255² / mean squared error). Pictures are uint8 (n, h, w, 3).

    Raises:
        MeasureError: arrays of another kind, or of different shapes.

    Example:
        >>> black, grey = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 51, np.uint8)
        >>> psnr(black, grey).round(3).tolist()
        [13.979]
    """
    x, y = _pair(x, y)
    error = np.array([np.square(a.astype(np.float64) - b).mean() for a, b in zip(x, y, strict=True)])
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / error))


@torch.inference_mode()
def ssim(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Structural similarity, (n,) from -1 to 1 (1: equal), mean over the three channels.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", §III.B: Gaussian
    window 11 x 11 of standard deviation 1.5, K1 = 0.01, K2 = 0.03, L = 255, on positions where the window lies inside
    the picture. The same figure as scikit-image gives with `gaussian_weights=True, use_sample_covariance=False`.

    Raises:
        MeasureError: arrays of another kind, of different shapes, or smaller than 11 px.

    Example:
        >>> grey = np.full((2, 16, 16, 3), 51, np.uint8)
        >>> ssim(grey, grey).tolist()
        [1.0, 1.0]
    """
    x, y = _pair(x, y)
    if min(x.shape[1:3]) < _WINDOW:
        raise MeasureError(f"Pictures are {x.shape[2]} × {x.shape[1]} px; SSIM needs {_WINDOW} px a side or more.")
    return np.array([_ssim(_planes(a), _planes(b)) for a, b in zip(x, y, strict=True)])


def _pair(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    x, y = checked(x), checked(y)
    if x.shape != y.shape:
        raise MeasureError(f"The pictures have shapes {x.shape} and {y.shape}; compare pictures of one shape.")
    return x, y


def _planes(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[:, None].double()


def _ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    axis = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    w = torch.exp(-(axis**2) / (2 * _SIGMA**2))
    w = w / w.sum()

    def mean(z: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.conv2d(z, w[None, None, :, None]), w[None, None, None, :])

    mu_x, mu_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2
    cov = mean(x * y) - mu_x * mu_y
    index = (2 * mu_x * mu_y + _C1) * (2 * cov + _C2) / ((mu_x**2 + mu_y**2 + _C1) * (var_x + var_y + _C2))
    return float(index.mean())
