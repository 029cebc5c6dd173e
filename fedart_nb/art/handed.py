"""Files that a person hands over in code: paths, (name, bytes) pairs, and what upload widgets give."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fedart_nb.art.captions import cleaned
from fedart_nb.art.names import folded
from fedart_nb.art.problems import Problem
from fedart_nb.art.sidecars import is_sidecar_name
from fedart_nb.art.sources import SCAN_LIMIT, Source, path_of, shown_name, source_of_path
from fedart_nb.errors import ArtError

__all__ = ["Handed", "sources_of"]

_Bytes: TypeAlias = bytes | bytearray | memoryview
#: A path, a (name, bytes) pair, one file of an upload widget's value, or what is known to be wrong with another one.
Handed: TypeAlias = tuple[str, _Bytes] | str | os.PathLike[str] | Mapping[str, Any] | Problem

_EXPECTED = 'paths, (name, bytes) pairs such as ("fox.png", data), or the value of ipywidgets.FileUpload'


def sources_of(files: Iterable[Handed] | Handed) -> tuple[list[Source], list[Problem]]:
    """Sources in the order given; a path brings the caption texts beside it along.

    Raises `ArtError` for what is neither a file nor a list of files: it says which kind it is.
    """
    sources: list[Source] = []
    problems: list[Problem] = []
    beside = _Beside()
    seen: set[str] = set()
    for place, file in enumerate(_listed(files)):
        if isinstance(file, Problem):
            problems.append(file)
            continue
        by_path = isinstance(file, str | os.PathLike)
        made = _of_path(file, problems, beside) if by_path else [_of_pair(place, file)]
        for source in made:
            if source.key not in seen or not by_path:
                sources.append(source)
            seen.add(source.key)
    return sources, problems


def _listed(files: Any) -> list[Any]:
    """A list of files, whatever single thing or widget's value was given."""
    if isinstance(files, str | os.PathLike):
        return [files]
    if isinstance(files, Mapping):
        if "content" in files and "name" in files:
            return [files]
        return [  # {name: bytes}, or what FileUpload gave before ipywidgets 8
            (name, value["content"] if isinstance(value, Mapping) and "content" in value else value)
            for name, value in files.items()
        ]
    if isinstance(files, tuple) and len(files) == 2 and isinstance(files[0], str) and isinstance(files[1], _Bytes):
        return [files]
    if isinstance(files, _Bytes) or not isinstance(files, Iterable):
        message = f"files is {_kind(files)}; give {_EXPECTED}."
        raise ArtError(message)
    return list(files)


def _of_pair(place: int, file: Any) -> Source:
    if isinstance(file, Mapping) and "name" in file and "content" in file:
        name, data = file["name"], file["content"]
    elif isinstance(file, tuple | list) and len(file) == 2:
        name, data = file
    else:
        message = f"files[{place}] is {_kind(file)}; give {_EXPECTED}."
        raise ArtError(message)
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if (
        isinstance(data, str)
        and isinstance(name, str)
        and (is_sidecar_name(name) or name.lower().endswith((".csv", "l")))
    ):
        data = data.encode()
    if not isinstance(name, str) or not isinstance(data, _Bytes):
        message = (
            f"files[{place}] is a pair of {_kind(name)} and {_kind(data)}; "
            'expected a name and bytes such as ("fox.png", data).'
        )
        raise ArtError(message)
    content = bytes(data)
    key = name.replace("\\", "/")
    return Source(key, shown_name(key), len(content), lambda: content)


def _of_path(file: str | os.PathLike[str], problems: list[Problem], beside: _Beside) -> list[Source]:
    shown = shown_name(os.path.basename(str(file).rstrip("/")))  # noqa: PTH119 - a text that may be no path at all
    try:
        path = path_of(file)
        if path.is_dir():
            todo = f"Use ArtSet.from_folder({str(file)!r})"
            problems.append(Problem(shown, "a folder, not a file", "folder", todo=todo))
            return []
        if not path.is_file():
            todo = f"Check the path; it is looked up from {cleaned(str(Path.cwd()), limit=200)[0]!r}"
            problems.append(Problem(shown, f"there is no file {str(file)!r}", "broken", todo=todo))
            return []
        made = [source_of_path(path, key=path.as_posix(), name=shown)]
        made += [source_of_path(t, key=t.as_posix(), name=shown_name(t.name)) for t in beside.texts(path)]
    except (OSError, ValueError, ArtError) as error:
        problems.append(Problem(shown, f"it cannot be read ({error})", "broken"))
        return []
    return made


class _Beside:
    """The caption texts that lie beside pictures; each folder is listed once."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[Path]]] = {}

    def texts(self, path: Path) -> list[Path]:
        if is_sidecar_name(path.name):
            return []
        folder = self._folders.get(path.parent)
        if folder is None:
            folder = self._folders[path.parent] = {}
            with os.scandir(path.parent) as listing:
                for _, entry in zip(range(SCAN_LIMIT), listing, strict=False):
                    if is_sidecar_name(entry.name) and not entry.name.startswith(".") and entry.is_file():
                        folder.setdefault(folded(Path(entry.name).stem), []).append(Path(entry.path))
        return sorted({*folder.get(folded(path.stem), []), *folder.get(folded(path.name), [])})


def _kind(value: Any) -> str:
    if isinstance(value, _Bytes):
        return f"{len(bytes(value[:1])) and memoryview(value).nbytes:,} bytes without a name"
    if value is None:
        return "None"
    return f"{type(value).__name__} {value!r:.60}"
