"""Rows of a table of captions, whatever separates its columns, with quotes that were never closed.

The csv module reads what spreadsheets write; people also write tables by hand. Records are cut here, line by line, so
that one open quote costs one row and not the rest of the file.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Row", "Rows", "read_csv"]

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", ":": "colon"}
_LOOKED_AT = 50  # lines that decide on the delimiter
_RECORD_LINES = 200  # a quoted caption of more lines than this is an open quote


@dataclass(frozen=True, slots=True)
class Row:
    """One record: its line in the file, counted from 1, and its cells."""

    number: int
    cells: list[str]


@dataclass(slots=True)
class Rows:
    """All records of a table, the header among them, and the lines with a fault: fault -> line numbers."""

    rows: list[Row]
    delimiter: str
    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


def read_csv(
    text: str, *, is_picture: Callable[[str], bool], is_header: Callable[[list[str]], int], delimiters: str = ",;\t|"
) -> Rows:
    """Cut a text into rows of cells; `is_header` counts the cells that are known names of columns."""
    lines = list(enumerate(re.split("\r\n|\n|\r", text.replace("\0", "")), start=1))
    lines = [(number, line) for number, line in lines if line.strip()]
    while lines and lines[0][1].startswith("#") and not any(map(is_picture, re.split(r"[,;\t|]", lines[0][1])[:20])):
        lines = lines[1:]  # a remark above the table
    told = re.fullmatch(r'\s*"?sep=(.)"?[,;\s]*', lines[0][1], re.IGNORECASE) if lines else None
    if told:  # the line that Excel reads and does not show
        lines = lines[1:]
    lines = _unwrapped(lines, is_header)
    if told and told[1] in _DELIMITERS and _score(lines, told[1], is_picture, is_header) > (False, 0, 0):
        delimiter = told[1]
    else:
        delimiter = max(delimiters, key=lambda d: (*_score(lines, d, is_picture, is_header), -delimiters.index(d)))
    made = Rows([], delimiter)
    for number, record, is_open in _records(lines, delimiter, is_picture):
        try:
            cells = _cells(record, delimiter, quoted=not is_open)
        except csv.Error:  # a cell of more than 128 KiB
            made.faults["too long"].append(number)
            continue
        if is_open:
            made.faults["open quote"].append(number)
        if any(cell.strip() for cell in cells):
            made.rows.append(Row(number, cells))
    return made


def _score(
    lines: list[tuple[int, str]],
    delimiter: str,
    is_picture: Callable[[str], bool],
    is_header: Callable[[list[str]], int],
) -> tuple[bool, int, int]:
    """How well a delimiter fits: whether rows name pictures, how many columns are known, how many rows name one."""
    rows = []
    for _, line in lines[:_LOOKED_AT]:
        try:
            rows.append(_cells(line[:100_000], delimiter))
        except csv.Error:
            continue
    named = sum(len(cells) > 1 and any(map(is_picture, cells[:20])) for cells in rows)
    known = is_header(rows[0]) if rows and len(rows[0]) > 1 else 0
    return named > 0, known, named


def _unwrapped(lines: list[tuple[int, str]], is_header: Callable[[list[str]], int]) -> list[tuple[int, str]]:
    """Rows of which each was quoted as a whole, as some programs export them: "file_name,caption"."""
    if not lines or not re.fullmatch(r'\s*"[^"]*"\s*', lines[0][1]):
        return lines
    inner = lines[0][1].strip()[1:-1]
    if not any(is_header(inner.split(delimiter)) > 1 for delimiter in _DELIMITERS):
        return lines
    whole = [(number, line.strip()) for number, line in lines]
    return [
        (number, line[1:-1].replace('""', '"') if len(line) > 1 and line[0] == line[-1] == '"' else line)
        for number, line in whole
    ]


def _records(
    lines: list[tuple[int, str]], delimiter: str, is_picture: Callable[[str], bool]
) -> Iterator[tuple[int, str, bool]]:
    """(line number, text, whether a quote in it is never closed) of each record; a quoted cell may hold line ends."""
    at = 0
    while at < len(lines):
        number, line = lines[at]
        last, inside, ended = at, _inside_after(line, delimiter), False
        while inside and last + 1 < len(lines) and last - at < _RECORD_LINES:
            following = lines[last + 1][1]
            if any(map(is_picture, _cells(following[:100_000], delimiter, quoted=False)[:20])):
                ended = True
                break
            last += 1
            inside = _inside_after(following, delimiter, inside=True)
        if inside and not ended:  # open up to the end of the file: what follows may be rows of their own
            last = at
        yield number, "\n".join(text for _, text in lines[at : last + 1]), inside
        at = last + 1


def _inside_after(line: str, delimiter: str, *, inside: bool = False) -> bool:
    """Whether a quoted cell is still open at the end of this line."""
    if '"' not in line:
        return inside
    at_start, i, escapes = not inside, 0, _escapes(line)
    while i < len(line):
        c = line[i]
        if inside:
            if c == '"':
                if line[i + 1 : i + 2] == '"':
                    i += 1
                elif escapes and line[i - 1 : i] == "\\" and i > 0:
                    pass  # \" is a quote inside the cell
                else:
                    inside = False
        elif c == delimiter:
            at_start = True
        elif c == '"' and at_start:
            inside = True
            at_start = False
        elif not c.isspace():
            at_start = False
        i += 1
    return inside


def _cells(record: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    if not quoted:
        return [re.sub(r'^\s*"', "", cell) for cell in record.replace("\n", " ").split(delimiter)]
    if '"' not in record:
        return record.split(delimiter)
    spaced = re.search(rf'{re.escape(delimiter)} +"', record) is not None
    plain = record.replace('\\"', '""') if _escapes(record) else record
    return next(csv.reader([plain], delimiter=delimiter, skipinitialspace=spaced), [])


def _escapes(text: str) -> bool:
    """Whether a backslash before a quote makes it a part of the text: not where backslashes part folders."""
    return '\\"' in text and re.search(r'\\(?!")', text) is None
