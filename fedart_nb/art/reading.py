"""The bytes of one picture file become clean RGB pixels on white: nothing else of the file is kept.

The size that a file announces is checked before anything is decoded, so a small file cannot ask for gigabytes.
Pillow's own check of that kind is a process-wide setting that only warns up to twice its limit and hides the
dimensions; here each format's reader is opened directly and the limit is ours.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fedart_nb.art.colours import in_srgb, on_white
from fedart_nb.art.formats import content_of, format_of
from fedart_nb.art.pngs import StrippedPng, strip_png
from fedart_nb.art.problems import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["FILE_LIMIT_BYTES", "PIXEL_LIMIT", "Decoded", "png_of", "read_picture", "read_pixels"]

PIXEL_LIMIT = 64_000_000  # pixels; a 64-megapixel RGBA picture takes 256 MB while it is decoded
FILE_LIMIT_BYTES = 64 * 2**20

_TINY_PX = 8  # a picture smaller than this says nothing
_ORIENTATION = 0x0112  # the EXIF tag
_TILE_TAGS = (322, 323)  # TIFF: width and length of a tile, whatever the picture's size
_UPRIGHT = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture's pixels, uint8 (size, size, 3), and what the artist should know: (what was found, what to do)."""

    pixels: NDArray[np.uint8] = field(repr=False)
    remarks: tuple[tuple[str, str], ...] = ()


def read_pixels(data: bytes, *, size_px: int) -> NDArray[np.uint8]:
    """The pixels alone of `read_picture`.

    >>> pixels = read_pixels(Path("drawing.png").read_bytes(), size_px=128)
    """
    return read_picture(data, size_px=size_px).pixels


def read_picture(data: bytes, *, size_px: int) -> Decoded:
    """Decode one picture, uint8 (size_px, size_px, 3): upright, on white, the whole picture fitted in (letterboxed).

    Raises `Unusable` with the kind "format", "library", "too large" or "broken".
    """
    if len(data) > FILE_LIMIT_BYTES:
        message = f"{len(data) / 2**20:.0f} MiB, more than {FILE_LIMIT_BYTES / 2**20:.0f}"
        raise Unusable(message, kind="too large", todo="Save a smaller copy")
    if not data:
        message = "the file is empty (0 bytes), as a cloud drive's placeholder or an unfinished copy is"
        raise Unusable(message, kind="broken", todo="Download or copy it again")
    kind = format_of(data)
    if kind is None:
        reason, todo = content_of(data)
        raise Unusable(reason, kind="broken", todo=todo)
    png = strip_png(data) if kind == "PNG" else None
    try:
        if kind == "WEBP":  # its reader allocates the canvas as soon as it opens a file
            _check_size(_webp_size(data))
        with _READERS[kind](io.BytesIO(png.data if png else data)) as image:
            _check_size(image.size)
            if isinstance(image, TiffImageFile):
                _check_tiles(image)
            return _fitted(image, size_px, png)
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        message = f"it announces far more than the {PIXEL_LIMIT // 10**6} megapixels that are read"
        raise Unusable(message, kind="too large", todo="Save a smaller copy") from error
    except MemoryError as error:
        message = f"there is not enough memory to decode its {len(data) / 2**20:.1f} MiB"
        raise Unusable(message, kind="too large", todo="Save a smaller copy") from error
    except Exception as error:  # foreign bytes: whatever a decoder raises is that file's problem
        message = f"it cannot be decoded ({str(error)[:120] or type(error).__name__})"
        raise Unusable(message, kind="broken", todo="Open it in a viewer; if it shows, save it again as PNG") from error


def png_of(pixels: NDArray[np.uint8], *, size_px: int) -> bytes:
    """A PNG of pixels (height, width, 3), `size_px` wide and high; it holds pixels and nothing else."""
    image = Image.fromarray(pixels)
    if image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _open_heif(file: io.BytesIO) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        message = "HEIC needs one more library"
        todo = 'Run: pip install "fedart-nb[heic]" (or save it as JPEG)'
        raise Unusable(message, kind="library", todo=todo) from error
    image: Image.Image = HeifImageFile(file)  # decodes when pixels are asked for; it has turned the picture upright
    return image


def _open_avif(file: io.BytesIO) -> Image.Image:
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        supported = False
    else:
        supported = AvifImagePlugin.SUPPORTED
    if not supported:
        message = "this Pillow cannot read AVIF"
        raise Unusable(message, kind="library", todo="Run: pip install -U pillow (or save it as PNG)")
    image: Image.Image = AvifImagePlugin.AvifImageFile(file)
    return image


_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "AVIF": _open_avif,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "HEIF": _open_heif,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
}


def _check_size(size: tuple[int, int], what: str = "") -> None:
    width, height = size
    if width * height > PIXEL_LIMIT:
        message = (
            f"{what}{width} × {height} pixels ({width * height / 1e6:.0f} megapixels), "
            f"more than {PIXEL_LIMIT // 10**6} megapixels"
        )
        raise Unusable(message, kind="too large", todo="Save a smaller copy")
    if width < 1 or height < 1:
        message = f"{width} × {height} pixels: there is nothing in it"
        raise Unusable(message, kind="broken")


def _check_tiles(image: TiffImageFile) -> None:
    """A tile is allocated as large as the file says, even in a tiny picture."""
    width, length = (image.tag_v2.get(tag) for tag in _TILE_TAGS)
    if isinstance(width, int) and isinstance(length, int):
        _check_size((width, length), "tiles of ")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP header (RFC 9649, sections 2.5 to 2.7), without opening the file."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _fitted(image: Image.Image, size_px: int, png: StrippedPng | None) -> Decoded:
    announced = image.size
    remarks: list[tuple[str, str]] = []
    frames = png.frames if png else _frames(image)
    if frames > 1:
        what = "page" if isinstance(image, TiffImageFile) else "frame"
        remarks.append((f"the first of its {frames} {what}s was taken", "Save the others as single pictures"))
    image.draft(None, (2 * size_px, 2 * size_px))  # a JPEG is decoded at a fraction of its size; others ignore it
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    profile = png.profile if png else image.info.get("icc_profile")
    clean, found, profiled = on_white(image, profile)
    remarks += found
    longest = max(clean.size)
    if longest != size_px:
        width, height = (max(1, round(side * size_px / longest)) for side in clean.size)
        clean = clean.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if profile and not profiled and image.mode in ("RGB", "RGBA", "P"):
        converted = in_srgb(clean, profile)
        clean, profiled = converted or clean, converted is not None
        if not profiled:
            remarks.append(("its colour profile is damaged and was left out", "Check its colours"))
    if png and png.profile_dropped:
        remarks.append(("its colour profile is damaged or too large and was left out", "Check its colours"))
    if turn is not None:
        clean = clean.transpose(turn)
    canvas = Image.new("RGB", (size_px, size_px), "white")
    canvas.paste(clean, ((size_px - clean.width) // 2, (size_px - clean.height) // 2))
    pixels = np.array(canvas, dtype=np.uint8)
    if max(announced) < _TINY_PX:
        remarks.append((f"only {announced[0]} × {announced[1]} pixels, enlarged", "Use a larger copy"))
    elif (pixels == 255).all():
        what = "is white on transparent ground" if image.has_transparency_data else "is white everywhere"
        remarks.append((f"the picture {what}: nothing of it can be seen", "Give it a coloured ground, or leave it out"))
    return Decoded(pixels, tuple(remarks))


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # noqa: BLE001 - damaged later frames say nothing about the first one
        return 1


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block says nothing about the pixels
        return 1
