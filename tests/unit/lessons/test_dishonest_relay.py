"""The reader plays the relay: every trick is noticed, by the one whom it concerns, in words that say what was wrong."""

from __future__ import annotations

import pytest

from fedart_nb.errors import RoundError
from fedart_nb.workshop.lessons import TRICKS, RelayGamePanel, play

NOTICED = {
    "swapped keys": ("Ada", "not signed by that artist"),
    "another model": ("Ben", "shows that artist another plan or model"),
    "another backbone": ("Ada", "this kernel holds"),
    "zeroed adapter": ("Ada", "another shared adapter than the last result's"),
    "lie about survivors": ("Ada", "Nothing was released"),
    "ask again": ("Ada", "Asked a second time"),
    "another result": ("Ada", "another shared adapter than the last result's"),
}


@pytest.mark.parametrize("name", NOTICED)
def test_a_trick_is_noticed_by_the_kernel_that_it_concerns(name: str) -> None:
    who, what = NOTICED[name]
    played = play(name)
    assert played.caught
    assert played.noticed[0][0] == who
    assert what in played.noticed[0][1]


def test_invented_artists_are_noticed_by_people_alone() -> None:
    played = play("invented artists")
    assert played.noticed == ()
    assert played.words["Ada"] != played.words["Ben"]
    assert played.caught


def test_one_person_under_four_names_is_asked_about_and_gets_nothing() -> None:
    played = play("four names")
    assert played.noticed == (), "no message is wrong"
    assert played.asked is not None
    assert played.asked.question == "5 artists: are you 5 people?"
    assert played.caught
    assert not played.left
    assert played.contributors == 4, "the others sum up themselves"
    assert played.read is not None
    assert played.read > 0.9999, "what a yes would have given away"


def test_another_list_after_the_words_were_compared_is_asked_about_and_gets_nothing() -> None:
    played = play("another list")
    assert played.noticed == ()
    assert played.asked is not None
    assert played.asked.pinned
    assert played.asked.number == 2
    assert len(played.asked.unconfirmed) == 4
    assert not played.left


def test_people_who_compared_words_are_asked_about_in_no_other_trick() -> None:
    for name in NOTICED:
        assert play(name).asked is None


def test_every_trick_has_its_test() -> None:
    assert set(TRICKS) == {*NOTICED, "invented artists", "four names", "another list"}


def test_the_panel_tells_what_the_question_kept_in_the_kernel() -> None:
    panel = RelayGamePanel()
    told = panel.play("four names").to_html()
    assert "5 artists: are you 5 people?" in told
    assert "Nothing of hers has left. Had she said yes, you would have read her update to a cosine of 1.0000" in told
    assert "Ada, who is asked and counts" in told
    assert "not among those whose words you compared" in panel.play("another list").to_html()
    panel.close()


def test_an_unknown_trick_is_refused_with_those_known() -> None:
    with pytest.raises(RoundError, match="swapped keys"):
        play("bribe")


def test_the_panel_plays_a_trick_and_keeps_the_score() -> None:
    panel = RelayGamePanel()
    panel.play("zeroed adapter")
    assert "Noticed by Ada" in panel._outcome.value
    panel.play("invented artists")
    assert "Only people can notice this" in panel._outcome.value
    assert "2 of 10 tricks played" in panel._table.value
    assert panel.value is not None
    panel.close()


def test_a_trick_that_is_chosen_says_what_it_would_be_good_for() -> None:
    panel = RelayGamePanel()
    panel._trick.value = "ask again"
    assert "The other kind of Ben" in panel._aim.value
    panel.close()
