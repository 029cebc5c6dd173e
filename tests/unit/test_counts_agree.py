"""How many pictures the backbone was trained on is the same everywhere that it is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_notebook_model_card_and_attribution_tell_the_count_of_the_last_training_run() -> None:
    runs = [json.loads(line) for line in (ROOT / "recipes/backbone/log.jsonl").read_text().splitlines()]
    trained_on = next(run["n_train"] for run in reversed(runs) if "n_train" in run)
    card = (ROOT / "fedart_nb/diffusion/embedded/README.md").read_text(encoding="utf-8")
    assert f"{trained_on} training pictures" in card
    for name in ("notebooks/01-first-adapter.py", "ATTRIBUTION.md"):
        told = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(rf"trained\s+(# )?on\s+(# )?{trained_on:,}", told), name
