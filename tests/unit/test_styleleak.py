"""Shadow federations in the kernel: what is trained, what is asked for, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny

from fedart_nb.analysis.style_leakage import StyleLeak, style_leak
from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import AttackError
from fedart_nb.events import Note
from fedart_nb.session import Session


@pytest.fixture
def session(tmp_path):
    made = Session("Ada", folder=tmp_path, backbone=Backbone(tiny.build("flow"), name="tiny"))
    made.art = ArtSet.sample("openmoji", limit=16, size_px=made.backbone.size_px)
    return made


def found(session: Session, **options: object) -> StyleLeak:
    *notes, leak = style_leak(session, company=("lorelei", "gameicons"), steps=2, repeats=1, cohorts=10, **options)
    assert all(isinstance(note, Note) for note in notes)
    assert isinstance(leak, StyleLeak)
    return leak


def test_every_size_that_the_company_fills_is_measured_with_and_without_noise(session):
    leak = found(session, sizes=(1, 3, 5))
    assert set(leak.curves) == {(False, 1), (False, 3), (True, 1), (True, 3)}
    assert all(0 <= value <= 1 for value in leak.curves.values())
    assert "sum of 3 with noise at epsilon 8" in str(leak)


def test_without_noise_the_same_seed_finds_the_same(session):
    again = [found(session, sizes=(1,), epsilon=math.inf).curves for _ in range(2)]
    assert again[0] == again[1]
    assert set(again[0]) == {(False, 1)}


def test_nothing_of_the_session_changes(session):
    before = (session.shared, session.personal, sorted(path.name for path in session.folder.rglob("*")))
    found(session, sizes=(1,), epsilon=math.inf)
    assert (session.shared, session.personal, sorted(path.name for path in session.folder.rglob("*"))) == before


def test_without_test_pictures_a_third_of_the_others_stand_for_published_works(session, tmp_path):
    folder = tmp_path / "art"
    folder.mkdir()
    from PIL import Image

    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    session.art = ArtSet.from_folder(folder, size_px=session.backbone.size_px)
    for picture in session.art.included("test"):
        session.art.include(picture.id, included=False)
    leak = found(session, sizes=(1,), epsilon=math.inf)
    every = len(session.art.included("train"))
    assert leak.published == math.ceil(every / 3)
    assert leak.pictures == every - leak.published


def test_a_company_of_one_or_of_strangers_is_refused_with_the_names_known(session):
    for company in (("lorelei",), ("lorelei", "nobody")):
        with pytest.raises(AttackError, match=r"expected two or more of .*openmoji"):
            next(style_leak(session, company=company))
