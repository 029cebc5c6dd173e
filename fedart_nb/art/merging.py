"""More pictures for a set that has some: nothing that is there is lost, and identical pictures are recognised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fedart_nb.art.captions import cleaned
from fedart_nb.art.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fedart_nb.art.collecting import Collected, Picture
    from fedart_nb.art.labelling import Label

__all__ = ["Merge", "merged"]

_GIVEN = frozenset({"table", "text file"})


@dataclass(frozen=True, slots=True)
class Merge:
    """`kept` are the pictures of before in their order, perhaps with new captions; `added` are new ones with pixels."""

    kept: tuple[Picture, ...]
    added: tuple[tuple[Picture, NDArray[np.uint8]], ...]
    problems: tuple[Problem, ...]
    fixed_splits: frozenset[str]


def merged(pictures: Sequence[Picture], problems: Sequence[Problem], found: Collected) -> Merge:
    """Bring together the pictures of a set and what was found in other files."""
    by_id = {picture.id: picture for picture in pictures}
    fixed = set(found.fixed_splits)
    duplicates: list[Problem] = []
    added = []
    for picture, pixels in found.pictures:
        there = by_id.get(picture.id)
        if there is None:
            added.append((picture, pixels))
            continue
        by_id[picture.id] = _relabelled_by(there, picture, fixed=picture.id in found.fixed_splits)
        if there.name != picture.name:
            reason = f"the same picture as {there.name!r}, which is here already"
            duplicates.append(Problem(picture.name, reason, "duplicate"))
    for key, picture in by_id.items():
        label = found.relabelled.get(picture.name)
        if label is not None:
            by_id[key] = _labelled(picture, label)
            fixed |= {key} if label.record.split else set()
    remaining = [problem for problem in problems if problem.file not in found.tried]
    return Merge(
        tuple(by_id[picture.id] for picture in pictures),
        tuple(added),
        (*remaining, *found.problems, *duplicates),
        frozenset(fixed),
    )


def _relabelled_by(there: Picture, again: Picture, *, fixed: bool) -> Picture:
    """A picture that is here and comes again: what tables and texts say now counts, a file name alone does not."""
    if again.caption_from in _GIVEN:
        there = replace(there, caption=again.caption, caption_from=again.caption_from)
    return replace(
        there,
        split=again.split if fixed else there.split,
        licence=again.licence or there.licence,
        tags=again.tags or there.tags,
    )


def _labelled(there: Picture, label: Label) -> Picture:
    record = label.record
    return replace(
        there,
        caption=label.caption,
        caption_from=label.caption_from,
        split=record.split or there.split,
        licence=cleaned(record.licence, limit=100)[0] if record.licence else there.licence,
        tags=record.tags or there.tags,
    )
