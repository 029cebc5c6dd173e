"""From sources to pictures: which files are taken, under what caption, and what is wrong with the others."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedart_nb.art.captions import CaptionFrom, cleaned
from fedart_nb.art.formats import (
    ACCEPTED,
    PICTURE_SUFFIXES,
    advice_for,
    is_side_file,
    looks_like_picture,
    suffix_of,
)
from fedart_nb.art.labelling import Label, Labels
from fedart_nb.art.names import folded, without_ending
from fedart_nb.art.problems import Problem, Unusable
from fedart_nb.art.reading import FILE_LIMIT_BYTES, read_picture, read_pixels
from fedart_nb.art.sidecars import is_sidecar_name
from fedart_nb.art.splits import FolderSplits, Split
from fedart_nb.art.tables import TABLE_SUFFIXES, is_table_name
from fedart_nb.errors import ArtError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from fedart_nb.art.sources import Source

__all__ = ["CONTENT_PX", "Collected", "Picture", "Split", "collect", "content_hash", "count_in"]

CONTENT_PX = 128  # the size at which a picture's content is hashed
_CACHES = frozenset({".npz", ".npy", ".safetensors", ".pt", ".ckpt", ".bak", ".tmp", ".py", ".ipynb"})


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as a fact sheet; its pixels stay in the `ArtSet`.

    `id` is the first 16 hex digits of the SHA-256 of its RGB pixels at the set's size; `name` is the file name, for
    people only. Name, caption and tags are in no repr, so that a notebook's output does not hold them by accident.
    `included` is the consent at the moment when this value was made: `ArtSet.pixels` asks the set itself.
    `sha256` (64 hex digits) names the content whatever the set's size, name or caption: it is taken of the RGB pixels
    at 128 px, so the same file has the same one in every set, session and room. `caption_from` says where the caption
    was found: in a "table", a "text file", or, where there is none, in the "folder name" or "file name".
    """

    id: str
    name: str = field(repr=False)
    caption: str = field(repr=False)
    split: Split
    licence: str | None = None
    included: bool = True
    tags: tuple[str, ...] = field(default=(), repr=False)
    sha256: str = ""
    caption_from: CaptionFrom = "file name"


@dataclass(slots=True)
class Collected:
    """What came of the sources: pictures with their pixels in the order of the sources, and what is wrong.

    `relabelled` are new labels of pictures that were here before, by their names.
    """

    pictures: list[tuple[Picture, NDArray[np.uint8]]]
    problems: list[Problem]
    fixed_splits: set[str] = field(default_factory=set)  # ids whose split the metadata (or a folder's name) gave
    relabelled: dict[str, Label] = field(default_factory=dict)
    tried: frozenset[str] = frozenset()  # names of all files that were looked at


def count_in(value: Any, name: str, lowest: int, highest: int, help_: str) -> int:
    """A whole number between two bounds; raises `ArtError` with the value for anything else."""
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if isinstance(value, bool) or not lowest <= number <= highest:
        message = f"{name} is {value!r}; {help_}"
        raise ArtError(message)
    return number


def collect(
    sources: list[Source],
    problems: list[Problem],
    *,
    name: str,
    place: str,
    size_px: int,
    limit: int,
    chosen_by_hand: bool = False,
    here_before: Iterable[str] = (),
) -> Collected:
    """Read at most `limit` pictures; `chosen_by_hand` files are tried whatever their ending. See `ArtSet.from_folder`.

    `here_before` are names of pictures that the set has already: captions for them are taken, too.
    Time is bounded: after 2 × `limit` + 16 files (a folder full of duplicates, say) the rest is left out.
    Raises `ArtError` for settings out of range, and where nothing is usable: it says what was found.
    """
    size_px = count_in(size_px, "size_px", 8, 1024, "choose 8 to 1024 (the embedded backbone works at 128).")
    limit = count_in(limit, "limit", 1, 10**9, "take at least one picture.")
    problems = list(problems)
    candidates = _candidates(sources, problems, chosen_by_hand=chosen_by_hand)
    known = [source.key for source in candidates]
    before = [key for key in here_before if key not in set(known)]
    labels = Labels(sources, [*known, *before], given=chosen_by_hand)
    splits = FolderSplits(known)
    taken: list[tuple[int, Source, tuple[str, str, NDArray[np.uint8]]]] = []
    names: dict[str, str] = {}  # digest of a file's bytes, or picture id -> the name under which it was taken
    tried = 0
    for position, source in _spread(candidates, limit):
        if len(taken) == limit or tried == 2 * limit + 16:
            break
        tried += 1
        try:
            taken.append((position, source, _read(source, names, size_px, problems)))
        except Unusable as error:
            problems.append(error.problem(source.name))
    if left := len(candidates) - tried:
        what = "were taken" if len(taken) == limit else "could be taken"
        reason = f"{len(taken):,} of {len(candidates):,} pictures {what}; {left:,} left out (limit {limit:,})"
        problems.append(Problem(name, reason, "limit", todo="Give a larger limit, or fewer pictures"))
    taken.sort(key=lambda item: item[0])
    found = labels.of([source.key for _, source, _ in taken] + [key for key in before if key in labels.keys])
    problems += labels.problems
    relabelled = {key: label for key in before if (label := found.get(key)) and _was_given(label)}
    if not taken and not relabelled:
        raise ArtError(_nothing(place, sources, problems))
    pictures = []
    fixed_splits: set[str] = set()
    for _, source, (picture_id, sha256, pixels) in taken:
        label = found[source.key]
        split = label.record.split or splits.of(source.key)
        if split:
            fixed_splits.add(picture_id)
        pictures.append((_picture(source.name, picture_id, sha256, label, split), pixels))
    return Collected(pictures, problems, fixed_splits, relabelled, frozenset(source.name for source in sources))


def _was_given(label: Label) -> bool:
    return label.caption_from in {"table", "text file"}


def _picture(name: str, picture_id: str, sha256: str, label: Label, split: Split | None) -> Picture:
    record = label.record
    return Picture(
        id=picture_id,
        name=name,
        caption=label.caption,
        split=split or "train",
        licence=cleaned(record.licence, limit=100)[0] if record.licence else None,
        tags=record.tags,
        sha256=sha256,
        caption_from=label.caption_from,
    )


def content_hash(pixels: NDArray[np.uint8]) -> str:
    """The SHA-256 of RGB pixels and of their size, as `Picture.sha256` has it."""
    shape = "x".join(map(str, pixels.shape)).encode()
    return hashlib.sha256(shape + b":" + pixels.tobytes()).hexdigest()


def _candidates(sources: list[Source], problems: list[Problem], *, chosen_by_hand: bool) -> list[Source]:
    """The files that may be pictures; kinds that are not read are listed with what to do."""
    candidates: list[Source] = []
    others: list[Source] = []
    for source in sources:
        suffix = suffix_of(source.key)
        if is_side_file(source.key):
            continue
        advice = advice_for(source.key)
        if suffix in PICTURE_SUFFIXES:
            candidates.append(source)
        elif advice is not None:
            what, todo = advice
            reason = f"{suffix} is not read" if what == "not read" else f"{suffix} is not read: {what}"
            todo = f"{todo} (accepted: {ACCEPTED})" if what == "not read" else todo
            problems.append(Problem(source.name, reason, "format", todo=todo))
        elif _is_text(source.key):
            continue
        elif chosen_by_hand or looks_like_picture(source.head()):
            candidates.append(source)
        else:
            others.append(source)
    stems = {without_ending(folded(source.key)) for source in candidates}
    for other in others:
        path, suffix = folded(other.key), suffix_of(other.key)
        if suffix and suffix not in _CACHES and without_ending(path) in stems:
            todo = "If it holds the caption, save that as a .txt file of the same name"
            problems.append(Problem(other.name, f"{suffix} beside a picture is not read", "metadata", todo=todo))
    return candidates


def _read(
    source: Source, names: dict[str, str], size_px: int, problems: list[Problem]
) -> tuple[str, str, NDArray[np.uint8]]:
    """Id, hash of the content, and pixels; a second copy is refused by its bytes before it is decoded, or by pixels."""
    data = source.read(FILE_LIMIT_BYTES)
    content = hashlib.sha256(data).hexdigest()
    if content not in names:
        decoded = read_picture(data, size_px=size_px)
        pixels = decoded.pixels
        picture_id = hashlib.sha256(pixels.tobytes()).hexdigest()[:16]
        names[content] = names.get(picture_id, source.name)
        if picture_id not in names:
            names[picture_id] = source.name
            problems += [Problem(source.name, reason, "picture", todo=todo) for reason, todo in decoded.remarks]
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


def _is_text(key: str) -> bool:
    return is_sidecar_name(key) or is_table_name(key) or suffix_of(key) in TABLE_SUFFIXES


def _nothing(place: str, sources: list[Source], problems: list[Problem]) -> str:
    endings = Counter(suffix_of(source.key) or "no ending" for source in sources)
    listed = ", ".join(f"{count} × {cleaned(ending, limit=20)[0]}" for ending, count in endings.most_common(5))
    found = f"found {len(sources)} file(s) ({listed})" if sources else "found no files"
    if not sources and problems:
        found = "nothing could be opened"
    first = [f"\n  {problem}" for problem in problems[:5]]
    more = f"\n  … and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"No usable picture in {place}: {found}. Accepted are {ACCEPTED}.{''.join(first)}{more}"
