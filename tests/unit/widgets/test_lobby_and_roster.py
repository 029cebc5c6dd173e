"""The cards about people: the host's door, and the list that an artist confirms before anything is masked."""

from __future__ import annotations

from types import SimpleNamespace

import ipywidgets
import pytest

from fedart_nb.errors import RoundError
from fedart_nb.federated import Pins, RosterShown
from fedart_nb.widgets import HostPanel, RoomPanel
from fedart_nb.widgets.lobby_card import LobbyCard
from fedart_nb.widgets.roster_card import RosterCard, roster_table
from fedart_nb.widgets.security import safety_card

ADA, BEN, CY = "a" * 32, "b" * 32, "c" * 32
NAMES = {ADA: "Ada", BEN: "Ben <b>", CY: "Cy"}


def shown(pins: Pins | None = None, names: dict[str, str] | None = None, number: int = 1) -> RosterShown:
    names = names or NAMES
    about = {"me": ADA, "room": "studio", "host": "h" * 32, "number": number, "attempt": 1}
    return RosterShown.of(pins or Pins(), names, names, **about)


def buttons(widget) -> dict[str, object]:
    """Every visible button by what it says."""
    found = {}
    if widget.layout.display == "none":
        return found
    if hasattr(widget, "on_click"):
        found[widget.description] = widget
    for child in getattr(widget, "children", ()):
        found |= buttons(child)
    return found


def text(widget) -> str:
    """All HTML that is visible in a widget."""
    if widget.layout.display == "none":
        return ""
    own = widget.value if isinstance(widget, ipywidgets.HTML) else ""
    return own + "".join(text(child) for child in getattr(widget, "children", ()))


@pytest.fixture
def lobby(make_host):
    host, told = make_host(), []
    host.open_room("http://127.0.0.1:8765", rounds=1)
    from fedart_nb.widgets import parts

    card = LobbyCard(host, button=parts.button, say=told.append)
    card.draw()
    card.told = told
    return card


def test_the_host_sees_who_asks_with_id_time_and_whether_they_were_here_before(lobby):
    assert "Nobody asks to come in" in text(lobby)
    lobby.host.admission.asks(ADA, "Ada <i>")
    lobby.draw()
    assert "<strong>Ada &lt;i&gt;</strong> <code>aaaa aaaa</code> asks since" in text(lobby)
    assert "new" in text(lobby)
    assert lobby.told == ["Ada <i> (aaaa aaaa) asks to come in: new."]
    lobby.draw()
    assert len(lobby.told) == 1, "said once"


def test_one_is_let_in_by_a_button_of_their_own_and_all_by_another(lobby):
    for artist, name in NAMES.items():
        lobby.host.admission.asks(artist, name)
    lobby.draw()
    buttons(lobby)["Let Ada in"].click()
    assert lobby.host.admission.admitted == {ADA: "Ada"}
    assert "Let Ada in" not in buttons(lobby)
    buttons(lobby)["Let everybody in"].click()
    assert lobby.host.admission.admitted.keys() == NAMES.keys()
    assert "Let everybody in" not in buttons(lobby)


def test_a_line_stays_the_same_persons_while_others_come_and_go(lobby):
    lobby.host.admission.asks(ADA, "Ada")
    lobby.host.admission.asks(BEN, "Ben")
    lobby.draw()
    ben = buttons(lobby)["Let Ben in"]
    lobby.host.admission.forget_guest(ADA)
    lobby.host.admission.asks(CY, "Cy")
    lobby.draw()
    assert buttons(lobby)["Let Ben in"] is ben
    ben.click()
    assert lobby.host.admission.admitted == {BEN: "Ben"}


def test_more_than_fit_are_counted_and_come_as_places_get_free(lobby):
    for number in range(12):
        lobby.host.admission.asks(f"{number:032x}", f"Guest {number}")
    lobby.draw()
    assert "4 more ask to come in" in text(lobby)
    buttons(lobby)["Let Guest 0 in"].click()
    assert "3 more ask to come in" in text(lobby)
    assert "Let Guest 8 in" in buttons(lobby)


def test_an_artist_is_removed_and_asks_again(lobby):
    lobby.host.admission.asks(ADA, "Ada", is_open=True)
    lobby.draw()
    buttons(lobby)["Remove from the room"].click()
    assert not lobby.host.admission.lets_in(ADA)
    assert "Remove from the room" not in buttons(lobby)


def test_a_link_for_one_person_is_made_listed_and_taken_back(lobby):
    lobby._for.value = "Mira"
    buttons(lobby)["Make the link"].click()
    assert "&once=" in lobby._link.text
    assert "<td>Mira</td><td>unused</td>" in text(lobby)
    buttons(lobby)["Take the link back"].click()
    assert lobby.host.tickets == ()
    assert "Take the link back" not in buttons(lobby)


def test_a_name_that_looks_like_another_is_marked_in_words(lobby):
    lobby.host.admission.asks(ADA, "Ada", is_open=True)
    lobby.host.admission.asks(CY, "\u0410da")
    lobby.draw()
    assert "looks like another name" in text(lobby)


def test_the_door_is_a_lobby_unless_the_host_chooses_otherwise_and_says_what_an_open_one_costs(make_host):
    host = make_host()
    panel = HostPanel(host, relay="http://127.0.0.1:8765").open_room()
    assert host.opened_with[0][1]["door"] == "lobby"
    assert "four kernels" not in panel._door_text.value
    panel._door.value = "open"
    assert "One person with four kernels can read a fifth artist" in panel._door_text.value
    panel.open_room()
    assert host.opened_with[1][1]["door"] == "open"
    assert "An open door" in text(panel._lobby)
    panel.close()


def test_a_removed_artist_is_called_removed_as_long_as_the_table_has_them(make_host):
    host = make_host()
    panel = HostPanel(host, relay="http://127.0.0.1:8765").open_room()
    host.members[ADA] = SimpleNamespace(id=ADA, name="Ada", state="sent", progress=1.0, heard_at=0.0)
    host.admission.asks(ADA, "Ada", is_open=True)
    host.remove(ADA)
    panel.start_rounds().wait(20)
    row = next(row for row in panel._roster.value.split("<tr>") if "aaaa aaaa" in row)
    assert "removed" in row
    panel.close()


@pytest.fixture
def card():
    session = SimpleNamespace(roster=None, side=SimpleNamespace(question=None), people=None, compared=lambda: None)
    return RosterCard(session, on_change=lambda: None)


def ask(card: RosterCard, roster: RosterShown):
    card.session.roster = card.session.side.question = roster
    return card.confirm(roster)


def test_the_list_asks_whether_so_many_artists_are_so_many_people(card):
    assert ask(card, shown()) is None
    assert "3 artists: are you 3 people?" in text(card)
    assert "Ben &lt;b&gt;" in text(card)
    assert "<code>bbbb bbbb</code>" in text(card)
    assert text(card).count("not confirmed") == 2
    assert str(shown().words) in text(card), "the words to compare are there before anything is masked"
    assert list(buttons(card)) == ["We compared the words", "I know them all", "Send nothing in this round"]


@pytest.mark.parametrize(
    ("button", "answer"),
    [("We compared the words", "compared"), ("I know them all", "known"), ("Send nothing in this round", "no")],
)
def test_each_button_is_an_answer(card, button, answer):
    roster = shown()
    ask(card, roster)
    buttons(card)[button].click()
    assert card.confirm(roster) == answer
    assert card.question is None


def test_an_answer_to_one_list_is_none_to_the_next(card):
    ask(card, shown())
    card.known()
    assert ask(card, shown(number=2)) is None


def test_without_a_question_there_is_nothing_to_answer(card):
    for method in (card.known, card.no):
        with pytest.raises(RoundError, match="No list of artists waits"):
            method()


def test_another_list_than_the_one_compared_is_told_in_the_strongest_words(card):
    pins = Pins().with_compared({ADA: "Ada", BEN: "Ben"})
    ask(card, shown(pins))
    assert "Not the people whose words you compared" in text(card)
    assert "1 of 3 artists in the list of round 1 is not among those whose words you compared: Cy (cccc cccc)" in text(
        card
    )
    assert "fedart-danger" in text(card)
    assert buttons(card)["Send nothing in this round"].button_style == "primary", "the safe answer is the one offered"


def test_a_round_that_goes_on_without_an_answer_takes_the_question_away(card):
    ask(card, shown())
    card.session.side.question = None
    card.draw()
    assert card.question is None
    assert "I know them all" not in buttons(card)
    assert "We compared the words" in buttons(card), "the list can be confirmed afterwards, for the next rounds"


def test_who_was_confirmed_and_is_missing_is_in_the_table():
    told = roster_table(shown(Pins().with_compared({ADA: "Ada", "d" * 32: "Dee"})))
    assert "<td>Dee</td>" in told
    assert "confirmed, not in this round" in told


def test_the_safety_card_asks_people_to_count():
    told = safety_card(shown().words)
    assert "3 artists: are you 3 people?" in told
    assert "only counting tells" in told


def test_the_room_panel_says_who_is_let_into_the_room(room_session):
    for door, words in (("lobby", "whom the host lets in"), ("open", "one person may be all the others")):
        session = room_session(rounds=1)
        session.plan = SimpleNamespace(**{**vars(session.plan), "door": door})
        panel, seen = RoomPanel(session), []
        panel._contribute.observe(
            lambda change, panel=panel, seen=seen: (
                (seen.append(panel._terms.value), panel.skip())
                if not change["new"] and panel.plan is not None
                else None
            ),
            "disabled",
        )
        panel.join("link").wait(20)
        assert words in seen[0]
        panel.close()
