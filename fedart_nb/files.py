"""Small files written so that nothing is lost and nobody else reads them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["folder_name", "write_private"]


def write_private(path: Path, data: bytes) -> None:
    """Write `data` atomically to a file that only its owner may read; a crash leaves the old file or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def folder_name(name: str) -> str:
    """A person's name as a folder name: letters, digits, - and _ stay.

    >>> folder_name("Ada Lovelace")
    'Ada_Lovelace'
    """
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
