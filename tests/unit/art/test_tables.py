"""Tables of captions are read as people write them; what is not understood is listed with its row and what to do."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedart_nb.art import ArtSet, Problem
from fedart_nb.errors import ArtError


@pytest.fixture
def read(picture):
    """An art set of fox.png, owl.png and one table."""

    def read(table: str | bytes, name: str = "metadata.csv") -> ArtSet:
        data = table.encode() if isinstance(table, str) else table
        return ArtSet.from_files([("fox.png", picture(1)), ("owl.png", picture(2)), (name, data)], size_px=16)

    return read


def captions(art: ArtSet) -> list[str]:
    return [picture.caption for picture in art]


def rows_of(art: ArtSet, word: str) -> tuple[int, ...]:
    """The rows of the one problem whose reason has this word."""
    (problem,) = (problem for problem in art.problems if word in problem.reason)
    assert problem.todo or "taken" in problem.reason
    return problem.rows


@pytest.mark.parametrize(
    "table",
    [
        "file_name;text\nfox.png;a fox, in snow\nowl.png;an owl\n",
        "file_name\ttext\nfox.png\ta fox, in snow\nowl.png\tan owl\n",
        "file_name|text\nfox.png|a fox, in snow\nowl.png|an owl\n",
        'sep=,\nfile_name,text\nfox.png,"a fox, in snow"\nowl.png,an owl\n',
        "sep=;\r\nfile_name;text\r\nfox.png;a fox, in snow\r\nowl.png;an owl\r\n;\r\n",
        '"file_name,text"\n"fox.png,a fox, in snow"\n"owl.png,an owl"\n',
        "file_name,text\rfox.png,a fox, in snow\rowl.png,an owl\r",
        "File Name;Caption\nfox.png;a fox, in snow\nowl.png;an owl\n",
        "\n\nfile_name,text\n\nfox.png,a fox, in snow\n\nowl.png,an owl\n\n",
        'file_name, text\nfox.png, "a fox, in snow"\nowl.png, "an owl"\n',
        'file_name,text\n"fox.png","a fox, in snow"\n"owl.png","an\nowl"\n',
        "Dateiname;Beschreibung\nfox.png;a fox, in snow\nowl.png;an owl\n",
        "id,prompt,image\n1,a fox in snow,fox.png\n2,an owl,owl.png\n",
    ],
)
def test_a_table_is_read_whatever_separates_its_columns(read, table):
    art = read(table)
    assert [c.replace(",", "") for c in captions(art)] == ["a fox in snow", "an owl"]
    assert art.problems == ()
    assert {p.caption_from for p in art} == {"table"}


def test_commas_in_an_unquoted_caption_at_the_end_of_a_row_are_kept(read):
    art = read("file_name,text\nfox.png,a red fox, in the snow, oil on canvas\nowl.png,an owl\n")
    assert captions(art) == ["a red fox, in the snow, oil on canvas", "an owl"]


@pytest.mark.parametrize(
    "table",
    [
        "file_name,text,split\nfox.png,a red fox, in the snow,train\nowl.png,an owl,test\n",
        "text,file_name\na red fox, in the snow,fox.png\nan owl,owl.png\n",
    ],
)
def test_commas_in_an_unquoted_caption_elsewhere_are_kept_and_told_with_the_row(read, table):
    art = read(table)
    assert captions(art) == ["a red fox, in the snow", "an owl"]
    assert rows_of(art, "separator") == (2,)


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ('file_name,text\nfox.png,"a red fox\nowl.png,an owl\n', 2),
        ('file_name,text\nowl.png,an owl\nfox.png,"a red fox\n', 3),
        ('file_name,text\nfox.png,"a red fox\nowl.png,"an owl"\n', 2),
    ],
)
def test_a_quote_that_is_never_closed_costs_no_other_row(read, table, row):
    art = read(table)
    assert captions(art) == ["a red fox", "an owl"]
    assert rows_of(art, "not closed") == (row,)


@pytest.mark.parametrize(
    ("cell", "caption"),
    [
        ('a 5" fox', 'a 5" fox'),
        ('"a ""red"" fox, big"', 'a "red" fox, big'),
        ('"a \\"red\\", fox"', 'a "red", fox'),
        ("“a fox”", "“a fox”"),
        ("a fox | owl; both", "a fox | owl; both"),
    ],
)
def test_quotes_in_captions_stay(read, cell, caption):
    assert captions(read(f"file_name,text\nfox.png,{cell}\nowl.png,an owl\n")) == [caption, "an owl"]


@pytest.mark.parametrize(
    "column",
    ["prompt", "Description", "TITLE", "label", "alt text", "image-caption", "Bildunterschrift", "légende", "tags"],
)
def test_captions_are_found_in_columns_of_many_names(read, column):
    art = read(f"image,{column}\nfox.png,a fox\nowl.png,an owl\n")
    assert captions(art) == ["a fox", "an owl"]
    assert art.problems == ()


def test_a_column_of_an_unknown_name_is_taken_and_told(read):
    art = read("file_name,foo\nfox.png,a fox\nowl.png,an owl\n")
    assert captions(art) == ["a fox", "an owl"]
    assert "'foo' was taken for captions" in art.problems[0].reason


def test_a_table_without_column_names_is_read_and_told(read):
    art = read("fox.png,a fox, red\nowl.png,an owl\n")
    assert captions(art) == ["a fox, red", "an owl"]
    assert "no row of column names" in art.problems[0].reason
    assert art.problems[0].todo


def test_a_table_without_captions_names_its_columns(read):
    (problem,) = read("file_name,width\nfox.png,3\nowl.png,4\n").problems
    assert "no column holds captions; it has the columns file_name, width" in problem.reason
    assert "caption" in problem.todo


def test_several_caption_columns_that_differ_are_told_with_their_rows(read):
    art = read("file_name,title,caption\nfox.png,Opus 1,a fox\nowl.png,an owl,an owl\n")
    assert captions(art) == ["a fox", "an owl"]
    assert rows_of(art, "differ") == (2,)


@pytest.mark.parametrize(
    "name",
    [
        "./fox.png",
        ".\\fox.png",
        "C:\\Users\\me\\fox.png",
        "/home/me/fox.png",
        "FOX.PNG",
        "fox%2Epng",
        " fox.png ",
        "images/fox.png",
    ],
)
def test_a_row_finds_its_picture_however_the_name_is_written(read, name):
    art = read(f"file_name,text\n{name},a fox\nowl.png,an owl\n")
    assert captions(art) == ["a fox", "an owl"]
    assert art.problems == ()


@pytest.mark.parametrize(("there", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
@pytest.mark.parametrize("kind", ["table", "sidecar"])
def test_names_belong_together_in_every_unicode_form(picture, there, written, kind):
    there, written = (unicodedata.normalize(form, "café") for form in (there, written))
    table = ("metadata.csv", f"file_name,text\n{written}.png,a fox\n".encode())
    beside = (f"{written}.txt", b"a fox")
    art = ArtSet.from_files([(f"{there}.png", picture()), table if kind == "table" else beside], size_px=16)
    assert captions(art) == ["a fox"]
    assert art.problems == ()


def test_a_row_with_another_ending_is_understood_and_told(read):
    art = read("file_name,text\nfox.jpg,a fox\nowl,an owl\n")
    assert captions(art) == ["a fox", "an owl"]
    assert rows_of(art, "another ending") == (2, 3)


def test_a_name_that_several_pictures_have_is_told_and_not_guessed(picture):
    files = [("a/1.png", picture(1)), ("b/1.png", picture(2)), ("metadata.csv", b"file_name,text\n1.png,a fox\n")]
    art = ArtSet.from_files(files, size_px=16)
    assert "a fox" not in captions(art)
    assert rows_of(art, "several pictures have this name") == (2,)


def test_two_rows_for_one_picture_are_told(read):
    art = read("file_name,text\nfox.png,a fox\nowl.png,an owl\nFOX.png,a wolf\n")
    assert captions(art) == ["a fox", "an owl"]
    assert rows_of(art, "several rows") == (2, 4)


def test_missing_pictures_and_pictures_without_a_row_are_told(read):
    art = read("file_name,text\nfox.png,a fox\ncat.png,a cat\n")
    assert captions(art) == ["a fox", "owl"]
    assert rows_of(art, "not here, such as 'cat.png'") == (3,)
    (problem,) = (p for p in art.problems if "no row" in p.reason)
    assert "1 picture has no row in it, such as 'owl.png'" in problem.reason


def test_empty_cells_are_told(read):
    assert rows_of(read("file_name,text\nfox.png,\nowl.png,an owl\n"), "no caption;") == (2,)


@pytest.mark.parametrize("rows", ['"text": null', '"caption": ""', '"text": []'])
def test_a_table_whose_captions_are_all_empty_is_told(read, rows):
    art = read(f'{{"file_name": "fox.png", {rows}}}\n{{"file_name": "owl.png", {rows}}}', "metadata.jsonl")
    assert captions(art) == ["fox", "owl"]
    assert any("no row of it has a caption" in problem.reason for problem in art.problems)


def test_a_remark_above_the_table_and_addresses_as_names_are_understood(read):
    art = read("# my list\nfile_name,text\nhttps://x.org/a/fox.png?raw=1,a fox\ns3://b/owl.png,an owl\n")
    assert captions(art) == ["a fox", "an owl"]
    assert art.problems == ()


def test_an_unknown_split_is_told(read):
    assert rows_of(read("file_name,text,split\nfox.png,a,train\nowl.png,b,holdout\n"), "'holdout'") == (3,)


def test_a_caption_that_is_a_number_is_told(read):
    assert rows_of(read("file_name,label\nfox.png,0\nowl.png,1\n"), "a number") == (2, 3)


@pytest.mark.parametrize("mark", "\u2028\u2029\u0085\x0b\x0c\x1c")
def test_only_line_feeds_end_a_line_of_jsonl(read, mark):
    lines = [json.dumps({"file_name": f"{n}.png", "text": f"a{mark}{n}"}, ensure_ascii=False) for n in ("fox", "owl")]
    art = read("\n".join(lines).replace("\\u001c", mark), "metadata.jsonl")
    assert captions(art) in (["a fox", "a owl"], ["afox", "aowl"])
    assert all("control" in p.reason for p in art.problems)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "metadata.jsonl",
            '\ufeff{"file_name":"fox.png","text":"a fox"}\r\n\r\n{"file_name":"owl.png","text":"an owl"}',
        ),
        (
            "metadata.jsonl",
            '// mine\n{"file_name":"fox.png","text":"a fox",},\n{"file_name":"owl.png","text":"an owl"},',
        ),
        ("metadata.jsonl", '[\n{"file_name":"fox.png","text":"a fox"},\n{"file_name":"owl.png","text":"an owl"}\n]'),
        (
            "metadata.jsonl",
            '{\n"file_name":"fox.png",\n"text":"a fox"\n}\n{\n"file_name":"owl.png",\n"text":"an owl"\n}',
        ),
        ("metadata.jsonl", "{'file_name': 'fox.png', 'text': 'a fox'}\n{'file_name': 'owl.png', 'text': 'an owl'}"),
        ("METADATA.JSONL", '{"image":"fox.png","prompt":"a fox"}\n{"image":"owl.png","prompt":"an owl"}'),
        ("metadata.json", '[{"file_name":"fox.png","text":"a fox"},{"file_name":"owl.png","text":"an owl"}]'),
        (
            "metadata.json",
            '{"images":[{"file_name":"fox.png","text":"a fox"},{"file_name":"owl.png","text":"an owl"}]}',
        ),
        ("captions.json", '{"fox.png":"a fox","owl.png":{"caption":"an owl"}}'),
        ("meta_cap.json", '{"/train/fox.png":{"caption":"a fox"},"/train/owl.png":{"caption":"an owl"}}'),
        ("captions.txt", "fox.png: a fox\nowl.png: an owl"),
        ("captions.tsv", "file\tcaption\nfox.png\ta fox\nowl.png\tan owl"),
        ("list.csv", "file_name,caption\nfox.png,a fox\nowl.png,an owl"),
    ],
)
def test_json_and_other_tables_are_read(read, name, text):
    art = read(text, name)
    assert captions(art) == ["a fox", "an owl"]
    assert all("no row of column names" in p.reason for p in art.problems)


def test_of_several_captions_in_one_row_the_first_is_taken_and_it_is_told(read):
    art = read(
        '{"file_name":"fox.png","text":["a fox","oil"]}\n{"file_name":"owl.png","text":["an owl"]}', "metadata.jsonl"
    )
    assert captions(art) == ["a fox", "an owl"]
    assert rows_of(art, "several captions") == (1,)


def test_lines_that_are_no_json_are_told_with_their_numbers(read):
    art = read('{"file_name":"fox.png","text":"a fox"}\n{bad\n\n[1]\n', "metadata.jsonl")
    assert rows_of(art, "no JSON object") == (2, 4)


@pytest.mark.parametrize("name", ["metadata.parquet", "metadata.xlsx"])
def test_tables_of_other_programs_are_listed_with_what_to_do(read, name):
    (problem,) = read(b"PAR1", name).problems
    assert problem.file == name
    assert "csv" in problem.todo.lower()


def test_a_table_that_is_no_text_is_told(read, picture):
    (problem,) = read(picture(3), "metadata.csv").problems
    assert "no text" in problem.reason


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("röter Fuchs", "cp1252"),
        ("赤い狐が雪の中にいる", "shift-jis"),
        ("красная лиса", "cp1251"),
        ("红色的狐狸在雪地里", "gbk"),
    ],
)
def test_a_table_in_an_older_encoding_is_read_and_told_with_its_rows(read, text, encoding):
    table = f"file_name,text\nfox.png,{text}\n".encode(encoding) + b"owl.png,an owl\n"
    art = read(table)
    assert captions(art) == [text, "an owl"]
    assert rows_of(art, "not UTF-8") == (2,)


def test_lines_of_one_table_may_have_different_encodings(read):
    art = read("file_name,text\nfox.png,röter Fuchs\n".encode("cp1252") + "owl.png,weiße Eule\n".encode())
    assert captions(art) == ["röter Fuchs", "weiße Eule"]
    assert rows_of(art, "not UTF-8") == (2,)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-32"])
def test_wide_encodings_are_read_without_a_word(read, encoding):
    art = read("file_name\ttext\r\nfox.png\tröter Fuchs\r\nowl.png\tweiße Eule\r\n".encode(encoding))
    assert captions(art) == ["röter Fuchs", "weiße Eule"]
    assert art.problems == ()


def test_a_problem_says_its_row_and_what_to_do():
    problem = Problem("metadata.csv", "no caption", "caption", rows=tuple(range(3, 11)), todo="Write one")
    assert str(problem) == "metadata.csv, rows 3, 4, 5, 6, 7 and 3 more: no caption. Write one"


def test_the_report_lists_everything(read):
    art = read("file_name,text\nfox.png,a fox\ncat.png,a cat\n")
    assert "2 things to look at" in art.report()
    assert all(str(problem) in art.report() for problem in art.problems)
    assert "Nothing to look at" in read("file_name,text\nfox.png,a fox\nowl.png,an owl\n").report()


NAMES = st.sampled_from(["metadata.csv", "metadata.jsonl", "metadata.json", "captions.txt", "fox.txt", "fox.json"])
PIECES = st.sampled_from([*"\",;:\n\t\\{}[]\0'", "fox.png", "file_name", "text", "sep="])
TEXTS = st.one_of(st.binary(max_size=80), st.lists(PIECES, max_size=30).map("".join))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NAMES, TEXTS), max_size=3))
def test_no_table_and_no_text_stops_a_set(files):
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, "PNG")
    texts = [(name, text.encode() if isinstance(text, str) else text) for name, text in files]
    art = ArtSet.from_files([("fox.png", buffer.getvalue()), *texts], size_px=16)
    assert len(art) == 1
    assert art.pictures[0].caption
    assert art.report()


def test_a_table_alone_is_no_art():
    with pytest.raises(ArtError, match="No usable picture"):
        ArtSet.from_files([("metadata.csv", b"file_name,text\nfox.png,a fox\n")])
