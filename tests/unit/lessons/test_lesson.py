"""A lesson begins afresh each time it is opened and each time it is started over."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedart_nb import ArtSet, PicturePrivacy, Session, TrainConfig
from fedart_nb.errors import BudgetExceeded
from fedart_nb.widgets import ArtPanel, registry
from fedart_nb.workshop.lessons import Lesson

SHORT = TrainConfig(steps=1, batch=2, validate_every=0)


def spend(session: Session, art: ArtSet) -> None:
    session.art = art
    list(session.train_personal(SHORT, privacy=PicturePrivacy(epsilon=3.0)))


def test_what_is_spent_in_a_lesson_is_spent_nowhere_else_and_not_in_the_next_lesson(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDART_HOME", str(tmp_path))
    art = ArtSet.sample("openmoji", limit=6)
    first = Lesson("Ada")
    spend(first.session, art)
    with pytest.raises(BudgetExceeded):
        spend(first.session, art)
    second = Lesson("Ada")
    spend(second.session, art)
    own = Session("Ada")
    spend(own, art)
    again = Lesson("Ada")
    spend(again.session, art)
    assert own.identity.id not in {first.session.identity.id, second.session.identity.id}
    for panel in (first, second, again):
        panel.close()
    own.close()


def test_starting_over_gives_a_fresh_session_takes_the_panels_away_and_deletes_the_folder() -> None:
    lesson = Lesson("Ada")
    old = lesson.session
    folder, panel, host = old.folder, ArtPanel(old), lesson.host("Studio")
    assert host.folder.is_relative_to(folder)
    fresh = lesson.start_over()
    assert lesson.session is fresh
    assert fresh.identity.id != old.identity.id
    assert not folder.exists()
    assert panel not in registry.panels()
    assert lesson.value == 1
    assert "Start this lesson over" in {button.description for button in buttons(lesson)}
    lesson.close()
    fresh.close()


def buttons(panel: object) -> list:
    """All buttons of a panel."""
    import ipywidgets

    found, left = [], [panel]
    while left:
        part = left.pop()
        left += getattr(part, "children", ())
        found += [part] if isinstance(part, ipywidgets.Button) else []
    return found


def test_the_notebook_s_names_for_the_session_stand_for_the_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    lesson = Lesson("Ada")
    names = {"session": lesson.session, "mine": lesson.session, "other": 3}
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(user_ns=names))
    fresh = lesson.start_over()
    assert names == {"session": fresh, "mine": fresh, "other": 3}
    lesson.close()
    fresh.close()
