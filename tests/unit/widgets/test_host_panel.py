"""The host panel opens a room, hands out its invite and runs the rounds; the invite's secret is saved nowhere."""

from __future__ import annotations

import httpx
import pytest

from fedart_nb.consent import Question
from fedart_nb.errors import RelayRefused, RoundError
from fedart_nb.events import RoundClosed
from fedart_nb.widgets import HostPanel, host_panel
from fedart_nb.widgets.security import MASKED_UPDATES


def opened(host, **options):
    return HostPanel(host, relay="http://127.0.0.1:8765", **options).open_room()


def test_the_settings_shown_open_the_room(make_host):
    host = make_host()
    panel = opened(host, rounds=3, min_artists=4, steps=7, rank=8)
    address, settings = host.opened_with[0]
    assert address == "http://127.0.0.1:8765"
    assert settings["adapter"].rank == 8
    assert {k: settings[k] for k in ("rounds", "min_artists", "local_steps")} == {
        "rounds": 3,
        "min_artists": 4,
        "local_steps": 7,
    }
    assert panel._link.text == str(panel.invite)


def test_the_invite_is_not_saved_with_the_notebook(make_host):
    panel = opened(make_host())
    bundle = panel._repr_mimebundle_()
    assert "very-secret" not in bundle["text/html"] + bundle["text/plain"]


def test_rounds_run_to_the_end_and_the_last_one_is_the_value(make_host):
    panel = opened(make_host(), rounds=2)
    panel.start_rounds()
    assert panel.wait(20).number == 2
    assert "All 2 rounds are over" in panel._progress.value


def test_the_roster_shows_names_states_and_progress_escaped(make_host):
    panel = opened(make_host())
    panel.start_rounds().wait(20)
    roster = panel._roster.value
    assert "2 artists in the room" in roster
    assert "Bo &lt;script&gt;" in roster
    assert "<script>" not in roster
    assert "training" in roster
    assert "update is here" in roster


def test_no_event_is_missing_from_the_log_however_fast_they_come(make_host):
    panel = opened(make_host(), rounds=12)
    panel.start_rounds().wait(20)
    assert panel._log.value.count("make the new shared adapter") == 12


def test_close_room_stops_the_rounds_and_tells_everybody(make_host):
    host = make_host(gated=True)
    panel = opened(host)
    job = panel.start_rounds()
    panel.close_room()
    host.gate.release(100)
    job.wait(20)
    assert job.state == "cancelled"
    assert host.closed == 1
    assert "The room is closed" in panel._progress.value


def test_cancel_leaves_the_room_open(make_host):
    host = make_host(gated=True)
    panel = opened(host)
    job = panel.start_rounds()
    panel.cancel()
    host.gate.release(100)
    job.wait(20)
    assert host.closed == 0
    assert "Start rounds goes on" in panel._progress.value


def test_rounds_without_a_room_are_refused(make_host):
    panel = HostPanel(make_host())
    assert panel._start.disabled
    with pytest.raises(RoundError, match="no room yet"):
        panel.start_rounds()


def test_a_relay_that_refuses_is_explained(make_host):
    host = make_host(fail=RelayRefused("The relay is full (403). Ask who runs it.", status=403))
    panel = HostPanel(host, relay="http://127.0.0.1:8765")
    with pytest.raises(RelayRefused):
        panel.open_room()
    assert "Ask who runs it" in panel._error_area.value
    assert panel._room_card.layout.display == "none"


def test_an_empty_address_is_refused(make_host):
    panel = HostPanel(make_host(), relay="x")
    panel._address.value = " "
    panel._open.click()
    assert "address is empty" in panel._error_area.value


def test_a_relay_is_started_in_this_kernel_when_none_is_named(make_host, monkeypatch):
    monkeypatch.delenv("FEDART_RELAY", raising=False)
    host = make_host()
    panel = HostPanel(host).open_room()
    url = host.opened_with[0][0]
    try:
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(url).status_code < 500
        panel.open_room()
        assert host.opened_with[1][0] == url
    finally:
        host_panel._relays[host].stop()


def test_the_relay_of_the_environment_is_proposed(make_host, monkeypatch):
    monkeypatch.setenv("FEDART_RELAY", "http://127.0.0.1:9999")
    panel = HostPanel(make_host())
    assert panel._address.value == "http://127.0.0.1:9999"
    assert not panel._address.disabled


def test_a_host_that_is_already_in_its_room_shows_it(make_host):
    host = make_host()
    host.open_room("http://relay", rounds=2)
    panel = HostPanel(host)
    assert panel._link.text == host.invite
    assert not panel._start.disabled


def test_what_masks_hide_stands_there_from_the_start(make_host):
    first = HostPanel(make_host()).children[2].value
    assert MASKED_UPDATES in first


def test_noise_on_whole_artists_is_switched_on_with_a_core_and_told_before_the_first_round(make_host):
    host = make_host()
    panel = HostPanel(host, relay="http://127.0.0.1:8765", rank=4)
    assert panel._epsilon.disabled
    panel._noise.value = True
    panel._epsilon.value = 3.0
    assert not panel._epsilon.disabled
    panel.open_room()
    _, settings = host.opened_with[0]
    assert settings["artist_epsilon"] == 3.0
    assert settings["adapter"].core_seed == 0
    shown = panel._promise.value
    assert "At 10 artists this noise is 5.7 times your signal in each of 2 rounds" in shown
    assert "Against 7 nothing is promised" in shown
    assert shown.count("<tr>") == 5, "a head, and four sizes of groups"
    assert "5.7 times your signal" in panel._repr_mimebundle_()["text/plain"]


def test_without_noise_nothing_of_it_is_asked_of_the_host(make_host):
    host = make_host()
    panel = opened(host)
    assert "artist_epsilon" not in host.opened_with[0][1]
    assert host.opened_with[0][1]["adapter"].core_seed is None
    assert panel._promise.value == ""


def test_the_slider_and_the_box_for_fairness_are_what_the_room_is_opened_with(make_host):
    host = make_host()
    panel = HostPanel(host, relay="http://127.0.0.1:8765", min_artists=5)
    panel._q.value, panel._gains.value = 1.5, True
    panel.open_room()
    chosen = host.opened_with[0][1]
    assert (chosen["weighting"], chosen["q"]) == ("loss", 1.5)
    assert chosen["metrics"] == ("gain", "gain_squared", "gained")


def test_of_few_artists_the_mean_gain_alone_is_asked_and_under_noise_nothing(make_host):
    host = make_host()
    panel = HostPanel(host, relay="http://127.0.0.1:8765", min_artists=3)
    panel._gains.value = True
    panel.open_room()
    assert host.opened_with[0][1]["metrics"] == ("gain",)
    assert "weighting" not in host.opened_with[0][1]
    noisy = make_host()
    other = HostPanel(noisy, relay="http://127.0.0.1:8765", min_artists=5, artist_epsilon=8.0)
    other._q.value, other._gains.value = 1.0, True
    assert other._q.disabled
    assert other._gains.disabled
    other.open_room()
    assert not {"weighting", "q", "metrics"} & noisy.opened_with[0][1].keys()


def test_gains_are_told_as_a_sentence(make_host):
    panel = opened(make_host())
    means = {"gain": 0.02, "gain_squared": 0.0005, "gained": 0.8}
    panel._record(RoundClosed(2, 3, 5, None, means))
    assert "4 of 5 artists gained" in panel._lines[-1]


def test_a_secret_behind_the_relays_address_opens_the_room_and_is_not_saved(make_host):
    host = make_host()
    panel = HostPanel(host, relay="http://127.0.0.1:8765/#open=open-sesame-1").open_room()
    assert host.opened_with[0][0] == "http://127.0.0.1:8765"
    assert host.opened_with[0][1]["opening_secret"] == "open-sesame-1"
    assert panel._address.value == "http://127.0.0.1:8765"
    assert "sesame" not in str([widget.get_state() for widget in (panel._address, panel._secret)])


def test_without_a_secret_none_is_given(make_host):
    host = make_host()
    HostPanel(host, relay="http://127.0.0.1:8765").open_room()
    assert "opening_secret" not in host.opened_with[0][1]


QUESTION = Question("withdrawal", 1, "Dee withdraws. Go back?", ("2 rounds again.",), "Go back to round 1", "Stay")


@pytest.mark.parametrize("back", [True, False])
def test_a_withdrawal_is_asked_about_and_the_rounds_go_on_meanwhile(make_host, back):
    host = make_host()
    host.question = QUESTION
    panel = opened(host)
    job = panel.start_rounds()
    while panel.question is None:
        panel.question_card.wait()
    assert "2 rounds again." in panel.question_card.children[0].value
    assert [button.description for button in panel.question_card.children[1].children] == ["Go back to round 1", "Stay"]
    (panel.go_back if back else panel.stay)()
    job.wait(20)
    assert host.went_back is back
    assert panel.question is None
    with pytest.raises(RoundError, match="No question waits"):
        panel.go_back()
