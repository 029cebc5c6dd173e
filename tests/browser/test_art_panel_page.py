"""Files are dropped onto the art panel as a person drops them: from the disk, a folder and a TIFF among them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

SETUP = """\
import os
os.environ["FEDART_FAST"] = "1"
from fedart_nb import ArtPanel, Session
session = Session("Me")"""
PANEL = "art = ArtPanel(session)\nart"
WAIT_MS = 60_000
BROKEN_DROP = """zone => {
    const folder = {name: 'my drawings', type: '', size: 4096,
                    arrayBuffer: () => Promise.reject(new DOMException('gone', 'NotFoundError'))};
    const event = new Event('drop', {bubbles: true, cancelable: true});
    Object.defineProperty(event, 'dataTransfer', {value: {files: [folder], items: []}});
    zone.dispatchEvent(event);
}"""


def drawing(seed: int, kind: str = "PNG", **options: object) -> bytes:
    """A small drawing: one coloured shape on white."""
    rng = np.random.default_rng(seed)
    pixels = np.full((96, 96, 3), 255, np.uint8)
    top, left = rng.integers(8, 40, 2)
    pixels[top : top + 44, left : left + 40] = rng.integers(20, 220, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def drop(page: Page, zone: Locator, *paths: Path) -> None:
    """Drop files and folders of the disk, as the desktop does."""
    zone.scroll_into_view_if_needed()
    box = zone.bounding_box()
    assert box
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})
    devtools.detach()


@pytest.mark.timeout(300)
def test_files_a_folder_and_captions_are_dropped_and_what_is_odd_is_listed(page, lab, tmp_path):
    lab.write("art.ipynb", SETUP, PANEL)
    lab.open_notebook(page, "art.ipynb")
    lab.run_all(page, timeout_s=90)
    art = lab.panel(page, "Your art")
    zone = art.locator(".fedart-upload")

    # ten pictures, a TIFF among them
    first = tmp_path / "first"
    first.mkdir()
    for i in range(9):
        (first / f"{i}.png").write_bytes(drawing(i))
    (first / "scan.tif").write_bytes(drawing(9, "TIFF"))
    drop(page, zone, *sorted(first.iterdir()))
    expect(art.get_by_text("10 of 10 pictures included").first).to_be_visible(timeout=WAIT_MS)
    expect(zone.get_by_text("10 of 10 files handed to the kernel")).to_be_visible()
    expect(art.get_by_label("Sample art")).to_have_value("None: 10 of your own pictures are loaded")

    # a folder with more: captions in Windows' encoding, a file that is no picture, one that is there already
    more = tmp_path / "more" / "train"
    more.mkdir(parents=True)
    (more / "fox.png").write_bytes(drawing(20))
    (more / "owl.png").write_bytes(drawing(21))
    (more / "copy.png").write_bytes(drawing(3))
    (more / "fox.txt").write_bytes("ein röter Fuchs".encode("cp1252"))
    (more / "notes.png").write_text("these are words")
    (more / ".DS_Store").write_bytes(b"x")
    drop(page, zone, tmp_path / "more")
    expect(art.get_by_text("12 of 12 pictures included").first).to_be_visible(timeout=WAIT_MS)
    expect(art.get_by_text("2 pictures added to 10").first).to_be_visible()
    expect(art.get_by_text("ein röter Fuchs").first).to_be_visible()
    table = art.get_by_role("table", name="What was found in the files")
    expect(art.get_by_text("4 things to look at").first).to_be_visible()
    for file, words in (
        ("more/train/notes.png", "Left out"),
        ("more/train/copy.png", "The same picture as '3.png', which is here already"),
        ("more/train/fox.txt", "save the file again as UTF-8"),
    ):
        expect(table.get_by_role("row").filter(has_text=file).filter(has_text=words)).to_be_visible()
    assert lab.look(page, "art-panel-remarks", art) == []

    # what the browser cannot open ends in a sentence, and nothing is lost
    zone.evaluate(BROKEN_DROP)
    expect(zone.get_by_text("0 of 1 files handed to the kernel; 1 could not be: my drawings")).to_be_visible()
    expect(art.get_by_role("alert")).to_contain_text("my drawings: this browser cannot look into the folder")
    expect(art.get_by_text("12 of 12 pictures included").first).to_be_visible()
    assert lab.look(page, "art-panel-folder", art) == []

    # the choice to replace, by keyboard
    art.get_by_role("radio", name="Add them to the pictures below").focus()
    page.keyboard.press("ArrowDown")
    drop(page, zone, more / "owl.png")
    expect(art.get_by_text("1 of 1 pictures included").first).to_be_visible(timeout=WAIT_MS)
    expect(art.get_by_text("11 pictures of before were replaced").first).to_be_visible()
