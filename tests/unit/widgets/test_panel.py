"""What all panels share: one job a session, a static summary, a clean end, and errors that are shown and raised."""

from __future__ import annotations

import threading

import pytest

from fedart_nb.errors import FedArtError
from fedart_nb.widgets import ArtPanel, TrainPanel
from fedart_nb.widgets import panel as panel_module
from fedart_nb.widgets.panel import Panel


@pytest.mark.parametrize("kind", [ArtPanel, TrainPanel])
def test_an_unknown_keyword_is_an_error_that_names_it(session, kind):
    with pytest.raises(TypeError, match="stpes"):
        kind(session, stpes=3)


def test_closing_a_panel_closes_every_part_of_it(session, open_widgets):
    before = open_widgets()
    panel = ArtPanel(session).load_sample("openmoji")
    assert open_widgets() > before
    panel.close()
    assert open_widgets() == before
    panel.close()


def test_a_cell_that_is_run_again_replaces_its_panel(session, monkeypatch, open_widgets):
    monkeypatch.setattr(panel_module, "_cell", lambda: ("cell-1", 1))
    ArtPanel(session)
    opened = open_widgets()
    for run in (2, 3, 4):
        monkeypatch.setattr(panel_module, "_cell", lambda run=run: ("cell-1", run))
        panel = ArtPanel(session)
    assert open_widgets() == opened
    panel.close()


def test_two_panels_of_one_run_of_a_cell_live_together(session, monkeypatch):
    monkeypatch.setattr(panel_module, "_cell", lambda: ("cell-2", 1))
    first, second = ArtPanel(session), ArtPanel(session)
    assert not first._closed
    first.close()
    second.close()


def test_a_replaced_panel_stops_its_job(make_session, fake_art, monkeypatch):
    session = make_session(art=fake_art(), gated=True)
    monkeypatch.setattr(panel_module, "_cell", lambda: ("cell-3", 1))
    first = TrainPanel(session, ["a fox"])
    job = first.start()
    monkeypatch.setattr(panel_module, "_cell", lambda: ("cell-3", 2))
    second = TrainPanel(session, ["a fox"])
    session.gate.release(1000)
    job.wait(20)
    assert job.state == "cancelled"
    second.close()


def test_a_session_does_one_thing_at_a_time(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    session.art.is_sample = True
    training, art = TrainPanel(session, ["a fox"]), ArtPanel(session)
    training.start()
    assert art._sample_button.disabled
    with pytest.raises(FedArtError, match="“training” is still running"):
        art.load_sample("openmoji")
    training.cancel()
    session.gate.release(1000)
    training.wait(20)
    assert not art._sample_button.disabled
    art.load_sample("openmoji")


def test_an_unforeseen_error_is_shown_with_its_kind_and_raised(session):
    class Broken(Panel):
        title = "Broken"

        def events(self):
            raise LookupError("<no paint>")
            yield

    panel = Broken(session)
    panel._compose()
    panel._begin("breaking", panel.events())
    with pytest.raises(LookupError):
        panel.wait(10)
    assert "LookupError: &lt;no paint&gt;" in panel._error_area.value
    assert "<no paint>" not in panel.to_html()


def test_screen_readers_are_told_seldom_but_always_of_the_end(session):
    panel = Panel(session)
    panel._compose()
    for i in range(50):
        panel._say(f"step {i}")
    assert "step 0" in panel._status.value
    panel._say("over", now=True)
    assert 'role="status">over<' in panel._status.value


def test_while_a_job_runs_one_thread_alone_draws(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    panel = TrainPanel(session, ["a fox"], steps=30)
    writers: dict[str, set[str]] = {"_progress": set(), "_curve": set(), "_pictures": set()}
    for name, seen in writers.items():
        getattr(panel, name).observe(lambda _change, seen=seen: seen.add(threading.current_thread().name), "value")
    panel.start()
    session.gate.release(1000)
    panel.wait(30)
    assert all(seen == {"fedart-training-watch"} for seen in writers.values())


def test_a_job_never_writes_a_control(make_session, fake_art):
    session = make_session(art=fake_art())
    panel = TrainPanel(session, ["a fox"], steps=10)
    written = []
    for control in (panel._steps, panel._preset, panel._rank, panel._rate):
        control.observe(written.append, "value")
    panel.start()
    panel.wait(30)
    assert written == []
