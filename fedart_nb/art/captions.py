"""What a picture is called: metadata.csv or metadata.jsonl (imagefolder convention), a sidecar .txt, else its name."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from fedart_nb.art.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "CAPTION_LIMIT",
    "TABLE_LIMIT_BYTES",
    "TABLE_NAMES",
    "Record",
    "caption_from_name",
    "cleaned",
    "decoded",
    "read_table",
    "split_named",
]

CAPTION_LIMIT = 500  # characters; text encoders read the first 77 tokens at most
TABLE_LIMIT_BYTES = 64 * 2**20
TABLE_NAMES = ("metadata.csv", "metadata.jsonl")

_JOINERS = frozenset("\u200c\u200d")  # invisible, but they spell words and emoji
_TEST_NAMES = frozenset({"test", "val", "valid", "validation", "dev", "eval"})


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a table; None (or no tags) where the table says nothing. `caption` is as written, not yet cleaned."""

    caption: str | None = None
    split: Literal["train", "test"] | None = None
    licence: str | None = None
    tags: tuple[str, ...] = ()


def cleaned(text: str, *, limit: int = CAPTION_LIMIT) -> tuple[str, bool]:
    r"""One line without control characters, at most `limit` characters; True when it was shortened.

    >>> cleaned("a\x00 cat\n on a mat")
    ('a cat on a mat', False)
    """
    cut = text[: 20 * limit]  # a hostile text is not normalised at full length
    kept = []
    for character in unicodedata.normalize("NFC", cut):
        category = unicodedata.category(character)
        if category.startswith("Z") or character in "\t\n\v\f\r":
            kept.append(" ")
        elif not category.startswith("C") or character in _JOINERS:
            kept.append(character)
    line = " ".join("".join(kept).split())
    return line[:limit].rstrip(), len(line) > limit or len(cut) < len(text)


def caption_from_name(name: str) -> str:
    """`art/maple-leaf_two.png` -> "maple leaf two"."""
    return " ".join(re.split(r"[\s_\-]+", PurePosixPath(name).stem)).strip()


def split_named(value: object) -> Literal["train", "test"] | None:
    """Give "train" or "test" for the names that data sets use ("validation" counts as "test"), else None."""
    name = str(value).strip().lower()
    return "train" if name == "train" else "test" if name in _TEST_NAMES else None


def decoded(data: bytes) -> str:
    """Text as UTF-8 (with or without its mark), or UTF-16 where marked; other bytes become the replacement sign."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    return data.decode("utf-8-sig", errors="replace")


def read_table(name: str, data: bytes) -> tuple[dict[str, Record], list[Problem]]:
    """The lines of a metadata file by picture name (relative to the metadata file), and what is wrong with it.

    Columns: `file_name` (or `file`), `caption` (or `text`), and optionally `split`, `license`, `tags`.
    """
    records: dict[str, Record] = {}
    problems: list[Problem] = []
    rows = _json_rows(decoded(data)) if name.endswith(".jsonl") else _csv_rows(decoded(data))
    unusable: list[int] = []
    for number, row in rows:
        file = "" if row is None else _text(row, "file_name", "file") or ""
        if row is None or not file:
            unusable.append(number)
            continue
        records[_key(file)] = Record(
            caption=_text(row, "caption", "text"),
            split=split_named(row.get("split")),
            licence=_text(row, "license", "licence"),
            tags=_tags(row.get("tags")),
        )
    if unusable:
        shown = ", ".join(map(str, unusable[:5])) + (", …" if len(unusable) > 5 else "")
        reason = f"{len(unusable)} line(s) without a usable file_name ({shown}); each needs file_name and caption"
        problems.append(Problem(name, reason, "metadata"))
    return records, problems


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    rows = csv.DictReader(io.StringIO(text.replace("\0", "")))
    try:
        for row in rows:
            yield rows.line_num, {(key or "").strip().lower(): value for key, value in row.items()}
    except csv.Error:  # a field of more than 128 KiB: what came before it is kept
        yield rows.line_num, None


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        yield number, row if isinstance(row, dict) else None


def _text(row: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _tags(value: object) -> tuple[str, ...]:
    parts = re.split(r"[|,;]", value) if isinstance(value, str) else value if isinstance(value, list) else []
    lines = (cleaned(part, limit=60)[0] for part in parts if isinstance(part, str))
    return tuple(line for line in lines if line)[:64]


def _key(file: str) -> str:
    return PurePosixPath(file.strip().replace("\\", "/")).as_posix()
