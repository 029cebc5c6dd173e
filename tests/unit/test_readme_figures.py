"""The README's privacy figure says in picture, words and table what the kept run holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parents[2] / "recipes" / "readme"


@pytest.fixture
def figure(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(RECIPES))
    import privacy_figure

    yield privacy_figure
    for name in ("privacy_figure", "make"):
        sys.modules.pop(name, None)


def found() -> dict[str, Any]:
    lines = {}
    for index, name in enumerate(("eps1", "eps3", "eps8", "no_noise")):
        three = [0.2 + index / 10, 0.1 + index / 10, 0.3 + index / 10]
        lines[f"privacy.loss_{name}"] = {
            "value": 1.0 - index / 100,
            "spread": [0.9, 1.1],
            "baseline": {
                "loss_backbone": 1.05,
                "style_accuracy": three,
                "kid": [5 * v for v in three],
                "membership_auc": three,
                "identified_of_64": three,
                "identified_bound": 0.25 * (index + 1),
            },
        }
    return lines


def test_the_table_has_every_figure_at_every_epsilon(figure: Any) -> None:
    lines = figure.table(found()).splitlines()
    assert lines[0].count("|") == lines[2].count("|") == 7
    assert "0.970 (0.900 to 1.100) | backbone alone: 1.050" in lines[2]
    assert "0.20 (0.10 to 0.30) | 0.30 (0.20 to 0.40)" in lines[3]
    assert len(lines) == 2 + 5


def test_the_picture_is_a_png_and_its_words_hold_the_numbers(figure: Any) -> None:
    assert figure.picture(found()).startswith(b"\x89PNG")
    told = figure.alt(found())
    assert "membership AUC 0.20, 0.30, 0.40, 0.50 (guessing 0.50)" in told


def test_the_section_is_written_between_its_marks_alone(figure: Any, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{figure.BEGIN}\nold\n{figure.END}\nafter\n", encoding="utf-8")
    figure.between(readme, figure.BEGIN, figure.END, "new")
    assert readme.read_text(encoding="utf-8") == f"before\n{figure.BEGIN}\nnew\n{figure.END}\nafter\n"
