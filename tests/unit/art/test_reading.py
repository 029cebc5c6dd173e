"""One file's bytes become clean pixels, or a problem that says what is wrong."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from fedart_nb.art import ArtSet
from fedart_nb.art.formats import format_of
from fedart_nb.art.problems import Unusable
from fedart_nb.art.reading import png_of, read_pixels
from fedart_nb.errors import ArtError


def halves() -> Image.Image:
    """32 × 16: the left half red, the right half blue."""
    image = Image.new("RGB", (32, 16), "red")
    image.paste((0, 0, 255), (16, 0, 32, 16))
    return image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_picture_is_read_in_every_accepted_format(kind, picture):
    pixels = read_pixels(picture(1, size=(40, 20), kind=kind), size_px=32)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels[0] == 255).all(), "the band above a wide picture is white"
    assert not (pixels[16] == 255).all()


def test_a_picture_of_the_right_size_keeps_its_pixels(picture):
    data = picture(2, size=(32, 32))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(read_pixels(data, size_px=32), np.array(image))


def test_a_tall_picture_is_fitted_whole_between_white_bands(saved):
    pixels = read_pixels(saved(Image.new("RGB", (10, 40), "black")), size_px=64)
    assert (pixels[:, 32] == 0).all(), "nothing is cropped at the top or the bottom"
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 44:] == 255).all()


def test_a_line_one_pixel_high_is_still_a_picture(saved):
    assert (read_pixels(saved(Image.new("RGB", (900, 1), "black")), size_px=16) == 0).any()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_turns_the_picture_upright(kind, saved):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read_pixels(saved(halves(), kind, exif=exif, **options), size_px=32).astype(int)
    top, bottom = pixels[4, 16], pixels[28, 16]
    assert top[0] > 200 > 60 > top[2], "left became top"
    assert bottom[2] > 200 > 60 > bottom[0]


def test_nothing_of_the_metadata_survives_in_a_thumbnail(saved):
    exif = Image.Exif()
    exif[0x010E] = "home of the artist"
    exif[0x013B] = "Mira Secretperson"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.5), 29: "2024:05:06"})
    data = saved(halves(), "JPEG", exif=exif, comment=b"a comment that tells")
    assert b"Mira Secretperson" in data
    art = ArtSet.from_files([("mira.jpg", data)])
    png = art.thumbnail_png(art.pictures[0].id)
    for secret in (b"Mira", b"home of", b"2024:05:06", b"comment that", b"Exif", b"eXIf", b"tEXt", b"iTXt", b"iCCP"):
        assert secret not in png
    assert not any(exif.tobytes()[i : i + 12] in png for i in range(0, len(exif.tobytes()) - 12, 4))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode, saved):
    grey = np.linspace(0, 255, 256).reshape(16, 16)
    if mode == "I;16":
        image = Image.fromarray((grey * 257).astype(np.uint16))
    else:
        image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        image = image.quantize(256) if mode == "P" else image.convert(mode)
    pixels = read_pixels(saved(image, "JPEG" if mode == "CMYK" else "PNG"), size_px=16).astype(int)
    if mode in {"1", "CMYK"}:  # dithered, or compressed with loss
        assert pixels[-2:].mean() - pixels[:2].mean() > 180
    else:
        assert np.abs(pixels - grey[..., None]).max() <= 4


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_white(mode, saved):
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 8, 16))
    pixels = read_pixels(saved(image.convert(mode)), size_px=16)
    assert (pixels[:, 12] == 255).all()
    assert (pixels[:, 3] == 0).all()


def test_a_gif_gives_its_first_frame(saved):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read_pixels(data, size_px=16) == (255, 0, 0)).all()


def test_the_colour_profile_is_applied_and_a_damaged_one_left_aside(saved):
    image = Image.new("RGB", (16, 16), (200, 40, 40))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile at all"):
        pixels = read_pixels(saved(image, icc_profile=profile), size_px=16).astype(int)
        assert np.abs(pixels - (200, 40, 40)).max() <= 2


def test_a_300_megapixel_picture_is_refused_with_its_dimensions_and_without_memory(bomb):
    data = bomb(20000, 15000)
    tracemalloc.start()
    try:
        with pytest.raises(Unusable, match=r"20000 × 15000 pixels \(300 megapixels\)") as refused:
            read_pixels(data, size_px=64)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert refused.value.kind == "too large"


def test_a_webp_that_announces_a_huge_canvas_is_refused_before_it_is_opened():
    side = (16000 - 1).to_bytes(3, "little")
    data = b"RIFF" + (22).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little") + bytes(4) + side + side
    with pytest.raises(Unusable, match="16000 × 16000") as refused:
        read_pixels(data, size_px=64)
    assert refused.value.kind == "too large"


def test_a_gif_that_announces_a_huge_screen_is_refused(picture):
    data = bytearray(picture(3, kind="GIF"))
    data[6:10] = b"\xff\xff\xff\xff"
    with pytest.raises(Unusable, match="65535 × 65535"):
        read_pixels(bytes(data), size_px=64)


def test_text_named_png_is_no_picture():
    with pytest.raises(Unusable, match="no JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC"):
        read_pixels(b"just some words\n", size_px=64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_file_cut_in_half_is_broken(kind, picture):
    data = picture(4, size=(64, 64), kind=kind)
    with pytest.raises(Unusable, match="cannot be decoded") as refused:
        read_pixels(data[: len(data) // 2], size_px=64)
    assert refused.value.kind == "broken"


def test_heic_without_its_library_names_the_pip_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(Unusable, match=r'pip install "fedart-nb\[heic\]"') as refused:
        read_pixels(b"\x00\x00\x00\x18ftypheic" + bytes(64), size_px=64)
    assert refused.value.kind == "library"


def test_heic_is_read_where_its_library_is_there(saved):
    heif = pytest.importorskip("pillow_heif")
    written = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 32), (200, 40, 40))).save(written)
    pixels = read_pixels(written.getvalue(), size_px=64).astype(int)
    assert np.abs(pixels[32, 32] - (200, 40, 40)).max() < 8
    assert (pixels[2] == 255).all()


def test_the_content_decides_the_format_not_the_name(picture):
    art = ArtSet.from_files([("drawing.png", picture(5, kind="JPEG"))])
    assert len(art) == 1


def test_a_thumbnail_has_the_size_asked_for(picture):
    png = png_of(read_pixels(picture(6), size_px=32), size_px=24)
    assert format_of(png) == "PNG"
    assert read_pixels(png, size_px=24).shape == (24, 24, 3)


HEADS = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"RIFF\0\0\0\0WEBPVP8 ")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.tuples(st.sampled_from(HEADS), st.binary(max_size=200)).map(b"".join)),
        max_size=4,
    )
)
def test_random_files_never_crash(files):
    try:
        art = ArtSet.from_files(files, size_px=16)
    except ArtError:
        return
    assert len(art)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF"]), st.data())
def test_damaged_pictures_never_crash(kind, data):
    image = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(3):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = read_pixels(bytes(content), size_px=16)
    except Unusable:
        return
    assert pixels.shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["TIFF", "BMP", "AVIF"])
def test_other_formats_are_read_by_their_content(kind, saved):
    if kind == "AVIF":
        features = pytest.importorskip("PIL.features")
        if not features.check("avif"):
            pytest.skip("this Pillow reads no AVIF")
    data = saved(Image.new("RGB", (32, 32), (200, 40, 40)), kind)
    assert format_of(data) == kind
    assert np.abs(read_pixels(data, size_px=32).astype(int) - (200, 40, 40)).max() < 8
    art = ArtSet.from_files([(f"scan.{kind.lower()}", data), ("really.jpg", saved(halves(), kind))], size_px=32)
    assert (len(art), art.problems) == (2, ())


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_of_several_frames_or_pages_the_first_is_taken_and_it_is_told(kind, saved):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    art = ArtSet.from_files([("a", data)], size_px=16)
    assert (art.pixels(art)[0] == (255, 0, 0)).all()
    (problem,) = art.problems
    assert problem.kind == "picture"
    assert "the first of its 3" in problem.reason


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), False),
        (np.linspace(0, 255, 256, dtype=np.float32), False),
        (np.linspace(-5, 5, 256, dtype=np.float32), True),
        (np.arange(256, dtype=np.int32), False),
        (np.arange(256, dtype=np.int32) * 100_000, True),
        (np.arange(256, dtype=np.uint16) * 257, False),
    ],
)
def test_numbers_of_any_range_become_greys(values, told, saved):
    data = saved(Image.fromarray(values.reshape(16, 16)), "TIFF")
    art = ArtSet.from_files([("a.tif", data)], size_px=16)
    grey = art.pixels(art)[0, ..., 0].reshape(-1).astype(int)
    assert np.abs(grey - np.arange(256)).max() <= 1
    assert bool(art.problems) == told


def test_a_tiff_is_turned_upright_and_its_tiles_are_bounded(saved):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_pixels(saved(halves(), "TIFF", exif=exif), size_px=32).astype(int)
    assert pixels[4, 16, 0] > 200 > pixels[4, 16, 2]
    tags = {256: 16, 257: 16, 258: 8, 259: 5, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiled = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(Unusable, match="tiles of 60000 × 60000") as refused:
        read_pixels(tiled, size_px=16)
    assert refused.value.kind == "too large"


def test_print_colours_and_lab_become_rgb(saved):
    lab = read_pixels(saved(Image.new("LAB", (16, 16), (150, 128, 128)), "TIFF"), size_px=16)
    assert np.ptp(lab.astype(int), axis=2).max() < 8, "a and b are 0: grey"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


LONG = zlib.compress(b"{'node': 1} " * 200_000)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (chunk(b"zTXt", b"workflow\0\0" + LONG), False),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG), False),
        (chunk(b"tEXt", b"prompt\0" + b"x" * 3_000_000), False),
        (chunk(b"tEXt", b"prompt\0x")[:-4] + b"\0\0\0\0", False),
        (chunk(b"vpAg", b"anything"), False),
        (chunk(b"iCCP", b"printer\0\0" + zlib.compress(b"\0" * 2_000_000)), True),
        (chunk(b"iCCP", b"printer\0\0" + zlib.compress(b"\0" * 20_000_000)), True),
        (chunk(b"iCCP", b"printer\0\0no zlib"), True),
    ],
)
def test_a_png_with_large_or_damaged_texts_and_profiles_shows_its_picture(extra, told, saved):
    plain = saved(Image.new("RGB", (16, 16), (200, 30, 30)))
    header = 8 + 25  # the signature and IHDR
    art = ArtSet.from_files([("fox.png", plain[:header] + extra + plain[header:])], size_px=16)
    assert (art.pixels(art) == (200, 30, 30)).all()
    assert bool(art.problems) == told
    assert all("profile" in problem.reason for problem in art.problems)


def test_a_large_profile_is_applied_and_costs_bounded_memory(saved):
    bomb = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * 400_000_000, 9))
    plain = saved(Image.new("RGB", (16, 16), (200, 30, 30)))
    tracemalloc.start()
    try:
        read_pixels(plain[:33] + bomb + plain[33:], size_px=16)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty (0 bytes)"),
        (bytes(5000), "zeros only"),
        (b"%PDF-1.7 ...", "a PDF document"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"  <!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_a_file_that_is_no_picture_is_called_what_it_is(data, words, picture):
    (problem,) = ArtSet.from_files([("fox.png", picture()), ("other.jpg", data)], size_px=16).problems
    assert problem.file == "other.jpg"
    assert words in problem.reason
    assert problem.todo


@pytest.mark.parametrize(
    "ending", ["psd", "svg", "pdf", "cr2", "NEF", "dng", "zip", "7z", "mov", "kra", "tga", "jxl", "eps", "key"]
)
def test_kinds_that_are_not_read_are_listed_with_what_to_do(ending, picture, tmp_path):
    (tmp_path / "fox.png").write_bytes(picture())
    (tmp_path / f"other.{ending}").write_bytes(b"II*\0anything")
    (problem,) = ArtSet.from_folder(tmp_path, size_px=16).problems
    assert problem.kind == "format"
    assert problem.file == f"other.{ending}"
    assert problem.todo


def test_a_picture_that_nobody_would_see_is_told(saved):
    white = saved(Image.new("RGBA", (16, 16), (255, 255, 255, 0)))
    dot = saved(Image.new("RGB", (1, 1), "red"))
    art = ArtSet.from_files([("white.png", white), ("dot.png", dot)], size_px=16)
    assert [(p.file, p.kind) for p in art.problems] == [("white.png", "picture"), ("dot.png", "picture")]
