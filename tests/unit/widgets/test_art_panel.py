"""The art panel loads, shows, and keeps consent; what goes wrong is said in its own error area."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fedart_nb.art import Problem
from fedart_nb.errors import ArtError
from fedart_nb.widgets import ArtPanel
from fedart_nb.widgets.remarks import remarks_table


class PlainSession:
    """As much of a session as the panel needs, with real art."""

    art = None


@pytest.fixture
def real_session():
    return PlainSession()


def picture_of(seed: int, *, size: int = 32, kind: str = "PNG") -> bytes:
    """The bytes of one picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_sample_art_becomes_the_sessions_art(session):
    panel = ArtPanel(session).load_sample("openmoji")
    assert session.art.name == "openmoji"
    assert len(panel.value) == 30


def test_the_panel_says_where_the_kernel_runs_before_anything_is_loaded(session, monkeypatch):
    monkeypatch.setenv("FEDART_BINDER", "1")
    panel = ArtPanel(session)
    assert "public Binder machine" in panel.children[2].value
    assert session.art is None


def test_a_folder_is_loaded_and_its_problems_are_listed_and_escaped(session):
    panel = ArtPanel(session).load_folder("~/drawings")
    assert len(session.art) == 7
    assert "1 thing to look at" in panel._problems.value
    assert "Copy it again" in panel._problems.value
    assert "broken&lt;1&gt;.png" in panel._problems.value


def test_the_path_typed_into_the_panel_is_used(session):
    panel = ArtPanel(session)
    panel._folder.value = "/drawings"
    panel._folder_button.click()
    panel.wait(10)
    assert session.art.name == "/drawings"


def test_a_folder_without_pictures_is_explained_and_nothing_is_lost(session):
    panel = ArtPanel(session).load_sample("openmoji")
    before = session.art
    with pytest.raises(ArtError, match="holds no picture"):
        panel.load_folder("empty")
    assert 'role="alert"' in panel._error_area.value
    assert "Choose a folder with" in panel._error_area.value
    assert session.art is before
    assert len(panel.value) == 30


def test_the_next_success_clears_the_error(session):
    panel = ArtPanel(session)
    with pytest.raises(ArtError):
        panel.load_folder("")
    panel.load_sample("openmoji")
    assert panel._error_area.value == ""


def test_an_error_of_a_click_stays_in_the_error_area(session):
    panel = ArtPanel(session)
    panel._folder_button.click()
    assert "folder path is empty" in panel._error_area.value


def test_an_excluded_picture_is_excluded_in_the_art_set_the_count_and_the_value(session):
    panel = ArtPanel(session).load_sample("openmoji").include("id003", False)
    assert "id003" not in {picture.id for picture in session.art.included()}
    assert "id003" not in panel.value
    assert "29 of 30 pictures included" in panel._counted.value
    assert panel._tiles["id003"][1].value is False


def test_ticking_a_box_is_the_same_as_include(session):
    panel = ArtPanel(session).load_sample("openmoji")
    seen = []
    panel.observe(lambda change: seen.append(len(change["new"])), "value")
    panel._tiles["id003"][1].value = False
    panel._tiles["id003"][1].value = True
    assert seen == [29, 30]
    assert len(session.art.included()) == 30


def test_an_unknown_picture_is_refused_by_its_id(session):
    panel = ArtPanel(session).load_sample("openmoji")
    with pytest.raises(ArtError, match="no picture 'id999'"):
        panel.include("id999")


def test_every_picture_or_none(session):
    panel = ArtPanel(session).load_sample("openmoji").include_all(False)
    assert panel.value == ()
    panel.include_all()
    assert len(panel.value) == 30


def test_a_large_set_has_pages_and_only_the_page_shown_has_widgets(session, open_widgets):
    panel = ArtPanel(session).load_sample("openmoji")
    assert list(panel._tiles) == [f"id{i:03d}" for i in range(24)]
    panel.show_page(2)
    assert list(panel._tiles) == [f"id{i:03d}" for i in range(24, 30)]
    assert "Page 2 of 2" in panel._page_text.value
    assert (panel._previous.disabled, panel._next.disabled) == (False, True)
    panel.show_page(1)
    before = open_widgets()
    panel.show_page(2).show_page(1)
    assert open_widgets() == before


def test_a_picture_left_out_stays_out_on_every_page(session):
    panel = ArtPanel(session).load_sample("openmoji").include("id025", False).show_page(2)
    assert panel._tiles["id025"][1].value is False
    assert "fedart-out" in panel._tiles["id025"][0]._dom_classes


def test_every_picture_has_alt_text_and_no_file_name_is_shown(session):
    panel = ArtPanel(session).load_sample("openmoji")
    image = panel._tiles["id003"][0].children[0].value
    assert 'alt="a fox number 3 &lt;b&gt;"' in image
    assert "secret-name" not in panel.to_html() + image


def test_files_of_the_browser_are_taken_one_message_each(session):
    panel = ArtPanel(session)
    panel._upload.take({"kind": "begin", "count": 2}, [])
    panel._upload.take({"kind": "file", "name": "a.png"}, [memoryview(b"aa")])
    panel._upload.take({"kind": "file", "name": "b.png"}, [memoryview(b"bb")])
    panel._upload.take({"kind": "end", "problems": []}, [])
    panel.wait(10)
    assert len(session.art) == 2


def test_a_file_too_large_to_send_is_named_and_the_others_are_kept(real_session):
    panel = ArtPanel(real_session)
    drop(panel, ("a.png", picture_of(1)), problems=[{"kind": "large", "name": "huge.heic", "size_bytes": 90 * 2**20}])
    (problem,) = real_session.art.problems
    assert (problem.file, problem.kind) == ("huge.heic", "too large")
    assert "90.0 MiB" in problem.reason
    assert "huge.heic" in panel._problems.value


def test_the_licence_of_the_sample_is_shown(session):
    panel = ArtPanel(session)
    assert "CC BY-SA 4.0; what you make of it must be shared" in panel._licence.value
    panel._sample.value = "second"
    assert "must be shared" not in panel._licence.value


def test_art_that_the_session_already_has_is_shown(make_session, fake_art):
    panel = ArtPanel(make_session(art=fake_art(5)))
    assert len(panel._tiles) == 5
    assert len(panel.value) == 5


def test_the_static_summary_has_the_pictures_and_the_count(session):
    panel = ArtPanel(session).load_sample("openmoji")
    bundle = panel._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "30 of 30 pictures included" in bundle["text/html"]
    assert bundle["text/plain"].startswith("ArtPanel(art set: openmoji")


def drop(panel, *files, problems=()):
    """What the browser sends when files are dropped."""
    panel._upload.take({"kind": "begin", "count": len(files)}, [])
    for name, data in files:
        panel._upload.take({"kind": "file", "name": name, "part": 1, "parts": 1}, [memoryview(data)])
    panel._upload.take({"kind": "end", "problems": list(problems)}, [])
    panel.wait(10)


@pytest.fixture
def drawn(real_session):
    """A panel with ten pictures of the artist's own, made of colours."""
    panel = ArtPanel(real_session)
    drop(panel, *((f"{i}.png", picture_of(i)) for i in range(10)))
    return panel


def test_two_more_pictures_are_added_to_the_ten_that_are_there(drawn):
    first = drawn.session.art.pictures[0].id
    drawn.include(first, False)
    drop(drawn, ("x.png", picture_of(20)), ("y.png", picture_of(21)))
    assert [p.name for p in drawn.session.art] == [*(f"{i}.png" for i in range(10)), "x.png", "y.png"]
    assert first not in drawn.value, "what was left out stays left out"
    assert "2 pictures added to 10" in drawn._outcome.value


def test_the_same_picture_is_recognised_by_its_content(drawn):
    drop(drawn, ("copy.png", picture_of(3)))
    assert len(drawn.session.art) == 10
    assert "the same picture as &#x27;3.png&#x27;, which is here already" in drawn._problems.value.lower()
    assert "all were here already" in drawn._outcome.value
    assert drawn.session.art.pictures[3].caption == "3", "its name says no more than the other one"


def test_captions_dropped_after_their_pictures_are_taken(drawn):
    drop(drawn, ("metadata.csv", b"file_name;text\n3.png;a red fox\n"), ("4.txt", b"an owl"))
    captions = {p.name: p.caption for p in drawn.session.art}
    assert (captions["3.png"], captions["4.png"], len(captions)) == ("a red fox", "an owl", 10)
    assert "2 captions changed" in drawn._outcome.value


def test_own_pictures_are_replaced_only_when_the_artist_says_so(drawn):
    drawn._how.value = "replace"
    drop(drawn, ("x.png", picture_of(20)))
    assert [p.name for p in drawn.session.art] == ["x.png"]
    assert "10 pictures of before were replaced" in drawn._outcome.value
    assert drawn._how.value == "add", "the choice holds for once"


def test_sample_art_does_not_take_the_place_of_own_pictures_unasked(drawn):
    with pytest.raises(ArtError, match="10 pictures of your own are loaded"):
        drawn.load_sample("openmoji")
    assert len(drawn.session.art) == 10
    assert "Replace the pictures below" in drawn._error_area.value
    drawn.load_sample("openmoji", replace=True)
    assert drawn.session.art.name == "openmoji"


def test_own_pictures_take_the_place_of_sample_art(real_session):
    panel = ArtPanel(real_session).load_sample("openmoji")
    drop(panel, ("x.png", picture_of(20)))
    assert [p.name for p in real_session.art] == ["x.png"]
    assert "The sample art gave way" in panel._outcome.value


def test_the_list_of_sample_art_shows_what_is_loaded(real_session):
    panel = ArtPanel(real_session).load_sample("gerald_ink")
    assert panel._sample.value == "gerald_ink"
    drop(panel, ("x.png", picture_of(20)))
    assert panel._sample.value == ""
    assert panel._sample.label == "None: 1 of your own pictures are loaded"
    assert panel._licence.value == ""
    assert ArtPanel(real_session)._sample.value == "", "also in a new panel"


def test_pictures_can_be_taken_out_again(drawn):
    first, second = (p.id for p in drawn.session.art.pictures[:2])
    drawn.include(first, False).remove_left_out()
    assert len(drawn.session.art) == 9
    drawn.remove_pictures([second])
    assert len(drawn.value) == 8
    drawn.remove_all()
    assert drawn.session.art is None
    assert drawn.value == ()
    drop(drawn, ("0.png", picture_of(0)))
    assert len(drawn.session.art) == 1


def test_a_folder_that_the_browser_cannot_open_ends_in_a_sentence(real_session):
    panel = ArtPanel(real_session)
    with pytest.raises(ArtError, match="No usable picture"):
        drop(panel, problems=[{"kind": "folder", "name": "drawings"}])
    assert "drawings: this browser cannot look into the folder" in panel._error_area.value
    assert "Type its path above" in panel._error_area.value
    assert not panel.is_busy


@pytest.mark.parametrize("kind", ["folder", "empty", "many", "unreadable", "large", "frames", "nonsense"])
def test_what_the_browser_says_of_a_file_is_listed_beside_the_others(real_session, kind):
    panel = ArtPanel(real_session)
    drop(panel, ("x.png", picture_of(1)), problems=[{"kind": kind, "name": "odd<1>", "count": 3, "size_bytes": "x"}])
    (problem,) = real_session.art.problems
    assert problem.file == "odd<1>"
    assert problem.todo
    assert "odd&lt;1&gt;" in panel._problems.value


def test_a_large_file_comes_in_parts(real_session):
    panel = ArtPanel(real_session)
    data = picture_of(1, size=64, kind="TIFF")
    panel._upload.take({"kind": "begin", "count": 1}, [])
    for i in range(3):
        part = data[i * 5000 : (i + 1) * 5000] if i < 2 else data[10000:]
        panel._upload.take({"kind": "file", "name": "scan.tif", "part": i + 1, "parts": 3}, [memoryview(part)])
    panel._upload.take({"kind": "end", "problems": []}, [])
    panel.wait(10)
    assert [p.name for p in real_session.art] == ["scan.tif"]


def test_remarks_are_a_table_with_file_row_finding_and_what_to_do(drawn):
    drop(drawn, ("a.png", picture_of(30)), ("metadata.csv", b"file_name,text\na.png,a fox\nnone.png,x\n"))
    html = drawn._problems.value
    for head in ("File", "Row", "What was found", "What to do"):
        assert f'<th scope="col">{head}</th>' in html
    assert "<caption>" in html
    assert "row 3" in html
    assert "1 thing to look at" in drawn._counted.value


def test_remarks_of_many_files_share_a_line():
    problems = [Problem(f"{i}.psd", ".psd is not read", "format", todo="Export it") for i in range(250)]
    html = remarks_table(problems)
    assert html.count("<tr>") == 2
    assert "0.psd</strong>, <strong>1.psd</strong>, <strong>2.psd</strong> and 247 more" in html
    assert remarks_table([]) == ""
