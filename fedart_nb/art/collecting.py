"""From sources to pictures: which files are taken, under what caption, and what is wrong with the others."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from fedart_nb.art.captions import (
    CAPTION_LIMIT,
    TABLE_LIMIT_BYTES,
    TABLE_NAMES,
    Record,
    caption_from_name,
    cleaned,
    decoded,
    read_table,
    split_named,
)
from fedart_nb.art.problems import Problem, Unusable
from fedart_nb.art.reading import FILE_LIMIT_BYTES, read_pixels
from fedart_nb.art.sources import PICTURE_SUFFIXES, Source, suffix_of
from fedart_nb.errors import ArtError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CONTENT_PX", "Collected", "Picture", "Split", "collect", "content_hash"]

_ACCEPTED = "JPEG, PNG, WebP, GIF (its first frame) and HEIC"
_OTHER_FORMATS = frozenset({".avif", ".bmp", ".jxl", ".psd", ".svg", ".tga", ".tif", ".tiff", ".xcf"})
_SIDECAR_LIMIT_BYTES = 2**20
CONTENT_PX = 128  # the size at which a picture's content is hashed

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as a fact sheet; its pixels stay in the `ArtSet`.

    `id` is the first 16 hex digits of the SHA-256 of its RGB pixels at the set's size; `name` is the file name, for
    people only. Name, caption and tags are in no repr, so that a notebook's output does not hold them by accident.
    `included` is the consent at the moment when this value was made: `ArtSet.pixels` asks the set itself.
    `sha256` (64 hex digits) names the content whatever the set's size, name or caption: it is taken of the RGB pixels
    at 128 px, so the same file has the same one in every set, session and room.
    """

    id: str
    name: str = field(repr=False)
    caption: str = field(repr=False)
    split: Split
    licence: str | None = None
    included: bool = True
    tags: tuple[str, ...] = field(default=(), repr=False)
    sha256: str = ""


@dataclass(slots=True)
class Collected:
    """What came of the sources: pictures with their pixels in the order of the sources, and what is wrong."""

    pictures: list[tuple[Picture, NDArray[np.uint8]]]
    problems: list[Problem]
    fixed_splits: set[str] = field(default_factory=set)  # ids whose split the metadata (or a folder's name) gave


def collect(
    sources: list[Source],
    problems: list[Problem],
    *,
    name: str,
    place: str,
    size_px: int,
    limit: int,
    chosen_by_hand: bool = False,
) -> Collected:
    """Read at most `limit` pictures; `chosen_by_hand` files are tried whatever their ending. See `ArtSet.from_folder`.

    Time is bounded, too: after 2 × `limit` + 16 files (a folder full of duplicates, say) the rest is left out.
    Raises `ArtError` for settings out of range, and where nothing is usable: it says what was found.
    """
    if not 8 <= size_px <= 1024:
        message = f"size_px is {size_px}; choose 8 to 1024 (the embedded backbone works at 128)."
        raise ArtError(message)
    if limit < 1:
        message = f"limit is {limit}; take at least one picture."
        raise ArtError(message)
    records, found = _records(sources)
    problems = [*problems, *found]
    candidates = _candidates(sources, problems, chosen_by_hand=chosen_by_hand)
    sidecars = {source.key: source for source in sources if suffix_of(source.key) == ".txt"}
    taken: list[tuple[int, Picture, NDArray[np.uint8]]] = []
    names: dict[str, str] = {}  # digest of a file's bytes, or picture id -> the name under which it was taken
    fixed_splits: set[str] = set()
    tried = 0
    for position, source in _spread(candidates, limit):
        if len(taken) == limit or tried == 2 * limit + 16:
            break
        tried += 1
        try:
            picture_id, sha256, pixels = _read(source, names, size_px)
        except Unusable as error:
            problems.append(Problem(source.name, str(error), error.kind))
            continue
        record = records.get(source.key, Record())
        split = record.split or _split_of_folder(source.key)
        if split:
            fixed_splits.add(picture_id)
        caption, more = _caption(source, record, sidecars)
        problems.extend(more)
        licence = cleaned(record.licence, limit=100)[0] if record.licence else None
        picture = Picture(
            picture_id, source.name, caption, split or "train", licence=licence, tags=record.tags, sha256=sha256
        )
        taken.append((position, picture, pixels))
    if left := len(candidates) - tried:
        what = "were taken" if len(taken) == limit else "could be taken"
        reason = f"{len(taken):,} of {len(candidates):,} pictures {what}; {left:,} left out (limit {limit:,})"
        problems.append(Problem(name, reason, "limit"))
    if not taken:
        raise ArtError(_nothing(place, sources, problems))
    taken.sort(key=lambda item: item[0])
    return Collected([(picture, pixels) for _, picture, pixels in taken], problems, fixed_splits)


def content_hash(pixels: NDArray[np.uint8]) -> str:
    """The SHA-256 of RGB pixels and of their size, as `Picture.sha256` has it."""
    shape = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(shape + b":" + pixels.tobytes()).hexdigest()


def _candidates(sources: list[Source], problems: list[Problem], *, chosen_by_hand: bool) -> list[Source]:
    candidates = []
    for source in sources:
        suffix = suffix_of(source.key)
        if suffix in _OTHER_FORMATS:
            reason = f"{suffix} is not read; save it as PNG (accepted: {_ACCEPTED})"
            problems.append(Problem(source.name, reason, "format"))
        elif suffix in PICTURE_SUFFIXES or (chosen_by_hand and not _is_text(source.key)):
            candidates.append(source)
    return candidates


def _read(source: Source, names: dict[str, str], size_px: int) -> tuple[str, str, NDArray[np.uint8]]:
    """Id, hash of the content, and pixels; a second copy is refused by its bytes, or by its pixels."""
    data = source.read(FILE_LIMIT_BYTES)
    content = hashlib.sha256(data).hexdigest()
    if content not in names:
        pixels = read_pixels(data, size_px=size_px)
        picture_id = hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
        names[content] = names.get(picture_id, source.name)
        if picture_id not in names:
            names[picture_id] = source.name
            content_px = pixels if size_px == CONTENT_PX else read_pixels(data, size_px=CONTENT_PX)
            return picture_id, content_hash(content_px), pixels
    message = f"the same picture as {names[content]!r}"
    raise Unusable(message, kind="duplicate")


def _spread(sources: list[Source], limit: int) -> Iterator[tuple[int, Source]]:
    """Evenly spaced ones first, so that a part of a large folder shows all of it; then the rest."""
    first = [i * len(sources) // limit for i in range(limit)] if limit < len(sources) else range(len(sources))
    chosen = set(first)
    for position in (*first, *(i for i in range(len(sources)) if i not in chosen)):
        yield position, sources[position]


def _records(sources: list[Source]) -> tuple[dict[str, Record], list[Problem]]:
    records: dict[str, Record] = {}
    problems: list[Problem] = []
    here = {source.key for source in sources}
    for source in sources:
        if PurePosixPath(source.key).name.lower() not in TABLE_NAMES:
            continue
        try:
            data = source.read(TABLE_LIMIT_BYTES)
        except Unusable as error:
            problems.append(Problem(source.name, str(error), "metadata"))
            continue
        table, found = read_table(source.key.lower(), data)
        problems.extend(Problem(source.name, problem.reason, problem.kind) for problem in found)
        parent = PurePosixPath(source.key).parent
        placed = {(parent / key).as_posix(): record for key, record in table.items()}
        missing = [key for key in placed if key not in here]
        if missing:
            example = cleaned(missing[0], limit=80)[0]
            reason = f"it names {len(missing)} picture(s) that are not here, such as {example!r}"
            problems.append(Problem(source.name, reason, "metadata"))
        records.update(placed)
    return records, problems


def _caption(source: Source, record: Record, sidecars: dict[str, Source]) -> tuple[str, list[Problem]]:
    problems: list[Problem] = []
    text = record.caption
    beside = sidecars.get(PurePosixPath(source.key).with_suffix(".txt").as_posix()) if text is None else None
    if beside is not None:
        try:
            text = decoded(beside.read(_SIDECAR_LIMIT_BYTES))
        except Unusable as error:
            problems.append(Problem(beside.name, f"{error}; the file name is the caption", "metadata"))
    caption, shortened = cleaned(text or "")
    if not caption:
        caption, shortened = cleaned(caption_from_name(source.key))
    if shortened:
        reason = f"its caption of {len(text or source.key):,} characters was shortened to {CAPTION_LIMIT}"
        problems.append(Problem(source.name, reason, "caption"))
    return caption, problems


def _split_of_folder(key: str) -> Split | None:
    """The imagefolder convention: `train/…` and `test/…` (or `validation/…`) are splits."""
    parts = PurePosixPath(key).parts
    return split_named(parts[0]) if len(parts) > 1 else None


def _is_text(key: str) -> bool:
    return suffix_of(key) == ".txt" or PurePosixPath(key).name.lower() in TABLE_NAMES


def _nothing(place: str, sources: list[Source], problems: list[Problem]) -> str:
    endings = Counter(suffix_of(source.key) or "no ending" for source in sources)
    listed = ", ".join(f"{count} × {cleaned(ending, limit=20)[0]}" for ending, count in endings.most_common(5))
    found = f"found {len(sources)} file(s) ({listed})" if sources else "found no files"
    first = [f"\n  {problem}" for problem in problems[:5]]
    more = f"\n  … and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"No usable picture in {place}: {found}. Accepted are {_ACCEPTED}.{''.join(first)}{more}"
