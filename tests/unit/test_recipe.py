"""A picture carries its recipe, all of it and nothing else; a recipe that does not fit is refused with its value."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from fedart_nb import Recipe, __version__, read_recipe
from fedart_nb.art.provenance import save_picture
from fedart_nb.errors import ArtError

RECIPE = Recipe(
    prompt="un café — 猫 <b>\n",
    seed=2**31 - 1,
    steps=20,
    guidance=5.0,
    size_px=128,
    backbone_sha256="b" * 64,
    shared=0.75,
    personal=1.0,
    shared_sha256="a" * 64,
    personal_sha256="c" * 64,
)
PICTURE = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)


def png_with(path, text, keyword="fedart-recipe"):
    note = PngImagePlugin.PngInfo()
    note.add_itxt(keyword, text)
    Image.fromarray(PICTURE).save(path, pnginfo=note)
    return path


def test_a_saved_picture_reads_back_with_its_recipe_and_its_pixels(tmp_path):
    path = save_picture(tmp_path / "new" / "cat.png", PICTURE, RECIPE)
    assert read_recipe(path) == RECIPE
    assert read_recipe(path).version == __version__
    np.testing.assert_array_equal(np.asarray(Image.open(path)), PICTURE)


def test_the_file_holds_the_recipe_and_no_other_metadata(tmp_path):
    path = save_picture(tmp_path / "cat.png", PICTURE, RECIPE)
    with Image.open(path) as image:
        assert list(image.info) == ["fedart-recipe"]
        said = json.loads(image.info["fedart-recipe"])
    assert said == {"format": 1, **asdict(RECIPE)}
    assert said["artist"] == ""
    assert str(tmp_path).encode() not in path.read_bytes()


def test_a_recipe_of_before_there_was_an_anchor_reads_as_not_anchored(tmp_path):
    said = {"format": 1, **asdict(RECIPE)}
    del said["anchored"]
    assert read_recipe(png_with(tmp_path / "old.png", json.dumps(said))) == RECIPE


def test_a_file_that_exists_is_never_written_over(tmp_path):
    path = tmp_path / "cat.png"
    path.write_text("mine")
    with pytest.raises(ArtError, match=r"cat\.png' exists already"):
        save_picture(path, PICTURE, RECIPE)
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtError, match=r"Cannot write .*file/cat\.png"):
        save_picture(tmp_path / "file" / "cat.png", PICTURE, RECIPE)


def test_a_picture_without_a_recipe_and_what_is_no_picture_are_told_apart(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "plain.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ArtError, match="carries no recipe"):
        read_recipe(tmp_path / "plain.png")
    with pytest.raises(ArtError, match="it is no PNG file"):
        read_recipe(tmp_path / "text.png")
    with pytest.raises(ArtError, match="No such file"):
        read_recipe(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "1"}, "seed is '1'; expected int"),
        ({"seed": True}, "seed is True"),
        ({"prompt": None}, "prompt is None; expected str"),
        ({"guidance": float("nan")}, "guidance is nan; expected a number below"),
        ({"shared": 10**400}, "shared is 10+; expected a number below"),
        ({"personal_sha256": []}, r"personal_sha256 is \[\]"),
        ({"anchored": 1}, "anchored is 1; expected bool"),
        ({"format": 2}, "format 2; this version reads 1"),
        ({"prompt": "x" * 40_000}, "expected at most 32,768"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_with_its_value(tmp_path, change, said):
    text = json.dumps({"format": 1, **asdict(RECIPE), **change})
    with pytest.raises(ArtError, match=said):
        read_recipe(png_with(tmp_path / "cat.png", text))


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 20_000])
def test_a_recipe_that_is_no_json_object_is_refused(tmp_path, text):
    with pytest.raises(ArtError, match="recipe"):
        read_recipe(png_with(tmp_path / "cat.png", text))
