"""No panel's failure reaches another one: half-built, closed, failing and interrupted panels block nobody."""

from __future__ import annotations

import threading

import pytest

from fedart_nb.diffusion import TrainConfig, exclusive
from fedart_nb.errors import FedArtError
from fedart_nb.events import Trained
from fedart_nb.widgets import ArtPanel, StylePanel, TrainPanel
from fedart_nb.widgets.panel import Panel


class Stopped(Panel):
    """Fails in its constructor, before or after it put itself together."""

    title = "Stopped"

    def __init__(self, owner, error, *, composed):
        super().__init__(owner)
        if composed:
            self._compose()
        self.button = None
        raise error

    def _sync(self):
        self.controls.disabled = self.is_busy  # there are none


class Clumsy(Panel):
    """Cannot set its controls."""

    title = "Clumsy"
    fails = False

    def __init__(self, owner):
        super().__init__(owner)
        self._compose()

    def _sync(self):
        if self.fails:
            raise LookupError("no such control")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), FedArtError("no")])
def test_a_panel_that_was_never_finished_blocks_nobody(session, error, open_widgets):
    before = open_widgets()
    with pytest.raises(type(error)):
        Stopped(session, error, composed=False)
    assert open_widgets() <= before + 10
    for _ in range(2):
        ArtPanel(session).load_sample("openmoji")
    assert session.art is not None


@pytest.mark.parametrize(
    "build",
    [
        lambda session: StylePanel(session, ["a red fox", "a cat"]),
        lambda session: TrainPanel(session, 7),
        lambda session: TrainPanel(session, ["a fox"], rank="many"),
        lambda session: ArtPanel(session, page=None, size_px="large"),
    ],
)
def test_a_constructor_that_refuses_an_argument_blocks_nobody(session, build):
    with pytest.raises(Exception, match=r"."):
        build(session)
    for _ in range(2):
        ArtPanel(session).load_sample("openmoji")


def test_a_panel_that_cannot_set_its_controls_says_so_and_the_others_work(session):
    clumsy, art = Clumsy(session), ArtPanel(session)
    clumsy.fails = True
    art.load_sample("openmoji")
    assert not art.is_busy
    assert "no such control" in clumsy.to_html()
    art.load_sample("openmoji")


def test_a_panel_may_be_built_while_a_job_ends(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    training = TrainPanel(session, ["a fox"], steps=1)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(ArtPanel):
        def __init__(self, owner):
            Panel.__init__(self, owner)
            begun.set()
            assert go_on.wait(20)
            super().__init__(owner)

    built = []
    building = threading.Thread(target=lambda: built.append(Slow(session)))
    training.start()
    building.start()
    assert begun.wait(20)
    session.gate.release(10)
    training.wait(20)
    go_on.set()
    building.join(20)
    assert not built[0].is_busy
    assert not built[0]._sample_button.disabled


def test_a_panel_that_was_closed_while_it_worked_frees_the_others(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    training, art = TrainPanel(session, ["a fox"]), ArtPanel(session)
    job = training.start()
    assert art._sample_button.disabled
    training.close()
    session.gate.release(1000)
    job.wait(20)
    assert not art._sample_button.disabled


@pytest.mark.parametrize("which", [1, 2])
def test_an_interrupt_while_a_job_starts_leaves_nothing_busy(make_session, fake_art, monkeypatch, which):
    session = make_session(art=fake_art())
    training, started, real = TrainPanel(session, ["a fox"], steps=1), [], threading.Thread.start

    def start(thread):
        if thread.name.startswith("fedart-"):
            started.append(thread)
            if len(started) == which:
                raise KeyboardInterrupt
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        training.start()
    monkeypatch.undo()
    assert not training.is_busy
    assert not training._start.disabled
    training.start()
    training.wait(20)
    assert training.value is not None


def test_a_job_that_is_refused_leaves_the_panel_with_the_one_it_had(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    training, art = TrainPanel(session, ["a fox"], steps=1), ArtPanel(session)
    job = training.start()
    with pytest.raises(FedArtError, match="still running"):
        art.load_sample("openmoji", replace=True)
    with pytest.raises(FedArtError, match="still running"):
        training.start()
    assert training.job is job
    session.gate.release(10)
    training.wait(20)
    assert training.value is not None


def test_panels_of_nobody_s_session_are_left_alone(make_session, fake_art):
    one, other = make_session(art=fake_art(), gated=True), make_session(art=fake_art())
    training, apart = TrainPanel(one, ["a fox"], steps=1), ArtPanel(other)
    training.start()
    assert not apart.is_busy
    one.gate.release(10)
    training.wait(20)


def test_a_training_that_a_cell_keeps_paused_does_not_hang_a_panel(open_session, monkeypatch):
    monkeypatch.setattr(exclusive, "_REST_S", 0.05)
    session = open_session()
    events = session.train_personal(TrainConfig(steps=3, batch=2, validate_every=0))
    next(events)
    panel = TrainPanel(session, [], steps=1)
    panel.start()
    assert panel.wait(60).steps == 1
    assert not panel.is_busy
    assert [event.steps for event in events if isinstance(event, Trained)] == [3]
