"""What an artist's part in a shared model is worth: marginal values of coalitions, and what of them a sum allows.

v(C) is the worth of the model made of the updates of a coalition C, here how far it lowers a loss below the bare
backbone's. The Shapley value is an artist's mean marginal worth over all orders of joining (Shapley 1953; for federated
learning Wang et al. 2009.06192). It takes every coalition's model, so all updates in the clear.

Behind masks a kernel knows the mean of all, its own update, and so the mean of all others. That gives the two ends of
the Shapley mean, first to join and last to join:

    ends_i = ( v({i}) - v({}) + v(N) - v(N - i) ) / 2

A secure sum of the ends_i tells everybody what share theirs is of the whole, and nobody another's. The last difference
alone is leave-one-out without a replay. Both are what artists say of themselves: who lies about them is not found out.
(Jaramillo-Velez et al. 2602.21721 give scores for secure aggregation with proofs, one of them without self-evaluation;
this is not theirs.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np

from ..errors import RoundError

__all__ = ["leave_one_out", "rank_correlation", "shapley", "two_ends"]

_MOST = 12


def leave_one_out(everybody: float, without: float) -> float:
    """v(N) - v(N - i).

    >>> leave_one_out(0.5, 0.25)
    0.25
    """
    return everybody - without


def two_ends(alone: float, everybody: float, without: float, nobody: float = 0.0) -> float:
    """The mean of joining first and joining last.

    >>> two_ends(alone=0.3, everybody=0.5, without=0.4)
    0.2
    """
    return round((alone - nobody + everybody - without) / 2, 12)


def shapley(worth: Mapping[frozenset[str], float], names: Sequence[str]) -> dict[str, float]:
    """Exact Shapley values; their sum is v(N) - v({}).

    Args:
        worth: v of every coalition of `names`, the empty one too.

    Raises:
        RoundError: more than 12 artists, or a coalition's worth is missing.

    >>> shapley({frozenset(): 0, frozenset("a"): 1, frozenset("b"): 3, frozenset("ab"): 6}, "ab")
    {'a': 2.0, 'b': 4.0}
    """
    n = len(names)
    if n > _MOST:
        raise RoundError(f"{n} artists have {2**n:,} coalitions; exact Shapley values are for {_MOST} or fewer.")
    found = dict.fromkeys(names, 0.0)
    for name in names:
        others = [other for other in names if other != name]
        for size in range(n):
            share = factorial(size) * factorial(n - size - 1) / factorial(n)
            for coalition in combinations(others, size):
                before = frozenset(coalition)
                try:
                    found[name] += share * (worth[before | {name}] - worth[before])
                except KeyError as missing:
                    raise RoundError(f"The worth of the coalition {sorted(missing.args[0])} is missing.") from None
    return found


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's, ties by mean rank.

    >>> rank_correlation([1, 2, 3], [10, 30, 20])
    0.5
    """
    return round(float(np.corrcoef(_ranks(one), _ranks(other))[0, 1]), 12)


def _ranks(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, np.float64)
    below = (array[:, None] > array[None]).sum(1)
    return np.asarray(below + ((array[:, None] == array[None]).sum(1) - 1) / 2)
