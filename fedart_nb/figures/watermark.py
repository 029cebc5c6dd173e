"""The mark on every reconstruction, so that nobody takes it for the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["watermarked"]

_TEXT = "RECONSTRUCTION"


def watermarked(picture: NDArray[np.uint8], *, text: str = _TEXT) -> NDArray[np.uint8]:
    """The picture, uint8 (h, w, 3), with a line of text along its lower edge, as tall as it must be to be read.

    The picture itself stays as it came out: only the lowest rows are written over.

    >>> watermarked(np.zeros((64, 64, 3), np.uint8)).any()
    np.True_
    """
    image = Image.fromarray(np.ascontiguousarray(picture, np.uint8), "RGB")
    width, height = image.size
    tall = max(7, height // 12)
    font = ImageFont.load_default(size=tall)
    while tall > 5 and font.getlength(text) > width - 4:
        tall -= 1
        font = ImageFont.load_default(size=tall)
    draw = ImageDraw.Draw(image, "RGBA")
    draw.rectangle([0, height - tall - 4, width, height], fill=(0, 0, 0, 150))
    draw.text(((width - font.getlength(text)) / 2, height - tall - 3), text, fill=(255, 255, 255, 255), font=font)
    return np.asarray(image, np.uint8)
