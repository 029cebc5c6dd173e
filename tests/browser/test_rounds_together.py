"""Notebook 4 in two browser tabs with two kernels: a host, an artist who is asked, and two rehearsing artists."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect

from fedart_nb.widgets.security import MASKED_UPDATES

SLOW_MS = 120_000  # three artists train on a machine that has other things to do
NOTEBOOK = "04-rounds-together.ipynb"


@pytest.mark.timeout(420)  # half a minute to a minute and a half, unless the machine is busy
def test_a_round_between_two_tabs_with_two_kernels_where_a_person_says_yes(page, lab):
    host_page, artist_page = page, page.context.new_page()

    # tab A: the host opens a room and sends the link
    lab.open_notebook(host_page, lab.copy(NOTEBOOK, "host.ipynb"))
    lab.run_cell(host_page, "import os", timeout_s=90)
    lab.run_cell(host_page, "studio = HostPanel", timeout_s=90)
    studio = lab.panel(host_page, "Host a room")
    rounds = studio.get_by_label("Rounds", exact=True)
    rounds.fill("1")
    rounds.press("Tab")
    studio.get_by_role("button", name="Open room").click()
    link = studio.get_by_label(re.compile("Invite link"))
    expect(link).to_have_value(re.compile(r"^fedart"), timeout=SLOW_MS)
    studio.get_by_role("button", name="Start rounds").click()
    lab.run_cell(host_page, "company =", timeout_s=90)

    # tab B: the artist, in a kernel of their own, pastes it and asks to be asked
    lab.open_notebook(artist_page, lab.copy(NOTEBOOK, "artist.ipynb"))
    lab.run_cell(artist_page, "import os", timeout_s=90)
    lab.run_cell(artist_page, "who = SessionPanel", timeout_s=90)
    who = lab.panel(artist_page, "Who are you?")
    who.get_by_label("Your name").fill("Ada")
    who.get_by_role("button", name="Use this name").click()
    expect(who.get_by_text("You are Ada.").first).to_be_visible(timeout=SLOW_MS)
    lab.run_cell(artist_page, "session = who.session", timeout_s=90)
    lab.run_cell(artist_page, "room = RoomPanel", timeout_s=90)
    room = lab.panel(artist_page, "The room")
    for panel in (studio, room):
        expect(panel.get_by_text(MASKED_UPDATES).first).to_be_visible()
    room.get_by_label("Invite link from the host").fill(link.input_value())
    room.get_by_label("Ask me before each round").check()
    room.get_by_role("button", name="Join").click()
    question = room.get_by_role("heading", name="Do you take part in this round?")
    expect(question).to_be_visible(timeout=SLOW_MS)
    assert lab.look(artist_page, "room-panel-asked", room) == []
    room.get_by_role("button", name="Contribute").click()
    expect(room.get_by_text(re.compile("Waiting for the host to let you in, as Ada")).first).to_be_visible(
        timeout=SLOW_MS
    )
    host_page.bring_to_front()
    studio.get_by_role("button", name=re.compile("Let Ada.* in")).click(timeout=SLOW_MS)
    artist_page.bring_to_front()
    expect(room.get_by_role("heading", name="3 artists: are you 3 people?")).to_be_visible(timeout=SLOW_MS)
    room.get_by_role("button", name="We compared the words").click()

    # both see the round through
    expect(room.get_by_text("The host has closed the room.").first).to_be_visible(timeout=SLOW_MS)
    row = room.get_by_role("table").get_by_role("row").filter(has_text="KiB").first
    expect(row).to_contain_text("sent")
    expect(row).to_contain_text("KiB")
    expect(studio.get_by_text("The round is over.").first).to_be_visible(timeout=SLOW_MS)
    expect(studio.get_by_role("table", name="3 artists in the room")).to_contain_text("Ada")
    words = [panel.locator(".fedart-safety-words").inner_text() for panel in (studio, room)]
    assert words[0] == words[1]
    assert len(words[0].split()) == 6
    assert lab.look(artist_page, "room-panel-done", room) == []
    assert lab.look(host_page, "host-panel-done", studio) == []

    # the artist's page is reloaded: the same kernel, and what it knows is there again
    lab.save_and_reload(artist_page)
    saved = (lab.folder / "artist.ipynb").read_text(encoding="utf-8")
    assert MASKED_UPDATES.lower() in saved.lower()
    assert parse_qs(link.input_value().partition("#")[2])["token"][0] not in saved
    expect(room.get_by_text("The host has closed the room.").first).to_be_visible(timeout=SLOW_MS)
    expect(row).to_contain_text("KiB")
    expect(room.get_by_text(MASKED_UPDATES).first).to_be_visible()
    expect(room.get_by_role("button", name="Join")).to_be_enabled()
