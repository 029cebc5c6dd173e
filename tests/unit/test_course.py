"""The work folder: copies of the notebooks, and nothing of the user's is overwritten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedart_nb.errors import FedArtError
from fedart_nb.workshop import course


def test_an_empty_folder_gets_every_notebook_and_the_welcome_page_and_no_scripts(tmp_path: Path) -> None:
    work = course.prepare(tmp_path / "new" / "course")
    there = {path.name for path in work.path.iterdir()}
    assert there == set(work.copied)
    assert {path.suffix for path in work.path.iterdir()} == {".ipynb", ".md"}
    assert len(list(work.path.glob("*.ipynb"))) == len(list(course.notebooks().glob("*.ipynb"))) >= 7
    assert work.changed == ()


def test_a_changed_notebook_stays_and_is_named_and_a_missing_one_is_copied_again(tmp_path: Path) -> None:
    course.prepare(tmp_path)
    mine, gone = tmp_path / "01-first-adapter.ipynb", tmp_path / "02-what-an-update-gives-away.ipynb"
    mine.write_text("mine")
    gone.unlink()
    again = course.prepare(tmp_path)
    assert mine.read_text() == "mine"
    assert again.changed == (mine.name,)
    assert again.copied == (gone.name,)


def test_the_welcome_page_links_every_notebook_and_no_other(tmp_path: Path) -> None:
    work = course.prepare(tmp_path)
    linked = set(re.findall(r"\((\S+\.ipynb)\)", (work.path / course.WELCOME).read_text(encoding="utf-8")))
    assert linked == {path.name for path in work.path.glob("*.ipynb")}


def test_an_unknown_notebook_is_answered_with_the_known_ones() -> None:
    with pytest.raises(FedArtError, match=r"'99-none\.ipynb'.*01-first-adapter\.ipynb"):
        course.notebook("99-none.ipynb")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(FedArtError, match="file"):
        course.prepare(blocked / "course")
