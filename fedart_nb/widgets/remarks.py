"""What an artist should look at after loading pictures, as a table: file, row, what was found, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fedart_nb.widgets import parts

__all__ = ["remarks_table", "remarks_title"]

_SHOWN = 100
_OPEN = 6  # so many remarks are shown unfolded
_LEFT_OUT = frozenset({"broken", "format", "library", "too large", "duplicate", "symlink", "folder", "limit"})
_NAMED = 3  # of many files with the same remark


def remarks_title(problems: Sequence[Any]) -> str:
    """How many things there are to look at.

    >>> remarks_title([]), remarks_title([1])
    ('', '1 thing to look at')
    """
    count = len(problems)
    return f"{count:,} thing{'s' if count != 1 else ''} to look at" if count else ""


def remarks_table(problems: Iterable[Any]) -> str:
    """A table of `fedart_nb.art.Problem`s that folds away; files with the same remark share a line."""
    problems = list(problems)
    if not problems:
        return ""
    groups: dict[tuple[str, str, bool], list[Any]] = {}
    for problem in problems:
        groups.setdefault((problem.reason, problem.todo, problem.kind in _LEFT_OUT), []).append(problem)
    lines = [
        (
            _files(group),
            escape(group[0].place) if len(group) == 1 else "",
            _found(reason, left_out=left_out),
            escape(_sentence(todo)) if todo else "Nothing",
        )
        for (reason, todo, left_out), group in list(groups.items())[:_SHOWN]
    ]
    title = remarks_title(problems)
    columns = ("File", "Row", "What was found", "What to do")
    table = parts.table(columns, lines, caption="What was found in the files", safe=True)
    more = len(groups) - _SHOWN
    rest = f"<p>and {more:,} more; session.art.report() lists all of them.</p>" if more > 0 else ""
    unfolded = " open" if len(groups) <= _OPEN else ""
    return (
        f'<details class="fedart-remarks"{unfolded}><summary>{escape(title)}</summary>'
        f"{parts.scrolling(table, title)}{rest}</details>"
    )


def _found(reason: str, *, left_out: bool) -> str:
    mark = parts.badge("Left out", level="warning", sign="▲") if left_out else parts.badge("Note", sign="ℹ")
    return f"{mark} {escape(_sentence(reason))}"


def _files(group: Sequence[Any]) -> str:
    names = list(dict.fromkeys(str(problem.file)[:120] for problem in group))
    shown = ", ".join(f"<strong>{escape(name)}</strong>" for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _sentence(text: str) -> str:
    first = text[:1].upper() + text[1:]
    return first if first.endswith((".", "”", ")", "?")) else f"{first}."
