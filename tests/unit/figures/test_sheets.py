"""A contact sheet holds the pixels it was given, and tells what they are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fedart_nb.figures import Drawn, contact_sheet, png_bytes


def pictures(n: int, side: int = 96) -> np.ndarray:
    return np.stack([np.full((side, side, 3), 20 * (i + 1), np.uint8) for i in range(n)])


def test_the_pictures_are_on_the_sheet_pixel_by_pixel():
    drawn = contact_sheet(pictures(3), columns=2)
    sheet = np.asarray(Image.open(io.BytesIO(drawn.png)))
    assert (sheet[12:108, 12:108] == 20).all()
    assert (sheet[12:108, 120:216] == 40).all()
    assert (sheet[120:216, 12:108] == 60).all()


def test_captions_are_in_the_alt_text_and_the_table():
    drawn = contact_sheet(pictures(2), ["a red fox", "a <b>tree</b>"])
    assert "a red fox; a <b>tree</b>" in drawn.alt
    assert drawn.table[2] == ("2", "a <b>tree</b>")
    assert "<b>" not in drawn.to_html()


def test_a_very_long_caption_is_cut_to_the_width_of_its_picture():
    short, long = (contact_sheet(pictures(1), [text]) for text in ("word " * 100, "x" * 10_000))
    assert Image.open(io.BytesIO(short.png)).size == (120, 12 + 96 + 32 + 12)
    assert Image.open(io.BytesIO(long.png)).width == 120


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (8, 8, 3), (2, 8, 8, 4)])
def test_an_array_of_another_shape_is_refused_by_its_shape(shape):
    with pytest.raises(ValueError, match=r"expected \(n, height, width, 3\)"):
        contact_sheet(np.zeros(shape, np.uint8))


def test_missing_captions_are_refused():
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        contact_sheet(pictures(2), ["one"])


def test_png_bytes_keeps_the_pixels():
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(png_bytes(picture)))) == picture).all()


def test_a_drawing_escapes_its_alt_text():
    assert 'alt="&lt;script&gt;"' in Drawn(alt="<script>", png=b"").to_html()
