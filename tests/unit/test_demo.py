"""The demonstration reads the notebook's own cells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedart_nb.errors import FedArtError
from fedart_nb.workshop import demo

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / demo.NOTEBOOK


def test_the_cells_of_both_roles_are_found_in_the_notebook() -> None:
    cells = demo.read_cells(NOTEBOOK)
    host = [c.source for c in cells if "host" in c.tags]
    artist = [c.source for c in cells if "artist" in c.tags]
    assert any("HostPanel" in source for source in host)
    assert any("open_room" in source for source in host)
    assert any("RoomPanel" in source and "INVITE" in source for source in artist)
    assert any("Keepsake" in source for source in artist)
    assert not any("[markdown]" in c.source or c.source.startswith("# #") for c in cells)


def test_a_missing_notebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(FedArtError, match=r"missing\.ipynb"):
        demo.main(["--notebook", str(tmp_path / "missing.ipynb"), "--out", str(tmp_path)])


IN_BETWEEN = """
from fedart_nb._system.memory import PeakMemory
with PeakMemory() as memory:
    before = memory.peak_gib
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    memory._look()
print(memory.peak_gib - before)
"""


def test_peak_memory_sees_what_was_allocated_in_between() -> None:
    """In a process of its own: an old one may give back as much meanwhile."""
    ran = subprocess.run([sys.executable, "-c", IN_BETWEEN], capture_output=True, text=True, check=True, timeout=60)
    assert 0.15 < float(ran.stdout) < 0.4


@pytest.mark.slow
@pytest.mark.process
def test_the_demonstration_runs_to_the_end_with_four_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEDART_FAST", "1")
    assert demo.main(["--out", str(tmp_path), "--notebook", str(NOTEBOOK)]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name, _ in demo.ARTISTS)
    page = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert page.count("<img") == len(demo.ARTISTS) * 4 * 4
