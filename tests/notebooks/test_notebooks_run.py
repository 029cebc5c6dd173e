"""Run All, top to bottom, as a reader does it who is alone: no cell fails, and a first picture is there soon."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

from fedart_nb.relay.process import relay_process

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"

pytestmark = [pytest.mark.process, pytest.mark.timeout(420)]


def run_all(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, **environment: str):
    """The notebook after Run All, and the seconds after which its first picture was there; tells both, and in all."""
    small = {"FEDART_FAST": "1", "FEDART_THREADS": "1", "OMP_NUM_THREADS": "1", "FEDART_HOME": str(tmp_path / "home")}
    for key, value in (small | environment).items():
        monkeypatch.setenv(key, value)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    started, pictures = time.monotonic(), []

    def look(cell, cell_index, execute_reply):
        if "<img" in str(cell.get("outputs")):
            pictures.append(time.monotonic() - started)

    client = NotebookClient(notebook, timeout=150, resources={"metadata": {"path": tmp_path}}, on_cell_executed=look)
    client.execute()
    with capsys.disabled():
        print(f"\n{name}: first picture after {pictures[0]:.0f} s, all cells after {time.monotonic() - started:.0f} s")
    return notebook, pictures[0]


def html(notebook) -> str:
    return "".join(
        str(output.get("data", {}).get("text/html", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )


def test_the_first_adapter_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook, _ = run_all("01-first-adapter", tmp_path, monkeypatch, capsys)
    [folder] = (tmp_path / "home" / "sessions").glob("Me-*")
    assert (folder / "personal" / "pytorch_lora_weights.safetensors").is_file()
    assert "with your adapter" in str(notebook.cells)


def test_rounds_together_for_a_lone_reader(tmp_path, monkeypatch, capsys):
    with relay_process(tmp_path / "relay") as url:
        notebook, _ = run_all("04-rounds-together", tmp_path, monkeypatch, capsys, FEDART_RELAY=url, FEDART_NAME="Ada")
    for stage in ("backbone", "own adapter alone", "shared", "shared + personal"):
        assert f"red apple, {stage}, Ada" in html(notebook)


def test_what_the_relay_saw_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook, _ = run_all("05-what-the-relay-saw", tmp_path, monkeypatch, capsys, FEDART_RELAY="")
    assert "What the relay holds of it" in html(notebook)
    assert "Your update lies open" not in html(notebook), "nobody colludes at first"
    assert "0 collude: correlation" in str(notebook.cells)
    assert "3 collude: correlation 1.00" in str(notebook.cells)


def test_what_an_update_gives_away_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook, _ = run_all("02-what-an-update-gives-away", tmp_path, monkeypatch, capsys, FEDART_RELAY="")
    told = str(notebook.cells)
    assert "not recovered by this attack within this budget" in told.lower()
    assert "Identification, on the update that the pixel attack could not read:" in told
    assert "your masked share" in told
    assert "nothing bounds what a better attack would find" in told


def test_noise_that_protects_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook, _ = run_all("03-noise-that-protects", tmp_path, monkeypatch, capsys)
    told = str(notebook.cells)
    assert "step 3: signal" in told
    assert "times your signal" in told
    assert "epsilon 3" in html(notebook)
    assert "Nothing was trained" in told


def test_your_style_stays_yours_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook, _ = run_all("06-your-style-stays-yours", tmp_path, monkeypatch, capsys, FEDART_RELAY="")
    told = str(notebook.cells)
    assert "at the relay since: 0 messages, 0 bytes" in told
    assert "shared + your personal" in html(notebook)
    assert "shared without you: 0." in told
    assert "cat, rank 12: 0.00 of 255 away" in html(notebook), "what the file draws is what both draw"
    assert "Told from your published works that you took part" in told


def test_consent_withdrawal_fairness_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    notebook, _ = run_all("07-consent-withdrawal-fairness", tmp_path, monkeypatch, capsys, FEDART_RELAY="")
    told = str(notebook.cells)
    assert "Round 1 is over, and round 2 asks." in told
    assert "188 pictures; left out" in told
    assert "It is in the sum of round 1" in told, "the picture that was left out of round 2 alone"
    assert "of 6 artists gained" in told
    assert (
        "goes back to before round 1, and may say no. If it does, the others are asked to train 2 rounds again" in told
    )
    assert "a new shared adapter from 5 artists" in told
    assert "The relay holds 0 uploads of you" in told
    assert "You withdrew, and the room was asked to go back" in told


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.py")))
def test_the_pair_says_the_same_and_keeps_no_output(name, tmp_path):
    shutil.copy(NOTEBOOKS / f"{name}.py", tmp_path)
    script, notebook = jupytext.read(tmp_path / f"{name}.py"), jupytext.read(NOTEBOOKS / f"{name}.ipynb")
    told = [[(c.cell_type, c.source, c.metadata.get("tags", [])) for c in book.cells] for book in (script, notebook)]
    assert told[0] == told[1]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert all(len(cell.source.splitlines()) <= 12 for cell in code)
