"""What is wrong with a file, or was not taken as it is: listed for the artist, never fatal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedart_nb.errors import ArtError

__all__ = ["Kind", "Problem", "Unusable"]

Kind = Literal[
    "broken",  # named like a picture, but it cannot be decoded (or read)
    "format",  # a picture format that is not accepted
    "library",  # accepted, but an optional library is missing: `todo` holds the pip line
    "too large",  # more pixels or bytes than the limit; not decoded
    "duplicate",  # the same pixels as a picture that was taken
    "symlink",  # a link that leads out of the folder, or nowhere; not followed
    "folder",  # a folder where files were expected
    "picture",  # the picture was taken, but not all of it: the first frame, colours that had to be guessed
    "caption",  # the picture was taken, its caption was shortened, guessed or cleaned
    "metadata",  # a line of a table of captions or a sidecar text that cannot be used, or not as it is
    "limit",  # left out because the set is full
]

_ROWS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the artist should know: which file (and which rows of it), what was found, and what to do.

    `rows` are counted from 1 as in a text editor (in a JSON list: entries). `todo` is empty where nothing is to do.
    """

    file: str
    reason: str
    kind: Kind
    rows: tuple[int, ...] = ()
    todo: str = ""

    @property
    def place(self) -> str:
        """The rows for people: "row 3", "rows 3, 4 and 9 more", or nothing."""
        if not self.rows:
            return ""
        shown = ", ".join(map(str, self.rows[:_ROWS_SHOWN]))
        more = f" and {len(self.rows) - _ROWS_SHOWN} more" if len(self.rows) > _ROWS_SHOWN else ""
        return f"row{'s' if len(self.rows) > 1 else ''} {shown}{more}"

    def __str__(self) -> str:
        where = f"{self.file}, {self.place}" if self.rows else self.file
        return f"{where}: {self.reason}{'. ' if self.todo else ''}{self.todo}"


class Unusable(ArtError):
    """One file cannot become a picture; `kind` says what sort of problem it is. Turned into a `Problem` by `ArtSet`."""

    def __init__(self, reason: str, *, kind: Kind, todo: str = "") -> None:
        super().__init__(f"{reason}{'. ' if todo else ''}{todo}")
        self.reason, self.todo = reason, todo
        self.kind: Kind = kind

    def problem(self, file: str) -> Problem:
        """The same as an entry of the artist's list."""
        return Problem(file, self.reason, self.kind, todo=self.todo)
