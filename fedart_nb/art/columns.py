"""Which column of a table names the picture and which holds its caption, by name or by what stands in it."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["CAPTION_NAMES", "FILE_NAMES", "Roles", "choose_roles", "is_header", "plain_name"]

#: The likeliest first. Names are compared in lower case, with _ for blanks and hyphens.
FILE_NAMES = [
    "file_name",
    "filename",
    "file",
    "image_file",
    "image_file_name",
    "image_filename",
    "image_name",
    "image_path",
    "file_path",
    "filepath",
    "image",
    "img",
    "img_path",
    "path",
    "picture",
    "photo",
    "name",
    "image_id",
    "id",
    "url",
    "dateiname",
    "datei",
    "bilddatei",
    "bild",
    "fichier",
    "nom_de_fichier",
    "archivo",
    "imagen",
]
CAPTION_NAMES = [
    "caption",
    "captions",
    "text",
    "prompt",
    "prompts",
    "description",
    "title",
    "alt",
    "alt_text",
    "image_caption",
    "image_description",
    "comment",
    "sentence",
    "label",
    "class_name",
    "class",
    "bildunterschrift",
    "beschreibung",
    "text_de",
    "titel",
    "légende",
    "legende",
    "description_fr",
    "titre",
    "descripción",
    "descripcion",
    "título",
    "titulo",
    "keywords",
    "tags",
    "concept",
]
_OTHER_NAMES = frozenset(
    [
        "split",
        "set",
        "subset",
        "license",
        "licence",
        "rights",
        "tags",
        "source",
        "artist",
        "author",
        "creator",
        "width",
        "height",
        "size",
        "md5",
        "sha1",
        "sha256",
        "hash",
        "date",
        "id",
        "index",
        "url",
        "created_at",
        "seed",
        "model",
        "negative_prompt",
    ]
)


@dataclass(frozen=True, slots=True)
class Roles:
    """Column names: of the file, and of captions in the order in which they are tried; `guessed` says which were."""

    file: str | None
    captions: tuple[str, ...]
    guessed: tuple[str, ...] = ()


def plain_name(name: object) -> str:
    """A column's name in the form in which names are compared.

    >>> plain_name(" File-Name ")
    'file_name'
    """
    text = unicodedata.normalize("NFC", str(name)).strip().strip("\ufeff\"'“”").strip().lower()
    return re.sub(r"[\s\-.]+", "_", text)


def is_header(cells: Sequence[str]) -> int:
    """How many of these cells are known names of columns."""
    names = {plain_name(cell) for cell in cells}
    return len(names & {*FILE_NAMES, *CAPTION_NAMES, *_OTHER_NAMES})


def choose_roles(
    columns: Sequence[str], rows: Sequence[Mapping[str, object]], is_picture: Callable[[str], bool]
) -> Roles:
    """The roles of columns (plain names), judged by their names and by the first rows' values."""
    sample = rows[:200]
    hits = {
        column: sum(isinstance(row.get(column), str) and is_picture(str(row[column])) for row in sample)
        for column in columns
    }
    named = sorted((c for c in columns if c in FILE_NAMES), key=lambda c: (-(hits[c] > 0), FILE_NAMES.index(c)))
    guessed: list[str] = []
    file = named[0] if named else None
    if (file is None or not hits[file]) and any(hits.values()):
        best = max(columns, key=lambda c: hits[c])
        if best != file:
            file = best
            guessed.append(best)
    captions = [c for c in CAPTION_NAMES if c in columns and c != file and (c != "tags" or not _named(columns, file))]
    texts = [c for c in captions if any(_has_letters(row.get(c)) for row in sample)]
    if not texts:
        free = [c for c in columns if c != file and c not in _OTHER_NAMES and c not in FILE_NAMES]
        free = [c for c in free if any(_has_letters(row.get(c)) for row in sample) and not hits[c]]
        if free:
            longest = max(free, key=lambda c: sum(len(str(row.get(c) or "")) for row in sample))
            guessed.append(longest)
            texts = [longest]
    return Roles(file, tuple(texts) or tuple(captions[:1]), tuple(guessed))


def _named(columns: Sequence[str], file: str | None) -> bool:
    """Whether some column other than tags is named for a caption."""
    return any(c in CAPTION_NAMES and c not in {"tags", "keywords", "concept"} and c != file for c in columns)


def _has_letters(value: object) -> bool:
    if isinstance(value, list):
        return any(_has_letters(one) for one in value)
    if isinstance(value, dict):
        return any(_has_letters(one) for one in value.values())
    return isinstance(value, str) and any(c.isalpha() for c in value)
