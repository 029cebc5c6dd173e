"""Tables of captions: metadata.csv, metadata.jsonl and their like, read as people write them, with every fault told."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from fedart_nb.art.captions import Record, cleaned
from fedart_nb.art.columns import Roles, choose_roles, is_header, plain_name
from fedart_nb.art.csv_rows import Rows, read_csv
from fedart_nb.art.encodings import is_binary, read_lines, told
from fedart_nb.art.json_rows import read_json
from fedart_nb.art.problems import Problem
from fedart_nb.art.splits import split_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["TABLE_LIMIT_BYTES", "TABLE_STEMS", "TABLE_SUFFIXES", "Entry", "is_table_name", "read_table"]

TABLE_LIMIT_BYTES = 64 * 2**20
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".json"})
#: Files with these names are tables of captions even where they name no picture that is here.
TABLE_STEMS = frozenset({"metadata", "captions", "caption", "dataset", "prompts", "labels", "descriptions", "meta_cap"})

_AS_TABLE = "Write a table with the columns file_name and caption, one row for each picture"
_QUOTE = 'Put the caption into double quotes: "a fox, in the snow"'


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table: its number, the file name as written, and what it says of that picture."""

    number: int
    file: str
    record: Record


def is_table_name(key: str) -> bool:
    """Whether a file with this name may be a table of captions (a .txt only if it is called so)."""
    path = PurePosixPath(key.lower())
    return path.suffix in TABLE_SUFFIXES or (path.suffix in {".txt", ".text"} and path.stem in TABLE_STEMS)


def read_table(name: str, data: bytes, *, is_picture: Callable[[str], bool]) -> tuple[list[Entry], list[Problem]]:
    """The rows of a table, and what is wrong with it; `is_picture` says whether a text names a picture of the set.

    Columns: the file's name (`file_name`, `image`, `path` and others), the caption (`caption`, `text`, `prompt`,
    `description` and others), and optionally `split`, `license`, `tags`.
    """
    problems = _Problems(name)
    if is_binary(data):
        problems.add("its content is no text, whatever its name says", _AS_TABLE)
        return [], problems.made
    text, guessed = read_lines(data)
    examples: dict[str | None, tuple[str, str]] = {}
    for number, reading in sorted(guessed.items()):
        problems.add(*examples.setdefault(reading.encoding, told(reading)), row=number, kind="caption")
    if not text.strip():
        problems.add("the table is empty", _AS_TABLE)
        return [], problems.made
    if PurePosixPath(name.lower()).suffix in {".jsonl", ".ndjson", ".json"}:
        rows = _json(text, is_picture, problems)
    else:
        loose = PurePosixPath(name.lower()).suffix in {".txt", ".text"}
        rows = _csv(
            read_csv(text, is_picture=is_picture, is_header=is_header, delimiters="\t,;|:" if loose else ",;\t|"),
            is_picture,
            problems,
        )
    if not rows:
        problems.add("no row in it can be used", _AS_TABLE)
        return [], problems.made
    columns = list(dict.fromkeys(column for _, row in rows[:200] for column in row))
    roles = choose_roles(columns, [row for _, row in rows], is_picture)
    _tell_roles(columns, roles, problems)
    entries = [entry for number, row in rows if (entry := _entry(number, row, roles, problems))]
    if entries and roles.captions and not any(entry.record.caption for entry in entries):
        problems.add("no row of it has a caption", _AS_TABLE, kind="caption")
    return entries, problems.made


class _Problems:
    """Faults of one table, each once with all of its rows."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._rows: dict[tuple[str, str, str], list[int]] = defaultdict(list)

    def add(self, reason: str, todo: str = "", *, row: int | None = None, kind: str = "metadata") -> None:
        self._rows[reason, todo, kind] += [] if row is None else [row]

    @property
    def made(self) -> list[Problem]:
        return [
            Problem(self._file, reason.replace("{n}", f"{len(rows)}"), kind, rows=tuple(rows), todo=todo)  # type: ignore[arg-type]
            for (reason, todo, kind), rows in self._rows.items()
        ]


def _json(text: str, is_picture: Callable[[str], bool], problems: _Problems) -> list[tuple[int, dict[str, Any]]]:
    rows, bad = read_json(text, is_file=is_picture)
    for number in bad:
        problems.add("{n} line(s) are no JSON object", 'Each needs {"file_name": …, "caption": …}', row=number)
    return [(number, {plain_name(key): value for key, value in row.items()}) for number, row in rows]


def _csv(table: Rows, is_picture: Callable[[str], bool], problems: _Problems) -> list[tuple[int, dict[str, Any]]]:
    for number in table.faults["open quote"]:
        problems.add("a double quote is opened and not closed; the row was read without it", _QUOTE, row=number)
    for number in table.faults["too long"]:
        problems.add("a cell of more than 128 KiB; the row was left out", "Shorten it", row=number)
    if not table.rows:
        return []
    rows = table.rows
    first = [cell.strip() for cell in rows[0].cells]
    if any(map(is_picture, first)):
        columns = _columns_by_content(first, [row.cells for row in rows[:200]], is_picture)
        used = columns.index("caption") + 1 if "caption" in columns else None
        what = f"column {used} was taken for captions" if used else "no column was taken for captions"
        problems.add(f"it has no row of column names; {what}", "Make file_name,caption its first line")
    else:
        columns = [plain_name(cell) or f"column_{i}" for i, cell in enumerate(first, start=1)]
        rows = rows[1:]
    for i, column in enumerate(columns):
        if column in columns[:i]:
            problems.add(f"two columns are called {column!r}; the second one was left out", "Rename one of them")
            columns[i] = f"{column}_{i + 1}"
    sample = [dict(zip(columns, row.cells, strict=False)) for row in rows[:200]]
    roles = choose_roles(columns, sample, is_picture)
    made = []
    for row in rows:
        cells = _fitted(row.cells, columns, roles, table.delimiter, is_picture)
        if cells is None:
            problems.add(_more_cells(len(columns)), _QUOTE, row=row.number, kind="caption")
            cells = _joined(row.cells, columns, roles, table.delimiter)
        made.append((row.number, dict(zip(columns, cells, strict=False))))
    return made


def _more_cells(columns: int) -> str:
    return f"more cells than the {columns} columns: a separator stands inside a text; read as well as possible"


def _columns_by_content(
    first: Sequence[str], rows: Sequence[list[str]], is_picture: Callable[[str], bool]
) -> list[str]:
    """Names for the columns of a table without a header."""
    at = next(i for i, cell in enumerate(first) if is_picture(cell))
    width = min((len(row) for row in rows if any(map(is_picture, row[: at + 1]))), default=len(first))
    first = first[: max(width, at + 1)]
    lengths = {
        i: sum(len(row[i]) for row in rows if i < len(row) and any(c.isalpha() for c in row[i]))
        for i in range(len(first))
        if i != at
    }
    caption = max(lengths, key=lambda i: lengths[i], default=None) if any(lengths.values()) else None
    return ["file_name" if i == at else "caption" if i == caption else f"column_{i + 1}" for i in range(len(first))]


def _fitted(
    cells: list[str], columns: list[str], roles: Roles, delimiter: str, is_picture: Callable[[str], bool]
) -> list[str] | None:
    """Exactly as many cells as columns where that is beyond doubt: a caption in the last column may hold separators."""
    while len(cells) > len(columns) and not cells[-1].strip():
        cells = cells[:-1]
    if len(cells) <= len(columns):
        return cells
    last = columns[-1]
    file_fits = roles.file is None or last != roles.file
    if last in roles.captions[:1] and file_fits:
        at = columns.index(roles.file) if roles.file in columns else None
        if at is None or is_picture(cells[at]) or not any(map(is_picture, cells)):
            return [*cells[: len(columns) - 1], delimiter.join(cells[len(columns) - 1 :])]
    return None


def _joined(cells: list[str], columns: list[str], roles: Roles, delimiter: str) -> list[str]:
    """The surplus cells belong to the caption, wherever its column is; to the last column where there is none."""
    extra = len(cells) - len(columns)
    at = columns.index(roles.captions[0]) if roles.captions and roles.captions[0] in columns else len(columns) - 1
    return [*cells[:at], delimiter.join(cells[at : at + extra + 1]), *cells[at + extra + 1 :]]


def _tell_roles(columns: list[str], roles: Roles, problems: _Problems) -> None:
    there = ", ".join(cleaned(column, limit=30)[0] for column in columns[:8])
    if roles.file is None:
        problems.add(f"no column names the pictures; it has the columns {there}", "Call one file_name")
    elif roles.file in roles.guessed:
        problems.add(f"column {roles.file!r} was taken for the pictures' names", "Call it file_name")
    useful = {"split", "license", "licence", "tags", roles.file}
    if not roles.captions and not set(columns) <= useful:
        problems.add(f"no column holds captions; it has the columns {there}", "Call one caption or text")
    for caption in roles.captions:
        if caption in roles.guessed:
            problems.add(f"column {caption!r} was taken for captions", "Call it caption if that is right")


def _entry(number: int, row: Mapping[str, Any], roles: Roles, problems: _Problems) -> Entry | None:
    file = row.get(roles.file) if roles.file else None
    if not isinstance(file, str) or not file.strip():
        problems.add("{n} line(s) without a usable file_name", "Each needs file_name and caption", row=number)
        return None
    texts: dict[str, str] = {}
    for column in roles.captions:
        text = _caption(row.get(column), number, problems)
        if text:
            texts[column] = text
    first = next(iter(texts), None)
    others = [column for column in list(texts)[1:] if column not in {"tags", "keywords", "concept"}]
    if first is not None and any(" ".join(texts[c].split()) != " ".join(texts[first].split()) for c in others):
        listed = " and ".join(repr(column) for column in (first, *others))
        problems.add(f"columns {listed} differ; {first!r} was taken as the caption", row=number)
    split = row.get("split", row.get("set", row.get("subset")))
    if split and split_named(split) is None:
        value = cleaned(str(split), limit=30)[0]
        problems.add(
            f'split {value!r} is neither "train" nor "test"; it was divided by chance',
            "Write one of the two",
            row=number,
        )
    licence = next(
        (row[key] for key in ("license", "licence") if isinstance(row.get(key), str) and row[key].strip()), None
    )
    return Entry(
        number,
        file,
        Record(texts[first] if first else None, split_named(split) if split else None, licence, _tags(row.get("tags"))),
    )


def _caption(value: Any, number: int, problems: _Problems) -> str | None:
    if isinstance(value, list):
        texts = [one for one in value if isinstance(one, str) and one.strip()]
        if len(texts) > 1:
            problems.add("it has several captions; the first was taken", "Join them, if all belong", row=number)
        return texts[0] if texts else None
    if isinstance(value, dict):
        named = {str(k): v for k, v in value.items() if isinstance(v, str) and v.strip()}
        if len(named) > 1:
            problems.add("it has captions in several languages or kinds; one was taken", row=number)
        return named.get("en") or next(iter(named.values()), None)
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _caption(str(value), number, problems)
    if not isinstance(value, str) or not value.strip():
        return None
    if not any(c.isalpha() for c in value) and any(c.isdigit() for c in value):
        problems.add("the caption is a number, which says nothing of the picture", "Write it in words", row=number)
    return value


def _tags(value: object) -> tuple[str, ...]:
    parts = re.split(r"[|,;]", value) if isinstance(value, str) else value if isinstance(value, list) else []
    lines = (cleaned(part, limit=60)[0] for part in parts if isinstance(part, str))
    return tuple(line for line in lines if line)[:64]
