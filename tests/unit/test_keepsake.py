"""What an artist takes home, and the page made of several."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fedart_nb.analysis.keepsake import STAGES, Keepsake
from fedart_nb.workshop.gallery import write_gallery


@pytest.fixture
def keepsake() -> Keepsake:
    rng = np.random.default_rng(0)
    pictures = {stage: rng.integers(0, 256, (2, 16, 16, 3), np.uint8) for stage in STAGES}
    losses = dict(zip(STAGES, (1.0, 0.9, 0.8, 0.7), strict=True))
    return Keepsake("Ada <script>", "openmoji", 12, 3456, ("a cat", 'a "dog"'), (1, 2), losses, pictures)


class Page(HTMLParser):
    """Collects tags and the alt texts of pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.alts.append(dict(attrs).get("alt") or "")


def test_a_keepsake_survives_its_folder_with_the_same_pixels(keepsake: Keepsake, tmp_path: Path) -> None:
    again = Keepsake.load(keepsake.save(tmp_path / "home"))
    assert (again.name, again.losses, again.prompts) == (keepsake.name, keepsake.losses, keepsake.prompts)
    for stage in STAGES:
        np.testing.assert_array_equal(again.pictures[stage], keepsake.pictures[stage])


def test_every_picture_of_the_page_has_an_alt_text_and_names_cannot_inject_markup(
    keepsake: Keepsake, tmp_path: Path
) -> None:
    page = Page(write_gallery(tmp_path / "page.html", [keepsake, keepsake]).read_text(encoding="utf-8"))
    assert len(page.alts) == 2 * 2 * len(STAGES)
    assert all(page.alts)
    assert "script" not in page.tags


def test_the_page_says_that_updates_were_masked_and_marks_the_best_not_by_weight_alone(
    keepsake: Keepsake, tmp_path: Path
) -> None:
    text = write_gallery(tmp_path / "page.html", [keepsake]).read_text(encoding="utf-8")
    assert "relay and host saw sums alone" in text
    assert "★ 0.7000" in text
