"""Which picture a written file name means: other slashes, other folders, other capitals, other Unicode forms."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Match", "Names", "composed", "folded", "without_ending"]

_How = Literal["name", "elsewhere", "ending"]


@dataclass(frozen=True, slots=True)
class Match:
    """The picture's key and how it was found: by its "name", in a folder "elsewhere", or with another "ending"."""

    key: str
    how: _How


def composed(name: str) -> str:
    """The name with letters and accents in one (a Mac writes them apart) and forward slashes."""
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def folded(name: str) -> str:
    """The same without regard to capitals."""
    return unicodedata.normalize("NFC", composed(name).casefold())


def without_ending(path: str) -> str:
    """A path without the ending of its file name.

    >>> without_ending("art/cat.jpg.txt"), without_ending(".hidden")
    ('art/cat.jpg', '.hidden')
    """
    head, slash, base = path.rpartition("/")
    dot = base.rfind(".")
    return head + slash + (base[:dot] if dot > 0 else base)


class Names:
    """The keys of all pictures of a set, found under the ways in which people write them.

    >>> Names(["art/Café.png"]).find("ART/caf%C3%A9.PNG").key
    'art/Café.png'
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact: dict[str, list[str]] = defaultdict(list)
        self._folded: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            self._exact[composed(key)].append(key)
            self._folded[folded(key)].append(key)
            base = PurePosixPath(folded(key)).name
            self._by_name[base].append(key)
            self._by_stem[PurePosixPath(base).stem].append(key)

    def find(self, written: str, parent: str = "") -> Match | None:
        """The one picture that a name in a file of the folder `parent` means; None for none, and for several."""
        variants = list(_variants(written))
        for variant in variants:
            for path in (_joined(parent, variant), variant):
                for index, form in ((self._exact, composed), (self._folded, folded)):
                    keys = index.get(form(path), ())
                    if len(keys) == 1:
                        return Match(keys[0], "name")
        for variant in variants:
            match = self._by_tail(variant, parent)
            if match:
                return match
        return None

    def several(self, written: str) -> bool:
        """Whether the name is that of more than one picture, so that `find` cannot tell which is meant."""
        return any(len(self._by_name.get(PurePosixPath(folded(v)).name, ())) > 1 for v in _variants(written))

    def has(self, written: str, parent: str = "") -> bool:
        """Whether a text is the name of a picture here, its ending included."""
        return 0 < len(written) < 1024 and (match := self.find(written, parent)) is not None and match.how != "ending"

    def _by_tail(self, variant: str, parent: str) -> Match | None:
        path = PurePosixPath(folded(variant))
        for index, name, ending in ((self._by_name, path.name, False), (self._by_stem, path.name, True)):
            keys = index.get(name, []) or (index.get(path.stem, []) if ending and _has_picture_ending(path) else [])
            near = [key for key in keys if folded(key).startswith(folded(parent) + "/")] if parent else keys
            best = _longest_tail(path, near or keys)
            if best is not None:
                asked = path.parts[:-1]
                there = PurePosixPath(folded(best)).parts[:-1]
                apart = bool(asked and there) and asked[-len(there) :] != there and there[-len(asked) :] != asked
                return Match(best, "ending" if ending else "elsewhere" if apart else "name")
        return None


def _longest_tail(path: PurePosixPath, keys: Iterable[str]) -> str | None:
    """The key whose last folders agree best with the path's; None where two agree equally well."""
    scores: dict[int, list[str]] = defaultdict(list)
    for key in keys:
        score = 0
        for mine, theirs in zip(
            reversed(path.parts[:-1]), reversed(PurePosixPath(folded(key)).parts[:-1]), strict=False
        ):
            if mine != theirs:
                break
            score += 1
        scores[score].append(key)
    best = scores[max(scores)] if scores else []
    return best[0] if len(best) == 1 else None


def _has_picture_ending(path: PurePosixPath) -> bool:
    return bool(re.fullmatch(r"\.[a-z0-9]{2,5}", path.suffix))


def _joined(parent: str, name: str) -> str:
    return posixpath.normpath(posixpath.join(parent, name)) if name else ""


def _variants(written: str) -> Iterator[str]:
    """The name as written, without quotes and a leading ./, and with %20 and the like resolved."""
    name = written.strip().strip("\"'“”").strip().replace("\\", "/")
    name = re.sub(r"^file:/*(?=/)", "", name, flags=re.IGNORECASE)
    if "://" in name:  # an address: what comes before the name, and a query after it, do not matter
        name = name.partition("://")[2].partition("?")[0]
    plain = re.sub(r"#\d{1,2}$", "", name)  # a caption's number, as in Flickr8k
    for variant in dict.fromkeys((name, plain, unquote(name), unquote(plain))):
        if variant and "\0" not in variant:
            yield posixpath.normpath(variant)
