"""The bytes of one picture file become clean RGB pixels on white: nothing else of the file is kept.

The size that a file announces is checked before anything is decoded, so a small file cannot ask for gigabytes.
Pillow's own check of that kind is a process-wide setting that only warns up to twice its limit and hides the
dimensions; here each format's reader is opened directly and the limit is ours.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fedart_nb.art.problems import Unusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["FILE_LIMIT_BYTES", "PIXEL_LIMIT", "format_of", "png_of", "read_pixels"]

PIXEL_LIMIT = 64_000_000  # pixels; a 64-megapixel RGBA picture takes 256 MB while it is decoded
FILE_LIMIT_BYTES = 64 * 2**20

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevx", b"mif1", b"msf1"})
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {  # EXIF orientation -> what makes the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def format_of(data: bytes) -> str | None:
    """Say "JPEG", "PNG", "WEBP", "GIF" or "HEIF" by the first bytes (file names lie), else None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return None


def read_pixels(data: bytes, *, size_px: int) -> NDArray[np.uint8]:
    """Decode one picture, uint8 (size_px, size_px, 3): upright, on white, the whole picture fitted in (letterboxed).

    Raises `Unusable` with the kind "format", "library", "too large" or "broken".

        >>> pixels = read_pixels(Path("drawing.png").read_bytes(), size_px=128)
    """
    if len(data) > FILE_LIMIT_BYTES:
        message = f"{len(data) / 2**20:.0f} MiB, more than {FILE_LIMIT_BYTES / 2**20:.0f}: save a smaller copy"
        raise Unusable(message, kind="too large")
    kind = format_of(data)
    if kind is None:
        message = "its content is no JPEG, PNG, WebP, GIF or HEIC picture, whatever its name says"
        raise Unusable(message, kind="broken")
    try:
        if kind == "WEBP":  # its reader allocates the canvas as soon as it opens a file
            _check_size(_webp_size(data))
        with _READERS[kind](io.BytesIO(data)) as image:
            _check_size(image.size)
            return _fitted(image, size_px)
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        message = f"it announces far more than the {PIXEL_LIMIT // 10**6} megapixels that are read"
        raise Unusable(message, kind="too large") from error
    except Exception as error:  # foreign bytes: whatever a decoder raises is that file's problem
        message = f"it cannot be decoded ({str(error)[:120] or type(error).__name__}): save it again as PNG"
        raise Unusable(message, kind="broken") from error


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
        message = 'HEIC needs one more library: pip install "fedart-nb[heic]" (or save it as JPEG)'
        raise Unusable(message, kind="library") from error
    image: Image.Image = HeifImageFile(file)  # decodes when pixels are asked for; it has turned the picture upright
    return image


_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "GIF": GifImageFile,
    "HEIF": _open_heif,
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
}


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width * height > PIXEL_LIMIT:
        message = (
            f"{width} × {height} pixels ({width * height / 1e6:.0f} megapixels), "
            f"more than {PIXEL_LIMIT // 10**6} megapixels: save a smaller copy"
        )
        raise Unusable(message, kind="too large")
    if width < 1 or height < 1:
        message = f"{width} × {height} pixels: there is nothing in it"
        raise Unusable(message, kind="broken")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP header (RFC 9649, sections 2.5 to 2.7), without opening the file."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def _fitted(image: Image.Image, size_px: int) -> NDArray[np.uint8]:
    image.draft(None, (2 * size_px, 2 * size_px))  # a JPEG is decoded at a fraction of its size; others ignore it
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P") else None
    clean = _on_white(image)
    longest = max(clean.size)
    if longest != size_px:
        width, height = (max(1, round(side * size_px / longest)) for side in clean.size)
        clean = clean.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if profile:
        clean = _in_srgb(clean, profile)
    if turn is not None:
        clean = clean.transpose(turn)
    canvas = Image.new("RGB", (size_px, size_px), "white")
    canvas.paste(clean, ((size_px - clean.width) // 2, (size_px - clean.height) // 2))
    return np.array(canvas, dtype=np.uint8)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block says nothing about the pixels
        return 1


def _on_white(image: Image.Image) -> Image.Image:
    """Any mode to RGB; what is transparent becomes white."""
    if image.mode.startswith("I"):  # 16 bits a channel, kept in 16 or 32
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        return ground.convert("RGB")
    return image.convert("RGB")


def _in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The colours that the file's profile means (phones write Display P3); a damaged profile is left aside."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted: Any = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if converted is None else converted
