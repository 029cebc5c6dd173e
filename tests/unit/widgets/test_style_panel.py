"""The style panel shows the nearest mix at once, becomes exact, and draws ahead only while nobody else works."""

from __future__ import annotations

import hashlib
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny import build

from fedart_nb import Backbone, Session, StylePanel, read_recipe
from fedart_nb.diffusion import AdapterConfig, initial_adapter
from fedart_nb.diffusion.prompts import Lexicon
from fedart_nb.errors import ArtError, FedArtError
from fedart_nb.events import Note, Sampled, SampleStep
from fedart_nb.widgets.panel import Panel


class FakeBackbone:
    """Knows the words red and cat; draws flat colours while it holds its lock."""

    name = "tiny"
    sha256, latent_shape, size_px, steps_and_guidance = "b" * 64, (4, 2, 2), 16, (20, 5.0)

    def __init__(self):
        self.lock = threading.RLock()

    def understand(self, prompt):
        return Lexicon(frozenset({"red", "cat"}), {"kitty": "cat"}).understand(prompt)


def fake_sample(backbone, prompts, *, seeds, adapters=(), steps=20, guidance=5.0, anchor=None):
    """Yields as `fedart_nb.diffusion.sample` does; the colour says what was asked for."""
    with backbone.lock:
        for index in range(1, steps + 1):
            yield SampleStep(index, steps)
        yield Sampled(colour(prompts[0], seeds[0], adapters, anchor)[None], tuple(prompts), tuple(seeds), 0.0)


def colour(prompt, seed, adapters, anchor=None):
    said = repr((prompt, seed, [(adapter.digest, weight) for adapter, weight in adapters], anchor))
    return np.tile(np.frombuffer(hashlib.sha256(said.encode()).digest()[:3], np.uint8), (16, 16, 1))


@pytest.fixture
def session(monkeypatch):
    monkeypatch.setattr("fedart_nb.diffusion.sample", fake_sample)
    shared, personal = SimpleNamespace(digest="a" * 64), SimpleNamespace(digest="c" * 64)
    return SimpleNamespace(name="Ada", backbone=FakeBackbone(), shared=shared, personal=personal)


@pytest.fixture
def backbone(session):
    return session.backbone


@pytest.fixture
def open_panel(request):
    """Panels of the test's session that are closed, with their threads over, when the test is."""
    opened = []

    def open_(prompt="red cat", *, session=None, **options):
        session = session or request.getfixturevalue("session")
        opened.append(StylePanel(session, prompt, **({"ahead": 0, "steps": 2, "seeds": (1, 2)} | options)))
        return opened[-1]

    yield open_
    for panel in opened:
        panel.close()
    for thread in threading.enumerate():
        if thread.name.startswith("fedart-drawing"):
            thread.join(10)


def settled(panel):
    """Wait for the exact pictures and for those that are drawn ahead."""
    panel.wait(20)
    while (ahead := panel._ahead_job) is not None:
        ahead.wait(20)
    return panel


def test_every_picture_equals_what_the_session_draws_drawn_refined_or_remembered(open_panel, tmp_path):
    backbone = Backbone(build(), name="tiny")
    session = Session("Ada", folder=tmp_path, backbone=backbone)
    few = AdapterConfig(targets=r".*to_q")
    session.shared, session.personal = (initial_adapter(backbone, few, seed=seed) for seed in (1, 2))
    for adapter in (session.shared, session.personal):
        for name, value in adapter.tensors.items():
            if "lora_B" in name:  # zero before training: it would change nothing
                value[...] = np.random.default_rng(0).normal(0, 0.5, value.shape)

    def drawn(seed, **weights):
        *_, last = session.pictures(["red cat"], seeds=[seed], steps=2, **weights)
        return last.pictures[0]

    panel = open_panel(session=session, shared=0.5, personal=1.25)
    panel.start()
    first = panel.wait(60)
    refined = panel.set_weights(personal=0.3).wait(60)
    again = panel.set_weights(personal=1.25).wait(60)
    np.testing.assert_array_equal(first.before, drawn(1, shared=0, personal=0))
    for seed, index in ((1, 0), (2, 1)):
        np.testing.assert_array_equal(first.pictures[index], drawn(seed, shared=0.5, personal=1.25))
        np.testing.assert_array_equal(refined.pictures[index], drawn(seed, shared=0.5, personal=0.3))
    np.testing.assert_array_equal(again.pictures, first.pictures)
    assert not np.array_equal(first.pictures[0], first.before)
    assert not np.array_equal(first.pictures[0], refined.pictures[0])


def test_a_slider_shows_the_nearest_drawn_mix_and_says_which_until_the_exact_one_is_there(open_panel, backbone):
    panel = open_panel()
    panel.start()
    panel.wait(20)
    with backbone.lock:  # nothing can be drawn meanwhile
        panel.set_weights(shared=0.6)
        assert panel._shown.recipe.shared == 1.0
        assert "Nearest drawn" in panel._note.value
        assert "Shown: shared 1 + personal 1. You asked for shared 0.6 + personal 1." in panel._note.value
        assert panel._wipe.right_title == "shared 1 + personal 1"
        assert panel.value.shared == 1.0
    panel.wait(20)
    assert panel._shown.recipe.shared == 0.6
    assert "Exact" in panel._note.value
    assert panel.value.shared == 0.6


def test_keeping_to_the_words_can_be_switched_off_and_the_recipe_knows(open_panel, backbone, tmp_path):
    backbone.name = "embedded"
    panel = open_panel()
    panel.start()
    kept = panel.wait(20)
    assert panel._anchored.layout.display == ""
    with backbone.lock:  # nothing can be drawn meanwhile
        panel._anchored.value = False
        asked = "Shown: shared 1 + personal 1, kept to the words. You asked for shared 1 + personal 1."
        assert asked in panel._note.value
    plain = panel.wait(20)
    assert "Exact" in panel._note.value
    assert [mix.recipes[0].anchored for mix in (kept, plain)] == [True, False]
    assert (kept.pictures != plain.pictures).any()
    assert not read_recipe(panel.save(tmp_path / "plain.png")).anchored
    panel._anchored.value = True
    np.testing.assert_array_equal(panel.wait(20).pictures, kept.pictures)


def test_a_backbone_without_an_anchor_of_its_own_offers_none(open_panel):
    panel = open_panel()
    panel.start()
    assert not panel.wait(20).recipes[0].anchored
    assert panel._anchored.layout.display == "none"


def test_the_latest_position_of_a_drag_wins_and_stale_ones_are_not_drawn(open_panel, backbone):
    panel = open_panel(seeds=(1,))
    panel.start()
    panel.wait(20)
    with backbone.lock:
        for weight in (0.1, 0.2, 0.3, 0.4):
            panel.set_weights(personal=weight)
    assert panel.wait(20).personal == 0.4
    drawn = {recipe.personal for recipe in panel._mixer._samples}
    assert {0.0, 0.4, 1.0} <= drawn
    assert not drawn & {0.2, 0.3}  # the first may have been under way already


def test_what_is_remembered_is_not_drawn_again(open_panel, monkeypatch):
    panel = open_panel()
    panel.start()
    panel.wait(20)
    panel.set_weights(shared=0.5).wait(20)
    known = len(panel._mixer)
    monkeypatch.setattr("fedart_nb.diffusion.sample", None)  # drawing would fail
    assert panel.set_weights(shared=1.0).wait(20).shared == 1.0
    panel.start()
    assert panel.wait(20).shared == 1.0
    assert len(panel._mixer) == known


def test_neighbours_are_drawn_ahead_and_then_a_slider_is_exact_at_once(open_panel, monkeypatch):
    panel = open_panel(seeds=(1,), ahead=20)
    panel.start()
    settled(panel)
    monkeypatch.setattr("fedart_nb.diffusion.sample", None)
    panel._ahead = 0
    panel.set_weights(shared=0.75)
    assert panel._shown.recipe.shared == 0.75
    assert "Exact" in panel._note.value


def test_drawing_ahead_makes_way_for_another_panel_of_the_session(open_panel, session):
    class Other(Panel):
        title = "Other"

        def start(self, gate):
            def events():
                assert gate.acquire(timeout=20)
                yield Note("done")

            return self._begin("other work", events())

    panel, other, gate = open_panel(ahead=40, steps=3), Other(session), threading.Semaphore(0)
    panel.start()
    panel.wait(20)
    job = other.start(gate)  # not refused, although pictures are being drawn ahead
    while (ahead := panel._ahead_job) is not None:
        ahead.wait(20)
    count = len(panel._mixer)
    panel.set_weights(personal=0.05)
    assert len(panel._mixer) == count
    gate.release()
    job.wait(20)
    assert settled(panel).value.personal == 0.05  # drawn as soon as the session was free again
    assert len(panel._mixer) > count
    other.close()


def test_stop_ends_drawing_until_a_control_moves(open_panel, backbone):
    panel = open_panel()
    with backbone.lock:
        job = panel.start()
        panel.cancel()
    job.wait(20)
    assert job.state == "cancelled"
    assert panel.value is None
    assert not panel.is_busy
    panel.set_weights(shared=0.5)
    assert panel.wait(20).shared == 0.5


def test_a_changed_adapter_is_another_mix(open_panel, session):
    panel = open_panel()
    panel.start()
    first = panel.wait(20)
    session.personal = SimpleNamespace(digest="d" * 64)
    panel.start()
    second = panel.wait(20)
    assert first.recipes[0].personal_sha256 != second.recipes[0].personal_sha256
    assert not np.array_equal(first.pictures[0], second.pictures[0])


def test_the_left_side_is_the_backbone_or_the_shared_adapter_alone(open_panel, session):
    panel = open_panel(shared=0.5)
    panel.start()
    assert panel.wait(20).before_recipe.shared == 0
    assert panel._wipe.left_title == "backbone alone"
    panel._base.value = "shared"
    assert panel.wait(20).before_recipe.shared == 0.5
    np.testing.assert_array_equal(panel.value.before, colour("red cat", 1, [(session.shared, 0.5)]))
    assert panel._wipe.left_title == "shared 0.5"


def test_without_an_adapter_its_slider_is_off_and_the_panel_says_where_to_get_one(open_panel, session):
    session.shared = None
    panel = open_panel()
    assert panel._shared.disabled
    assert not panel._personal.disabled
    assert "RoomPanel(session)" in panel._missing_note.value
    panel.start()
    assert panel.wait(20).shared == 0
    assert panel._wipe.right_title == "personal 1"


def test_another_seed_is_shown_and_rerolling_leaves_kept_seeds_alone(open_panel):
    panel = open_panel(seeds=(1, 2, 3))
    panel.keep(1).show(2)
    assert panel.wait(20).chosen == 2
    assert panel._strip._shows[2].description == "✓ Showing seed 3"
    panel.reroll()
    mix = panel.wait(20)
    seeds = [recipe.seed for recipe in mix.recipes]
    assert seeds[1] == 2
    assert len({1, 3, *seeds}) == 5
    assert seeds == list(panel._strip.seeds)
    with pytest.raises(FedArtError, match="no seed at place 7; expected 0 to 2"):
        panel.show(7)


def test_the_saved_picture_is_the_one_shown_and_reads_back_with_its_recipe(open_panel, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    panel = open_panel(personal=0.5)
    panel.show(1)
    panel.wait(20)
    first, second = panel.save(), panel.save()
    assert (first.name, second.name) == ("red_cat-seed-2.png", "red_cat-seed-2-2.png")
    recipe = read_recipe(first)
    assert recipe == panel.value.recipes[1]
    np.testing.assert_array_equal(np.asarray(Image.open(first)), panel.value.pictures[1])
    assert b"Ada" not in first.read_bytes()
    panel._artist.value = "Ada L."
    assert read_recipe(panel.save("signed.png")).artist == "Ada L."
    with pytest.raises(ArtError, match=r"'signed\.png' exists already"):
        panel.save("signed.png")
    assert "exists already" in panel._error_area.value
    with pytest.raises(ArtError, match="no PNG file"):
        panel.save("cat.jpeg")


def test_nothing_is_saved_before_something_is_drawn(open_panel):
    panel = open_panel()
    assert panel._save.disabled
    with pytest.raises(ArtError, match="Nothing is drawn yet"):
        panel.save()


@pytest.mark.parametrize("weight", [-0.1, 1.6, float("nan")])
def test_a_weight_beyond_the_slider_is_refused(open_panel, weight):
    with pytest.raises(FedArtError, match="expected 0"):
        open_panel().set_weights(shared=weight)


def test_an_empty_prompt_is_refused_and_the_last_pictures_stay(open_panel):
    panel = open_panel()
    panel.start()
    before = panel.wait(20)
    panel._prompt.value = "  "
    assert "The prompt is empty" in panel._error_area.value
    assert panel.value is before
    with pytest.raises(FedArtError, match="The prompt is empty"):
        panel.start()


def test_words_that_the_backbone_does_not_know_are_named_with_how_they_are_read(open_panel):
    panel = open_panel("red <b>kitty zeppelin")
    panel.start()
    panel.wait(20)
    assert "“kitty” is read as “cat”" in panel._words.value
    assert "“zeppelin” is not known and is ignored" in panel._words.value
    panel._prompt.value = "red cat"
    panel.wait(20)
    assert panel._words.value == ""


def test_a_memory_too_small_for_what_is_shown_is_refused_with_numbers(open_panel):
    panel = open_panel(limit_bytes=200_000)
    panel.start()
    with pytest.raises(FedArtError, match=r"4 pictures have to be held, and the memory of 200,000 bytes"):
        panel.wait(20)
    assert "raise limit_bytes" in panel._error_area.value


def test_stock_controls_alone_do_the_same(open_panel):
    panel = open_panel(plain_controls=True)
    panel.start()
    panel.wait(20)
    panel._personal.value = 0.5
    assert panel.wait(20).personal == 0.5
    both = panel._wipe._image.value
    panel._wipe._edge.value = 0
    assert panel._wipe._image.value != both
    assert "Left: backbone alone. Right: shared 1 + personal 0.5." in panel._wipe._image.value


def test_closing_stops_all_drawing_and_closes_every_part(open_panel, open_widgets):
    before = open_widgets()
    panel = open_panel(ahead=40)
    job = panel.start()
    job.wait(20)
    panel.close()
    assert open_widgets() == before
    if (ahead := panel._ahead_job) is not None:
        ahead.wait(20)
    count = len(panel._mixer)
    assert panel._ahead_job is None
    assert count < 10


def test_the_static_summary_shows_the_pictures_with_their_alt_texts(open_panel):
    panel = open_panel()
    panel.start()
    panel.wait(20)
    assert "data:image" not in panel.to_html(), "what an own adapter draws is kept only when the artist says so"
    panel._keeping.ticked = True
    html = panel.to_html()
    assert "“red cat”, seed 2, drawn by shared 1 + personal 1" in html
    assert "“red cat”, seed 1, drawn by backbone alone" in html
