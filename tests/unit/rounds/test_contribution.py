"""Contribution scores agree with what they claim on games that are known."""

from __future__ import annotations

from itertools import combinations

import pytest

from fedart_nb.errors import RoundError
from fedart_nb.federated.data_valuation import leave_one_out, rank_correlation, shapley, two_ends

NAMES = ("a", "b", "c", "d")
WEIGHTS = dict(zip(NAMES, (1.0, 2.0, 0.0, 4.0), strict=True))


def game(curve) -> dict[frozenset[str], float]:
    coalitions = (frozenset(c) for n in range(len(NAMES) + 1) for c in combinations(NAMES, n))
    return {c: curve(sum(WEIGHTS[name] for name in c)) for c in coalitions}


def ends(worth: dict[frozenset[str], float]) -> dict[str, float]:
    everybody = frozenset(NAMES)
    return {
        name: two_ends(worth[frozenset({name})], worth[everybody], worth[everybody - {name}], worth[frozenset()])
        for name in NAMES
    }


def test_where_worths_add_up_every_score_is_the_weight():
    worth = game(lambda total: total + 3)
    assert shapley(worth, NAMES) == pytest.approx(WEIGHTS)
    assert ends(worth) == pytest.approx(WEIGHTS)
    everybody = frozenset(NAMES)
    assert [leave_one_out(worth[everybody], worth[everybody - {n}]) for n in NAMES] == list(WEIGHTS.values())


def test_shapley_values_add_up_to_the_whole_and_give_a_bystander_nothing():
    worth = game(lambda total: total**0.5)
    found = shapley(worth, NAMES)
    assert sum(found.values()) == pytest.approx(7**0.5)
    assert found["c"] == pytest.approx(0)


def test_the_two_ends_order_artists_as_shapley_does_where_gains_diminish():
    worth = game(lambda total: total**0.5)
    values, two = shapley(worth, NAMES), ends(worth)
    assert rank_correlation([values[n] for n in NAMES], [two[n] for n in NAMES]) == 1


def test_a_missing_coalition_and_too_many_artists_are_named():
    worth = game(lambda total: total)
    del worth[frozenset({"a", "d"})]
    with pytest.raises(RoundError, match=r"\['a', 'd'\]"):
        shapley(worth, NAMES)
    with pytest.raises(RoundError, match="13 artists"):
        shapley({}, [str(i) for i in range(13)])
