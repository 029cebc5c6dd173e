"""People, not ids: a room lets in whom its host admits, and an artist takes part with whom they have confirmed."""

from __future__ import annotations

import json
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import pytest
from light_artist import Light

from fedart_nb.diffusion import Backbone
from fedart_nb.errors import RoundError
from fedart_nb.events import Note, RoundClosed, RoundOpened, UpdateSent, Waiting
from fedart_nb.federated import RosterShown
from fedart_nb.federated.roster import Pins
from fedart_nb.host import Host
from fedart_nb.relay import MemoryRelay, RelayClient, serve_in_thread
from fedart_nb.session.roster_check import RosterCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE_S = 120.0
SETTINGS = {"rounds": 1, "local_steps": 1, "batch": 2, "patience_s": 30.0, "join_s": 20.0}


@pytest.fixture
def studio(relay, weights: Path, tmp_path: Path) -> Callable[..., Host]:
    """A host with a room that has a lobby unless told otherwise."""

    def open_(**changes: Any) -> Host:
        host = Host("Studio", folder=tmp_path / "host", backbone=Backbone.from_pretrained(weights, device="cpu"))
        host.open_room(transport=relay.connect(host.identity), **{"min_artists": 4, **SETTINGS, **changes})
        return host

    return open_


@pytest.fixture
def crowd(relay) -> Iterator[Callable[..., list[Light]]]:
    """Artists without a session, each followed by a thread until the test is over: people, or one person's ids."""
    over, threads = Event(), list[Thread]()

    def come(host: Host, *names: str, **more: Any) -> list[Light]:
        lights = [Light(name, relay.connect, host.plan.backbone_sha256, **more) for name in names]
        for light in lights:
            threads.append(Thread(target=lambda light=light: list(light.live(over)), daemon=True))
            threads[-1].start()
        return lights

    yield come
    over.set()
    for thread in threads:
        thread.join(10)


def said(host: Host, artist: str) -> list[str]:
    """Kinds of everything that an artist has sent, from the relay's own log."""
    return [m["kind"] for m in host.transport.log()["messages"] if m["sender"] == artist]


def until(events: Iterator[Any], kind: type, about: str = "") -> Any:
    for event in events:
        if isinstance(event, kind) and about in str(event):
            return event
    message = f"no {kind.__name__} about {about!r}"
    raise AssertionError(message)


# --- C1: one person with three ids, relay and host honest ---


def test_an_invited_person_with_three_ids_stays_outside_until_the_host_lets_them_in(studio, crowd) -> None:
    host = studio(min_artists=3)
    events = host.rounds()
    crowd(host, "Ben", "Cy", "Dee")
    while len(host.guests) < 3:
        until(events, Waiting)
    told = until(events, Waiting, "Asking to come in: ").reason
    assert "0 of at least 3 artists are in the room" in told
    assert [(guest.name, guest.before) for guest in host.guests] == [("Ben", ""), ("Cy", ""), ("Dee", "")]
    assert host.engine.roster == ()
    host.admit(host.guests[0].id[:6])
    until(events, Waiting, "1 of at least 3")
    assert [guest.name for guest in host.guests] == ["Cy", "Dee"]
    host.admit_all()
    assert set(until(events, RoundClosed).adapter.tensors) == set(host.shared.tensors)
    events.close()


def test_standing_consent_masks_nothing_for_ids_that_nobody_confirmed(studio, crowd, enter, run) -> None:
    host = studio(door="open")
    crowd(host, "Ben", "Cy", "Dee")
    ada = enter("Ada")
    taking = run(ada.rounds())
    events = host.rounds()
    closed = until(events, RoundClosed)
    list(events)
    told = taking.result(DEADLINE_S)
    assert closed.contributors == 3, "the others, who are one person, sum up themselves"
    assert not [event for event in told if isinstance(event, UpdateSent)]
    assert not {"share", "update"} & set(said(host, ada.identity.id))
    shown = next(event for event in told if isinstance(event, RosterShown))
    assert [one.name for one in shown.people] == ["Ada", "Ben", "Cy", "Dee"]
    assert any("4 artists: are you 4 people?" in str(event) for event in told if isinstance(event, Note))
    assert any("confirm=" in str(event) for event in told if isinstance(event, Note)), "it says what to do"


def test_the_list_is_shown_before_anything_is_trained_and_a_yes_goes_on(studio, crowd, enter, run) -> None:
    host = studio(door="open")
    crowd(host, "Ben", "Cy", "Dee")
    ada = enter("Ada")
    asked: list[RosterShown] = []
    taking = run(ada.rounds(confirm=lambda roster: asked.append(roster) or ("known" if len(asked) > 2 else None)))
    list(host.rounds())
    told = [type(event).__name__ for event in taking.result(DEADLINE_S)]
    assert len(asked) == 3, "None: ask me again"
    assert told.index("RosterShown") < told.index("Step") < told.index("UpdateSent")
    assert [one.standing for one in ada.roster.people] == ["me", "unconfirmed", "unconfirmed", "unconfirmed"]
    assert ada.people.pins.unconfirmed([one.id for one in ada.roster.people], ada.identity.id) == ()


def test_a_no_skips_the_round_in_all_its_attempts(studio, crowd, enter, run) -> None:
    host = studio(door="open", min_artists=3)
    crowd(host, "Ben", "Cy")
    ada = enter("Ada")
    asked: list[RosterShown] = []
    taking = run(ada.rounds(confirm=lambda roster: asked.append(roster) or False))
    events = host.rounds()
    until(events, Note, "starts again")
    crowd(host, "Dee")
    list(events)
    told = taking.result(DEADLINE_S)
    assert len(asked) == 1
    assert any("You said no to this list" in str(event) for event in told)
    assert not {"share", "update"} & set(said(host, ada.identity.id))
    assert ada.consent.word(ada.consent.room, 1) == "skip"


def test_sessions_of_one_process_take_part_with_each_other_and_with_nobody_else_unasked(host, enter, run) -> None:
    people = [enter(name) for name in ("Ada", "Ben", "Dee")]
    futures = [run(session.rounds(until_round=1)) for session in people]
    until(host.rounds(), RoundClosed)
    assert all(any(isinstance(e, UpdateSent) for e in future.result(DEADLINE_S)) for future in futures)


# --- C2: another list after the words were compared, host and relay foul ---


def test_a_host_that_swaps_the_others_after_the_words_were_compared_gets_nothing(studio, crowd, enter, run) -> None:
    host = studio(rounds=2, min_artists=5)
    real = crowd(host, "Ben", "Cy", "Dee", "Eli")
    ada = enter("Ada")
    ada.consent.stand()
    first = run(ada.rounds(confirm=lambda roster: "compared", until_round=1))
    events = host.rounds(admit=lambda guest: True)
    until(events, RoundClosed)
    first.result(DEADLINE_S)
    assert len(ada.people.pins.compared) == 5
    before = said(host, ada.identity.id)
    for light in real:  # the host plays foul with its own means: others in their place
        host.remove(light.id)
    crowd(host, "Ben", "Cy", "Dee", "Eli")
    asked: list[RosterShown] = []
    second = run(ada.rounds(confirm=lambda roster: asked.append(roster) or "no"))
    assert until(events, RoundClosed).contributors == 4
    list(events)
    told = second.result(DEADLINE_S)
    assert len(asked) == 1
    assert asked[0].pinned
    assert [one.name for one in asked[0].unconfirmed] == ["Ben", "Cy", "Dee", "Eli"]
    assert not {"share", "update"} & set(said(host, ada.identity.id)[len(before) :])
    assert any("whose words you compared" in str(event) for event in told if isinstance(event, Note))
    assert not [event for event in told if isinstance(event, UpdateSent)]


def test_a_newcomer_in_a_compared_room_is_asked_about_by_name_and_once(studio, crowd, enter, run) -> None:
    host = studio(rounds=3, min_artists=3)
    crowd(host, "Ben", "Cy")
    ada = enter("Ada")
    asked: list[RosterShown] = []

    def confirm(roster: RosterShown) -> str:
        asked.append(roster)
        return "known" if roster.pinned else "compared"

    taking = run(ada.rounds(confirm=confirm))
    events = host.rounds(admit=lambda guest: True)
    until(events, RoundClosed)
    (dee,) = crowd(host, "Dee")
    list(events)
    taking.result(DEADLINE_S)
    about = [[one.name for one in roster.unconfirmed] for roster in asked]
    assert about in ([["Ben", "Cy"], ["Dee"]], [["Ben", "Cy"]]), "Dee may come too late for both rounds"
    if dee.side.rounds_done and len(asked) > 1:
        assert [one.new for one in asked[1].unconfirmed] == [True]
        assert asked[1].unconfirmed[0].short in asked[1].warning


def test_words_of_another_list_confirm_nobody(studio, crowd, enter, run) -> None:
    host = studio(min_artists=3)
    crowd(host, "Ben", "Cy")
    ada = enter("Ada")
    with pytest.raises(RoundError, match="There is no list of artists yet"):
        ada.compared()
    taking = run(ada.rounds(confirm="anyone"))
    list(host.rounds(admit=lambda guest: True))
    taking.result(DEADLINE_S)
    with pytest.raises(RoundError, match="Somebody came or went meanwhile"):
        ada.compared("six words that stood there a moment ago")
    assert not ada.people.pins.compared
    assert len(ada.compared(ada.safety_number).people) == 3
    assert len(ada.people.pins.compared) == 3


def test_whom_one_confirmed_is_known_after_a_restart_and_a_damaged_file_asks_again(studio, crowd, enter, run) -> None:
    host = studio(min_artists=3)
    crowd(host, "Ben", "Cy")
    ada = enter("Ada")
    taking = run(ada.rounds(confirm="anyone"))
    list(host.rounds(admit=lambda guest: True))
    taking.result(DEADLINE_S)
    ada.compared()
    again = enter("Ada", stand=False)
    assert again.people.pins == ada.people.pins
    path = again.people.path
    assert json.loads(path.read_text())["compared"].keys() == {one.id for one in ada.roster.people}
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text('{"compared": [')
    third = enter("Ada", stand=False)
    assert not third.people.pins.compared
    assert path.with_name(f"{path.name}.damaged-1").exists()
    assert "cannot be read and was set aside" in third.people.notes[0]


def test_a_question_that_nobody_answers_holds_the_round_up_for_a_while_and_no_longer(studio, crowd, enter, run) -> None:
    host = studio(door="open", patience_s=1.0)
    crowd(host, "Ben", "Cy", "Dee")
    ada = enter("Ada")
    ada.people.answer_s = 2.5  # longer than the host's patience
    states: list[str] = []
    taking = run(ada.rounds(confirm=lambda roster: None))
    for event in host.rounds():
        if ada.identity.id in host.members:
            states.append(host.members[ada.identity.id].state)
        closed = event
    assert isinstance(closed, RoundClosed)
    assert closed.contributors == 3
    assert "asks" in states
    assert "declined" in states
    assert any("Nobody answered for 2.5 seconds" in str(event) for event in taking.result(DEADLINE_S))
    assert not {"share", "update"} & set(said(host, ada.identity.id))


# --- coming back to a room ---


def test_who_left_a_room_and_comes_back_hears_no_alarm_and_takes_part(studio, enter, run) -> None:
    host = studio(rounds=2, min_artists=3)
    running = run(host.rounds())
    people = [enter(name) for name in ("Ada", "Ben", "Cy")]
    for future in [run(session.rounds(until_round=1)) for session in people]:
        future.result(DEADLINE_S)
    people[0].leave()
    again = enter("Ada")
    told, *_ = [future.result(DEADLINE_S) for future in [run(one.rounds()) for one in (again, *people[1:])]]
    running.result(DEADLINE_S)
    assert [str(event) for event in told if isinstance(event, Note) and event.level == "error"] == []
    assert [event.number for event in told if isinstance(event, UpdateSent)] == [2]


def test_who_comes_back_to_a_room_from_another_one_hears_no_alarm(weights, tmp_path, open_session, run) -> None:
    """The messages of the first room's rounds come again; nothing is answered twice, and the rounds go on."""
    with MemoryRelay(room="one") as first, MemoryRelay(room="two") as second:
        came_back({"one": first, "two": second}, weights, tmp_path, open_session, run)


def came_back(relays, weights, tmp_path, open_session, run) -> None:
    hosts = []
    for name, rounds in (("one", 2), ("two", 1)):
        host = Host(name, folder=tmp_path / name, backbone=Backbone.from_pretrained(weights, device="cpu"))
        settings = {**SETTINGS, "rounds": rounds, "min_artists": 3}
        host.open_room(transport=relays[name].connect(host.identity), **settings)
        hosts.append(host)
    people = {name: open_session(name) for name in ("Ada", "Bo", "Cy", "Di", "Ed")}

    def together(names: list[str], room: str, until_round: int | None = None) -> list[Any]:
        futures = []
        for name in names:
            session = people[name]
            if session.side is None or session.side.room != room:
                session.join(transport=relays[room].connect(session.identity))
                session.consent.stand()
            futures.append(run(session.rounds(until_round=until_round)))
        return [future.result(DEADLINE_S) for future in futures]

    running = [run(host.rounds()) for host in hosts]
    together(["Ada", "Bo", "Cy"], "one", until_round=1)
    together(["Ada", "Di", "Ed"], "two")
    told = together(["Ada", "Bo", "Cy"], "one")[0]
    for future in running:
        future.result(DEADLINE_S)
    assert [str(event) for event in told if isinstance(event, Note) and event.level == "error"] == []
    assert [event.number for event in told if isinstance(event, UpdateSent)] == [2]
    assert [event.number for event in told if isinstance(event, RoundClosed)][-1] == 2


# --- the host ---


def test_an_open_door_is_a_choice_that_stands_in_the_plan(studio, crowd) -> None:
    host = studio(min_artists=3)
    assert host.plan.door == "lobby"
    assert studio(min_artists=3, door="open", room="other").plan.door == "open"
    with pytest.raises(RoundError, match="'lobby'"):
        studio(door="ajar")


def test_an_answer_that_comes_right_after_the_admission_is_heard(studio, relay) -> None:
    host = studio(min_artists=3)
    events = host.rounds()
    light = Light("Ben", relay.connect, host.plan.backbone_sha256)
    until(events, Waiting)
    host.admit_all()  # while the host's loop stands still, as by a click
    list(light.hear())
    until(events, Waiting, "1 of at least 3")
    assert host.members[light.id].state == "contributes"
    assert "refuse" not in [message["kind"] for message in host.transport.log()["messages"]]


def test_a_removed_artist_is_in_no_further_round_and_asks_again(studio, crowd) -> None:
    host = studio(rounds=2, min_artists=3)
    lights = crowd(host, "Ben", "Cy", "Dee", "Eve")
    eve = lights[-1]
    events = host.rounds(admit=lambda guest: guest.name != "Eve" or None)
    first = set(until(events, RoundOpened, "Ben").artists)
    host.admit(eve.id)
    until(events, RoundClosed)
    host.remove(eve.id)
    second = [set(event.artists) for event in events if isinstance(event, RoundOpened)]
    assert [first, *second] == [{"Ben", "Cy", "Dee"}] * 3, "the plan goes out, and again the roster"
    assert eve.id not in host.members
    eve.hello()
    assert not host.admission.lets_in(eve.id)


def test_a_link_for_one_person_lets_one_in_unasked_and_the_next_one_with_it_asks(weights, tmp_path) -> None:
    served = serve_in_thread(tmp_path / "relay")
    try:
        host = Host("Studio", folder=tmp_path / "host", backbone=Backbone.from_pretrained(weights, device="cpu"))
        host.open_room(served.url, **{**SETTINGS, "min_artists": 3})
        link = host.invite_one("Mira")
        events = host.rounds()
        mira, eve = (
            Light(name, lambda identity: RelayClient(link, identity), host.plan.backbone_sha256, link=link)
            for name in ("Mira", "Eve")
        )
        until(events, Waiting, "1 of at least 3 artists are in the room. Asking to come in: Eve")
        assert list(host.admission.admitted) == [mira.id]
        assert [guest.id for guest in host.guests] == [eve.id]
        assert link.once not in str(host.transport.log()), "the secret never left the two kernels"
        for light in (mira, eve):
            light.transport.close()
        events.close()
    finally:
        served.stop()


def test_who_is_admitted_survives_a_restart_of_the_host(weights, tmp_path) -> None:
    served = serve_in_thread(tmp_path / "relay")
    try:
        folder = tmp_path / "host"
        host = Host("Studio", folder=folder, backbone=Backbone.from_pretrained(weights, device="cpu"))
        host.open_room(served.url, min_artists=3)
        host.admission.asks("a" * 32, "Ada")
        host.admission.asks("b" * 32, "Ben")
        host.admit("aaaa")
        once = host.invite_one("Cy")
        again = Host("Studio", folder=folder)
        assert again.admission.admitted == {"a" * 32: "Ada"}
        assert [guest.name for guest in again.guests] == ["Ben"]
        assert [ticket.label for ticket in again.tickets] == ["Cy"]
        assert again.admission.asks("c" * 32, "Cy", proof=once.proof("c" * 32))
    finally:
        served.stop()


def test_rooms_whose_names_differ_in_capital_letters_alone_keep_their_confirmed_apart_on_every_disk(
    tmp_path: Path,
) -> None:
    places = {
        str(RosterCheck(tmp_path, f"{room}-0123", "me").path).casefold() for room in ("Studio", "studio", "STUDIO")
    }
    assert len(places) == 3


def test_whom_an_older_version_wrote_down_as_confirmed_is_still_known(tmp_path: Path) -> None:
    pins = Pins().with_accepted({"b" * 32: "Ben"})
    (tmp_path / "Studio-0123.json").write_text(json.dumps(pins.to_json()), encoding="utf-8")
    assert RosterCheck(tmp_path, "studio-0123", "me").pins == Pins(), "of a room of another name"
    assert RosterCheck(tmp_path, "Studio-0123", "me").pins == pins
    assert RosterCheck(tmp_path, "Studio-0123", "me").pins == pins, "and stays so"
