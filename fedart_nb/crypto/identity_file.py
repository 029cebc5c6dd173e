"""The signing key of a folder: read, made once, and replaced in the open where it is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .._system.files import set_aside
from ..errors import StorageError, WireError
from .identity import Identity

__all__ = ["identity_in"]


def identity_in(folder: Path, belongings: Sequence[str]) -> tuple[Identity, str]:
    """The signing key in a folder, made if there is none; a damaged one is kept, and a sentence tells of the new one.

    `belongings`: files and folders there that mean nothing to a new identity; they are set aside with the old one.

    Raises:
        StorageError: it cannot be read or written.
    """
    path = folder / "identity.key"
    try:
        return Identity.load_or_create(path), ""
    except WireError:
        damaged = set_aside(path)
    except OSError as error:
        raise StorageError(f"Cannot read or make {str(path)!r}: {error.strerror or error}.") from error
    former = [set_aside(one, "former").name for one in map(folder.joinpath, belongings) if one.exists()]
    kept = f" What only the former identity can use is kept beside it: {', '.join(former)}." if former else ""
    return Identity.load_or_create(path), (
        f"{path.name} in {str(folder)!r} is damaged, and is kept as {damaged.name}. There is a new identity now: "
        "others see a new person, who has to be admitted again, and the words have to be compared again. If you have a "
        f"copy of the right file, shut this kernel down and put it back.{kept}"
    )
