"""The training panel starts, shows, cancels and resumes, and never loses what was reached."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fedart_nb.errors import TrainingError
from fedart_nb.widgets import TrainPanel, parts, train_panel


def test_training_runs_to_the_end_and_its_result_is_the_value(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["a fox"], steps=10)
    panel.start()
    trained = panel.wait(30)
    assert trained.steps == 10
    assert panel.value is trained
    assert [step.index for step in panel.history] == list(range(1, 11))
    assert "Held-out loss 1.000 before, 0.500 after (50 % lower)" in panel._progress.value


def test_the_settings_shown_are_the_settings_used(make_session, fake_art):
    session = make_session(art=fake_art())
    panel = TrainPanel(session, ["a fox"], steps=10, rank=8, learning_rate=5e-4)
    panel.start().wait(30)
    config, adapter, resume = session.trained_with[0]
    assert (config.steps, config.learning_rate, adapter.rank, adapter.alpha, resume) == (10, 5e-4, 8, 8.0, None)
    assert config.style_tokens == 0


def test_a_style_token_is_learned_where_the_box_is_ticked(make_session, fake_art):
    session = make_session(art=fake_art())
    panel = TrainPanel(session, ["a fox"], steps=10, style_token=True)
    panel.start().wait(30)
    assert session.trained_with[0][0].style_tokens == train_panel._TOKEN_PLACES
    panel._token.value = False
    panel.start().wait(30)
    assert session.trained_with[1][0].style_tokens == 0


def test_before_and_after_are_drawn_from_the_same_noise(make_session, fake_art):
    session = make_session(art=fake_art())
    panel = TrainPanel(session, ["a fox", "a tree"], steps=5)
    panel.start().wait(30)
    assert session.drawn == [(0.0, 0.0, (1, 2)), (1.0, 1.0, (1, 2))]
    assert 'alt="“a fox”, drawn by: Backbone alone"' in panel._pictures.value
    assert 'alt="“a tree”, drawn by: With your adapter"' in panel._pictures.value


def test_the_backbones_pictures_are_drawn_once_for_several_trainings(make_session, fake_art):
    session = make_session(art=fake_art())
    panel = TrainPanel(session, ["a fox"], steps=5)
    panel.start().wait(30)
    panel.start().wait(30)
    assert [personal for _, personal, _ in session.drawn] == [0.0, 1.0, 1.0]


def test_cancel_keeps_the_last_state_and_resume_goes_on_from_it(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    panel = TrainPanel(session, ["a fox"], steps=20)
    job = panel.start()
    for _ in range(3):
        session.gate.release()
        assert session.stepped.acquire(timeout=10) or True
    panel.cancel()
    session.gate.release()
    job.wait(20)
    stopped = panel.history[-1].index
    assert 3 <= stopped <= 4
    assert panel.resume_state.step == stopped
    assert f"Stopped after {stopped} of 20 steps" in panel._progress.value
    assert panel.value is None
    assert not panel._resume.disabled
    assert not panel._start.disabled

    session.gate.release(1000)
    panel.resume().wait(20)
    assert session.trained_with[1][2].step == stopped
    assert [step.index for step in panel.history] == list(range(1, 21))
    assert panel.value.steps == 20
    assert panel.resume_state is None
    assert panel._resume.disabled


def test_start_after_cancel_begins_anew(make_session, fake_art):
    session = make_session(art=fake_art(), gated=True)
    panel = TrainPanel(session, ["a fox"], steps=5)
    job = panel.start()
    session.gate.release()
    assert session.stepped.acquire(timeout=10) or True
    panel.cancel()
    session.gate.release(1000)
    job.wait(20)
    panel.start().wait(20)
    assert session.trained_with[1][2] is None
    assert [step.index for step in panel.history] == [1, 2, 3, 4, 5]


def test_a_failure_is_shown_raised_and_keeps_what_was_reached(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art(), fail_at=4), ["a fox"], steps=10)
    panel.start()
    with pytest.raises(ValueError, match="the paint ran out"):
        panel.wait(20)
    assert "the paint ran out" in panel._error_area.value
    assert panel.resume_state.step == 3
    assert not panel._start.disabled
    assert not panel._resume.disabled


def test_without_pictures_training_says_what_to_do(session):
    panel = TrainPanel(session, ["a fox"])
    panel._start.click()
    assert "ArtPanel(session)" in panel._error_area.value
    assert panel.job is None


def test_with_every_picture_left_out_training_does_not_start(make_session, fake_art):
    art = fake_art(2)
    for picture in art.pictures:
        art.include(picture.id, False)
    with pytest.raises(TrainingError, match="No picture is included"):
        TrainPanel(make_session(art=art)).start()


def test_resume_without_a_state_is_refused(make_session, fake_art):
    with pytest.raises(TrainingError, match="nothing to resume"):
        TrainPanel(make_session(art=fake_art())).resume()


def test_resume_of_a_finished_number_of_steps_asks_for_more(make_session, fake_art):
    session = make_session(art=fake_art())
    session.resumable = SimpleNamespace(step=10)
    with pytest.raises(TrainingError, match="Ask for more steps"):
        TrainPanel(session, steps=10).resume()


def test_an_unfinished_training_of_an_earlier_kernel_is_offered(make_session, fake_art):
    session = make_session(art=fake_art())
    session.resumable = SimpleNamespace(step=7)
    panel = TrainPanel(session, ["a fox"], steps=10)
    assert "stopped after 7 steps" in panel._progress.value
    panel._resume.click()
    panel.wait(20)
    assert session.trained_with[0][2].step == 7


def test_a_preset_sets_the_steps_and_own_steps_leave_the_preset(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["a fox"])
    panel._preset.value = 40
    assert panel._steps.value == 40
    panel._steps.value = 77
    assert panel._preset.value == 0
    panel._steps.value = 400
    assert panel._preset.value == 400


def test_how_words_of_captions_are_read_is_shown(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["a tree"], steps=5)
    panel.start().wait(20)
    assert "<li>“fox” is read as “tree”.</li>" in panel._notes.value
    assert "“&lt;b&gt;” is not known and is ignored." in panel._notes.value


def test_words_that_are_all_known_need_no_note(make_session):
    assert parts.words_note(train_panel._how_words_are_read(make_session(), ["a tree", "tree a"])) == ""


def test_prompts_default_to_held_out_captions(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()))
    assert panel.prompts == ("a fox number 0 <b>", "a fox number 5 <b>", "a fox number 10 <b>")


def test_prompts_are_escaped(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["<img src=x>"], steps=2)
    panel.start().wait(20)
    assert "<img src=x>" not in panel.to_html()


def test_a_job_can_be_watched_from_outside(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["a fox"], steps=5)
    seen = []
    panel.observe(lambda change: seen.append(change["new"].steps), "value")
    panel.start().wait(20)
    assert seen == [5]


def test_the_steps_kept_hold_no_tensors(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["a fox"], steps=5)
    panel.start().wait(20)
    assert all(step.state is None for step in panel.history)


def test_the_static_summary_says_how_far_it_came(make_session, fake_art):
    panel = TrainPanel(make_session(art=fake_art()), ["a fox"], steps=5)
    assert "not started" in repr(panel)
    panel.start().wait(20)
    html = panel._repr_mimebundle_()["text/html"]
    assert "5 steps" in html
    assert "<svg" in html
    assert repr(panel).startswith("TrainPanel(trained: 5 steps, held-out loss: Held-out loss 1.000")
