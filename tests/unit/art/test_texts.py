"""Captions beside pictures, folders that say something, and what a set makes of more files."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from fedart_nb.art import ArtSet
from fedart_nb.art.encodings import guess
from fedart_nb.errors import ArtError


def captions(art: ArtSet) -> list[str]:
    return [picture.caption for picture in art]


def reasons(art: ArtSet) -> str:
    return "\n".join(map(str, art.problems))


@pytest.mark.parametrize(
    "name",
    [
        *("fox.txt", "fox.TXT", "FOX.txt", "Fox.Txt", "fox.png.txt", "fox.PNG.TXT", "fox.text"),
        *("fox.caption", "fox.captions", "fox.cap", "fox.CAPTION", "fox.prompt"),
    ],
)
def test_a_text_of_any_spelling_beside_a_picture_is_its_caption(tmp_path, picture, name):
    (tmp_path / "fox.png").write_bytes(picture())
    (tmp_path / name).write_text("a red fox")
    for art in (ArtSet.from_folder(tmp_path), ArtSet.from_files([tmp_path / "fox.png"])):
        assert captions(art) == ["a red fox"]
        assert art.pictures[0].caption_from == "text file"
        assert art.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        '{"caption": "a red fox"}',
        '{"Prompt": "a red fox", "seed": 3}',
        '"a red fox"',
        '{"title":"fox.png","description":"a red fox"}',
    ],
)
@pytest.mark.parametrize("name", ["fox.json", "fox.png.json"])
def test_a_json_beside_a_picture_gives_its_caption(picture, name, text):
    art = ArtSet.from_files([("fox.png", picture()), (name, text.encode())], size_px=16)
    assert captions(art) == ["a red fox"]
    assert art.problems == ()


def test_a_json_without_a_caption_is_told(picture):
    art = ArtSet.from_files([("fox.png", picture()), ("fox.json", b'{"width": 3}')], size_px=16)
    assert [(p.file, p.kind) for p in art.problems] == [("fox.json", "metadata")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("röter Fuchs", "cp1252"),
        ("ein Mädchen mit Hut, Öl auf Leinwand", "mac_roman"),
        ("赤い狐", "shift-jis"),
        ("雪の中の赤い狐、油絵", "euc-jp"),
        ("红色的狐狸", "gbk"),
        ("紅狐狸", "big5"),
        ("붉은 여우", "euc-kr"),
        ("красная лиса", "cp1251"),
        ("красная лиса в снегу", "koi8-r"),
        ("κόκκινη αλεπού", "cp1253"),
        ("liška na sněhu", "cp1250"),
        ("un renard à la fenêtre, été", "cp850"),
    ],
)
def test_a_caption_in_an_older_encoding_is_read_and_told(picture, text, encoding):
    art = ArtSet.from_files([("fox.png", picture()), ("fox.txt", text.encode(encoding))], size_px=16)
    assert captions(art) == [text]
    (problem,) = art.problems
    assert (problem.file, problem.kind) == ("fox.txt", "caption")
    assert "not UTF-8" in problem.reason
    assert "UTF-8" in problem.todo


def test_japanese_as_mail_has_it_is_read(picture):
    art = ArtSet.from_files([("fox.png", picture()), ("fox.txt", "赤い狐".encode("iso2022-jp"))], size_px=16)
    assert captions(art) == ["赤い狐"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["röter Fuchs", "красная лиса"])
def test_unicode_captions_are_read_without_a_word(picture, text, encoding):
    art = ArtSet.from_files([("fox.png", picture()), ("fox.txt", text.encode(encoding))], size_px=16)
    assert captions(art) == [text]
    assert art.problems == ()


def test_many_captions_tell_the_encoding_of_one_that_is_too_short(picture):
    texts = ["красная лиса", "лес зимой", "он", "дом у реки"]
    files = [(f"{i}.png", picture(i)) for i in range(4)]
    files += [(f"{i}.txt", text.encode("cp1251")) for i, text in enumerate(texts)]
    assert captions(ArtSet.from_files(files, size_px=16)) == texts


def test_a_reading_that_is_not_certain_names_the_other_one():
    assert "ršter Fuchs" in {text for _, text in guess("röter Fuchs".encode("mac_roman")).others}


def test_letters_that_were_garbled_before_are_told(picture):
    files = [("fox.png", picture(1)), ("owl.png", picture(2)), ("owl.txt", "wei�e Eule".encode())]
    art = ArtSet.from_files([*files, ("fox.txt", "rÃ¶ter Fuchs".encode())], size_px=16)
    assert "perhaps “röter Fuchs” is meant" in reasons(art)
    assert "damaged before it came here" in reasons(art)


def test_texts_that_say_nothing_are_told_and_the_name_is_taken(picture):
    files = [("fox.png", picture(1)), ("owl.png", picture(2)), ("cat.png", picture(3))]
    files += [("fox.txt", b" \n"), ("owl.txt", picture(4)), ("dog.txt", b"a dog"), ("README.txt", b"hello")]
    art = ArtSet.from_files(files, size_px=16)
    assert captions(art) == ["fox", "owl", "cat"]
    assert {p.file for p in art.problems} == {"fox.txt", "owl.txt", "dog.txt", "cat.png"}
    assert all(p.todo for p in art.problems)


def test_two_texts_and_a_table_that_disagree_are_told(picture):
    files = [("fox.png", picture()), ("fox.txt", b"one"), ("fox.caption", b"two")]
    art = ArtSet.from_files([*files, ("metadata.csv", b"file_name,text\nfox.png,three\n")], size_px=16)
    assert captions(art) == ["three"]
    assert "'fox.txt' has another caption" in reasons(art)
    assert "the text beside it differ" in reasons(art)


def test_lines_that_are_joined_and_characters_that_are_taken_out_are_told(picture):
    files = [("fox.png", picture(1)), ("owl.png", picture(2))]
    art = ArtSet.from_files([*files, ("fox.txt", b"one\ntwo\n"), ("owl.txt", "an\x01 owl\u202e".encode())], size_px=16)
    assert captions(art) == ["one two", "an owl"]
    assert "2 lines of its text were joined" in reasons(art)
    assert "2 control characters were taken out" in reasons(art)


def test_a_caption_that_text_encoders_do_not_read_to_its_end_is_told(picture):
    art = ArtSet.from_files([("fox.png", picture()), ("fox.txt", b"word " * 80)], size_px=16)
    assert len(captions(art)[0].split()) == 80
    assert "80 words" in reasons(art)


def test_texts_in_a_folder_of_their_own_are_found(picture):
    art = ArtSet.from_files([("images/fox.png", picture()), ("captions/fox.txt", b"a red fox")], size_px=16)
    assert captions(art) == ["a red fox"]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        *(("data/train/a.png", "train"), ("data/test/a.png", "test"), ("images/val/x/a.png", "test")),
        *(("a/b/c/Validation/a.png", "test"), ("TEST/a.png", "test"), ("train2017/a.png", "train")),
        *(("train/test/a.png", "test"), ("training/a.png", "train"), ("x/dev/a.png", "test")),
    ],
)
def test_folders_of_any_depth_are_splits(tmp_path, picture, path, split):
    for i in range(6):
        file = tmp_path / "other" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture(i))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(picture(99))
    (found,) = (p for p in ArtSet.from_folder(tmp_path, size_px=16) if p.name == path)
    assert found.split == split


def test_folders_with_more_in_their_names_are_splits_only_in_pairs(picture):
    def sides(*paths: str) -> list[str]:
        files = [(path, picture(i)) for i, path in enumerate(paths)]
        return [p.split for p in ArtSet.from_files(files, size_px=16)]

    assert sides("x/train_images/a.png", "x/test_images/b.png") == ["train", "test"]
    assert sides("test prints/a.png", "drawings/b.png") == ["train", "train"]


def test_a_folders_name_is_the_caption_where_a_camera_gave_the_pictures(picture):
    files = [
        ("10_red fox/IMG_2041.png", picture(1)),
        ("owls/snowy-owl.png", picture(2)),
        ("train/0001.png", picture(3)),
    ]
    art = ArtSet.from_files(files, size_px=16)
    assert captions(art) == ["red fox", "snowy owl", "0001"]
    assert art.pictures[0].caption_from == "folder name"
    assert "“red fox”" in reasons(art)


def test_another_text_beside_a_picture_is_told(tmp_path, picture):
    (tmp_path / "fox.png").write_bytes(picture())
    (tmp_path / "fox.md").write_text("a fox")
    (tmp_path / "fox.npz").write_bytes(b"cache")
    (problem,) = ArtSet.from_folder(tmp_path).problems
    assert problem.file == "fox.md"


def test_pictures_under_any_name_are_found_in_a_folder(tmp_path, picture):
    jpeg = picture(1, kind="JPEG")
    for i, name in enumerate(("one.jfif", "two.pjpeg", "three.JFIF", "four", "five.jpg_large", "six.JPG~")):
        (tmp_path / name).write_bytes(jpeg + bytes([i]) * i)
    (tmp_path / "seven.apng").write_bytes(picture(7))
    (tmp_path / "notes.md").write_text("words")
    art = ArtSet.from_folder(tmp_path)
    seen = {p.name for p in art} | {p.file for p in art.problems}
    assert seen == {file.name for file in tmp_path.iterdir()} - {"notes.md"}


def test_side_files_of_operating_systems_are_no_pictures(picture):
    side = [("._fox.png", b"\0\5\x16\7"), (".DS_Store", b"x"), ("Thumbs.db", b"x"), ("desktop.ini", b"x")]
    art = ArtSet.from_files([("fox.png", picture()), *side], size_px=16)
    assert (len(art), art.problems) == (1, ())


def test_a_picture_that_is_still_in_a_cloud_is_told(tmp_path, picture):
    (tmp_path / "fox.png").write_bytes(picture())
    (tmp_path / ".owl.png.icloud").write_bytes(b"bplist")
    (problem,) = ArtSet.from_folder(tmp_path).problems
    assert "iCloud" in problem.reason


def test_a_file_that_cannot_be_looked_at_does_not_hide_the_others(tmp_path, picture, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(picture(ord(name[0])))
    real = Path.stat

    def stat(self: Path, **options: bool):
        if self.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    art = ArtSet.from_folder(tmp_path)
    assert [p.name for p in art] == ["a.png", "c.png"]
    assert [(p.file, p.kind) for p in art.problems] == [("b.png", "broken")]


def test_a_folder_named_like_a_picture_and_a_link_to_a_hidden_folder(tmp_path, picture):
    (tmp_path / "cats.png").mkdir()
    (tmp_path / "cats.png" / "a.png").write_bytes(picture(1))
    (tmp_path / ".store").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / ".store")
    art = ArtSet.from_folder(tmp_path)
    assert [p.name for p in art] == ["cats.png/a.png"]
    assert [(p.file, p.kind) for p in art.problems] == [("linked", "symlink")]


def test_tilde_quotes_and_file_addresses_are_understood(tmp_path, picture, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my art").mkdir()
    (tmp_path / "my art" / "a.png").write_bytes(picture())
    for folder in ("~/my art", '"~/my art"', f"file://{tmp_path}/my%20art", " ~/my art "):
        assert len(ArtSet.from_folder(folder)) == 1
    assert len(ArtSet.from_files(["~/my art/a.png"])) == 1


@pytest.mark.parametrize("folder", ["", "   ", None, 3, b"/tmp", ["a"], "a\0b", "~nobody-here/x"])
def test_what_is_no_folder_is_refused_in_a_sentence(folder):
    with pytest.raises(ArtError, match=r"path is|no home folder|no folder"):
        ArtSet.from_folder(folder)


def test_files_come_in_every_way_that_code_and_widgets_give_them(tmp_path, picture):
    path, data = tmp_path / "fox.png", picture()
    path.write_bytes(data)
    item = {"name": "fox.png", "type": "image/png", "size": len(data), "content": memoryview(data)}
    ways = [
        *(str(path), path, [path], [str(path)], (path,), iter([path])),
        *(("fox.png", data), [("fox.png", bytearray(data))], [["fox.png", data]], {"fox.png": data}),
        *((item,), [item], item, {"fox.png": {"metadata": {}, "content": data}}, [(Path("fox.png"), data)]),
    ]
    for way in ways:
        assert [p.name for p in ArtSet.from_files(way, size_px=16)] == ["fox.png"]


@pytest.mark.parametrize(
    "files", [[b"data"], b"data", None, 3, [None], [("fox.png", None)], [("a", b"b", 1)], [("fox.png", "x")]]
)
def test_other_things_than_files_are_refused_in_a_sentence(files):
    with pytest.raises(ArtError, match=r"name"):
        ArtSet.from_files(files)


def test_a_folder_among_files_leads_to_from_folder(tmp_path, picture):
    (problem,) = ArtSet.from_files([("a.png", picture()), tmp_path]).problems
    assert (problem.kind, problem.file) == ("folder", tmp_path.name)
    assert "from_folder" in problem.todo


def test_more_files_are_added_and_nothing_is_lost(picture):
    art = ArtSet.from_files([(f"{i}.png", picture(i)) for i in range(6)], size_px=16)
    withheld = art.pictures[2].id
    art.include(withheld, False)
    more = art.with_files([("3.png", picture(3)), ("copy.png", picture(4)), ("new.png", picture(9))])
    assert [p.name for p in more] == [*(f"{i}.png" for i in range(6)), "new.png"]
    assert more.excluded_ids == (withheld,)
    assert [(p.file, p.kind) for p in more.problems] == [("copy.png", "duplicate")]
    assert len(art) == 6
    assert {p.id: p.split for p in art}.items() <= {p.id: p.split for p in more}.items()


def test_captions_may_come_after_their_pictures(picture):
    name = unicodedata.normalize("NFD", "café.png")
    art = ArtSet.from_files([(name, picture(1)), ("owl.png", picture(2))], size_px=16)
    art = art.with_files([("metadata.csv", "file_name,text,split\ncafé.png,a cup,test\n".encode())])
    art = art.with_files([("owl.txt", b"an owl")])
    assert [(p.caption, p.split) for p in art] == [("a cup", "test"), ("an owl", "train")]


def test_a_folder_that_was_corrected_is_read_again(tmp_path, picture):
    for name in ("fox.png", "owl.png"):
        (tmp_path / name).write_bytes(picture(len(name) + ord(name[0])))
    (tmp_path / "metadata.csv").write_text("file_name,text\nfox.png,a fox\ncat.png,x\n")
    art = ArtSet.from_folder(tmp_path, size_px=16)
    assert len(art.problems) == 2
    (tmp_path / "metadata.csv").write_text("file_name,text\nfox.png,a red fox\nowl.png,an owl\n")
    again = art.with_folder(tmp_path)
    assert captions(again) == ["a red fox", "an owl"]
    assert again.problems == ()


def test_pictures_can_be_taken_out(picture):
    art = ArtSet.from_files([(f"{i}.png", picture(i)) for i in range(6)], size_px=16)
    fewer = art.without([art.pictures[0].id])
    assert [p.name for p in fewer] == [f"{i}.png" for i in range(1, 6)]
    assert len(art.without(p.id for p in art)) == 0
    with pytest.raises(ArtError, match="no picture"):
        art.without(["nobody"])
