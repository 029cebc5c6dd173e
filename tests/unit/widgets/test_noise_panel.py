"""The noise panel flips ready-made frames at once, and computes one on the artist's own art when asked."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import build

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Backbone, cache_latents
from fedart_nb.diffusion.noise_preview import NoiseFrame, Seen, load_frames, noise_frame, save_frames
from fedart_nb.errors import PrivacyError, TrainingError
from fedart_nb.widgets import NoisePanel

DEADLINE_S = 60.0
EPSILONS = (1.0, 8.0, math.inf)


def frame(epsilon: float) -> NoiseFrame:
    rng = np.random.default_rng(0)
    seen = Seen(
        right=1,
        judged=2,
        artists=11,
        similarity=0.25,
        guess=0.5,
        picked=0.996,
        candidates=12,
        bound=0.998,
        rebuilt=rng.integers(0, 256, (32, 32, 3), np.uint8),
    )
    return NoiseFrame(
        epsilon=epsilon,
        delta=1e-3,
        noise_multiplier=0.0 if epsilon == math.inf else 2.0,
        clip_norm=0.02,
        steps=10,
        batch=4,
        trained_on=20,
        loss_before=1.0,
        loss_after=0.9,
        norms=(0.01, 0.05),
        spent=((5, epsilon / 2), (10, epsilon)),
        sentence="This noise is 3 times your signal.",
        prompts=("a cat", "a <dog>"),
        pictures=rng.integers(0, 256, (2, 32, 32, 3), np.uint8),
        seen=seen if epsilon == 8.0 else None,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_frames([frame(epsilon) for epsilon in EPSILONS], tmp_path / "frames", about="a sample artist")
    return tmp_path / "frames"


@pytest.fixture
def session() -> Any:
    backbone = Backbone(build("flow"), name="tiny")
    art = ArtSet.sample("fluent_ink", limit=8, size_px=32)
    return SimpleNamespace(art=art, backbone=backbone, latents=lambda split: cache_latents(backbone, art, split))


def test_frames_survive_being_kept(folder: Path) -> None:
    about, frames = load_frames(folder)
    assert about == "a sample artist"
    assert [one.epsilon for one in frames] == list(EPSILONS)
    np.testing.assert_array_equal(frames[0].pictures, frame(1.0).pictures)
    assert frames[1] == frame(8.0)
    assert frames[1].seen is not None
    np.testing.assert_array_equal(frames[1].seen.rebuilt, frame(8.0).seen.rebuilt)
    assert frames[0].seen is None
    assert frames[2].spent == ()
    (folder / "1.png").unlink()
    with pytest.raises(PrivacyError, match="compute your own"):
        load_frames(folder)


def test_the_slider_flips_frames_in_a_tenth_of_a_second(session: Any, folder: Path) -> None:
    panel = NoisePanel(session, frames=folder)
    assert panel.value.epsilon == 8.0
    for epsilon in EPSILONS:
        panel.show(epsilon)
    began = time.process_time()
    panel.show(1.0)
    assert time.process_time() - began < 0.1
    assert panel.value.epsilon == 1.0
    assert "3 times your signal" in panel._sheet.value
    assert "73.1 times in 100" in panel._meaning.value
    assert "a &lt;dog&gt;" in panel._sheet.value
    panel.show(math.inf)
    assert "nothing is promised" in panel._meaning.value
    with pytest.raises(PrivacyError, match="there are: epsilon 1, epsilon 8, no noise"):
        panel.show(5.0)


def test_a_judge_and_an_attacker_stand_beside_the_pictures(session: Any, folder: Path) -> None:
    panel = NoisePanel(session, frames=folder)
    assert "1 of 2 pictures judged to be the artist&#x27;s, among 11" in panel._sheet.value
    assert 'alt="reconstruction, SSIM 0.25"' in panel._sheet.value
    assert "a guess without the update reaches 0.50" in panel._sheet.value
    assert "out of 12 in 99% of tries" in panel._sheet.value, "never rounded to certainty"
    panel.show(1.0)
    assert "reconstruction" not in panel._sheet.value


def test_a_page_without_a_kernel_shows_every_frame(session: Any, folder: Path) -> None:
    page = NoisePanel(session, frames=folder).to_html()
    assert page.count("<details><summary>Epsilon") == 2
    assert "<details><summary>No noise" in page
    assert page.count('alt="“a cat” at epsilon 1"') == 1
    assert "<script" not in page


def test_computing_exactly_puts_the_artist_s_own_frame_in_place(session: Any, folder: Path) -> None:
    panel = NoisePanel(session, frames=folder, steps=2)
    panel.show(1.0)
    panel.compute()
    panel.wait(DEADLINE_S)
    assert panel.own[1.0].epsilon == 1.0
    assert panel.value is panel.own[1.0]
    assert panel.value.spent[-1][1] <= 1.0
    assert panel.value.loss_after is not None
    assert panel.value.seen is not None
    assert panel.value.seen.candidates == 8
    assert panel.value.seen.picked <= panel.value.seen.bound + 3 * (0.25 / (8 * 20)) ** 0.5
    assert "your own art, computed here" in panel._sheet.value
    panel.show(8.0)
    assert "a sample artist" in panel._sheet.value


def test_without_art_it_says_what_to_do(session: Any, folder: Path) -> None:
    session.art = None
    panel = NoisePanel(session, frames=folder)
    with pytest.raises(TrainingError, match="Choose pictures first"):
        panel.compute()
    assert "Choose pictures first" in panel._error_area.value


def test_a_frame_without_noise_still_clips_and_promises_nothing(session: Any) -> None:
    *_, made = noise_frame(session.backbone, session.latents("train"), wished=math.inf, prompts=["cat"], steps=2)
    assert isinstance(made, NoiseFrame)
    assert made.noise_multiplier == 0.0
    assert "epsilon is infinite" in made.sentence
    assert made.pictures.shape == (1, 32, 32, 3)
    assert "1 pictures" in str(made)


def test_the_frames_that_ship_are_there_and_go_from_strong_noise_to_none() -> None:
    from fedart_nb.widgets import noise_panel

    _, frames = load_frames(noise_panel._FRAMES)
    epsilons = [one.epsilon for one in frames]
    assert epsilons == sorted(epsilons)
    assert epsilons[-1] == math.inf
    assert min(epsilons) <= 1
    assert all(one.pictures.shape[1:] == (128, 128, 3) for one in frames)
    assert all(one.spent[-1][1] <= one.epsilon for one in frames if one.spent)
    seen = [one.seen for one in frames if one.seen]
    assert len(seen) == len(frames)
    assert seen[-1].similarity > max(seen[-1].guess, seen[0].similarity), "the attacker gets more without noise"
    assert all(one.picked <= one.bound + 3 * (0.25 / (20 * one.candidates)) ** 0.5 for one in seen)
