"""Backbones and pictures for the tests of training and sampling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import build

from fedart_nb.diffusion import Backbone, LatentSet
from fedart_nb.diffusion.latents import latents_of


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder in diffusers' format for a kind of pipeline; written once."""
    folders: dict[str, Path] = {}

    def save(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            build(kind).save_pretrained(folders[kind])
        return folders[kind]

    return save


@pytest.fixture(scope="session", params=["flow", "epsilon"])
def backbone(request: pytest.FixtureRequest, saved: Callable[[str], Path]) -> Backbone:
    return Backbone.from_pretrained(saved(request.param), device="cpu")


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


@pytest.fixture
def data(backbone: Backbone, pixels: np.ndarray) -> LatentSet:
    captions = ["cat", "dog", "red cat", "blue dog", "red dog", "cat"]
    return latents_of(backbone, pixels, captions, [str(i) for i in range(6)])
