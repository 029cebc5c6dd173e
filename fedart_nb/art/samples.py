"""The ten sample artists that ship with the package, each in a folder with its own licence and record."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from fedart_nb.errors import ArtError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SampleInfo", "sample_folder", "sample_infos"]


@dataclass(frozen=True, slots=True)
class SampleInfo:
    """One sample artist: `title` says what it looks like, `licence` is an SPDX id, `count` the number of pictures."""

    title: str
    artist: str
    licence: str
    count: int
    share_alike: bool


def sample_infos() -> dict[str, SampleInfo]:
    """Every sample artist by name, in the order of names."""
    text = (resources.files("fedart_nb.art") / "samples" / "index.json").read_text(encoding="utf-8")
    return {name: SampleInfo(**info) for name, info in sorted(json.loads(text).items())}


@contextmanager
def sample_folder(name: str) -> Iterator[Path]:
    """The folder of one sample artist, for as long as the context is open; raises `ArtError` for an unknown name."""
    if not isinstance(name, str) or name not in sample_infos():
        message = f"There is no sample art {name!r}; choose one of {', '.join(sample_infos())}."
        raise ArtError(message)
    with resources.as_file(resources.files("fedart_nb.art") / "samples" / name) as folder:
        yield folder
