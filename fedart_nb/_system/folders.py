"""Where a user's files lie: keys, sessions and ledgers under two roots of the data folder; caches elsewhere."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import platformdirs

__all__ = ["UserFolders", "cache_folder", "data_folder", "folder_name", "same_name", "unique_folder"]

_APP = "fedart_nb"


@dataclass(frozen=True)
class UserFolders:
    """The two roots of what must not be lost: `data` holds it, `state` the second copies that ledgers need.

    >>> folders = UserFolders.of_user()
    >>> folders.data != folders.state
    True
    """

    data: Path
    state: Path

    @classmethod
    def of_user(cls) -> UserFolders:
        """This user's: `FEDART_HOME` and its folder `state` if that variable is set, else what the system says."""
        if home := os.environ.get("FEDART_HOME"):
            return cls(Path(home).expanduser(), Path(home).expanduser() / "state")
        data = platformdirs.user_data_path(_APP, appauthor=False)
        state = platformdirs.user_state_path(_APP, appauthor=False)
        return cls(data, state if state != data else Path.home() / ".local" / "state" / _APP)

    @classmethod
    def within(cls, folder: Path) -> UserFolders:
        """Both in one folder, for a session that is thrown away as a whole."""
        return cls(folder / "data", folder / "state")


def data_folder() -> Path:
    """Where keys, sessions, receipts and ledgers lie; not created here."""
    return UserFolders.of_user().data


def cache_folder() -> Path:
    """Where files lie that can be made again at any time: `FEDART_HOME` if set; not created here."""
    home = os.environ.get("FEDART_HOME")
    return Path(home).expanduser() if home else platformdirs.user_cache_path(_APP, appauthor=False)


def same_name(name: str) -> str:
    r"""A name in the form in which it is compared: composed (NFC), without space around it.

    >>> same_name("Ame\u0301lie ") == same_name("Am\u00e9lie")
    True
    """
    return unicodedata.normalize("NFC", name).strip()


def folder_name(name: str) -> str:
    """A person's name as part of a file name: letters, digits, - and _ stay. Different names may become the same.

    >>> folder_name("Ada Lovelace")
    'Ada_Lovelace'
    """
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]


def unique_folder(name: str) -> str:
    """A name as a folder name that no other name has, on any file system; the same in every Unicode form.

    >>> unique_folder("Ada Lovelace")
    'Ada_Lovelace-06e1ae2c32ee'
    >>> unique_folder("Ada Lovelace") == unique_folder("Ada_Lovelace")
    False
    """
    name = same_name(name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{folder_name(name)[:30].strip('_') or 'name'}-{digest}"
