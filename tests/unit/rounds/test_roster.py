"""People, not ids: what a list of artists says of itself; nothing is masked under one that nobody confirmed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedart_nb.errors import RoundError
from fedart_nb.federated import Pins, RosterShown, Simulation, unpack
from fedart_nb.federated.roster import names_for
from fedart_nb.workshop.lessons.dishonest_relay import invented

SIZE = 64
NAMES = ["Ada", "Ben", "Cy", "Dee"]
IDS = {letter: letter * 32 for letter in "abcdef"}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def updates(rng: np.random.Generator, names: list[str]) -> dict[str, dict[str, np.ndarray]]:
    return {name: {"x": rng.normal(0, 0.05, SIZE).astype(np.float32)} for name in names}


def sent_by(done, side) -> list[str]:
    return [envelope.kind for envelope in done.log if envelope.sender == side.me]


def of(pins: Pins, letters: str, names: dict[str, str] | None = None, **more: object) -> RosterShown:
    about = {"me": IDS["a"], "room": "studio", "host": "h" * 32, "number": 1, "attempt": 1}
    named = {IDS[letter]: letter.upper() for letter in letters} | (names or {})
    return RosterShown.of(pins, [IDS[letter] for letter in letters], named, **{**about, **more})


# --- C1: one person with three ids ---


def test_who_holds_all_other_ids_reads_the_update_by_subtraction() -> None:
    rng = np.random.default_rng(0)
    room, sent = Simulation(NAMES, {"x": np.zeros(SIZE, "f4")}), updates(rng, NAMES)
    before = unpack(room.shared)["x"]
    done = room.round(sent)
    mine = sum(sent[name]["x"] for name in NAMES[1:])
    read = 4 * (unpack(done.result.shared)["x"] - before) - mine
    assert cosine(read, sent["Ada"]["x"]) > 0.9999, "the attack itself: nothing of the protocol is broken"


def test_nothing_is_dealt_or_masked_for_ids_that_nobody_confirmed() -> None:
    rng = np.random.default_rng(0)
    room = Simulation(NAMES, {"x": np.zeros(SIZE, "f4")})
    ada = room.sides["Ada"]
    ada.pins = Pins()
    done = room.round(updates(rng, NAMES))
    assert sent_by(done, ada) == ["hello", "advertise"]
    assert done.result.contributors == tuple(sorted(side.me for name, side in room.sides.items() if name != "Ada"))
    assert ada.roster.question == "4 artists: are you 4 people?"
    assert [one.name for one in ada.roster.unconfirmed] == ["Ben", "Cy", "Dee"]


def test_the_words_to_compare_are_those_of_the_list_that_waits() -> None:
    rng = np.random.default_rng(0)
    room = Simulation(NAMES[:3], {"x": np.zeros(SIZE, "f4")})
    ada, ben = room.sides["Ada"], room.sides["Ben"]
    ada.pins = Pins()
    room.round(updates(rng, NAMES[:3]))
    assert str(ada.question.words) == str(ben.roster.words)


def test_after_a_yes_the_same_round_goes_on() -> None:
    room = Simulation(NAMES[:3], {"x": np.zeros(SIZE, "f4")})
    ada = room.sides["Ada"]
    ada.pins = Pins()
    room.round(updates(np.random.default_rng(0), NAMES[:3]))
    ada.pins = ada.pins.with_accepted(ada.question.names)
    assert [envelope.kind for envelope in ada.deal()] == ["share"]
    assert ada.question is None


def test_a_list_is_not_dealt_for_as_long_as_one_in_it_is_unconfirmed() -> None:
    room = Simulation(NAMES[:3], {"x": np.zeros(SIZE, "f4")})
    ada = room.sides["Ada"]
    ada.pins = Pins()
    room.round(updates(np.random.default_rng(0), NAMES[:3]))
    ada.pins = ada.pins.with_accepted({room.sides["Ben"].me: "Ben"})
    with pytest.raises(RoundError, match="Nothing of yours was masked"):
        ada.deal()


def test_who_is_taken_back_after_the_shares_were_dealt_keeps_the_update_in_the_kernel() -> None:
    room = Simulation(NAMES[:3], {"x": np.zeros(SIZE, "f4")})
    ada, sent = room.sides["Ada"], updates(np.random.default_rng(0), NAMES[:3])
    ada.pins = Pins().with_compared({side.me: name for name, side in room.sides.items()})
    room.round({name: update for name, update in sent.items() if name != "Ada"})  # she has a task, and thinks
    assert ada.task is not None
    ada.pins = ada.pins.without([room.sides["Ben"].me])
    with pytest.raises(RoundError, match="whom you have not confirmed"):
        ada.submit(sent["Ada"], pictures=5)


def test_who_declines_a_list_says_so_and_has_nothing_more_to_answer() -> None:
    room = Simulation(NAMES[:3], {"x": np.zeros(SIZE, "f4")})
    ada = room.sides["Ada"]
    ada.pins = Pins()
    room.round(updates(np.random.default_rng(0), NAMES[:3]))
    told = ada.decline()
    assert (told.kind, told.body["declined"]) == ("note", True)
    assert ada.question is None
    for call in (ada.decline, ada.deal):
        with pytest.raises(RoundError, match="No roster waits"):
            call()


# --- C2: another list after the words were compared ---


def test_a_list_swapped_after_the_words_were_compared_gets_nothing() -> None:
    rng = np.random.default_rng(1)
    names = [*NAMES, "Eli"]
    room = Simulation(names, {"x": np.zeros(SIZE, "f4")}, min_artists=3)
    ada = room.sides["Ada"]
    ada.pins = Pins().with_accepted({side.me: name for name, side in room.sides.items()})
    assert room.round(updates(rng, names)).result is not None
    ada.pins = ada.pins.with_compared(ada.roster.names)
    done = room.round(updates(rng, names), tamper=invented(room, "Ada"))
    assert sent_by(done, ada) == ["hello", "advertise"], "of the second round nothing but her keys has left"
    assert ada.roster.pinned
    assert len(ada.roster.unconfirmed) == 4
    assert "4 of 5 artists in the list of round 2 are not among those whose words you compared" in ada.roster.warning
    assert {one.name for one in ada.roster.missing} == {"Ben", "Cy", "Dee", "Eli"}


def test_the_same_people_again_are_not_asked_about_in_any_round_or_attempt() -> None:
    rng = np.random.default_rng(2)
    room = Simulation(NAMES, {"x": np.zeros(SIZE, "f4")}, min_artists=3)
    ada = room.sides["Ada"]
    ada.pins = Pins().with_compared({side.me: name for name, side in room.sides.items()})
    assert room.round(updates(rng, NAMES)).result is not None
    assert room.round(updates(rng, NAMES), gone=dict.fromkeys(("Ben", "Cy"), "roster")).result is None
    assert room.plan.attempt == 2
    assert room.round(updates(rng, NAMES)).result is not None
    assert ada.question is None


# --- what a list says ---


def test_who_is_new_since_the_last_round_is_marked_and_the_confirmed_are_named_as_confirmed() -> None:
    pins = Pins().with_compared({IDS[x]: x.upper() for x in "abc"}).with_seen([IDS[x] for x in "abc"], 1)
    shown = of(pins, "abcd", number=2)
    told = {one.name: (one.standing, one.new) for one in shown.people}
    assert told == {
        "A": ("me", False),
        "B": ("compared", False),
        "C": ("compared", False),
        "D": ("unconfirmed", True),
    }
    assert "D (dddd dddd)" in shown.warning
    assert "1 of 4 artists in the list of round 2 is not among those" in shown.warning


def test_in_the_first_list_nobody_is_called_new() -> None:
    assert not any(one.new for one in of(Pins(), "abc").people)


def test_a_confirmed_id_keeps_its_confirmed_name_whatever_the_host_calls_it() -> None:
    shown = of(Pins().with_compared({IDS["b"]: "Ben"}), "abc", {IDS["b"]: "Somebody else"})
    assert [one.name for one in shown.people] == ["A", "Ben", "C"]


def test_names_that_look_the_same_are_marked_in_any_script() -> None:
    shown = of(Pins(), "abc", {IDS["b"]: "Mira", IDS["c"]: "\u041cir\u0430"})
    assert [one.alike for one in shown.people] == [False, True, True]


def test_a_stranger_with_the_name_of_somebody_confirmed_who_is_missing_is_marked() -> None:
    shown = of(Pins().with_compared({IDS["b"]: "Ben"}), "ac", {IDS["c"]: "Ben"})
    assert [(one.name, one.alike) for one in shown.unconfirmed] == [("Ben", True)]
    assert [one.name for one in shown.missing] == ["Ben"]


def test_comparing_words_confirms_that_list_and_nobody_else() -> None:
    pins = Pins().with_accepted({IDS["e"]: "E"}).with_compared({IDS[x]: x for x in "abc"})
    assert pins.unconfirmed([IDS[x] for x in "abce"], IDS["a"]) == (IDS["e"],)


def test_pins_survive_json_and_refuse_what_is_none() -> None:
    pins = Pins().with_compared({IDS["b"]: "B"}).with_accepted({IDS["c"]: "C"}).with_seen([IDS["b"]], 3)
    assert Pins.from_json(pins.to_json()) == pins
    for bad in (None, [], {}, {"compared": [], "accepted": {}, "seen": {}}, {**pins.to_json(), "seen": {"x": "y"}}):
        with pytest.raises(RoundError, match="Confirmed artists"):
            Pins.from_json(bad)


def test_names_are_cut_so_that_a_large_list_fits_its_message() -> None:
    cut = names_for({f"{i:032x}": "\U0001f600" * 60 for i in range(64)})
    assert sum(12 * len(name) for name in cut.values()) < 40_000


def test_a_roster_without_names_shows_ids_alone() -> None:
    shown = RosterShown.of(Pins(), IDS.values(), {}, me=IDS["a"], room="r", host="h" * 32, number=1, attempt=1)
    assert {one.name for one in shown.people} == {"?"}
    assert replace(shown, people=shown.people[:1]).warning == ""
