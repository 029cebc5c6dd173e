"""The host's door: who asks, who is in, and links that let exactly one person in, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fedart_nb._system.names import checked_name, look_alike, shown_name
from fedart_nb.errors import FedArtError, RoundError, WireError
from fedart_nb.host.admission import MAX_GUESTS, Admission
from fedart_nb.relay import Invite
from fedart_nb.session import Session

if TYPE_CHECKING:
    from pathlib import Path

ADA, BEN, EVE = "a" * 32, "b" * 32, "e" * 32
INVITE = Invite("http://127.0.0.1:8765", "studio", "t" * 22, "0" * 32)


@pytest.fixture
def door(tmp_path: Path) -> Admission:
    door = Admission(tmp_path / "admission.json", clock=lambda: 1000.0)
    door.bind("studio", "0" * 32)
    return door


def link(door: Admission, label: str = "") -> Invite:
    return Invite(**{**vars(INVITE), "once": door.ticket(label).secret})


def test_who_asks_waits_with_name_id_since_and_whether_they_were_here_before(door: Admission) -> None:
    assert not door.asks(ADA, "Ada")
    assert str(door.guests[0]) == "Ada (aaaa aaaa) asks to come in: new."
    assert door.guests[0].since == 1000.0
    door.admit(ADA)
    assert door.lets_in(ADA)
    door.reset()
    assert not door.lets_in(ADA), "a new room has nobody in it"
    assert not door.asks(ADA, "Countess")
    assert "was here before as Ada" in str(door.guests[0])


def test_a_link_for_one_person_lets_exactly_one_id_in_and_the_same_one_again(door: Admission) -> None:
    one = link(door, "Ada")
    assert door.asks(ADA, "Ada", proof=one.proof(ADA))
    assert not door.asks(BEN, "Ben", proof=one.proof(BEN)), "used"
    assert door.asks(ADA, "Ada", proof=one.proof(ADA))
    assert [ticket.used_by for ticket in door.tickets] == [ADA]


def test_a_relay_that_reads_a_proof_lets_nobody_else_in_with_it(door: Admission) -> None:
    read = link(door).proof(ADA)
    assert not door.asks(EVE, "Ada", proof=read)
    assert door.asks(ADA, "Ada", proof=read)


def test_a_proof_for_another_room_is_none(door: Admission) -> None:
    secret = door.ticket().secret
    other = Invite(**{**vars(INVITE), "room": "elsewhere", "once": secret})
    assert not door.asks(ADA, "Ada", proof=other.proof(ADA))


def test_a_link_taken_back_lets_nobody_in_and_a_used_one_is_not_taken_back(door: Admission) -> None:
    one, two = link(door, "Ada"), link(door, "Ben")
    door.revoke("Ada")
    assert not door.asks(ADA, "Ada", proof=one.proof(ADA))
    assert door.asks(BEN, "Ben", proof=two.proof(BEN))
    with pytest.raises(RoundError, match="Remove the artist in its place"):
        door.revoke("Ben")
    with pytest.raises(RoundError, match="there are: Ben"):
        door.revoke("Cy")


def test_the_secret_of_a_link_is_in_the_link_alone(door: Admission) -> None:
    one = link(door)
    assert one.once is not None
    assert one.once in str(one)
    assert one.once not in repr(one)
    assert Invite.parse(str(one)) == one
    assert Invite.parse(str(INVITE)).proof(ADA) == ""
    with pytest.raises(WireError):
        Invite(**{**vars(INVITE), "once": "short"})


def test_an_open_door_lets_everybody_in_but_whom_the_host_removed(door: Admission) -> None:
    assert door.asks(ADA, "Ada", is_open=True)
    door.remove(ADA)
    assert not door.asks(ADA, "Ada", is_open=True)
    door.admit(ADA)
    assert door.lets_in(ADA)


def test_a_removed_artist_does_not_come_back_with_the_same_link(door: Admission) -> None:
    one = link(door)
    assert door.asks(ADA, "Ada", proof=one.proof(ADA))
    door.remove(ADA)
    assert not door.asks(ADA, "Ada", proof=one.proof(ADA))


def test_a_name_that_looks_like_somebody_elses_is_marked(door: Admission) -> None:
    door.asks(ADA, "Ada", is_open=True)
    door.asks(EVE, "\u0410d\u0430")
    assert door.guests[0].alike
    assert "looks like another name" in str(door.guests[0])


def test_half_an_id_that_fits_two_or_nobody_is_refused_with_the_reason(door: Admission) -> None:
    door.asks("abcd" + "1" * 28, "Ada")
    door.asks("abcd" + "2" * 28, "Ben")
    for who, why in (("abcd", "2 artists have"), ("ffff", "nobody who asks has"), ("ab", "nobody who asks has")):
        with pytest.raises(RoundError, match=why):
            door.admit(who)
    assert door.admit("ABCD 1").name == "Ada"


def test_a_crowd_of_askers_is_bounded_and_asking_again_writes_nothing(door: Admission, tmp_path: Path) -> None:
    for number in range(MAX_GUESTS + 5):
        door.asks(f"{number:032x}", f"Guest {number}")
    assert len(door.guests) == MAX_GUESTS
    before = (tmp_path / "admission.json").stat().st_mtime_ns
    door.asks(f"{0:032x}", "Guest 0")
    assert (tmp_path / "admission.json").stat().st_mtime_ns == before


def test_a_damaged_file_is_set_aside_and_nobody_is_in(door: Admission, tmp_path: Path) -> None:
    door.asks(ADA, "Ada", is_open=True)
    path = tmp_path / "admission.json"
    assert path.stat().st_mode & 0o777 == 0o600
    for text in ("{", "[]", '{"admitted": 1}', "[" * 100_000):
        path.write_text(text)
        assert not Admission(path).lets_in(ADA)
        assert path.with_suffix(".damaged").read_text() == text


@pytest.mark.parametrize(
    "bad", ["Ada\u202e", "A\nda", "Ada\x00", "\u200bAda", "A\u2066da", "", " ", "x" * 61, 7, "A\u200dda"]
)
def test_names_with_what_nobody_sees_are_refused_everywhere(bad: object, tmp_path: Path, door: Admission) -> None:
    with pytest.raises(FedArtError, match="The name is"):
        Session(bad, folder=tmp_path / "session")  # type: ignore[arg-type]
    with pytest.raises(FedArtError, match="The name is"):
        door.asks(EVE, bad)  # type: ignore[arg-type]
    assert not {"\u202e", "\n", "\x00", "\u200b", "\u2066"} & set(shown_name(bad))


def test_names_of_people_all_over_the_world_are_taken() -> None:
    for name in (
        "Ada",
        "Zo\u0308e",
        "\u5b87\u591a\u7530",
        "\u0645\u06cc\u200c\u062e",
        "O'Brien-Smith",
        "\U0001f469\u200d\U0001f3a8 Mira",
    ):
        assert checked_name(name)
    assert checked_name("Zoe\u0308") == checked_name("Zo\u00eb"), "one name, however it was typed"


def test_names_that_people_take_for_each_other() -> None:
    for one, other in (("Ada", "ADA"), ("Bill", "BiII"), ("Oli", "0li"), ("Zoe", "Zo\u00eb"), ("modern", "modem")):
        assert look_alike(one, other)
    assert not look_alike("Ada", "Ben")
