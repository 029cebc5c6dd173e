from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.errors import MeasureError
from fedart_nb.metrics import psnr, ssim

Y, X = np.mgrid[:48, :48]
PICTURE = np.stack([X * 5 % 256, Y * 5 % 256, X * Y % 256], -1).astype(np.uint8)[None]
COARSE = (PICTURE // 32 * 32 + 9).astype(np.uint8)


def test_psnr_is_what_the_formula_gives_by_hand() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    grey = black.copy()
    grey[0] += 16  # mean squared error 256
    assert psnr(black, grey)[0] == pytest.approx(10 * np.log10(255**2 / 256))
    assert psnr(black, grey)[1] == np.inf


def test_ssim_agrees_with_scikit_image() -> None:
    # skimage 0.26 structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
    assert ssim(PICTURE, COARSE)[0] == pytest.approx(0.7810465290710681, abs=1e-9)


def test_ssim_is_one_for_equal_pictures_and_falls_with_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1, PICTURE.shape)
    little, much = (np.clip(PICTURE + s * noise, 0, 255).astype(np.uint8) for s in (5, 60))
    assert ssim(PICTURE, PICTURE)[0] == pytest.approx(1)
    assert 1 > ssim(PICTURE, little)[0] > ssim(PICTURE, much)[0]


def test_each_picture_is_measured_on_its_own() -> None:
    both = np.concatenate([PICTURE, COARSE])
    assert ssim(both, both[::-1]).shape == (2,)
    assert psnr(both, both[[0, 0]]).tolist() == [np.inf, psnr(PICTURE, COARSE)[0]]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (PICTURE, PICTURE[:, :24], r"\(1, 48, 48, 3\) and \(1, 24, 48, 3\)"),
        (PICTURE / 255, PICTURE, "float64"),
        (PICTURE[0], PICTURE[0], r"shape \(48, 48, 3\)"),
        (PICTURE[:0], PICTURE[:0], "0 pictures"),
    ],
)
def test_pictures_that_cannot_be_compared_are_refused_with_what_they_are(x: object, y: object, said: str) -> None:
    with pytest.raises(MeasureError, match=said):
        psnr(x, y)


def test_ssim_names_the_smallest_size_that_it_can_measure() -> None:
    with pytest.raises(MeasureError, match="8 × 48 px; SSIM needs 11"):
        ssim(PICTURE[:, :, :8], PICTURE[:, :, :8])
