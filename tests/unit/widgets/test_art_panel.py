"""The art panel loads, shows, and keeps consent; what goes wrong is said in its own error area."""

from __future__ import annotations

import pytest

from fedart_nb.errors import ArtError
from fedart_nb.widgets import ArtPanel


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
    assert "1 file could not be used" in panel._problems.value
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


def test_a_file_too_large_to_send_is_named_and_the_others_are_kept(session):
    panel = ArtPanel(session)
    panel._upload.take({"kind": "begin"}, [])
    panel._upload.take({"kind": "file", "name": "a.png"}, [memoryview(b"aa")])
    panel._upload.take({"kind": "end", "problems": [{"name": "huge.heic", "size_bytes": 50 * 2**20}]}, [])
    panel.wait(10)
    assert "huge.heic" in panel._error_area.value
    assert "50.0 MiB" in panel._error_area.value
    assert len(session.art) == 1


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
