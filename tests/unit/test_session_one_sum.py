"""One sum a round in real rooms of tiny sessions: what standing consent does not cover, and what ends no rounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from leavings import LEAVING

from fedart_nb.consent import Leaving, Question
from fedart_nb.diffusion import Backbone
from fedart_nb.errors import RelayUnreachable
from fedart_nb.events import Note, RoomPaused, RoundClosed, Step, UpdateSent, Waiting
from fedart_nb.federated.liveness import HostLife
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
    settings: dict[str, Any] = {"rounds": 1, "min_artists": 3, "local_steps": 2, "batch": 2, "join_s": 30.0}
    host.open_room(transport=relay.connect(host.identity), patience_s=60.0, **settings)
    return host


def until(events: Iterator[Any], good: Callable[[Any], bool]) -> list[Any]:
    """What a generator yields until then, that included."""
    seen = []
    for event in events:
        seen.append(event)
        if good(event):
            return seen
    message = f"it did not come to that: {[str(e) for e in seen[-5:]]}"
    raise AssertionError(message)


def notes(events: list[Any]) -> str:
    return " ".join(event.text for event in events if isinstance(event, Note))


# --- a further attempt ---


@pytest.mark.parametrize("says", [None, False, True], ids=["nobody is asked", "no", "yes"])
def test_after_her_update_has_left_an_artist_masks_again_only_when_she_says_so(
    host: Host, enter: Enter, run: Run, says: bool | None
) -> None:
    """The others give up when Ada's update has left: the attempt fails, and the host tries the round again."""
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    left, asked = threading.Event(), list[Question]()

    def skip_then(_plan: Any, _view: Any) -> Iterator[Any]:
        assert left.wait(DEADLINE_S)
        yield Waiting("looking")
        return "skip"

    def answer(question: Question) -> bool:
        asked.append(question)
        return bool(says)

    def over(event: Any) -> bool:
        if isinstance(event, UpdateSent):
            left.set()
        return len(asked) > 0 or "Round 1 skipped" in str(event)

    hosting = run(iter(partial(next, host.rounds(), None), None))
    rest = [run(session.rounds(preflight=skip_then)) for session in others]
    events = until(ada.rounds(ask=None if says is None else answer), over)
    assert len([e for e in events if isinstance(e, UpdateSent)]) == 1
    if says is None:
        assert "rounds(ask=...)" in notes(events)
    else:
        assert [question.kind for question in asked] == ["attempt"]
        assert "has left once already" in str(asked[0])
        assert ada.consent.word(ada.consent.room, 1) == ("contribute" if says else "skip")
    host.close()
    for future in rest:
        future.result(DEADLINE_S)
    host.transport.close()  # type: ignore[union-attr]
    with pytest.raises(RelayUnreachable):
        hosting.result(DEADLINE_S)


def test_without_an_answer_the_room_does_not_go_back_and_who_withdrew_is_in_no_further_round(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    sessions = [enter(name) for name in ("Ada", "Ben", "Cy", "Dee")]
    hosting, rest = run(host.rounds()), [run(session.rounds()) for session in sessions]
    hosting.result(DEADLINE_S)
    for future in rest:
        future.result(DEADLINE_S)
    made = host.shared
    sessions[3].leave(withdraw=True)
    told = notes(run(host.rounds()).result(DEADLINE_S))
    assert "Dee withdraws, and is in no further round" in told
    assert "nobody was asked" in told
    assert host.shared is not None
    assert made is not None
    assert host.shared.digest == made.digest
    asked: list[Question] = []

    def no(question: Question) -> bool:
        asked.append(question)
        return False

    assert "The room does not go back" in notes(run(host.rounds(ask=no)).result(DEADLINE_S))
    assert len(asked) == 1
    assert "Dee withdraws. Go back to before round 1?" in str(asked[0])
    heard = relay.connect(sessions[3].identity).receive(0, 0)
    assert [e.body["back_to"] for _, e in heard if e.kind == "note" and "withdrawal" in e.body] == [0], "Dee is told"
    assert host.plan is not None
    assert host.plan.rewound == 0


# --- a room that is opened anew, and other terms ---


def whole_room(relay: MemoryRelay, host: Host, run: Run, artists: dict[Session, dict[str, Any]]) -> list[Any]:
    """The host's rounds, then every artist's with these arguments, once a plan is out; the first one's events."""
    looking = relay.connect(host.identity)
    seen = looking.log()["messages"][-1]["seq"]
    hosting, hearing = run(host.rounds()), relay.connect(next(iter(artists)).identity)
    while not any(envelope.kind == "plan" for _, envelope in hearing.receive(seen, DEADLINE_S)):
        pass
    events = [future.result(DEADLINE_S) for future in [run(one.rounds(**how)) for one, how in artists.items()]]
    hosting.result(DEADLINE_S)
    return events[0]


@pytest.mark.parametrize("says", [False, True], ids=["no", "yes"])
def test_who_sent_in_a_room_before_is_told_so_until_a_yes_when_the_host_opens_it_anew(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run, says: bool
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Cy", "Dee")]
    whole_room(relay, host, run, {one: {} for one in (ada, *others)})
    settings: dict[str, Any] = {"rounds": 2, "min_artists": 3, "local_steps": 2, "batch": 2, "join_s": 30.0}
    host.open_room(transport=host.transport, **settings)
    shown: list[str] = []

    def choose(leaving: Leaving) -> bool:
        shown.append(str(leaving))
        return says

    agree: dict[str, Any] = {"consent": lambda _leaving: True}
    whole_room(relay, host, run, {ada: {"consent": choose}, **dict.fromkeys(others, agree)})
    assert ["The host has opened this room anew" in text for text in shown] == [True, not says]
    assert "1 masked update of yours has left in this room already" in shown[0]
    outcomes = [one.body["outcome"] for one in ada.consent.receipts if one.kind == "outcome"]
    assert outcomes.count("sent") == (3 if says else 1)


def test_a_standing_consent_for_other_terms_says_so_and_speaks_of_no_update_that_left(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Cy", "Dee")]
    before = replace(LEAVING, room=ada.consent.room, number=9, terms="other terms")
    ada.consent.choose("contribute", "standing", leaving=before)  # agreed to, and nothing of it left
    told = notes(whole_room(relay, host, run, {one: {} for one in (ada, *others)}))
    assert "Round 1 skipped. Your standing consent is for a room of other terms" in told
    assert "has left" not in told
    ada.consent.ask_again()
    ada.consent.stand()
    assert ada.side is not None
    assert ada.consent.covers("any terms"), "as the sentence says, it can be given anew"


# --- what a kernel knows of a room after a restart ---


def test_the_next_kernel_knows_what_left_in_a_room_though_its_relay_says_nothing_of_it(
    relay: MemoryRelay, host: Host, enter: Enter, open_session: Enter, run: Run
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    whole_room(relay, host, run, {one: {} for one in (ada, *others)})
    assert ada.side is not None
    known = ada.side.history
    assert known.masked
    again = open_session("Ada")
    again.join(transport=relay.connect(again.identity))  # and receives nothing
    assert again.side is not None
    assert again.side.history == known
    assert (again.side.rounds_done, again.side.history.pin) == (1, known.pin)


# --- what ends no rounds ---


@pytest.mark.parametrize("lacking", ["no art", "all left out"])
def test_who_has_nothing_to_train_on_skips_with_the_reason_and_nobody_waits(
    host: Host, enter: Enter, run: Run, lacking: str
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Cy", "Dee")]
    if lacking == "no art":
        ada.art = None
    else:
        ada.art.restore_consent([picture.id for picture in ada.art])
    hosting, rest = run(host.rounds()), [run(session.rounds()) for session in (ada, *others)]
    told = [str(event) for event in hosting.result(DEADLINE_S)]
    assert not [text for text in told if "without Ada" in text]
    events = rest[0].result(DEADLINE_S)
    assert "Round 1 skipped." in notes(events)
    assert ("no pictures yet" if lacking == "no art" else "nothing to train on") in notes(events)
    assert next(e for e in events if isinstance(e, RoundClosed)).contributors == 3
    for future in rest[1:]:
        future.result(DEADLINE_S)


def test_a_plan_that_measures_held_out_pictures_is_skipped_by_who_has_none(host: Host, enter: Enter, run: Run) -> None:
    settings: dict[str, Any] = {"rounds": 1, "min_artists": 3, "local_steps": 1, "batch": 2, "join_s": 30.0}
    host.open_room(transport=host.transport, metrics=["gain"], **settings)
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Cy", "Dee")]
    for picture in ada.art.included("test"):
        ada.art.include(picture.id, False)
    hosting, rest = run(host.rounds()), [run(session.rounds()) for session in (ada, *others)]
    assert "you hold none out" in notes(rest[0].result(DEADLINE_S))
    assert next(e for e in hosting.result(DEADLINE_S) if isinstance(e, RoundClosed)).contributors == 3
    for future in rest[1:]:
        future.result(DEADLINE_S)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("out of memory"), MemoryError()]
)
def test_a_round_that_fails_here_goes_on_without_this_artist_and_the_rounds_do_not_end(
    monkeypatch: pytest.MonkeyPatch, host: Host, enter: Enter, run: Run, error: Exception
) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Cy", "Dee")]

    def broken(_split: str) -> Any:
        raise error

    monkeypatch.setattr(ada, "latents", broken)
    hosting, rest = run(host.rounds()), [run(session.rounds()) for session in (ada, *others)]
    events = rest[0].result(DEADLINE_S)
    assert "Round 1 goes on without you" in notes(events)
    assert next(e for e in events if isinstance(e, RoundClosed)).contributors == 3
    assert [e for e in hosting.result(DEADLINE_S) if isinstance(e, RoundClosed)]
    for future in rest[1:]:
        future.result(DEADLINE_S)


class Flaky:
    """A transport whose relay is away for its next `away` calls."""

    def __init__(self, transport: Any) -> None:
        self.away, self._transport = 0, transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, *told: Any) -> Any:
        return self._call("send", *told)

    def receive(self, *told: Any) -> Any:
        return self._call("receive", *told)

    def _call(self, name: str, *told: Any) -> Any:
        if self.away > 0:
            self.away -= 1
            raise RelayUnreachable("The relay does not answer.")
        return getattr(self._transport, name)(*told)


def test_a_relay_that_is_away_for_a_while_ends_no_rounds(
    relay: MemoryRelay, host: Host, enter: Enter, open_session: Enter, run: Run
) -> None:
    others, ada = [enter(name) for name in ("Ben", "Dee")], open_session("Ada")
    flaky = Flaky(relay.connect(ada.identity))
    ada.join(transport=flaky)
    ada.consent.stand()
    hosting, rest = run(host.rounds()), [run(session.rounds()) for session in others]
    away = 0
    for event in ada.rounds():
        if isinstance(event, Step):
            flaky.away = 5
        away += isinstance(event, Waiting) and "The relay is asked again" in event.reason
    assert away
    assert next(e for e in hosting.result(DEADLINE_S) if isinstance(e, RoundClosed)).contributors == 3
    for future in rest:
        future.result(DEADLINE_S)


# --- who stops, and who dies ---


def test_a_host_that_stops_is_told_of_and_the_rounds_go_on_when_it_comes_back(
    host: Host, enter: Enter, run: Run
) -> None:
    ada = enter("Ada")
    hosting = host.rounds()
    until(hosting, lambda e: isinstance(e, Waiting))
    hosting.close()
    events = until(ada.rounds(), lambda e: isinstance(e, RoomPaused))
    assert "The host stopped the rounds" in str(events[-1])
    rest = [run(session.rounds()) for session in (ada, enter("Ben"), enter("Dee"))]
    run(host.rounds()).result(DEADLINE_S)
    for future in rest:
        assert [e for e in future.result(DEADLINE_S) if isinstance(e, RoundClosed)]


def test_an_error_of_the_host_reaches_every_artist_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, host: Host, enter: Enter
) -> None:
    ada = enter("Ada")

    def broken(*_told: Any) -> Any:
        raise ValueError("The disk is full.")

    rounds = host.rounds()
    until(rounds, lambda e: isinstance(e, Waiting))
    monkeypatch.setattr(host.transport, "receive", broken)
    with pytest.raises(ValueError, match="disk is full"):
        list(rounds)
    events = until(ada.rounds(), lambda e: isinstance(e, RoomPaused))
    assert "The disk is full." in str(events[-1])


def test_a_host_whose_kernel_died_is_said_to_be_silent(
    monkeypatch: pytest.MonkeyPatch, host: Host, enter: Enter
) -> None:
    now = [0.0]
    monkeypatch.setattr("fedart_nb.session.session.HostLife", partial(HostLife, clock=lambda: now[0]))
    ada = enter("Ada")
    hosting = host.rounds()
    until(hosting, lambda e: isinstance(e, Waiting))
    events = ada.rounds()
    assert "the others" in next(e for e in events if isinstance(e, Waiting)).reason
    now[0] = 600.0  # and nothing more is heard of the host
    paused = next(e for e in events if isinstance(e, RoomPaused))
    assert "has not been heard for 10 min" in str(paused)
    assert "may have died" in next(e for e in events if isinstance(e, Waiting)).reason


def test_while_three_artists_queue_for_one_backbone_the_host_hears_of_all_of_them(
    relay: MemoryRelay, host: Host, enter: Enter, run: Run
) -> None:
    host.plan = host.plan and type(host.plan)(**{**host.plan.to_body(), "metrics": (), "patience_s": 4.0})
    sessions = [enter(name) for name in ("Ada", "Ben", "Dee")]
    looking, heard, seen = relay.connect(host.identity), dict[str, int](), 0
    with sessions[0].backbone.lock, sessions[1].backbone.lock, sessions[2].backbone.lock:
        rest = [run(session.rounds()) for session in sessions]
        hosting = run(host.rounds())
        while len(heard) < 3 or min(heard.values()) < 6:  # six signs are longer than the plan's patience
            delivered = looking.receive(seen, DEADLINE_S)
            assert delivered, "somebody fell silent"
            for seq, message in delivered:
                seen = seq
                if message.kind == "note" and "step" in message.body:
                    heard[message.sender] = heard.get(message.sender, 0) + 1
    assert next(e for e in hosting.result(DEADLINE_S) if isinstance(e, RoundClosed)).contributors == 3
    for future in rest:
        future.result(DEADLINE_S)
