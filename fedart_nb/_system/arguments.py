"""Numbers, texts and sequences as callers really give them: taken as plain Python values, or refused in a sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, TypeVar

from ..errors import FedArtError

__all__ = ["number", "plain", "plain_fields", "texts", "whole", "whole_numbers"]

_Error = TypeVar("_Error", bound=FedArtError)


def plain(value: Any) -> Any:
    """The Python number in a numpy or torch scalar; everything else as it is.

    >>> import numpy as np
    >>> plain(np.float32(4)), plain("4")
    (4.0, '4')
    """
    if not isinstance(value, (int, float, str, bytes)) and hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    if isinstance(value, (int, float)) and type(value) not in (int, float, bool):  # numpy's float64 is a float
        return float(value) if isinstance(value, float) else int(value)
    return value


def plain_fields(value: Any) -> None:
    """Exchange numpy and torch scalars in a dataclass's own fields for Python's; for `__post_init__`."""
    for field in fields(value):
        given = getattr(value, field.name)
        if (kept := plain(given)) is not given:
            object.__setattr__(value, field.name, kept)


def whole(name: str, value: Any, low: int, high: int, error: type[_Error], *, hint: str = "") -> int:
    """A whole number from `low` to `high`, as an int; 4.0 is 4, and True is no number.

    Raises:
        error: what it is instead, what was expected, and the hint.

    >>> whole("rank", 16 / 4, 1, 128, FedArtError)
    4
    """
    found = plain(value)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if type(found) is not int or not low <= found <= high:
        raise error(f"{name} is {_shown(value)}; expected a whole number from {low:,} to {high:,}.{_after(hint)}")
    return found


def number(
    name: str, value: Any, low: float, high: float, error: type[_Error], *, above: bool = False, hint: str = ""
) -> float:
    """A finite number from `low` (or above it) to `high`, as an int or float; True and NaN are none.

    >>> number("alpha", 4, 0, 1024, FedArtError, above=True)
    4
    """
    found = plain(value)
    good = type(found) in (int, float) and math.isfinite(found) and low <= found <= high
    if not good or (above and found == low):
        span = f"above {low:g} and up to {high:g}" if above else f"from {low:g} to {high:g}"
        raise error(f"{name} is {_shown(value)}; expected a number {span}.{_after(hint)}")
    kept: float = found
    return kept


def texts(name: str, values: Any, error: type[_Error]) -> tuple[str, ...]:
    """Several texts; a single text is one of them, and never taken letter by letter.

    >>> texts("prompts", "a red fox", FedArtError)
    ('a red fox',)
    """
    if isinstance(values, str):
        return (values,)
    found = tuple(values) if isinstance(values, Iterable) and not isinstance(values, (bytes, dict)) else None
    if found is None or not all(isinstance(one, str) for one in found):
        raise error(f"{name} is {_shown(values)}; expected a list of texts, such as ['a red fox', 'a cat'].")
    return tuple(str(one) for one in found)


def whole_numbers(name: str, values: Any, low: int, high: int, error: type[_Error]) -> tuple[int, ...]:
    """Several whole numbers; a single one is one of them.

    >>> whole_numbers("seeds", 7, 0, 100, FedArtError)
    (7,)
    """
    one = plain(values)
    if isinstance(one, (int, float)):
        return (whole(name, one, low, high, error),)
    if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
        raise error(f"{name} is {_shown(values)}; expected a list of whole numbers, such as [1, 2].")
    return tuple(whole(f"{name}[{place}]", value, low, high, error) for place, value in enumerate(values))


def _after(hint: str) -> str:
    return f" {hint}" if hint else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
