"""Noise in whole numbers: as much as promised whoever drops out, exact sums without it, and what a group takes off."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedart_nb.errors import PrivacyError
from fedart_nb.privacy.accounting import Gaussian, epsilon
from fedart_nb.privacy.distributed import SkellamSum, hadamard, solve_skellam

CODE = SkellamSum(size=3000, artists=10, survivors=7, clip_norm=0.5, noise_multiplier=1.6, seed=bytes(range(32)))
SILENT = replace(CODE, noise_multiplier=0.0)


def summed(code: SkellamSum, updates: list[np.ndarray]) -> np.ndarray:
    """What a secure sum does: masks that cancel, added modulo 2^32."""
    rng = np.random.default_rng(1)
    total, masks = np.zeros(code.words, np.uint32), np.zeros(code.words, np.uint32)
    for update in updates[:-1]:
        mask = rng.integers(0, 2**32, code.words, np.uint32)
        masks += mask
        total += code.encode(update) + mask
    return total + (code.encode(updates[-1]) - masks)


def updates_of(count: int, *, norm: float = 0.4) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(count, CODE.size)) * np.geomspace(1e-4, 1, CODE.size)
    return list(norm * drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def test_without_noise_the_sum_is_that_of_the_updates_to_the_rounding() -> None:
    updates = updates_of(10)
    got = SILENT.decode(summed(SILENT, updates))
    assert np.linalg.norm(got - sum(updates)) < 0.02 * np.linalg.norm(sum(updates))
    assert np.abs(got - sum(updates)).max() < 10 * math.sqrt(10) / SILENT.scale


def test_rounding_is_right_on_average() -> None:
    update = updates_of(1)[0]
    mean = np.mean([SILENT.decode(SILENT.encode(update)) for _ in range(400)], axis=0)
    assert np.linalg.norm(mean - update) < 3 * math.sqrt(CODE.words / 4 / 400) / SILENT.scale


@pytest.mark.parametrize("norm", [0.5, 3.0, 1e9])
def test_a_large_update_is_clipped_and_then_never_longer_than_the_bound(norm: float) -> None:
    for update in (*updates_of(3, norm=norm), np.eye(1, CODE.size)[0] * norm, np.full(CODE.size, norm)):
        words = SILENT.encode(update).view(np.int32).astype(float)
        assert np.linalg.norm(words) <= SILENT.l2
        assert np.abs(words).sum() <= SILENT.l1
        assert np.linalg.norm(SILENT.decode(SILENT.encode(update))) <= 0.5 * 1.01
    assert SILENT.l2 < 1.001 * SILENT.clip_norm * SILENT.scale, "rounding costs next to nothing"


@pytest.mark.parametrize("present", [10, 9, 7])
def test_noise_has_the_promised_variance_by_chi_square_also_after_dropouts(present: int) -> None:
    total = np.zeros(CODE.words, np.uint32)
    for _ in range(present):
        total += CODE.encode(np.zeros(CODE.size))
    noise = total.view(np.int32).astype(float)
    expected = present * CODE.share_variance
    chi2 = float(noise @ noise) / expected
    assert abs(chi2 - CODE.words) < 5 * math.sqrt(2 * CODE.words)
    assert abs(noise.mean()) < 5 * math.sqrt(expected / CODE.words)
    promised = (CODE.noise_multiplier * CODE.clip_norm * CODE.scale) ** 2
    assert expected >= promised * (1 - 1e-12)
    if present == CODE.survivors:
        assert expected == pytest.approx(promised)
        assert CODE.noise_std(present) == pytest.approx(CODE.noise_multiplier * CODE.clip_norm)
    decoded = CODE.decode(total)
    assert decoded.std() == pytest.approx(CODE.noise_std(present), rel=0.1)


def test_noise_is_skellam_to_its_fourth_moment() -> None:
    small = replace(CODE, noise_multiplier=0.001)  # few enough units that Skellam and Gaussian noise differ
    mu = small.share_variance
    drawn = np.concatenate([small.encode(np.zeros(CODE.size)).view(np.int32) for _ in range(60)]).astype(float)
    n = len(drawn)
    assert drawn.var() == pytest.approx(mu, rel=5 * math.sqrt((2 + 1 / mu) / n))
    fourth = 3 * mu**2 + mu
    assert (drawn**4).mean() == pytest.approx(fourth, rel=0.05)
    assert fourth > 1.2 * 3 * mu**2


def test_two_artists_noise_is_unrelated_and_never_the_same_twice() -> None:
    a, b = (CODE.encode(np.zeros(CODE.size)).view(np.int32).astype(float) for _ in range(2))
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(CODE.words)


def test_a_group_subtracts_its_own_shares_and_epsilon_says_what_is_left() -> None:
    shares = [CODE.encode(np.zeros(CODE.size)) for _ in range(7)]
    left = sum(shares, np.zeros(CODE.words, np.uint32)) - shares[0] - shares[1] - shares[2]
    measured = left.view(np.int32).astype(float).var()
    assert measured == pytest.approx(CODE.mechanism(colluders=3).variance, rel=0.15)
    costs = [epsilon([CODE.mechanism(rounds=5, colluders=k)], delta=1e-3) for k in range(7)]
    assert costs == sorted(costs)
    assert costs[1] > costs[0]
    assert epsilon([CODE.mechanism(colluders=6)], delta=1e-3) > 2 * epsilon([CODE.mechanism()], delta=1e-3)
    with pytest.raises(PrivacyError, match="up to 6"):
        CODE.mechanism(colluders=7)


def test_the_rotation_is_its_own_inverse_and_spreads_a_single_number_over_all() -> None:
    x = np.random.default_rng(0).normal(size=256)
    np.testing.assert_allclose(hadamard(hadamard(x)), x, atol=1e-12)
    assert np.linalg.norm(hadamard(x)) == pytest.approx(np.linalg.norm(x))
    words = SILENT.encode(np.eye(1, CODE.size)[0] * 0.5).view(np.int32)
    assert np.abs(words).max() <= 33, "of a clip norm of 2048"
    with pytest.raises(PrivacyError, match="power of two"):
        hadamard(np.ones(3))


def test_another_seed_is_another_rotation_and_the_same_seed_the_same() -> None:
    update = updates_of(1)[0]
    again = replace(SILENT)
    assert np.linalg.norm(again.decode(SILENT.encode(update)) - update) < 0.1
    other = replace(SILENT, seed=bytes(32))
    assert np.linalg.norm(other.decode(SILENT.encode(update)) - update) > 0.3


@pytest.mark.parametrize("target", [2.0, 8.0, 20.0])
def test_noise_that_was_solved_for_keeps_epsilon_and_is_hardly_more_than_gaussian(target: float) -> None:
    code = solve_skellam(CODE, target=target, delta=1e-3, rounds=5)
    cost = epsilon([code.mechanism(rounds=5)], delta=1e-3)
    assert target * 0.999 < cost <= target
    gaussian = epsilon([Gaussian(code.noise_multiplier, steps=5)], delta=1e-3)
    assert gaussian <= cost
    if target <= 8:
        assert cost < 1.05 * gaussian
    wary = solve_skellam(CODE, target=target, delta=1e-3, rounds=5, colluders=3)
    assert wary.noise_multiplier == pytest.approx(code.noise_multiplier * math.sqrt(7 / 4), rel=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"size": 0}, {"artists": 0}, {"survivors": 11}, {"survivors": 0}, {"clip_norm": 0.0}, {"noise_multiplier": -1.0}],
)
def test_impossible_sums_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PrivacyError, match=next(iter(wrong))):
        replace(CODE, **wrong)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(PrivacyError, match="32 bits"):
        replace(CODE, noise_multiplier=1e5)
    with pytest.raises(PrivacyError, match="2 numbers"):
        CODE.encode(np.zeros(2))
    with pytest.raises(PrivacyError, match="not finite"):
        CODE.encode(np.full(CODE.size, math.nan))
    with pytest.raises(PrivacyError, match="expected uint32"):
        CODE.decode(np.zeros(CODE.words, np.int64))  # type: ignore[arg-type]
    with pytest.raises(PrivacyError, match="expected 32"):
        replace(CODE, seed=b"short")
