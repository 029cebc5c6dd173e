"""Epsilon is Opacus' and dp-accounting's; Skellam is never cheaper than Gaussian noise; plans solve for one wish."""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest

from fedart_nb.errors import PrivacyError
from fedart_nb.privacy.accounting import ORDERS, Gaussian, Skellam, epsilon, mechanism_of, rdp_to_epsilon
from fedart_nb.privacy.clipping import clip_factors, clip_update
from fedart_nb.privacy.planning import default_delta, plan, solve_noise

GRID = list(product((0.01, 0.16, 0.4, 1.0), (0.3, 0.6, 1.24, 2.7, 20.0), (1, 500), (1e-3,)))


WHOLE = [a == round(a) for a in ORDERS]  # at others dp-accounting's series often does not converge, and says so


def dp_accounting_rdp(sigma: float, q: float, steps: int, delta: float) -> float:
    dp = pytest.importorskip("dp_accounting")
    accountant = dp.rdp.RdpAccountant([a for a, whole in zip(ORDERS, WHOLE, strict=True) if whole])
    accountant.compose(dp.PoissonSampledDpEvent(q, dp.GaussianDpEvent(sigma)), steps)
    return float(accountant.get_epsilon(delta))


def opacus_rdp(sigma: float, q: float, steps: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(sigma, q, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "the optimal order is the largest": so it is for one of tiny steps
        return max(0.0, accountant.get_epsilon(delta))


def test_epsilon_is_that_of_opacus_to_a_thousandth() -> None:
    for q, sigma, n, delta in GRID:
        theirs = opacus_rdp(sigma, q, n, delta)
        assert epsilon([Gaussian(sigma, q, n)], delta=delta) == pytest.approx(theirs, abs=1e-6, rel=1e-9)


@pytest.mark.parametrize("q", [0.01, 0.16, 0.4, 1.0])
def test_epsilon_is_that_of_dp_accounting_to_a_thousandth(q: float) -> None:
    for sigma, n in product((0.6, 1.24, 6.1), (1, 200)):
        ours = rdp_to_epsilon(np.where(WHOLE, Gaussian(sigma, q, n).rdp(), math.inf), 1e-4)
        assert ours == pytest.approx(dp_accounting_rdp(sigma, q, n, 1e-4), abs=1e-3)


@pytest.mark.parametrize(("sigma", "q", "n", "known"), [(1.24, 0.16, 50, 3.78523), (3.5, 1.0, 50, 7.68270)])
def test_the_distribution_accountant_is_opacus_and_within_its_error_of_dp_accounting(
    sigma: float, q: float, n: int, known: float
) -> None:
    # known: PLDAccountant(value_discretization_interval=1e-4) of dp-accounting 0.6
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(sigma, q, n)]
    with np.errstate(all="ignore"):
        theirs = accountant.get_epsilon(1e-3)
    assert epsilon([Gaussian(sigma, q, n)], delta=1e-3, accountant="prv") == pytest.approx(theirs, abs=1e-9)
    fine = epsilon([Gaussian(sigma, q, n)], delta=1e-3, accountant="prv", error=5e-4)
    assert known <= fine, "never less than the truth"
    assert fine == pytest.approx(known, abs=1.5e-3), "upper bound here, estimate there: its error and its mesh apart"
    assert fine - 5e-4 == pytest.approx(known, abs=1e-3)
    assert fine < epsilon([Gaussian(sigma, q, n)], delta=1e-3)


def test_parts_add_up_whatever_their_order_and_however_they_are_cut() -> None:
    whole = epsilon([Gaussian(1.1, 0.2, 60)], delta=1e-3)
    cut = epsilon([Gaussian(1.1, 0.2, 10), Gaussian(1.1, 0.2, 50)], delta=1e-3)
    assert cut == pytest.approx(whole, abs=1e-12)
    a, b = Gaussian(2.0, 0.1, 5), Gaussian(0.9, 0.3, 7)
    assert epsilon([a, b], delta=1e-3) == epsilon([b, a], delta=1e-3) > epsilon([b], delta=1e-3)
    assert epsilon([], delta=1e-3) == 0.0


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_no_noise_promises_nothing(accountant: str) -> None:
    assert epsilon([Gaussian(0.0)], delta=1e-3, accountant=accountant) == math.inf  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [10.0, 100.0, 1e4, 1e6])
def test_skellam_noise_is_never_cheaper_than_gaussian_noise_and_as_good_at_fine_steps(scale: float) -> None:
    d = 4096
    for sigma, steps in product((0.8, 1.65, 5.0), (1, 10, 50)):
        l2 = math.sqrt(scale**2 + d / 4)
        skellam = Skellam((sigma * scale) ** 2, l2, min(math.sqrt(d) * l2, l2**2), steps)
        gaussian = Gaussian(sigma, steps=steps)
        assert (skellam.rdp() >= gaussian.rdp() - 1e-12).all()
        assert epsilon([skellam], delta=1e-3) >= epsilon([gaussian], delta=1e-3)
        if scale == 1e6:  # the theorem is for whole orders
            assert (skellam.rdp()[WHOLE] <= 1.001 * gaussian.rdp()[WHOLE]).all()


def test_skellam_at_whole_orders_is_the_formula_of_the_paper() -> None:
    mu, l2, l1 = 50.0, 3.0, 9.0
    for a in (2.0, 5.0, 63.0):
        paper = a * l2**2 / (2 * mu) + min(((2 * a - 1) * l2**2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
        assert Skellam(mu, l2, l1).rdp()[ORDERS.index(a)] == pytest.approx(paper, rel=1e-12)


def test_the_distribution_accountant_refuses_skellam_noise() -> None:
    with pytest.raises(PrivacyError, match="Use 'rdp'"):
        epsilon([Skellam(10.0, 1.0, 1.0)], delta=1e-3, accountant="prv")


@pytest.mark.parametrize("mechanism", [Gaussian(1.5, 0.25, 7), Skellam(100.0, 2.0, 4.0, 3)])
def test_a_mechanism_survives_json(mechanism: Gaussian | Skellam) -> None:
    assert mechanism_of({"kind": type(mechanism).__name__, **asdict(mechanism)}) == mechanism


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda: Gaussian(-1.0), "noise_multiplier is -1.0"),
        (lambda: Gaussian(math.nan), "noise_multiplier is nan"),
        (lambda: Gaussian(1.0, 0.0), "sample_rate is 0.0"),
        (lambda: Gaussian(1.0, 1.5), "sample_rate is 1.5"),
        (lambda: Gaussian(1.0, steps=0), "steps is 0"),
        (lambda: epsilon([Gaussian(1.0)], delta=1.0), "delta is 1.0"),
        (lambda: epsilon([Gaussian(1.0)], delta=0.1, accountant="gdp"), "known are rdp, prv"),  # type: ignore[arg-type]
        (lambda: mechanism_of({"kind": "Laplace"}), "Laplace"),
        (lambda: plan(pictures=0, batch=1, steps=1, parameters=1, epsilon=1), "pictures is 0"),
        (lambda: plan(pictures=9, batch=1, steps=1, parameters=1), "exactly one of"),
        (lambda: plan(pictures=9, batch=1, steps=1, parameters=1, epsilon=1, noise_multiplier=1), "exactly one of"),
        (lambda: plan(pictures=9, batch=1, steps=1, parameters=1, epsilon=-1), "epsilon is -1"),
        (lambda: clip_factors(np.ones(1), 0.0), "clip_norm is 0.0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value(broken, said: str) -> None:
    with pytest.raises(PrivacyError, match=said):
        broken()


@pytest.mark.parametrize("unit", ["picture", "artist"])
@pytest.mark.parametrize("wished", [0.5, 1.0, 3.0, 8.0, 30.0])
def test_a_wished_epsilon_is_reached_from_below_and_not_missed_by_a_thousandth(unit: str, wished: float) -> None:
    made = plan(unit=unit, pictures=50, batch=8, steps=20, rounds=5, artists=10, parameters=9, epsilon=wished)  # type: ignore[arg-type]
    assert wished * 0.999 < made.epsilon <= wished
    assert epsilon([made.mechanism], delta=made.delta) == made.epsilon


def test_the_three_wishes_agree_with_each_other() -> None:
    known = {"pictures": 50, "batch": 8, "steps": 20, "rounds": 5, "artists": 10, "parameters": 75_264}
    by_epsilon = plan(**known, epsilon=4.0)  # type: ignore[arg-type]
    by_noise = plan(**known, noise_multiplier=by_epsilon.noise_multiplier)  # type: ignore[arg-type]
    by_quality = plan(**known, noise_to_signal=by_epsilon.noise_to_signal)  # type: ignore[arg-type]
    assert by_noise == by_epsilon
    assert by_quality.noise_multiplier == pytest.approx(by_epsilon.noise_multiplier)


def test_ten_artists_are_told_that_noise_is_44_times_their_signal() -> None:
    made = plan(
        unit="artist", pictures=50, batch=8, steps=15, rounds=10, artists=10, parameters=70_000, epsilon=8, delta=1e-3
    )
    assert "At 10 artists this noise is 44 times your signal" in str(made)
    assert "picture-level privacy or a smaller core" in str(made)
    small = plan(unit="artist", pictures=50, batch=8, steps=15, rounds=5, artists=30, parameters=64, epsilon=20)
    assert "sensible choice" not in str(small)


def test_a_delta_of_a_whole_picture_is_named() -> None:
    assert "allows giving one of them away" in str(
        plan(pictures=20, batch=4, steps=5, parameters=9, epsilon=8, delta=0.05)
    )


def test_a_plan_is_solved_in_a_tenth_of_a_second() -> None:
    known = {"batch": 8, "steps": 20, "rounds": 5, "artists": 10, "parameters": 75_264}
    plan(pictures=40, epsilon=8, **known)  # type: ignore[arg-type]
    took = []
    for pictures in (41, 42, 43):  # none of them solved before
        began = time.process_time()
        plan(pictures=pictures, epsilon=8, **known)  # type: ignore[arg-type]
        took.append(time.process_time() - began)
    assert min(took) < 0.1


def test_noise_for_what_is_left_pays_for_what_was_spent() -> None:
    spent = [Gaussian(1.4, 0.2, 30)]
    sigma = solve_noise(8.0, delta=1e-3, sample_rate=0.2, steps=30, spent=spent)
    assert epsilon([*spent, Gaussian(sigma, 0.2, 30)], delta=1e-3) <= 8.0
    assert sigma > solve_noise(8.0, delta=1e-3, sample_rate=0.2, steps=30)
    with pytest.raises(PrivacyError, match="is spent"):
        solve_noise(0.5, delta=1e-3, sample_rate=0.2, steps=1, spent=spent)


def test_noise_solved_with_the_distribution_accountant_is_less_and_enough() -> None:
    tight = solve_noise(8.0, delta=1e-3, sample_rate=1.0, steps=20, accountant="prv")
    assert tight < solve_noise(8.0, delta=1e-3, sample_rate=1.0, steps=20)
    assert 7.9 < epsilon([Gaussian(tight, 1.0, 20)], delta=1e-3, accountant="prv") <= 8.0


def test_delta_stays_a_tenth_of_one_picture_s_share() -> None:
    assert default_delta(20) == 1e-3
    assert default_delta(1000) == pytest.approx(1e-4)


def test_a_clipped_update_keeps_its_direction_and_a_small_one_its_values() -> None:
    update = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    clipped, norm = clip_update(update, 1.0)
    assert norm == 5.0
    np.testing.assert_allclose(clipped["b"], [[0.8]])
    same, _ = clip_update(update, 10.0)
    np.testing.assert_array_equal(same["a"], update["a"])
    with pytest.raises(PrivacyError, match="not finite"):
        clip_update({"a": np.array([math.nan])}, 1.0)


def test_a_plan_is_a_value() -> None:
    made = plan(pictures=50, batch=8, steps=20, parameters=9, epsilon=8)
    assert replace(made, rounds=2) != made
