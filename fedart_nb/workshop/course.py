"""The notebooks that ship with the package: where they are, and a work folder with copies of them."""

from __future__ import annotations

import filecmp
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ..errors import FedArtError

__all__ = ["WELCOME", "WorkFolder", "notebook", "notebooks", "prepare"]

#: The page that says what each notebook is for.
WELCOME = "welcome.md"


@dataclass(frozen=True)
class WorkFolder:
    """A folder with the notebooks in it.

    Attributes:
        path: the folder.
        copied: names of what was missing and is there now.
        changed: names of what was there already and differs from the package's; left as it was.
    """

    path: Path
    copied: tuple[str, ...]
    changed: tuple[str, ...]


def notebooks() -> Path:
    """The folder of the notebooks that ship: inside the installed package, or beside it in the repository.

    Raises:
        FedArtError: the installation has none.
    """
    package = Path(str(resources.files("fedart_nb")))
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if (folder / WELCOME).is_file():
            return folder
    raise FedArtError(
        f"{package} holds no notebooks. Install the package again: pip install --force-reinstall fedart-nb"
    )


def notebook(name: str) -> Path:
    """One notebook of `notebooks()`, such as "04-rounds-together.ipynb".

    Raises:
        FedArtError: there is no such notebook; the message lists those that there are.
    """
    path = notebooks() / name
    if not path.is_file():
        known = ", ".join(sorted(found.name for found in notebooks().glob("*.ipynb")))
        raise FedArtError(f"There is no notebook {name!r}; there are {known}.")
    return path


def prepare(folder: str | Path) -> WorkFolder:
    """Copy what `folder` lacks of the welcome page and the notebooks; nothing that is there is written over.

    Raises:
        FedArtError: the folder cannot be made or written.

    Example:
        >>> prepare(tmp_path / "course").copied[0]
        '01-first-adapter.ipynb'
    """
    target = Path(folder).expanduser()
    source = notebooks()
    copied, changed = [], []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted([*source.glob("*.ipynb"), source / WELCOME]):
            mine = target / path.name
            if not mine.exists():
                shutil.copyfile(path, mine)
                copied.append(path.name)
            elif not filecmp.cmp(path, mine, shallow=False):
                changed.append(path.name)
    except OSError as error:
        raise FedArtError(
            f"The notebooks cannot be copied to {str(target)!r} ({error.strerror}). Name a folder that you may write: "
            "fedart lab FOLDER"
        ) from error
    return WorkFolder(target.resolve(), tuple(copied), tuple(changed))
