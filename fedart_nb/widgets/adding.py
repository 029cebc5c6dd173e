"""What becomes of the pictures that an artist has, when more are chosen: kept unless the artist says otherwise."""

from __future__ import annotations

from typing import Any

from fedart_nb.errors import ArtError

__all__ = ["ADD", "REPLACE", "check_sample", "is_own", "outcome"]

ADD = "add"
REPLACE = "replace"


def is_own(art: Any) -> bool:
    """Whether these are pictures of the artist's own; sample art can be loaded again at any time."""
    return art is not None and len(art) > 0 and not getattr(art, "is_sample", False)


def check_sample(art: Any, how: str) -> None:
    """Sample art is not mixed with own pictures, and takes their place only when told to. Raises `ArtError`."""
    if is_own(art) and how != REPLACE:
        raise ArtError(
            f"{_pictures(len(art))} of your own {'are' if len(art) > 1 else 'is'} loaded. Sample art would take "
            "their place: choose “Replace the pictures below” first, or load_sample(..., replace=True)."
        )


def outcome(before: Any, after: Any) -> str:
    """What the last loading did, in a sentence."""
    if before is None or not len(before):
        return f"{_pictures(len(after))} loaded."
    old = {picture.id: picture for picture in before.pictures}
    new = [picture for picture in after.pictures if picture.id not in old]
    kept = [picture for picture in after.pictures if picture.id in old]
    if not kept:
        why = "The sample art gave way" if not is_own(before) else f"{_pictures(len(old))} of before were replaced"
        return f"{_pictures(len(after))} loaded. {why}."
    gone = len(old) - len(kept)
    renamed = sum(picture.caption != old[picture.id].caption for picture in kept)
    changes = [f"{_pictures(len(new))} added to {len(kept):,}" if new else "No new picture: all were here already"]
    if gone:
        changes = [f"{_pictures(len(after))} loaded; {_pictures(gone)} of before were replaced"]
    if renamed:
        changes.append(f"{renamed:,} caption{'s' if renamed > 1 else ''} changed")
    return f"{'; '.join(changes)}."


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' if count != 1 else ''}"
