"""Everybody has a name of their own: typed in, or a guest's with a number."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedart_nb import SessionPanel
from fedart_nb.errors import FedArtError


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDART_HOME", str(tmp_path))


@pytest.fixture
def panel() -> Iterator[SessionPanel]:
    panel = SessionPanel()
    yield panel
    if panel.value is not None:
        panel.value.close()
    panel.close()


def test_the_name_opens_a_session_of_that_name_and_its_folder_stays(panel: SessionPanel, tmp_path: Path) -> None:
    assert panel.value is None
    session = panel.use("Mira")
    assert session.name == "Mira"
    assert panel.session is session
    assert session.folder.is_relative_to(tmp_path)
    assert panel.use("Mira") is session, "the same name keeps the session that is open"


def test_who_gives_no_name_is_a_guest_with_a_number_and_two_notebooks_are_two_artists(panel: SessionPanel) -> None:
    other = SessionPanel()
    names = {panel.session.name, other.session.name}
    assert all(name.startswith("Guest ") for name in names)
    assert panel.session.identity.id != other.session.identity.id
    folder = other.session.folder
    other.session.close()
    assert not folder.exists(), "a guest leaves nothing"
    other.close()


def test_an_empty_name_is_refused_with_what_to_do(panel: SessionPanel) -> None:
    with pytest.raises(FedArtError, match="Type what the others shall see"):
        panel.use("  ")
    assert "The name is empty" in panel.to_html()


def test_another_name_closes_the_session_that_was_open(panel: SessionPanel) -> None:
    guest = panel.session
    mira = panel.use("Mira")
    assert panel.value is mira
    assert not guest.folder.exists()
    assert "Mira" in repr(panel)
