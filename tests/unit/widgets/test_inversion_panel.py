"""The inversion lab's panel without a front end, on a tiny backbone."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import build

from fedart_nb.art import ArtSet
from fedart_nb.attack_lab import Defence, Level, Recording, Take, levels, save, scene_of, take_of
from fedart_nb.attack_lab.sweep import KNOWING
from fedart_nb.attacks import ThreatModel
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import AttackError
from fedart_nb.widgets import InversionPanel
from fedart_nb.widgets.switchboard import Switchboard

DEADLINE_S = 60.0
TRIES = 12


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone(build("flow"), name="tiny")


@pytest.fixture(scope="module")
def art() -> ArtSet:
    return ArtSet.sample("fluent_ink", limit=10, size_px=32)


@pytest.fixture(scope="module")
def folder(backbone: Backbone, art: ArtSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of the scene that the panel begins with."""
    scene = scene_of(backbone, art)
    takes = [e for e in take_of(scene, KNOWING, Defence(), "pixels", evaluations=TRIES) if isinstance(e, Take)]
    found = [e for e in levels(scene, [0.0, 0.5], evaluations=5) if isinstance(e, Level)]
    told = Recording("ink", scene.key, scene.picture[0], scene.lineup, scene.place, tuple(takes), tuple(found), {})
    place = tmp_path_factory.mktemp("recording")
    save(told, place)
    return place


@pytest.fixture
def panel(backbone: Backbone, art: ArtSet, folder: Path) -> InversionPanel:
    session: Any = SimpleNamespace(art=art, backbone=backbone, can_look_back=False)
    return InversionPanel(session, recording=folder, budget_s=30.0)


def test_a_run_gives_a_trajectory_a_verdict_and_alt_text(panel: InversionPanel) -> None:
    panel._picture.value = 2  # not the recorded one
    panel.run().wait(DEADLINE_S)
    assert isinstance(panel.value, Take)
    assert not panel.value.recorded
    assert len(panel.shots) > 2
    assert 'alt="reconstruction, SSIM ' in panel._view.value
    panel.scrub(0)
    assert "after 0 tries" in panel._view.value
    assert "ecovered" in panel._verdict.value


def test_a_failure_says_within_this_budget_and_never_safe(panel: InversionPanel) -> None:
    panel._noise.value = 1.0
    panel.run().wait(DEADLINE_S)
    assert "Not recovered by this attack within this budget" in panel._verdict.value
    assert "That is not evidence of safety." in panel._verdict.value
    assert "safe" not in panel._verdict.value.replace("evidence of safety", "")


def test_a_recording_of_the_same_scene_is_replayed_at_once_and_says_so(panel: InversionPanel) -> None:
    assert not panel._replay.disabled
    panel.replay()
    assert panel.value is not None
    assert panel.value.recorded
    assert "Recorded with the package" in panel._verdict.value


def test_another_setting_is_not_replayed(panel: InversionPanel) -> None:
    panel._secret.value = True
    assert panel._replay.disabled
    with pytest.raises(AttackError, match="Press Run"):
        panel.replay()


def test_what_was_run_here_can_be_replayed(panel: InversionPanel) -> None:
    panel._picture.value = 3
    panel.run("identify").wait(DEADLINE_S)
    assert not panel._replay.disabled
    assert not panel.replay().value.recorded  # type: ignore[union-attr]


def test_impossible_attacks_are_grey_and_say_why(panel: InversionPanel) -> None:
    captions = panel.board._buttons["attack", "captions"]
    assert captions.disabled
    assert "In the first round B is zero" in panel.board._reasons["captions"].value
    with pytest.raises(AttackError, match="B is zero"):
        panel.run("captions")


def test_who_cannot_see_something_has_it_greyed_with_the_reason() -> None:
    board = Switchboard(ThreatModel("artist", "sum"), attack="identify", offered=["identify"], on_change=lambda: None)
    assert board._buttons["sees", "lora"].disabled
    assert not board._buttons["sees", "adapter"].disabled
    assert "the sum of everybody" in board._note.value
    assert board.attack == ""
    board._buttons["knows", "candidates"].click()
    assert board.attack == "identify"
    assert board._buttons["knows", "candidates"].description.startswith("✓ ")


def test_pausing_stands_still_and_cancelling_keeps_what_was_reached(panel: InversionPanel) -> None:
    panel._tries.value = 500
    seen = threading.Event()
    panel._view.observe(lambda _change: seen.set(), "value")
    job = panel.run()
    assert seen.wait(DEADLINE_S)
    panel.pause()
    assert panel._pause.description == "Go on"
    panel.cancel()
    job.wait(DEADLINE_S)
    assert job.state == "cancelled" or job.has_ended
    assert panel.shots
    assert panel.value is None or panel.value.last.outcome is not None


def test_the_noise_slider_moves_three_views(panel: InversionPanel) -> None:
    panel.look_at(0.0)
    before = panel._linked.value
    panel.look_at(0.5)
    after = panel._linked.value
    assert before != after
    for part in ("Rebuilt", "Picked out of", "Risk corridor, epsilon from", "A line marks epsilon"):
        assert part in after
    with pytest.raises(AttackError, match="no frame at noise 9"):
        panel.look_at(9.0)


def test_the_exports_repeat_the_attack_and_hold_no_picture(panel: InversionPanel, art: ArtSet) -> None:
    with pytest.raises(AttackError, match="Nothing was run"):
        panel.audit()
    panel.replay()
    card = json.loads(panel._json.text)
    assert card["threat_model"]["sees"] == "lora"
    assert card["verdict"]
    assert card["measured"]["ssim"]
    assert "picture" not in card
    compile(panel.cell(), "cell", "exec")
    assert "take_of(scene, threat, Defence(" in panel._code.text


def test_the_summary_for_pages_without_a_kernel_holds_no_reconstruction_made_here(panel: InversionPanel) -> None:
    panel._picture.value = 2
    panel.run().wait(DEADLINE_S)
    shown = re.findall(r'data:image/png;base64,[^"]{200,}', panel._view.value)
    assert len(shown) == 2
    assert not any(one in panel.to_html() for one in shown)


def test_five_defences_stand_side_by_side(panel: InversionPanel) -> None:
    panel._tries.value, panel._budget.value = 5, 5
    panel.compare().wait(DEADLINE_S)
    assert len(panel.multiples) == 5
    assert panel._tiles.value.count("<img") == 5


def test_every_reconstruction_shown_is_marked(panel: InversionPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[Any] = []
    from fedart_nb.widgets import inversion_views

    monkeypatch.setattr(inversion_views, "watermarked", lambda picture: marked.append(picture) or picture)
    panel.replay()
    assert any(np.array_equal(one, panel.shots[-1].frame.pictures[0]) for one in marked)  # type: ignore[index]
