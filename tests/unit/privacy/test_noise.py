"""Poisson numbers from AES: the right distribution at every mean, and the same again for the same key."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedart_nb.crypto.random_streams import SecureRandom
from fedart_nb.errors import PrivacyError

N = 100_000


@pytest.mark.parametrize("mean", [0.0, 0.3, 7.5, 400.0, 1e6, 1e9])
def test_poisson_numbers_have_mean_variance_and_skewness_of_their_distribution(mean: float) -> None:
    x = SecureRandom(bytes(32)).poisson(mean, N).astype(float)
    assert x.min() >= 0
    assert abs(x.mean() - mean) <= 5 * math.sqrt(mean / N)
    if mean:
        assert x.var() == pytest.approx(mean, rel=5 * math.sqrt((2 + 1 / mean) / N))
        skewness = ((x - mean) ** 3).mean() / mean**1.5
        assert skewness == pytest.approx(1 / math.sqrt(mean), abs=0.05 + 0.05 / math.sqrt(mean))


@pytest.mark.parametrize("mean", [0.7, 12.3])
def test_every_number_comes_as_often_as_it_should_by_chi_square(mean: float) -> None:
    counts = np.bincount(SecureRandom(bytes(32)).poisson(mean, N))
    expected = [N * math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(len(counts))]
    cells = [(seen, due) for seen, due in zip(counts, expected, strict=True) if due > 10]
    chi2 = sum((seen - due) ** 2 / due for seen, due in cells)
    assert chi2 < len(cells) + 5 * math.sqrt(2 * len(cells))


def test_the_same_key_gives_the_same_numbers_and_another_key_others() -> None:
    one, same, other = (SecureRandom(bytes([k]) * 32).poisson(1e4, 1000) for k in (1, 1, 2))
    assert (one == same).all()
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.2


@pytest.mark.parametrize("mean", [-1.0, 1e15, math.nan])
def test_means_that_no_table_holds_are_refused(mean: float) -> None:
    with pytest.raises(PrivacyError, match="cannot be drawn"):
        SecureRandom().poisson(mean, 1)
