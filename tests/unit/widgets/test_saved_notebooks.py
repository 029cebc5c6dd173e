"""A saved notebook holds no picture, caption or token of the artist's unless the artist ticks the box."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from fedart_nb import ArtPanel, ArtSet, Host, HostPanel, Session
from fedart_nb.attacks import Frame, Knowledge, Outcome
from fedart_nb.attacks.scoring import Truth
from fedart_nb.relay import Invite
from fedart_nb.widgets import ConsentPanel, InversionPanel, NoisePanel, RoomPanel, TrainPanel
from fedart_nb.widgets.copyable import Copyable
from fedart_nb.widgets.unsaved import UnsavedHTML, UnsavedText

CAPTION = "my daughter at the lake"
INVITE = str(Invite("http://127.0.0.1:8765", "studio", "t0ken-that-lets-people-in", "0" * 32))


@pytest.fixture
def own_art(tmp_path: Path) -> ArtSet:
    """Six pictures of coloured squares in a folder, each with its caption."""
    rng = np.random.default_rng(0)
    for i in range(6):
        squares = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(np.kron(squares, np.ones((32, 32, 1), np.uint8))).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"{CAPTION}, number {i}", encoding="utf-8")
    return ArtSet.from_folder(tmp_path)


@pytest.fixture
def session(tmp_path: Path, own_art: ArtSet) -> Session:
    session = Session("Ada", folder=tmp_path / "session")
    session.art = own_art
    return session


def parts_of(widget: Any) -> list[Any]:
    """A widget and all that it is made of."""
    return [widget, *(part for child in getattr(widget, "children", ()) for part in parts_of(child))]


def saved(panel: Any) -> str:
    """All that a notebook saves of a panel: the state of its widgets, and its static output."""
    state = json.dumps([str(part.get_state()) for part in parts_of(panel)])
    return state + json.dumps(panel._repr_mimebundle_())


def keep_box(panel: Any) -> ipywidgets.Checkbox:
    boxes = [part for part in parts_of(panel) if isinstance(part, ipywidgets.Checkbox)]
    return next(box for box in boxes if box.description.startswith("Keep my pictures"))


def shown(panel: Any) -> str:
    """All that a panel shows beside a running kernel, saved or not."""
    return "".join(part.value for part in parts_of(panel) if isinstance(part, UnsavedHTML))


@pytest.mark.parametrize("open_panel", [ArtPanel, TrainPanel, ConsentPanel, NoisePanel, InversionPanel, RoomPanel])
def test_no_panel_saves_own_pictures_or_captions(open_panel: Any, session: Session, own_art: ArtSet) -> None:
    panel = open_panel(session)
    try:
        kept = saved(panel)
        assert CAPTION not in kept
        for picture in own_art:
            for size in (64, 96):
                assert base64.b64encode(own_art.thumbnail_png(picture.id, size)).decode()[:400] not in kept
    finally:
        panel.close()


def test_the_gallery_shows_them_beside_the_kernel_and_saves_them_only_while_the_box_is_ticked(session: Session) -> None:
    panel = ArtPanel(session)
    assert shown(panel).count("data:image/png") == 6
    assert f"{CAPTION}, number 3" in shown(panel)
    assert "Not ticked: a saved or exported notebook holds none of them" in str(
        [part.value for part in parts_of(panel) if isinstance(part, ipywidgets.HTML)]
    )
    keep_box(panel).value = True
    assert saved(panel).count("data:image/png") == 12, "in the widgets, and in the static output"
    keep_box(panel).value = False
    assert "data:image/png" not in saved(panel)
    assert CAPTION not in saved(panel)
    panel.close()


def test_one_tick_counts_for_all_panels_of_a_session_and_for_no_other(session: Session, tmp_path: Path) -> None:
    art, train = ArtPanel(session), TrainPanel(session)
    other = Session("Ben", folder=tmp_path / "ben")
    other.art = session.art
    others = ArtPanel(other)
    keep_box(train).value = True
    assert keep_box(art).value
    assert not keep_box(others).value
    assert CAPTION not in saved(others)
    for panel in (art, train, others):
        panel.close()


def test_sample_art_is_kept_and_own_art_in_its_place_is_not(session: Session, own_art: ArtSet) -> None:
    session.art = ArtSet.sample("openmoji", limit=6)
    panel = ArtPanel(session)
    assert saved(panel).count("data:image/png") >= 6
    panel.load_files([(picture.name, own_art.thumbnail_png(picture.id, 96)) for picture in own_art])
    assert "data:image/png" not in saved(panel)
    panel.close()


def test_an_invite_is_in_no_widget_state_and_still_joins(session: Session) -> None:
    panel = RoomPanel(session, invite=INVITE)
    assert "t0ken" not in saved(panel)
    field = next(part for part in parts_of(panel) if isinstance(part, UnsavedText))
    assert field.text == INVITE
    copyable = Copyable(label="Invite link", text=INVITE)
    assert "t0ken" not in str(copyable.get_state())
    panel.close()


def test_a_relay_s_address_with_its_opening_secret_is_in_no_widget_state(tmp_path: Path) -> None:
    panel = HostPanel(Host("Studio", folder=tmp_path), relay="https://relay.example/#open=sesame-sesame")
    assert "sesame" not in saved(panel)
    assert "https://relay.example" in saved(panel)
    panel.close()


def test_what_is_typed_into_the_link_field_reaches_the_kernel_and_stays_out_of_the_state() -> None:
    field = UnsavedText(label="Invite link")
    field.take({"kind": "text", "text": INVITE})
    assert field.text == INVITE
    assert "t0ken" not in str(field.get_state())


def test_no_repr_and_no_sentence_of_an_attack_repeats_a_caption(own_art: ArtSet) -> None:
    assert CAPTION not in repr(own_art) + repr(own_art.pictures)
    first = own_art.pictures[0]
    assert first.name not in repr(first)
    assert first.id in repr(first)
    frame = Frame("captions", 1, 1, 0.1, 1.0, captions=(CAPTION,))
    for told in (frame, Outcome(frame, True, "why."), Truth(captions=(CAPTION,)), Knowledge(captions=(CAPTION,))):
        assert CAPTION not in repr(told) + str(told)
