"""The recipe of a picture: everything that determines its pixels, carried inside the PNG file itself."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from .. import __version__
from .._system.files import user_path
from ..errors import ArtError

__all__ = ["Recipe", "read_recipe", "save_picture"]

_KEYWORD = "fedart-recipe"
_FORMAT = 1
_LIMIT_CHARACTERS = 32_768
_LARGEST = 1_000_000  # guidance and weights are small numbers
_TYPES: dict[str, tuple[Any, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


@dataclass(frozen=True)
class Recipe:
    """What a picture was drawn from; on one machine, with its adapters and backbone, equal recipes give equal pixels.

    `shared` and `personal` are the adapters' weights; a weight of 0 means that the adapter took no part, and its
    SHA-256 is then empty. `anchored` says whether drawing was tied to the bare backbone (`session.pictures`); files of
    before there was such a thing lack it, which means no. `version` is the package's. It holds no path, and no name but
    the one in `artist`, which is empty unless the artist signs.

    Example:
        >>> *_, drawn = session.pictures(
        ...     [recipe.prompt], seeds=[recipe.seed], steps=recipe.steps, guidance=recipe.guidance,
        ...     shared=recipe.shared, personal=recipe.personal, anchored=recipe.anchored)
    """

    prompt: str
    seed: int
    steps: int
    guidance: float
    size_px: int
    backbone_sha256: str
    shared: float = 0.0
    personal: float = 0.0
    shared_sha256: str = ""
    personal_sha256: str = ""
    version: str = __version__
    artist: str = ""
    anchored: bool = False

    def to_json(self) -> str:
        """The recipe as one JSON object."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Read what `to_json` wrote; raises `ArtError` with the first thing that does not fit."""
        if len(text) > _LIMIT_CHARACTERS:
            raise ArtError(f"The recipe has {len(text):,} characters; expected at most {_LIMIT_CHARACTERS:,}.")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtError(f"The recipe is no JSON ({error}). It was changed after it was saved.") from error
        if not isinstance(said, dict) or said.get("format") != _FORMAT:
            version = said.get("format") if isinstance(said, dict) else type(said).__name__
            raise ArtError(f"The recipe has format {version!r}; this version reads {_FORMAT}. Update fedart-nb.")
        values: dict[str, Any] = {}
        for field in fields(cls):
            value: Any = said.get(field.name, False if field.name == "anchored" else None)
            known = _TYPES[str(field.type)]
            if not isinstance(value, known) or (isinstance(value, bool) and field.type != "bool"):
                raise ArtError(
                    f"The recipe's {field.name} is {value!r}; expected {' or '.join(t.__name__ for t in known)}."
                )
            if field.type == "float" and not -_LARGEST < value < _LARGEST:  # true for a nan too
                raise ArtError(f"The recipe's {field.name} is {value!r}; expected a number below {_LARGEST:,}.")
            values[field.name] = float(value) if field.type == "float" else value
        return cls(**values)


def save_picture(path: str | Path, picture: NDArray[np.uint8], recipe: Recipe) -> Path:
    """Write a picture, uint8 (height, width, 3), as a new PNG file that carries its recipe and no other metadata.

    Raises:
        ArtError: the file exists already, or its folder cannot be written to.

    Example:
        >>> save_picture("fox.png", picture, recipe)
        >>> read_recipe("fox.png") == recipe
        True
    """
    path = user_path(path)
    if path.exists():
        raise ArtError(f"{str(path)!r} exists already, and is kept. Choose another name.")
    note = PngImagePlugin.PngInfo()
    note.add_itxt(_KEYWORD, recipe.to_json())
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture, dtype=np.uint8), "RGB").save(out, "PNG", pnginfo=note)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(out.getvalue())
    except OSError as error:
        raise ArtError(f"Cannot write {str(path)!r}: {error.strerror}. Choose another folder.") from error
    return path


def read_recipe(path: str | Path) -> Recipe:
    """The recipe inside a PNG file that `save_picture` or a StylePanel wrote; its pixels are not decoded.

    Raises:
        ArtError: no PNG file, no recipe in it, or a recipe that does not fit its format.
    """
    try:
        with Image.open(user_path(path), formats=["PNG"]) as image:
            text = image.info.get(_KEYWORD)
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        said = getattr(error, "strerror", None) or "it is no PNG file"
        raise ArtError(f"Cannot read a recipe from {str(path)!r}: {said}.") from error
    if not isinstance(text, str):
        raise ArtError(f"{str(path)!r} carries no recipe. Only pictures saved by fedart-nb do, and only as PNG files.")
    return Recipe.from_json(str(text))
