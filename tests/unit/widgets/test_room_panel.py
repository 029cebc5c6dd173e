"""The room panel shows the plan before anything leaves, says in red who can read it, and never loses a round."""

from __future__ import annotations

import threading

import pytest

from fedart_nb.consent import Question
from fedart_nb.crypto.safety_number import SafetyNumber
from fedart_nb.errors import RelayUnreachable, RoundError, TrainingError
from fedart_nb.widgets import RoomPanel
from fedart_nb.widgets.security import MASKED_UPDATES


def when_asked(panel, answer):
    """Call `answer(panel)` from another thread, as a click does, each time a plan is shown."""
    asked = threading.Event()

    def sync():
        if panel.plan is not None and not panel._contribute.disabled and not asked.is_set():
            asked.set()
            answer(panel)
            asked.clear()

    panel._contribute.observe(lambda _change: sync(), "disabled")


def test_every_round_is_contributed_to_when_nobody_is_asked(room_session):
    session = room_session()
    panel = RoomPanel(session, ask=False)
    panel.join("fedart+http://relay/studio")
    closed = panel.wait(20)
    assert session.joined == ["fedart+http://relay/studio"]
    assert session.answers == [True, True]
    assert (closed.number, closed.total) == (2, 2)
    assert "The host has closed the room" in panel._progress.value


def test_what_masks_hide_and_what_they_do_not_stands_there_from_the_start(room_session):
    panel = RoomPanel(room_session())
    first = panel.children[2].value
    assert MASKED_UPDATES in first
    assert "only noise bounds it" in first


def test_the_safety_number_is_shown_as_soon_as_the_roster_is_known(room_session):
    session = room_session()
    panel = RoomPanel(session, ask=False)
    panel.join("link").wait(20)
    assert panel._safety.value == ""
    session.safety_number = SafetyNumber.of("studio", "a" * 32, ["b" * 32, "c" * 32, "d" * 32])
    panel._draw_safety()
    assert str(session.safety_number) in panel._safety.value
    assert 'role="img"' in panel._safety.value


def test_the_plan_says_what_leaves_how_much_and_where_to(room_session):
    panel = RoomPanel(room_session(rounds=1))
    seen = []
    when_asked(panel, lambda p: (seen.append(p._terms.value), p.contribute()))
    panel.join("link").wait(20)
    assert "32.2 KiB, masked, and the name Ada &lt;b&gt;" in seen[0]
    assert "a sum with at least 2 others" in seen[0]
    assert "nothing bounds what a sum of such updates tells" in seen[0]
    assert "http://127.0.0.1:8765" in seen[0]
    assert MASKED_UPDATES in seen[0]
    assert "5 steps on 8 pictures" in seen[0]


def test_contribute_and_skip_answer_the_plan(room_session):
    session = room_session()
    panel = RoomPanel(session)
    when_asked(panel, lambda p: p.contribute() if p.plan.number == 1 else p.skip())
    panel.join("link").wait(20)
    assert session.answers == [True, False]
    assert "sent" in panel._table.value
    assert "skipped" in panel._table.value


def test_the_box_is_the_standing_consent(room_session):
    session = room_session()
    panel = RoomPanel(session, ask=False)
    assert not session.consent.standing, "entering the room is what gives it"
    panel.join("link").wait(20)
    assert session.consent.standing
    panel._ask.value = True
    assert not session.consent.standing


def test_a_round_can_be_skipped_while_it_runs_and_the_answer_is_shown(room_session):
    session = room_session(gated=True)
    panel = RoomPanel(session, ask=False)
    running = threading.Event()
    panel._rethink.observe(lambda change: change["new"] or running.set(), "disabled")
    assert panel._rethink.disabled
    panel.join("link")
    session.gate.release()
    assert running.wait(20), "while a round runs the button is there"
    panel._rethink.click()
    assert session.consent.changes == ["skip"]
    assert "nothing of it has left" in panel._changed.value
    session.gate.release(100)
    panel.wait(20)


def test_an_answer_without_a_question_is_refused(room_session):
    panel = RoomPanel(room_session())
    with pytest.raises(RoundError, match="No plan waits"):
        panel.contribute()
    assert panel._contribute.disabled
    assert panel._skip.disabled


def test_leaving_while_asked_sends_no_answer_and_tells_the_room(room_session):
    session = room_session()
    panel = RoomPanel(session)
    when_asked(panel, lambda p: p.leave())
    job = panel.join("link")
    job.wait(20)
    assert job.state == "cancelled"
    assert session.answers == []
    assert session.left == 1
    assert "You have left the room" in panel._progress.value


def test_cancel_stops_without_leaving(room_session):
    session = room_session(gated=True)
    panel = RoomPanel(session, ask=False)
    job = panel.join("link")
    session.gate.release()
    panel.cancel()
    session.gate.release(100)
    job.wait(20)
    assert session.left == 0
    assert "Join goes back to the room" in panel._progress.value


def test_the_table_has_bytes_contributors_and_loss_against_the_backbone(room_session):
    panel = RoomPanel(room_session(), ask=False)
    panel.join("link").wait(20)
    for text in (
        "32.2 KiB",
        "<td>3</td>",
        "0.400 (20.0 % lower than the backbone)",
        "Backbone alone: held-out loss 0.500",
    ):
        assert text in panel._table.value


def test_no_round_is_missing_from_the_table_however_fast_they_go(room_session):
    panel = RoomPanel(room_session(rounds=30), ask=False)
    panel.join("link").wait(30)
    assert panel._table.value.count("32.2 KiB") == 30


def test_an_unreachable_relay_is_explained(room_session):
    session = room_session(fail=RelayUnreachable("No answer from http://127.0.0.1:1. Start the relay, or wait."))
    panel = RoomPanel(session, invite="link")
    panel._join.click()
    with pytest.raises(RelayUnreachable):
        panel.wait(20)
    assert "Start the relay, or wait." in panel._error_area.value
    assert not panel._join.disabled


def test_without_pictures_nobody_joins(room_session):
    session = room_session()
    session.art = None
    with pytest.raises(TrainingError, match="Choose pictures"):
        RoomPanel(session).join("link")
    assert session.joined == []


def test_without_a_link_the_session_goes_back_to_its_last_room(room_session):
    session = room_session()
    RoomPanel(session, ask=False).join().wait(20)
    assert session.joined == [None]


def test_an_invite_link_is_not_saved_with_the_notebook(room_session):
    panel = RoomPanel(room_session(), invite="fedart+http://relay/studio#token=very-secret")
    bundle = panel._repr_mimebundle_()
    assert "very-secret" not in bundle["text/html"] + bundle["text/plain"]
    assert MASKED_UPDATES[1:] in bundle["text/html"]


def test_the_plan_says_how_loud_its_noise_is_and_what_groups_take_off(room_session):
    session = room_session(rounds=1)
    session.plan.protection = "artist"
    panel = RoomPanel(session)
    seen = []
    when_asked(panel, lambda p: (seen.append(p._terms.value), p.skip()))
    try:
        panel.join("link").wait(20)
    finally:
        session.plan.protection = "none"
    assert "At 10 artists this noise is 5.7 times your signal" in seen[0]
    assert "takes it off: epsilon" in seen[0]
    assert "noise left, in clip norms" in seen[0]


QUESTION = Question(
    "attempt", 1, "Send for round 1 again?", ("It has left <once>.", "At most 3 leave."), "Send again", "Skip"
)


def test_a_further_attempt_is_asked_about_in_the_panel_also_under_standing_consent(room_session):
    session = room_session()
    session.question = QUESTION
    panel = RoomPanel(session, ask=False)
    panel.join("link")
    answered = threading.Thread(target=when_questioned, args=(panel, True))
    answered.start()
    panel.wait(20)
    answered.join(20)
    assert session.agreed_again == [True]
    assert panel.question is None
    assert panel.question_card.layout.display == "none"


def when_questioned(panel, yes):
    for _ in range(200):
        if panel.question is not None:
            shown = panel.question_card.children[0].value
            assert "Send for round 1 again?" in shown
            assert "It has left &lt;once&gt;." in shown
            panel.answer(yes=yes)
            return
        panel.question_card.wait()


def test_cancel_while_a_question_is_open_answers_nothing(room_session):
    session = room_session()
    session.question = QUESTION
    panel = RoomPanel(session, ask=False)
    job = panel.join("link")
    while panel.question is None:
        panel.question_card.wait()
    panel.cancel()
    job.wait(20)
    assert session.agreed_again == []
    assert panel.question is None
    with pytest.raises(RoundError, match="No question waits"):
        panel.answer(yes=True)


def test_a_host_that_stopped_is_shown_in_the_panel(room_session):
    session = room_session(rounds=0)
    session.paused = "The host stopped the rounds: Round 1 failed 5 times."
    panel = RoomPanel(session, ask=False)
    panel.join("link")
    panel.wait(20)
    assert "Round 1 failed 5 times." in panel._log.value
