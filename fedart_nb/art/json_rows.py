"""Rows of captions in JSON, one object a line or one document, with what people leave in it by hand."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_json"]

_COMMENTS = ("//", "#", "/*")
_BRACKETS = ("[", "]", "],", "[]")
_LITERAL_LIMIT = 10_000  # characters of a line that may be a Python dict instead of JSON


def read_json(text: str, *, is_file: Callable[[str], bool]) -> tuple[list[tuple[int, dict[str, Any]]], list[int]]:
    """(number, object) of each row, and the numbers of what is no object.

    Lines are cut at line feeds and carriage returns alone: U+2028 and its like may stand inside a JSON text. `is_file`
    says whether a key of one large object is the name of a picture.
    """
    text = text.removeprefix("\ufeff")
    whole = _loaded(text)
    if isinstance(whole, list):
        return _entries(whole)
    if isinstance(whole, Mapping):
        return _of_document(whole, is_file)
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[int] = []
    for number, line in enumerate(re.split("\r\n|\n|\r", text), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith(_COMMENTS) or stripped in _BRACKETS:
            continue
        row = _loaded(stripped.removesuffix(","))
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            bad.append(number)
    if bad and len(bad) > len(rows):
        spread = _spread_out(text)
        if len(spread) > len(rows):
            return spread, []
    return rows, bad


def _loaded(text: str) -> Any:
    """A JSON value, forgiving a trailing comma or Python's own way to write a dict; None where it is neither."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(re.sub(r",(\s*[}\]])", r"\1", text), strict=False)
    except (ValueError, RecursionError):
        pass
    if len(text) <= _LITERAL_LIMIT and text.startswith("{") and "'" in text:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return None


def _entries(values: list[Any]) -> tuple[list[tuple[int, dict[str, Any]]], list[int]]:
    rows = [(number, value) for number, value in enumerate(values, start=1) if isinstance(value, dict)]
    return rows, [number for number, value in enumerate(values, start=1) if not isinstance(value, dict)]


def _of_document(
    document: Mapping[str, Any], is_file: Callable[[str], bool]
) -> tuple[list[tuple[int, dict[str, Any]]], list[int]]:
    """One object: picture names as keys, a list of rows under some key, or a single row."""
    if any(is_file(key) for key in list(document)[:1000]):
        rows = []
        for number, (key, value) in enumerate(document.items(), start=1):
            row = dict(value) if isinstance(value, Mapping) else {"caption": value}
            rows.append((number, {"file_name": key} | {k: v for k, v in row.items() if k != "file_name"}))
        return rows, []
    for value in document.values():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return _entries(value)
    return [(1, dict(document))], []


def _spread_out(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Objects one after the other, each over several lines."""
    decoder = json.JSONDecoder(strict=False)
    rows: list[tuple[int, dict[str, Any]]] = []
    at = 0
    while (at := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            break
        if isinstance(value, dict):
            rows.append((text.count("\n", 0, at) + 1, value))
        at = end
    return rows
