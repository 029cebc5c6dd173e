"""A lesson runs again in a new kernel; a notebook that was run on own art holds none of it, widget state included."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image

from fedart_nb.art import ArtSet

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
CAPTION = "my daughter at the lake"
SMALL = {"FEDART_FAST": "1", "FEDART_THREADS": "1", "OMP_NUM_THREADS": "1", "FEDART_RELAY": ""}
#: The cells of notebook 3 without which the second run in one home stopped with BudgetExceeded.
SPENDING = ("lesson = Lesson", "session.art = ", "wish, short = ", "from fedart_nb.errors import BudgetExceeded")

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]


def run(notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for key, value in (SMALL | {"FEDART_HOME": str(tmp_path / "home")}).items():
        monkeypatch.setenv(key, value)
    NotebookClient(notebook, timeout=150, resources={"metadata": {"path": tmp_path}}).execute()
    return notebook


def test_what_notebook_3_spends_is_there_again_in_a_new_kernel(tmp_path, monkeypatch):
    for _ in range(2):
        notebook = nbformat.read(NOTEBOOKS / "03-noise-that-protects.ipynb", as_version=4)
        notebook.cells = [cell for cell in notebook.cells if any(mark in cell.source for mark in SPENDING)]
        assert len(notebook.cells) == len(SPENDING)
        told = str(run(notebook, tmp_path, monkeypatch).cells)
        assert "Start this lesson over" in json.dumps(notebook.metadata)
        assert "Epsilon 3 of 3 is spent" in told, "the second training is refused, in each kernel"


def test_a_notebook_that_was_run_on_own_art_saves_no_picture_caption_or_token(tmp_path, monkeypatch):
    folder = tmp_path / "drawings"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        squares = np.kron(rng.integers(0, 256, (4, 4, 3)).astype(np.uint8), np.ones((32, 32, 1), np.uint8))
        Image.fromarray(squares).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"{CAPTION}, number {i}", encoding="utf-8")
    first = (
        "from fedart_nb import *\nsession = Session('Ada')\n"
        f"session.art = ArtSet.from_folder({str(folder)!r})\nhost = HostPanel(Host('Studio')).open_room()\nhost"
    )
    cells = (
        first,
        "ArtPanel(session)",
        "train = TrainPanel(session, steps=2)\ntrain.start().wait()\ntrain",
        "style = StylePanel(session, steps=2, ahead=0, seeds=(1,))\nstyle.start()\nstyle.wait()\nstyle",
        "room = RoomPanel(session, invite=str(host.invite))\nroom",
        "ConsentPanel(session)",
        "NoisePanel(session)",
        "lab = InversionPanel(session, tries=5, budget_s=5, short=True)\nlab.run().wait()\nlab",
        "from fedart_nb.analysis.keepsake import Keepsake\nkept = Keepsake.of(session, ['cat'], steps=2)\nkept",
        "KeepsakePanel(session, kept)",
        "session.art, session.art.pictures[:3], lab.value, host.invite",
        "from IPython.display import display\ndisplay(train, session.art)",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    saved = json.dumps(run(notebook, tmp_path, monkeypatch))
    assert "widget-state" in saved, "what the widgets hold is in the file"
    assert CAPTION not in saved
    assert "token=" not in saved
    art = ArtSet.from_folder(folder)
    for picture in art:
        for size in (64, 96):
            assert base64.b64encode(art.thumbnail_png(picture.id, size)).decode()[:600] not in saved
    assert "Keep my pictures and captions in the saved notebook" in saved


def test_exported_html_shows_each_panel_as_it_was_at_its_last_change_and_no_missing_widget(tmp_path, monkeypatch):
    cells = (
        "from fedart_nb.workshop.lessons import Lesson, SelfCheck\nlesson = Lesson('Ada')\nlesson",
        "check = SelfCheck('Who?', {'one': 'No.', 'two': 'It is two.'}, right='two')\ncheck",
        "from fedart_nb import LedgerPanel\nLedgerPanel(lesson.session, room='personal')",
        "check.choose('two');",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    run(notebook, tmp_path, monkeypatch)
    del notebook.metadata["widgets"]  # JupyterLab saves no widget state unless it is told to
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert page.count('class="fedart-still ') == 3
    assert "Right: two" in page, "what was answered after the panel was displayed"
    assert "widget-view+json" not in page, "nothing is asked for that is not there"
