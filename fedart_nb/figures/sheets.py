"""The contact sheet: pictures in a grid with their captions, on a white card like a photographer's print."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fedart_nb.figures.drawn import Drawn

__all__ = ["contact_sheet", "png_bytes"]

_GAP_PX, _LINE_PX, _FONT_PX, _LINES = 12, 16, 12, 2


def png_bytes(picture: NDArray[np.uint8], *, size_px: int | None = None) -> bytes:
    """One picture, uint8 (height, width, 3), as PNG; enlarged to `size_px` a side when that is given."""
    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.uint8), "RGB")
    if size_px is not None and image.size != (size_px, size_px):
        image = image.resize((size_px, size_px), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=False)
    return out.getvalue()


def contact_sheet(
    pictures: NDArray[np.uint8],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 6,
    title: str = "",
    size_px: int | None = None,
) -> Drawn:
    """Lay out pictures, uint8 (n, height, width, 3), row by row, each over its caption (two lines, then "…").

    `size_px` is the side of one picture on the sheet (default: as it is, at least 96). Raises ValueError when there is
    no picture, the array has another shape, or captions are missing.
    """
    pictures = np.asarray(pictures)
    if pictures.ndim != 4 or pictures.shape[-1] != 3 or not len(pictures):
        raise ValueError(f"pictures have shape {pictures.shape}; expected (n, height, width, 3) with n of 1 or more")
    if captions is not None and len(captions) != len(pictures):
        raise ValueError(f"{len(captions)} captions for {len(pictures)} pictures; give one for each, or None")
    columns = max(1, min(columns, len(pictures)))
    side = size_px or max(96, pictures.shape[2])
    font = ImageFont.load_default(size=_FONT_PX)
    lines = [_wrapped(text, font, side) for text in captions] if captions is not None else []
    text_px = _LINE_PX * max((len(block) for block in lines), default=0)
    rows = -(-len(pictures) // columns)
    top = 30 if title else 0
    width = columns * (side + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, top + rows * (side + text_px + _GAP_PX) + _GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((_GAP_PX, _GAP_PX), title, fill="#1a1a1a", font=ImageFont.load_default(size=16))
    for i, picture in enumerate(pictures):
        x = _GAP_PX + (i % columns) * (side + _GAP_PX)
        y = top + _GAP_PX + (i // columns) * (side + text_px + _GAP_PX)
        tile = Image.fromarray(picture.astype(np.uint8), "RGB").resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(tile, (x, y))
        for j, line in enumerate(lines[i] if lines else ()):
            draw.text((x, y + side + 3 + j * _LINE_PX), line, fill="#3a3a3a", font=font)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return Drawn(alt=_alt(pictures, captions, title), table=_table(captions), png=out.getvalue())


def _wrapped(text: str, font: Any, width_px: int) -> list[str]:
    """At most `_LINES` lines that fit; the last one ends in "…" when words are left over."""
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < _LINES:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= width_px:
            count += 1
        lines.append(" ".join(words[:count]))
        words = words[count:]
    if words:
        lines[-1] += " …"
    return [_cut(line, font, width_px) for line in lines]


def _cut(line: str, font: Any, width_px: int) -> str:
    if font.getlength(line) <= width_px:
        return line
    line = line.removesuffix(" …")[:200]
    while line and font.getlength(line + "…") > width_px:
        line = line[:-1]
    return line.rstrip() + "…"


def _alt(pictures: NDArray[np.uint8], captions: Sequence[str] | None, title: str) -> str:
    count = f"{len(pictures)} picture{'s' if len(pictures) != 1 else ''}"
    head = f"{title}: {count}" if title else f"Contact sheet of {count}"
    if not captions:
        return head + "."
    named = "; ".join(caption[:60] for caption in captions[:12])
    return f"{head}: {named}{'; and more' if len(captions) > 12 else ''}."


def _table(captions: Sequence[str] | None) -> tuple[tuple[str, ...], ...]:
    if not captions:
        return ()
    return (("picture", "caption"), *((str(i), caption) for i, caption in enumerate(captions, start=1)))
