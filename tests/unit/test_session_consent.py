"""Consent in real rounds of tiny sessions: nothing leaves unasked; a mind or a picture can be changed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fedart_nb.consent import Leaving, Question
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import ConsentError
from fedart_nb.events import Found, Note, RoundClosed, RoundOpened, Step, UpdateSent
from fedart_nb.federated import upload_bytes
from fedart_nb.host import Host
from fedart_nb.relay import MemoryRelay
from fedart_nb.session import Session

pytestmark = pytest.mark.usefixtures("home")

DEADLINE_S = 150.0

Enter = Callable[..., Session]
Run = Callable[[Iterator[Any]], Future[list[Any]]]


@pytest.fixture
def host(relay: MemoryRelay, weights: Path, tmp_path: Path) -> Host:
    host = Host("Studio", folder=tmp_path / "host", backbone=Backbone.from_pretrained(weights, device="cpu"))
    settings: dict[str, Any] = {"rounds": 1, "min_artists": 3, "local_steps": 2, "batch": 2}
    host.open_room(transport=relay.connect(host.identity), join_s=0.5, patience_s=20.0, **settings)
    return host


@pytest.fixture
def enter(host: Host, enter: Enter) -> Enter:
    """Nobody has agreed to anything yet."""
    return partial(enter, stand=False)


def others(enter: Enter, run: Run, *names: str) -> list[Future[list[Any]]]:
    sessions = [enter(name) for name in names]
    for session in sessions:
        session.consent.stand()
    return [run(session.rounds(ask=yes)) for session in sessions]


def yes(_question: Question) -> bool:
    return True


def run_room(relay: MemoryRelay, host: Host, run: Run, sessions: list[Session]) -> tuple[list[str], list[list[Any]]]:
    """The host's rounds, then everybody's, once the host has opened its room (again); its notes, and their events."""
    seen = relay.connect(host.identity).log()["messages"][-1]["seq"]
    looking, hosting, opened = relay.connect(sessions[0].identity), run(host.rounds(ask=yes)), False
    while not opened and (delivered := looking.receive(seen, DEADLINE_S)):
        opened, seen = any(envelope.kind == "plan" for _, envelope in delivered), delivered[-1].seq
    assert opened, "the host opened no round"
    events = [future.result(DEADLINE_S) for future in [run(session.rounds(ask=yes)) for session in sessions]]
    return [str(e) for e in hosting.result(DEADLINE_S) if isinstance(e, Note)], events


def kinds_sent(relay: MemoryRelay, host: Host, session: Session) -> list[str]:
    messages = relay.connect(host.identity).log()["messages"]
    return [m["kind"] for m in messages if m["sender"] == session.identity.id and m["kind"] != "note"]


def told(session: Session) -> list[tuple[str, str]]:
    return [
        (one.kind, one.body.get("choice") or one.body["outcome"])
        for one in session.consent.receipts
        if one.kind in ("choice", "outcome")
    ]


def test_without_consent_and_without_somebody_to_ask_nothing_leaves(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    cy = enter("Cy")
    hosting = run(host.rounds())
    watching = run(cy.rounds())
    rest = others(enter, run, "Ada", "Ben", "Dee")
    assert next(e for e in hosting.result(DEADLINE_S) if isinstance(e, RoundClosed)).contributors == 3
    events = watching.result(DEADLINE_S)
    assert not [e for e in events if isinstance(e, Step | UpdateSent | RoundOpened)]
    assert "session.consent.stand()" in next(e.text for e in events if isinstance(e, Note))
    assert kinds_sent(relay, host, cy) == ["hello", "advertise"], "the answer is no"
    assert told(cy) == [], "no choice was made"
    for future in rest:
        future.result(DEADLINE_S)


def test_what_leaves_is_shown_first_and_the_receipts_follow_it(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    ada = enter("Ada")
    shown: list[Leaving] = []

    def ask(leaving: Leaving) -> str:
        shown.append(leaving)
        return "contribute"

    def look(plan: Any, view: Any) -> Iterator[Any]:
        yield Found(("Nothing was read.",))
        return "send"

    hosting = run(host.rounds())
    asking = run(ada.rounds(consent=ask, preflight=look))
    rest = others(enter, run, "Ben", "Dee")
    hosting.result(DEADLINE_S)
    events = asking.result(DEADLINE_S)
    (leaving,) = shown
    sent = next(e for e in events if isinstance(e, UpdateSent))
    assert leaving.size_bytes == sent.size_bytes == upload_bytes(leaving.key, ada.side.shared)
    assert leaving.pictures == len(ada.art.included("train"))
    assert told(ada) == [
        ("choice", "contribute"),
        ("choice", "contribute"),
        ("outcome", "sent"),
        ("outcome", "in the sum"),
    ]
    looked = [one.body for one in ada.consent.receipts if one.body.get("how") == "looked"]
    assert looked[0]["leaving"]["found"] == ["Nothing was read."]
    one = ada.art.included("train")[0].id
    (touched,) = ada.consent.influence(one).adapters
    assert (touched.round, touched.how, touched.contributors) == (1, "direct", 3)
    held_out = ada.art.included("test")[0].id
    assert ada.consent.influence(held_out).rounds == (), "held-out pictures are not trained on"
    assert ada.consent.check() is None
    for future in rest:
        future.result(DEADLINE_S)


def test_a_mind_changed_while_training_keeps_the_update_here(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    cy = enter("Cy")
    cy.consent.stand()
    host.plan = host.plan and type(host.plan)(
        **{**host.plan.to_body(), "metrics": (), "patience_s": 2.0, "join_s": 20.0}
    )
    hosting = run(host.rounds())
    rest = others(enter, run, "Ada", "Ben", "Dee")
    said, events = "", []
    for event in cy.rounds():
        events.append(event)
        if isinstance(event, Step) and not said:
            said = cy.consent.change("skip")
    assert said == "Round 1: nothing of it has left, and nothing will."
    assert not [e for e in events if isinstance(e, UpdateSent)]
    assert "update" not in kinds_sent(relay, host, cy)
    outcomes = [entry for entry in told(cy) if entry[0] == "outcome"]
    assert outcomes[-2:] == [("outcome", "not sent"), ("outcome", "not in the sum")]
    assert not list((cy.folder / "rounds").glob("update-*"))
    assert next(e for e in hosting.result(DEADLINE_S) if isinstance(e, RoundClosed)).contributors == 3
    for future in rest:
        future.result(DEADLINE_S)


def test_a_picture_left_out_while_somebody_looks_is_trained_without(host: Host, enter: Enter, run: Run) -> None:
    ada = enter("Ada")
    ada.consent.stand()
    out = ada.art.included("train")[0].id
    looks = 0

    def look(plan: Any, view: Any) -> Iterator[Any]:
        nonlocal looks
        looks += 1
        ada.art.include(out, False)
        yield Note("looking")
        return "send"

    hosting = run(host.rounds())
    taking = run(ada.rounds(preflight=look))
    rest = others(enter, run, "Ben", "Dee")
    hosting.result(DEADLINE_S)
    assert looks == 2, "it was trained and looked at again"
    assert [e.index for e in taking.result(DEADLINE_S) if isinstance(e, Step)] == [1, 2, 1, 2]
    assert ada.consent.influence(out).rounds == ()
    assert ada.consent.influence(ada.art.included("train")[0].id).rounds
    for future in rest:
        future.result(DEADLINE_S)


def test_damaged_receipts_keep_everything_here(relay: MemoryRelay, host: Host, enter: Enter, run: Run) -> None:
    cy = enter("Cy")
    cy.consent.stand()
    text = cy.consent.path.read_text(encoding="utf-8")
    cy.consent.path.write_text(text.replace('"stand"', '"asked"'), encoding="utf-8")
    hosting = run(host.rounds())
    rest = others(enter, run, "Ada", "Ben", "Dee")
    with pytest.raises(ConsentError, match=r"Line 2: .*Nothing is sent"):
        list(cy.rounds())
    hosting.result(DEADLINE_S)
    assert kinds_sent(relay, host, cy) == ["hello"]
    for future in rest:
        future.result(DEADLINE_S)


def test_a_withdrawal_takes_the_room_back_and_nothing_of_the_artist_is_in_what_comes(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run, tmp_path: Path
) -> None:
    host.plan = host.plan and type(host.plan)(**{**host.plan.to_body(), "metrics": (), "total": 3})
    first = hashlib.sha256((tmp_path / "host" / "shared-0001.safetensors").read_bytes()).hexdigest()
    cy = enter("Cy")
    cy.consent.stand()
    sessions = [enter(name) for name in ("Ada", "Ben", "Dee")]
    for session in sessions:
        session.consent.stand()
    hosting = run(host.rounds(ask=yes))
    rest = [run(session.rounds(ask=yes)) for session in sessions]
    list(cy.rounds(until_round=2, ask=yes))

    def blobs() -> list[Any]:
        return [b for b in relay.connect(host.identity).log()["blobs"] if b["sender"] == cy.identity.id]

    assert len(blobs()) == 2
    cy.leave(withdraw=True)
    assert blobs() == [], "the relay holds nothing that they uploaded"

    notes = [e.text for e in hosting.result(DEADLINE_S) if isinstance(e, Note)]
    assert any("The room goes back to round 1, and trains without Cy" in text for text in notes)
    for future in rest:
        future.result(DEADLINE_S)
    log = relay.connect(host.identity).log()["messages"]
    leave = next(m["seq"] for m in log if m["kind"] == "leave")
    assert not [m for m in log if m["seq"] > leave and m["sender"] == cy.identity.id]
    plans = [e.body for _, e in relay.connect(sessions[0].identity).receive(0, 0) if e.kind == "plan"]
    back = next(body for body in plans if body["plan"].get("rewound") == 1)
    assert (back["plan"]["number"], back["plan"]["shared_sha256"]) == (1, first)
    assert [fact["artist"] for fact in back["withdrawn"]] == [cy.identity.id]
    results = [e.body for _, e in relay.connect(sessions[0].identity).receive(0, 0) if e.kind == "result"]
    assert [body["contributors"] for body in results[-3:]] == [3, 3, 3], "all rounds were trained again, without Cy"
    for session in sessions:
        assert session.shared is not None
        assert host.shared is not None
        assert session.shared.digest == host.shared.digest
        picture = session.art.included("train")[0].id
        influence = session.consent.influence(picture)
        assert [one.round for one in influence.adapters] == [1, 2, 3]
        assert influence.undone, "what was made with Cy is no longer theirs"
        assert session.consent.check() is None
    assert told(cy)[-1] == ("choice", "withdraw")


def test_after_the_room_was_closed_an_artist_can_still_withdraw_and_the_others_come_back(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    sessions = [enter(name) for name in ("Ada", "Ben", "Cy", "Dee")]
    for session in sessions:
        session.consent.stand()
    run_room(relay, host, run, sessions)
    *rest, dee = sessions
    before = host.shared
    dee.leave(withdraw=True)

    notes, events = run_room(relay, host, run, rest)
    assert any("The room goes back to round 1, and trains without Dee" in text for text in notes)
    for told_to in events:
        closed = [e for e in told_to if isinstance(e, RoundClosed)]
        assert [one.contributors for one in closed] == [3]
    assert host.shared is not None
    assert before is not None
    assert host.shared.digest != before.digest
    assert {session.shared.digest for session in rest if session.shared} == {host.shared.digest}
    assert not [e for e in dee.rounds() if isinstance(e, RoundOpened)], "who has left takes part in nothing"


def test_who_withdrew_may_come_again_contribute_and_withdraw_again(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    host.plan = host.plan and type(host.plan)(**{**host.plan.to_body(), "metrics": (), "join_s": 20.0})
    sessions = [enter(name) for name in ("Ada", "Ben", "Cy", "Dee")]
    for session in sessions:
        session.consent.stand()
    *rest, dee = sessions

    run_room(relay, host, run, sessions)
    dee.leave(withdraw=True)
    dee.join(transport=relay.connect(dee.identity))
    dee.consent.stand()
    notes, _ = run_room(relay, host, run, sessions)
    assert len([note for note in notes if "goes back to round 1" in note]) == 1, "one word is followed once"
    assert rest[0].side is not None
    assert rest[0].side.contributors == 4
    assert dee.consent.rounds_with(dee.consent.room) == (1,)
    dee.leave(withdraw=True)
    notes, _ = run_room(relay, host, run, rest)
    assert len([note for note in notes if "goes back to round 1" in note]) == 1
    assert host.plan is not None
    assert host.plan.rewound == rest[0].side.rewound == 2
    assert rest[0].side.contributors == 3
