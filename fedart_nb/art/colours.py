"""Colours of any kind become RGB on white: greys of 16 bits, palettes, print colours, numbers without a range."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, ImageCms

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["in_srgb", "on_white"]


def on_white(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, list[tuple[str, str]], bool]:
    """Any mode to RGB; what is transparent becomes white.

    Returns:
        The picture, remarks (what was found, what to do), and whether the colour profile has been applied already.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return (*_from_numbers(image), True)
    if image.mode == "CMYK" and profile:
        converted = in_srgb(image, profile)
        if converted is not None:
            return converted, [], True
    if image.mode == "LAB":
        converted = _in_srgb_from(image, ImageCms.createProfile("LAB"))
        if converted is not None:
            return converted, [], True
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        ground.alpha_composite(layer)
        return ground.convert("RGB"), [], False
    return image.convert("RGB"), [], False


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The colours that the file's profile means (phones write Display P3); None where the profile is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return _in_srgb_from(image, source)


def _in_srgb_from(image: Image.Image, source: Any) -> Image.Image | None:
    try:
        made: Any = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return cast("Image.Image | None", made)


def _from_numbers(image: Image.Image) -> tuple[Image.Image, list[tuple[str, str]]]:
    """Greys that are whole numbers of 16 or 32 bits, or floats: whose range a file does not always say."""
    values: NDArray[Any] = np.asarray(image)
    if image.mode.startswith("I;16") or image.format == "PNG":  # 16 bits, kept in 16 or 32
        return _grey(values.astype(np.uint32) >> 8), []
    finite = values[np.isfinite(values)] if image.mode == "F" else values
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    numbers = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=high, neginf=low)
    if low >= 0:
        for top in (1.0, 255.0, 65535.0):
            if high <= top and not (image.mode != "F" and top == 1.0):
                return _grey(numbers * (255.0 / top)), []
    stretched = (numbers - low) * (255.0 / (high - low)) if high > low else numbers * 0
    return _grey(stretched), [
        (f"its brightness runs from {low:g} to {high:g}; it was stretched to black and white", "Check how it looks")
    ]


def _grey(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
