"""The questions that standing consent does not cover, in a real browser: asked, understood, answered by keyboard."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

SETUP = """
from fedart_nb import ArtSet, Host, HostPanel, RoomPanel, Session
from fedart_nb.federated.client_memory import History, Masked, further
from fedart_nb.federated.rollback import Withdrawals

studio = HostPanel(Host("Studio"), rounds=3, steps=1, min_artists=3)
studio.open_room()
session = Session("Ada")
session.art = ArtSet.sample("openmoji", limit=12)
plan = studio.host.plan
"""
HOST = """
words = Withdrawals(waiting=[{"artist": "d"}], first={"d": 1})
from dataclasses import replace
asked_host = words.question(replace(plan, number=3), lambda artist: "Dee", None)
studio.question_card.ask(asked_host)
studio
"""
ROOM = """
room = RoomPanel(session)
left = History(masked={"earlier": Masked(0, 1, plan.shared_sha256)})
asked_artist = further(replace(plan, attempt=2), left)
room.question_card.ask(asked_artist)
room
"""
ANSWERS = 'print("host", studio.question_card.ask(asked_host), "artist", room.question_card.ask(asked_artist))'


@pytest.mark.timeout(300)
def test_both_questions_are_read_and_answered_by_keyboard(page, lab):
    lab.open_notebook(page, lab.write("questions.ipynb", SETUP, HOST, ROOM, ANSWERS))
    lab.run_cell(page, "from fedart_nb", timeout_s=120)
    lab.run_cell(page, "words = ", timeout_s=60)
    lab.run_cell(page, "room = RoomPanel", timeout_s=60)
    studio, room = lab.panel(page, "Host a room"), lab.panel(page, "The room")
    expect(studio.get_by_role("heading", name="Dee withdraws. Go back to before round 1?")).to_be_visible()
    expect(studio.get_by_text("2 finished rounds (1 to 2)").first).to_be_visible()
    expect(room.get_by_role("heading", name="Send for round 1 again?")).to_be_visible()
    expect(room.get_by_text("At most 3 of yours leave for this round").first).to_be_visible()
    assert lab.look(page, "host-question", studio) == []
    assert lab.look(page, "room-question", room) == []
    back = studio.get_by_role("button", name="Go back to round 1")
    back.focus()
    page.keyboard.press("Enter")
    no = room.get_by_role("button", name=re.compile("Skip$"))  # its icon is part of its name
    no.focus()
    page.keyboard.press("Enter")
    lab.run_cell(page, "print(", timeout_s=60)
    expect(page.get_by_text("host True artist False")).to_be_visible()
    expect(studio.get_by_role("heading", name="Dee withdraws")).not_to_be_visible()
