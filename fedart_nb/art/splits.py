"""Which side of the split a folder's name gives: train and test, as data sets on disk have them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FolderSplits", "Split", "class_of_folder", "divided", "split_named"]

Split = Literal["train", "test"]

_TRAIN_NAMES = frozenset({"train", "training"})
_TEST_NAMES = frozenset({"test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation"})
_PLAIN_FOLDERS = frozenset(
    [
        "images",
        "image",
        "imgs",
        "img",
        "pictures",
        "pics",
        "photos",
        "data",
        "dataset",
        "datasets",
        "art",
        "raw",
        "all",
        "files",
        "jpg",
        "jpeg",
        "png",
        "webp",
        "uploads",
        "bilder",
        "fotos",
    ]
)


def split_named(value: object) -> Split | None:
    """Give "train" or "test" for the names that data sets use ("validation" counts as "test"), else None."""
    name = re.sub(r"(?<=[a-z])\d{0,4}$", "", str(value).strip().lower())
    return "train" if name in _TRAIN_NAMES else "test" if name in _TEST_NAMES else None


class FolderSplits:
    """The imagefolder convention, at any depth: `data/train/…`, `images/test/…`, `train_art` beside `test_art`."""

    def __init__(self, keys: Iterable[str]) -> None:
        folders = {parent for key in keys for parent in PurePosixPath(key).parents if parent.name}
        self._paired: dict[str, Split] = {}
        sides: dict[tuple[str, str], dict[Split, list[str]]] = {}
        for folder in folders:
            words = re.split(r"([\W_]+)", _plain(folder.name))
            for i in range(0, len(words), 2):
                side = split_named(words[i])
                if side and len(words) > 1:
                    rest = "".join((*words[:i], "*", *words[i + 1 :]))
                    sides.setdefault((str(folder.parent), rest), {}).setdefault(side, []).append(folder.as_posix())
        for found in sides.values():
            if len(found) == 2:
                self._paired.update((path, side) for side, paths in found.items() for path in paths)

    def of(self, key: str) -> Split | None:
        """The split of the innermost folder that names one, else None."""
        for folder in PurePosixPath(key).parents:
            side = (split_named(_plain(folder.name)) if folder.name else None) or self._paired.get(folder.as_posix())
            if side:
                return side
        return None


def divided(ids: Iterable[str], fixed: Mapping[str, Split], test_fraction: float) -> dict[str, Split]:
    """The side of each picture: as `fixed` says, else by its id (16 hex digits), so the same one everywhere.

    From 5 pictures on at least one is "test"; below 5 all that are free are "train"; one is always "train".
    """
    bound = int(test_fraction * 16**16)
    sides: dict[str, Split] = {key: fixed.get(key) or ("test" if int(key, 16) < bound else "train") for key in ids}
    free = sorted(key for key in sides if key not in fixed) or sorted(sides)
    if len(sides) < 5:
        sides.update(dict.fromkeys((key for key in free if key not in fixed), "train"))
    elif "test" not in sides.values():
        sides[free[0]] = "test"
    if sides and "train" not in sides.values():
        sides[free[-1]] = "train"
    return sides


def class_of_folder(key: str) -> str | None:
    """What the folder's name says of its pictures, where it says something: `10_red fox/IMG_1.png` -> "red fox"."""
    for folder in PurePosixPath(key).parents:
        name = re.sub(r"^\d{1,4}_(?=\D)", "", folder.name)  # the repeats of a trainer's folder
        words = " ".join(re.split(r"[\s_\-]+", name)).strip()
        plain = _plain(name)
        if plain in _PLAIN_FOLDERS or split_named(plain):
            continue
        return words if any(c.isalpha() for c in words) else None
    return None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
