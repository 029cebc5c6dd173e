"""Text files beside pictures: which belongs to which, under all the names that trainers and people give them."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fedart_nb.art.columns import CAPTION_NAMES, plain_name
from fedart_nb.art.encodings import Reading, certain, guess, is_binary, told, votes
from fedart_nb.art.formats import PICTURE_SUFFIXES, suffix_of
from fedart_nb.art.names import folded, without_ending
from fedart_nb.art.problems import Problem, Unusable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fedart_nb.art.sources import Source

__all__ = ["SIDECAR_SUFFIXES", "assigned", "is_sidecar_name", "read_sidecars"]

#: The likeliest first: where one picture has several, the first one counts.
SIDECAR_SUFFIXES = (
    ".txt",
    ".text",
    ".caption",
    ".captions",
    ".cap",
    ".prompt",
    ".description",
    ".desc",
    ".tags",
    ".json",
)

_LIMIT_BYTES = 2**20
_KEPT_BYTES = 2**16  # of a text in an unknown encoding, until all of them have been seen
_MANY = 8  # files with the same fault are told one by one up to here


def is_sidecar_name(key: str) -> bool:
    """Whether a file with this ending may hold one picture's caption."""
    return suffix_of(key) in SIDECAR_SUFFIXES


def assigned(keys: Iterable[str], sources: Iterable[Source]) -> tuple[dict[str, list[Source]], list[Source]]:
    """The texts of each picture, the likeliest first, and the texts that belong to no picture.

    `cat.txt` and `cat.jpg.txt` belong to `cat.jpg`, whatever their capitals and Unicode form; so does the only
    `cat.txt` in another folder, where there is just one `cat` and it has no text of its own.
    """
    by_path: dict[str, list[str]] = defaultdict(list)
    by_stem: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        path = folded(key)
        for owned in {path, without_ending(path)}:
            by_path[owned].append(key)
        by_stem[PurePosixPath(path).stem].append(key)
    texts: dict[str, list[Source]] = defaultdict(list)
    left: dict[str, list[Source]] = defaultdict(list)
    ranked = sorted(sources, key=_rank)
    for source in ranked:
        path = without_ending(folded(source.key))
        owners = by_path.get(path, [])
        for key in owners:
            texts[key].append(source)
        if not owners:
            left[PurePosixPath(path).name].append(source)
    orphans: list[Source] = []
    for stem, found in left.items():
        stem_of_picture = PurePosixPath(stem).stem if PurePosixPath(stem).suffix in PICTURE_SUFFIXES else stem
        owners = by_stem.get(stem, []) or by_stem.get(stem_of_picture, [])
        if len(owners) == 1 and len(found) == 1 and owners[0] not in texts:
            texts[owners[0]].append(found[0])
        else:
            orphans += found
    return texts, orphans


def _rank(source: Source) -> tuple[int, bool]:
    name = source.key.lower()
    return SIDECAR_SUFFIXES.index(suffix_of(name)), suffix_of(without_ending(name)) not in PICTURE_SUFFIXES


def read_sidecars(texts: Mapping[str, Sequence[Source]]) -> tuple[dict[str, tuple[str, Source]], list[Problem]]:
    """The caption of each picture as written, with the file it came from, and what is wrong with these files.

    Encodings that a file does not tell are guessed from all of the files together, and told.
    """
    problems: list[Problem] = []
    found: dict[str, tuple[str, Source]] = {}
    doubtful: dict[str, tuple[bytes, Source]] = {}
    once: dict[str, str | bytes | None] = {}
    for key, sources in texts.items():
        usable = [s for s in sources if _content(s, once, problems) is not None]
        for source in usable[:1]:
            content = _content(source, once, problems)
            if isinstance(content, bytes):
                doubtful[key] = (content, source)
            elif content is not None:
                found[key] = (content, source)
        for other in usable[1:]:
            if _content(other, once, problems) != _content(usable[0], once, problems):
                reason = f"{usable[0].name!r} has another caption of the same picture, which was taken"
                problems.append(Problem(other.name, reason, "caption", todo="Keep one of the two"))
    guesses: dict[str | None, dict[str, Reading]] = defaultdict(dict)
    likely = votes(content for content, _ in list(doubtful.values())[:300])
    for key, (content, source) in doubtful.items():
        reading = guess(content, likely=likely)
        text = _unpacked(reading.text, source, problems)
        if text is not None:
            found[key] = (text, source)
        guesses[reading.encoding][source.name] = reading
    for readings in guesses.values():
        problems += _told(readings)
    return found, problems


def _content(source: Source, once: dict[str, str | bytes | None], problems: list[Problem]) -> str | bytes | None:
    """A text, bytes whose encoding is not certain, or None where the file says nothing; each file is read once."""
    if source.key in once:
        return once[source.key]
    once[source.key] = None
    try:
        data = source.read(_LIMIT_BYTES)
    except Unusable as error:
        problems.append(Problem(source.name, error.reason, "metadata", todo=error.todo))
        return None
    if is_binary(data):
        todo = "Save the caption as plain text"
        problems.append(Problem(source.name, "its content is no text, whatever its name says", "metadata", todo=todo))
        return None
    text = certain(data)
    if text is None:
        if len(data) > _KEPT_BYTES:
            text = guess(data).text
        else:
            once[source.key] = data
            return data
    text = _unpacked(text, source, problems)
    if text is not None and not text.strip():
        problems.append(
            Problem(
                source.name, "it is empty; the picture's name is the caption", "caption", todo="Write a caption into it"
            )
        )
        text = None
    once[source.key] = text
    return text


def _unpacked(text: str, source: Source, problems: list[Problem]) -> str | None:
    """The caption in a .json file; other texts are captions as they are."""
    if suffix_of(source.key) != ".json":
        return text
    try:
        value = json.loads(text.removeprefix("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        todo = 'Write {"caption": "…"}, or save it as .txt'
        problems.append(Problem(source.name, "it cannot be read as JSON", "metadata", todo=todo))
        return None
    if isinstance(value, str):
        return value
    named = {plain_name(k): v for k, v in value.items()} if isinstance(value, dict) else {}
    for name in CAPTION_NAMES:
        text_of = named.get(name)
        if isinstance(text_of, list) and text_of and all(isinstance(one, str) for one in text_of):
            text_of = ", ".join(text_of) if name in {"tags", "keywords"} else text_of[0]
        if isinstance(text_of, str) and text_of.strip() and not _is_file_name(text_of, source):
            return text_of
    todo = 'Write {"caption": "…"} into it, or a .txt file'
    problems.append(Problem(source.name, "it has no caption in it", "metadata", todo=todo))
    return None


def _is_file_name(text: str, source: Source) -> bool:
    """A photo service writes the picture's file name as its title: that is no caption."""
    return folded(text.strip()) == folded(PurePosixPath(without_ending(source.key)).name)


def _told(readings: dict[str, Reading]) -> list[Problem]:
    if len(readings) <= _MANY:
        return [
            Problem(name, reason, "caption", todo=todo)
            for name, reading in readings.items()
            for reason, todo in [told(reading)]
        ]
    name, reading = next(iter(readings.items()))
    reason, todo = told(reading)
    return [Problem(f"{name} and {len(readings) - 1} more", reason, "caption", todo=todo)]
