"""What the lines of ledgers and of the tally have to say, and which of two counts where one was changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fedart_nb.crypto.hash_chain import Body
from fedart_nb.errors import PrivacyError
from fedart_nb.privacy.accounting import ACCOUNTANTS, Mechanism, Skellam, epsilon, mechanism_of
from fedart_nb.privacy.planning import UNITS

__all__ = ["FORMAT", "is_spending", "larger", "mechanism_in", "of_pictures", "wrong_in"]

FORMAT = 1
_RANK = {"spent": 3, "pictures": 2, "opened": 2, "budget": 1}
_DELTA = 1e-6  # at which two mechanisms are compared


def mechanism_in(body: Body) -> Mechanism:
    """What a "spent" line was paid for.

    Raises:
        PrivacyError: it names no mechanism, or an impossible one.
    """
    told = body.get("mechanism")
    return mechanism_of(dict(told) if isinstance(told, Mapping) else {})


def of_pictures(mechanism: Mechanism) -> Mechanism:
    """What noise on a whole artist's update keeps of one picture: without it the update is another one, not zeros.

    Both have at most the sensitivity that the mechanism was made for, so that they differ by at most twice as much.
    """
    if isinstance(mechanism, Skellam):
        return Skellam(mechanism.variance, l2=2 * mechanism.l2, l1=2 * mechanism.l1, steps=mechanism.steps)
    return mechanism


def is_spending(body: Body) -> bool:
    """Whether a line of a damaged file is one that costs, and can be counted."""
    return body.get("kind") == "spent" and not wrong_in(body, first=False)


def wrong_in(body: Body, first: bool) -> str:
    """What is wrong with a line of a ledger, or ""."""
    kind = body.get("kind")
    if (kind == "opened") != first:
        return "it opens the ledger" if kind == "opened" else "it does not open the ledger, and stands first"
    if not _text(body, "id") or not isinstance(body.get("time"), str):
        return "it has no id or no time"
    if kind == "opened":
        return _wrong_head(body)
    if kind == "spent":
        return _wrong_spending(body)
    if kind == "budget":
        good = _limit(body.get("epsilon", "")) and isinstance(body.get("why"), str)
        good = good and body.get("accountant", "rdp") in ACCOUNTANTS and _delta(body.get("delta", 0.5))
        return "" if good else "its budget is none"
    return "" if kind == "note" and isinstance(body.get("text"), str) else f"its kind is {kind!r:.80}"


def larger(one: Body, other: Body) -> Body:
    """Of two bodies with one id the one that spends more, or leaves less."""
    ranks = [_RANK.get(str(body.get("kind")), 0) for body in (one, other)]
    if ranks[0] != ranks[1]:
        return one if ranks[0] > ranks[1] else other
    if one.get("kind") == "spent":
        return one if _cost(one) >= _cost(other) else other
    if "epsilon" in one and "epsilon" in other:
        limits = [body["epsilon"] for body in (one, other) if body["epsilon"] is not None]
        strict: dict[str, Any] = {"epsilon": min(limits) if limits else None}
        if "delta" in one and "delta" in other:
            strict["delta"] = min(one["delta"], other["delta"])
        return {**one, **strict}
    return one


def _cost(body: Body) -> float:
    try:
        return epsilon([mechanism_in(body)], delta=_DELTA)
    except PrivacyError:
        return math.inf


def _wrong_head(body: Body) -> str:
    if body.get("format") != FORMAT:
        return ""  # `Ledger.open` says so
    if not all(_text(body, name) for name in ("artist", "room")):
        return "it names no artist or no room"
    if body.get("unit") not in UNITS or body.get("accountant") not in ACCOUNTANTS:
        return "it names no unit or no accountant"
    if not _delta(body.get("delta")) or not _limit(body.get("epsilon", "")):
        return "its budget is none"
    return ""


def _wrong_spending(body: Body) -> str:
    try:
        mechanism_in(body)
    except PrivacyError as error:
        return str(error)
    if not isinstance(body.get("purpose"), str) or not isinstance(body.get("record", {}), dict):
        return "it does not say what for"
    once = body.get("once", ["", ""])
    if not (isinstance(once, Sequence) and len(once) == 2 and all(isinstance(part, str) for part in once)):
        return "it does not say what was paid once"
    return ""


def _text(body: Body, name: str) -> bool:
    return isinstance(body.get(name), str) and bool(body[name])


def _limit(value: object) -> bool:
    return value is None or (_number(value) and isinstance(value, (int, float)) and value > 0)


def _delta(value: object) -> bool:
    return _number(value) and isinstance(value, (int, float)) and 0 < value < 1


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
