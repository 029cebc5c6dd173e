"""An art set lists what it cannot use, keeps the artist's consent, and divides itself the same way every time."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from fedart_nb.art import ArtSet, Picture
from fedart_nb.art.captions import CAPTION_LIMIT
from fedart_nb.errors import ArtError


def kinds(art: ArtSet) -> list[str]:
    return [problem.kind for problem in art.problems]


def captions(art: ArtSet) -> dict[str, str]:
    return {picture.name: picture.caption for picture in art}


@pytest.fixture
def ten(picture) -> ArtSet:
    return ArtSet.from_files([(f"{i}.png", picture(i)) for i in range(10)], size_px=16)


def test_a_folder_is_read_with_the_folders_in_it(tmp_path, picture):
    (tmp_path / "ink").mkdir()
    (tmp_path / "b.png").write_bytes(picture(1))
    (tmp_path / "ink" / "a.webp").write_bytes(picture(2, kind="WEBP"))
    art = ArtSet.from_folder(tmp_path)
    assert [p.name for p in art] == ["b.png", "ink/a.webp"]
    assert art.name == tmp_path.name
    assert art.pixels(art).shape == (2, 128, 128, 3)


def test_an_empty_folder_says_what_was_found_and_what_is_accepted(tmp_path):
    (tmp_path / "notes.md").write_text("no picture")
    with pytest.raises(ArtError, match=r"found 1 file\(s\) \(1 × \.md\).*JPEG, PNG, WebP, GIF"):
        ArtSet.from_folder(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ArtError, match=r"no folder .*nowhere"):
        ArtSet.from_folder(tmp_path / "nowhere")


def test_a_file_given_as_a_folder_leads_to_from_files(tmp_path, picture):
    file = tmp_path / "a.png"
    file.write_bytes(picture())
    with pytest.raises(ArtError, match="from_files"):
        ArtSet.from_folder(file)


def test_text_named_png_is_listed_and_the_others_are_taken(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "words.png").write_text("these are words")
    art = ArtSet.from_folder(tmp_path)
    assert [p.name for p in art] == ["a.png"]
    assert [(p.file, p.kind) for p in art.problems] == [("words.png", "broken")]


def test_a_300_megapixel_picture_is_listed_with_its_dimensions(tmp_path, picture, bomb):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "huge.png").write_bytes(bomb(20000, 15000))
    (problem,) = ArtSet.from_folder(tmp_path).problems
    assert problem.kind == "too large"
    assert "20000 × 15000" in str(problem)


def test_a_file_of_many_gigabytes_is_refused_unread(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture())
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(10 * 2**30)  # sparse: it takes no room
    (problem,) = ArtSet.from_folder(tmp_path).problems
    assert problem.kind == "too large"
    assert "10240 MiB" in problem.reason


def test_a_link_out_of_the_folder_is_listed_and_not_followed(tmp_path, picture):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "a.png").write_bytes(picture(1))
    (outside / "secret.png").write_bytes(picture(2))
    (inside / "link.png").symlink_to(outside / "secret.png")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    art = ArtSet.from_folder(inside)
    assert [p.name for p in art] == ["a.png"]
    assert [(p.file, p.kind) for p in art.problems] == [("folder", "symlink"), ("link.png", "symlink")]


def test_a_link_inside_the_folder_is_a_picture_like_any_other(tmp_path, picture):
    (tmp_path / ".store").mkdir()
    (tmp_path / ".store" / "x.png").write_bytes(picture())
    (tmp_path / "a.png").symlink_to(tmp_path / ".store" / "x.png")
    assert [p.name for p in ArtSet.from_folder(tmp_path)] == ["a.png"]


def test_a_pipe_named_png_does_not_keep_anyone_waiting(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture())
    os.mkfifo(tmp_path / "pipe.png")
    assert kinds(ArtSet.from_folder(tmp_path)) == ["broken"]


def test_hidden_files_and_other_endings_are_ignored_quietly(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / ".b.png").write_bytes(picture(2))
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "c.png").write_bytes(picture(3))
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    art = ArtSet.from_folder(tmp_path)
    assert len(art) == 1
    assert not art.problems


def test_a_format_that_is_not_read_is_listed_with_what_to_do(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "b.psd").write_bytes(b"8BPS")
    (problem,) = ArtSet.from_folder(tmp_path).problems
    assert problem.kind == "format"
    assert "export it as PNG" in problem.todo


def test_the_same_pixels_are_taken_once(saved, picture):
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(picture(1))) as image:
        other = saved(image, "WEBP", lossless=True)
    art = ArtSet.from_files([("a.png", picture(1)), ("copy.png", picture(1)), ("same.webp", other)], size_px=16)
    assert len(art) == 1
    assert [(p.file, p.reason) for p in art.problems if p.kind == "duplicate"] == [
        ("copy.png", "the same picture as 'a.png'"),
        ("same.webp", "the same picture as 'a.png'"),
    ]


def test_captions_come_from_metadata_csv(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.png").write_bytes(picture(2))
    table = "\ufefffile_name,caption,license,tags,split\na.png,a red fox,CC0-1.0,fox|red,test\n./sub/b.png,,,,train\n"
    (tmp_path / "metadata.csv").write_text(table, encoding="utf-8")
    first, second = ArtSet.from_folder(tmp_path)
    assert (first.caption, first.licence, first.tags, first.split) == ("a red fox", "CC0-1.0", ("fox", "red"), "test")
    assert (second.caption, second.licence, second.split) == ("b", None, "train")


def test_captions_come_from_metadata_jsonl(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture(1))
    lines = '{"file_name": "a.png", "text": "a blue owl", "tags": ["owl"]}\n{not json}\n[1]\n'
    (tmp_path / "metadata.jsonl").write_text(lines)
    art = ArtSet.from_folder(tmp_path)
    assert captions(art) == {"a.png": "a blue owl"}
    assert art.pictures[0].tags == ("owl",)
    assert [p.reason[:9] for p in art.problems if p.kind == "metadata"] == ["2 line(s)"]


def test_the_column_may_be_called_file(picture):
    art = ArtSet.from_files([("a.png", picture()), ("metadata.csv", b"file,text\na.png,a hat\n")])
    assert captions(art) == {"a.png": "a hat"}


def test_a_table_that_names_missing_pictures_is_listed(picture):
    art = ArtSet.from_files([("a.png", picture()), ("metadata.csv", b"file_name,caption\na.png,x\nb.png,y\n")])
    assert "not here, such as 'b.png'" in art.problems[0].reason


def test_captions_come_from_a_text_beside_the_picture(tmp_path, picture):
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "a.txt").write_text("  a wooden\nboat ")
    assert captions(ArtSet.from_folder(tmp_path)) == {"a.png": "a wooden boat"}
    assert captions(ArtSet.from_files([tmp_path / "a.png"])) == {"a.png": "a wooden boat"}


def test_without_a_caption_the_file_name_is_one(picture):
    art = ArtSet.from_files([("maple-leaf_two.png", picture())])
    assert captions(art) == {"maple-leaf_two.png": "maple leaf two"}


def test_a_caption_of_10000_characters_is_shortened_and_the_picture_kept(picture):
    art = ArtSet.from_files([("a.png", picture()), ("a.txt", b"word " * 2000)])
    assert len(art.pictures[0].caption) <= CAPTION_LIMIT
    (problem,) = art.problems
    assert problem.kind == "caption"
    assert "10,000 characters was shortened to 500" in problem.reason


def test_control_characters_do_not_reach_captions_or_names(picture):
    text = "a\x00 \x1b[31mred\u202e hat\r\n"
    art = ArtSet.from_files([("a\u202e\x07.png", picture()), ("a\u202e\x07.txt", text.encode())])
    assert captions(art) == {"a.png": "a [31mred hat"}


def test_folders_named_train_and_test_are_splits(tmp_path, picture):
    for i, split in enumerate(("train", "validation")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "a.png").write_bytes(picture(i))
    assert [p.split for p in ArtSet.from_folder(tmp_path)] == ["train", "test"]


def test_ten_thousand_pictures_are_scanned_cheaply_and_some_are_taken(tmp_path, picture):
    files = [picture(i, size=(8, 8)) for i in range(200)]
    for i in range(200):
        (tmp_path / f"{i * 50:05}.png").write_bytes(files[i])
    for i in range(10_000):
        if i % 50:
            (tmp_path / f"{i:05}.png").hardlink_to(tmp_path / f"{i // 50 * 50:05}.png")
    begun = time.perf_counter()
    art = ArtSet.from_folder(tmp_path, size_px=16, limit=100)
    assert time.perf_counter() - begun < 10
    assert len(art) == 100
    assert art.pictures[0].name == "00000.png"
    assert art.pictures[-1].name == "09900.png", "they are spread over the whole folder"
    (problem,) = art.problems
    assert problem.kind == "limit"
    assert "100 of 10,000 pictures were taken; 9,900 left out (limit 100)" in problem.reason


def test_a_folder_of_copies_ends_soon(tmp_path, picture):
    (tmp_path / "0.png").write_bytes(picture())
    for i in range(1, 300):
        (tmp_path / f"{i}.png").hardlink_to(tmp_path / "0.png")
    art = ArtSet.from_folder(tmp_path, size_px=16, limit=10)
    assert len(art) == 1
    assert kinds(art).count("duplicate") == 35
    assert kinds(art)[-1] == "limit"


def test_an_excluded_picture_is_never_read(ten):
    withheld = ten.pictures[3]
    ten.include(withheld.id, False)
    assert withheld.id not in {p.id for p in ten.included()}
    for wanted in ([withheld.id], [withheld], ten):
        with pytest.raises(ArtError, match="excluded by its artist"):
            ten.pixels(wanted)
    assert ten.pixels(ten.included()).shape == (9, 16, 16, 3)


def test_an_excluded_picture_is_still_shown_to_its_artist(ten):
    key = ten.pictures[0].id
    ten.include(key, False)
    assert ten.thumbnail_png(key).startswith(b"\x89PNG")


def test_consent_can_be_given_back(ten):
    key = ten.pictures[0].id
    ten.include(key, False)
    ten.include(key, True)
    assert ten.pixels([key]).shape == (1, 16, 16, 3)
    assert all(p.included for p in ten)


def test_every_change_of_consent_moves_the_revision_and_nothing_else_does(ten):
    key = ten.pictures[0].id
    assert ten.revision == 0
    ten.include(key, True)
    assert ten.revision == 0
    ten.include(key, False)
    assert ten.revision == 1


def test_consent_is_saved_and_restored_for_pictures_that_are_away_too(ten, picture):
    key = ten.pictures[4].id
    ten.include(key, False)
    saved = ten.excluded_ids
    again = ArtSet.from_files([("4.png", picture(4)), ("1.png", picture(1))], size_px=16)
    again.restore_consent([*saved, "0" * 16])
    assert [p.included for p in again] == [False, True]
    assert again.excluded_ids == ("0" * 16, key)


def test_an_unknown_id_is_named(ten):
    for ask in (ten.include, ten.thumbnail_png, lambda key: ten.pixels([key])):
        with pytest.raises(ArtError, match="no picture 'nobody'"):
            ask("nobody")


def test_pixels_are_a_copy_in_the_order_asked_for(ten):
    first, second = ten.pictures[:2]
    pixels = ten.pixels([second, first.id])
    assert np.array_equal(pixels[::-1], ten.pixels([first, second]))
    pixels[:] = 0
    assert ten.pixels([first]).any()
    assert ten.pixels([]).shape == (0, 16, 16, 3)


def test_the_split_is_the_same_every_time_and_in_any_company(ten, picture):
    again = ArtSet.from_files([(f"other{i}.png", picture(i)) for i in reversed(range(10))], size_px=16)
    assert {p.id: p.split for p in ten} == {p.id: p.split for p in again}


@pytest.mark.parametrize("count", [5, 6, 7, 30])
def test_from_five_pictures_on_one_is_held_out(count, picture):
    art = ArtSet.from_files([(f"{i}.png", picture(i)) for i in range(count)], size_px=16)
    train, test = art.split(0.0)
    assert len(test) == 1
    assert len(train) == count - 1


def test_fewer_than_five_pictures_all_train(picture):
    art = ArtSet.from_files([(f"{i}.png", picture(i)) for i in range(4)], size_px=16)
    assert not art.included("test")


def test_a_split_that_the_metadata_gave_stays(picture):
    rows = "".join(f"{i}.png,x,{'test' if i < 5 else 'train'}\n" for i in range(10))
    files = [(f"{i}.png", picture(i)) for i in range(10)]
    art = ArtSet.from_files([*files, ("metadata.csv", f"file_name,caption,split\n{rows}".encode())], size_px=16)
    art.split(0.9)
    assert [p.split for p in art] == ["test"] * 5 + ["train"] * 5


@pytest.mark.parametrize("settings", [{"size_px": 4}, {"size_px": 5000}, {"limit": 0}])
def test_settings_out_of_range_are_refused_with_the_value(settings, picture):
    with pytest.raises(ArtError, match=str(next(iter(settings.values())))):
        ArtSet.from_files([("a.png", picture())], **settings)


def test_a_path_that_is_not_there_is_listed(tmp_path, picture):
    art = ArtSet.from_files([("a.png", picture()), tmp_path / "gone.png"])
    assert "gone.png" in str(art.problems[0])


def test_the_hash_of_a_pictures_content_is_the_same_in_every_set(tmp_path, picture):
    (tmp_path / "other-name.png").write_bytes(picture(1, size=(200, 300)))
    small = ArtSet.from_files([("a.png", picture(1, size=(200, 300))), ("a.txt", b"a hat")], size_px=16)
    large, uploaded = ArtSet.from_folder(tmp_path), ArtSet.from_files([("b.png", picture(2, size=(200, 300)))])
    assert len(small.pictures[0].sha256) == 64
    assert small.pictures[0].sha256 == large.pictures[0].sha256 != uploaded.pictures[0].sha256


def test_a_picture_made_by_hand_gets_its_hash_from_its_pixels():
    pixels = np.zeros((2, 16, 16, 3), np.uint8)
    pixels[1] = 9
    made = [(Picture(str(i), "x.png", "x", "train"), pixels[i]) for i in range(2)]
    first, second = ArtSet("by hand", size_px=16, pictures=made)
    assert len(first.sha256) == 64
    assert first.sha256 != second.sha256
