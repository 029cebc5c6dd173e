"""What is wrong with a file that cannot be used as it is: listed for the artist, never fatal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedart_nb.errors import ArtError

__all__ = ["Kind", "Problem", "Unusable"]

Kind = Literal[
    "broken",  # named like a picture, but it cannot be decoded (or read)
    "format",  # a picture format that is not accepted
    "library",  # accepted, but an optional library is missing: the reason holds the pip line
    "too large",  # more pixels or bytes than the limit; not decoded
    "duplicate",  # the same pixels as a picture that was taken
    "symlink",  # a link that leads out of the folder, or nowhere; not followed
    "caption",  # the picture was taken, its caption was shortened
    "metadata",  # a line of metadata.csv, metadata.jsonl or a sidecar text that cannot be used
    "limit",  # left out because the set is full
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the artist should know: which file, why (a sentence), and what kind of problem it is."""

    file: str
    reason: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


class Unusable(ArtError):
    """One file cannot become a picture; `kind` says what sort of problem it is. Turned into a `Problem` by `ArtSet`."""

    def __init__(self, reason: str, *, kind: Kind) -> None:
        super().__init__(reason)
        self.kind: Kind = kind
