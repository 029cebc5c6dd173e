"""The door and the list in a browser, by keyboard: three artists, and an intruder with nearly the name of one."""

from __future__ import annotations

import re
from threading import Event, Thread

import pytest
from light_artist import Light
from playwright.sync_api import expect

from fedart_nb.relay import Invite, RelayClient

SLOW_MS = 120_000
HOST = """
from fedart_nb import Host, HostPanel
studio = HostPanel(Host("Studio"), rounds=2, steps=1, min_artists=3)
studio
"""
BACKBONE = "print('<' + studio.host.plan.backbone_sha256 + '>')"
LOG = """
log = studio.host.transport.log()["messages"]
ids = {name: artist for artist, name in studio.host.admission.admitted.items()}
hers = [(m["round"], m["kind"]) for m in log if m["sender"] == ids["Ada"]]
print("Ada said", [one for one in hers if one[1] in ("share", "update")])
"""
ADA = """
from fedart_nb import ArtSet, RoomPanel, Session
session = Session("Ada")
session.art = ArtSet.sample("openmoji", limit=8)
session.backbone
room = RoomPanel(session, ask=False)
room
"""
OTHERS = """
from fedart_nb import ArtSet, Backbone, RoomPanel, Session
backbone = Backbone.embedded()
rooms = []
for name, art in (("Ben", "fluent_ink"), ("Cy", "gameicons")):
    other = Session(name, backbone=backbone)
    other.art = ArtSet.sample(art, limit=8)
    rooms.append(RoomPanel(other, ask=False, confirm="anyone"))
"""
JOIN = "LINK = {link!r}\nfor one in rooms:\n    one.join(LINK)\nprint('both have joined')"


def press(page, button) -> None:
    """What a person does who has no mouse."""
    expect(button).to_be_enabled(timeout=SLOW_MS)
    button.focus()
    expect(button).to_be_focused()
    page.keyboard.press("Enter")


@pytest.mark.timeout(600)
def test_an_intruder_is_kept_out_and_a_swapped_list_gets_nothing_by_keyboard(page, lab):
    host_page, ada_page, others_page = page, page.context.new_page(), page.context.new_page()

    # the host opens a room with a lobby
    lab.open_notebook(host_page, lab.write("door.ipynb", HOST, BACKBONE, LOG))
    lab.run_cell(host_page, "studio = HostPanel", timeout_s=120)
    studio = lab.panel(host_page, "Host a room")
    expect(studio.get_by_role("radio", name="I let people in, by name")).to_be_checked()
    press(host_page, studio.get_by_role("button", name="Open room"))
    link = studio.get_by_label(re.compile("Invite link"))
    expect(link).to_have_value(re.compile(r"^fedart"), timeout=SLOW_MS)
    press(host_page, studio.get_by_role("button", name="Start rounds"))
    lab.run_cell(host_page, "backbone_sha256", timeout_s=60)
    told = lab.output(host_page).filter(has_text=re.compile(r"^<[0-9a-f]{64}>")).first.inner_text()
    invite = link.input_value()

    # three artists come, and somebody who calls themselves almost like one of them
    lab.open_notebook(others_page, lab.write("others.ipynb", OTHERS, JOIN.format(link=invite)))
    lab.run_cell(others_page, "backbone = Backbone", timeout_s=120)
    lab.run_cell(others_page, "LINK =", timeout_s=120)
    lab.open_notebook(ada_page, lab.write("ada.ipynb", ADA))
    lab.run_cell(ada_page, "room = RoomPanel", timeout_s=120)
    room = lab.panel(ada_page, "The room")
    room.get_by_label("Invite link from the host").fill(invite)
    press(ada_page, room.get_by_role("button", name="Join"))
    waiting = room.get_by_text(re.compile("Waiting for the host to let you in, as Ada"))
    expect(waiting.first).to_be_visible(timeout=SLOW_MS)
    mine = re.search(r"id ([0-9a-f]{4} [0-9a-f]{4})", waiting.first.inner_text())[1]
    over = Event()
    eve = Light(
        "\u0410da", lambda identity: RelayClient(Invite.parse(invite), identity), told.strip("<>\n "), value=0.01
    )
    Thread(target=lambda: list(eve.live(over)), daemon=True).start()
    try:
        # the host sees four who ask, and lets three in
        host_page.bring_to_front()
        expect(studio.get_by_text("looks like another name").first).to_be_visible(timeout=SLOW_MS)
        for name in ("Ben", "Cy"):
            expect(studio.get_by_role("button", name=f"Let {name} in")).to_be_visible(timeout=SLOW_MS)
        assert lab.look(host_page, "lobby", studio) == []
        for name in ("Ben", "Cy", f"Ada ({mine})"):
            press(host_page, studio.get_by_role("button", name=f"Let {name} in"))
        expect(studio.get_by_role("table", name="3 artists in the room")).to_be_visible(timeout=SLOW_MS)

        # Ada sees who takes part before anything is masked, counts, compares, and confirms
        ada_page.bring_to_front()
        question = room.get_by_role("heading", name="3 artists: are you 3 people?")
        expect(question).to_be_visible(timeout=SLOW_MS)
        expect(room.locator(".fedart-safety-words")).to_have_count(1)
        assert lab.look(ada_page, "roster-asked", room) == []

        # while she does, the host is careless
        host_page.bring_to_front()
        press(host_page, studio.get_by_role("button", name=re.compile(r"Let \u0410da .*in")))
        ada_page.bring_to_front()
        press(ada_page, room.get_by_role("button", name="We compared the words"))
        expect(room.get_by_role("table").get_by_role("row").filter(has_text="KiB").first).to_be_visible(timeout=SLOW_MS)

        # in round 2 the list holds somebody whose words she never compared
        swapped = room.get_by_text("Not the people whose words you compared")
        expect(swapped).to_be_visible(timeout=SLOW_MS)
        expect(room.get_by_text(re.compile("1 of 4 artists in the list of round 2")).first).to_be_visible()
        assert lab.look(ada_page, "roster-swapped", room) == []
        press(ada_page, room.get_by_role("button", name="Send nothing in this round"))
        expect(room.get_by_text("The host has closed the room.").first).to_be_visible(timeout=SLOW_MS)
        host_page.bring_to_front()
        expect(studio.get_by_text("All 2 rounds are over.").first).to_be_visible(timeout=SLOW_MS)
        lab.run_cell(host_page, "log = studio", timeout_s=60)
        lab.wait_for_text(host_page, "Ada said [(1, 'share'), (1, 'update')]")

        # a link for one person, and an artist who is taken out
        studio.get_by_label("A link for one person: for whom?").fill("Mira")
        press(host_page, studio.get_by_role("button", name="Make the link"))
        expect(studio.get_by_label(re.compile("Link for one person"))).to_have_value(re.compile("once="))
        press(host_page, studio.get_by_role("button", name="Remove from the room"))
        assert lab.look(host_page, "door-afterwards", studio) == []
    finally:
        over.set()
