"""The look before an update leaves, and attacks on one's own last round: real rounds of tiny sessions."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest

from fedart_nb.attack_lab import Finding, OwnRound, look, own_round
from fedart_nb.attacks import ServerView
from fedart_nb.diffusion import PicturePrivacy
from fedart_nb.errors import RoundError
from fedart_nb.events import Note, RoundClosed, UpdateSent, Waiting
from fedart_nb.host import Host
from fedart_nb.session import Session

pytestmark = pytest.mark.usefixtures("home")

DEADLINE_S = 90.0

Enter = Callable[[str], Session]


@pytest.fixture
def enter(host: Host, enter: Enter) -> Enter:
    """Whoever enters finds the host's room open."""
    return enter


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_an_update_is_looked_at_in_the_clear_before_it_is_sent(host: Host, enter: Enter, run) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    seen: list[ServerView] = []

    def check(plan: Any, view: ServerView) -> Generator[Any, None, str]:
        seen.append(view)
        yield Waiting("looking")
        return "send"

    hosting = run(host.rounds())
    futures = [run(ada.rounds(preflight=check)), *(run(session.rounds()) for session in others)]
    events = futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3, 3]
    assert [view.local_steps for view in seen] == [2, 2]
    sent = ada.sent_views()["your update in the clear"]
    for name, value in seen[-1].tensors.items():
        assert np.array_equal(sent.tensors[name], value)
    order = [type(event) for event in events if isinstance(event, Waiting | UpdateSent)]
    assert order.index(UpdateSent) > 0
    assert str(of(Waiting, events)[0].reason) == "looking" or "looking" in [w.reason for w in of(Waiting, events)]
    for future in futures[1:]:
        future.result(DEADLINE_S)


def test_a_skipped_update_never_leaves_and_the_file_is_gone(host: Host, enter: Enter, run) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]

    def no(plan: Any, view: ServerView) -> Generator[Any, None, str]:
        yield Waiting("looking")
        return "skip"

    run(host.rounds())
    for session in others:
        run(session.rounds())
    events = []
    for event in ada.rounds(preflight=no):
        events.append(event)
        if isinstance(event, Note) and "nothing was sent" in event.text:
            break
    assert not of(UpdateSent, events)
    assert ada.bytes_sent == 0
    assert not list((ada.folder / "rounds").glob("update-*"))


def test_a_strengthened_update_is_trained_again_paid_for_and_looked_at_again(host: Host, enter: Enter, run) -> None:
    ada, others = enter("Ada"), [enter(name) for name in ("Ben", "Dee")]
    answers = iter([PicturePrivacy(epsilon=8.0), "send", "send"])
    seen: list[ServerView] = []

    def stronger(plan: Any, view: ServerView) -> Generator[Any, None, Any]:
        seen.append(view)
        yield Waiting("looking")
        return next(answers)

    hosting = run(host.rounds())
    futures = [run(ada.rounds(preflight=stronger)), *(run(session.rounds()) for session in others)]
    futures[0].result(DEADLINE_S)
    assert [event.contributors for event in of(RoundClosed, hosting.result(DEADLINE_S))] == [3, 3]
    assert len(seen) == 3
    assert seen[0].digest != seen[1].digest
    assert [entry.purpose for entry in ada.ledger().entries] == ["round 1", "round 2"]


def test_own_round_is_attacked_as_share_sum_and_clear(host: Host, enter: Enter, run) -> None:
    sessions = [enter(name) for name in ("Ada", "Ben", "Dee")]
    ada = sessions[0]
    with pytest.raises(RoundError, match="No round has ended"):
        ada.sent_views()
    hosting = run(host.rounds())
    for future in [run(session.rounds()) for session in sessions]:
        future.result(DEADLINE_S)
    hosting.result(DEADLINE_S)
    views = ada.sent_views()
    assert [views[name].artists for name in views] == [1, 3, 1]
    share, clear = (views[n].tensors for n in ("your masked share", "your update in the clear"))
    flat = [np.concatenate([t[n].ravel() for n in sorted(t)]) for t in (share, clear)]
    assert abs(np.corrcoef(flat[0], flat[1])[0, 1]) < 0.1
    *_, told = own_round(ada, budget_s=60)
    assert isinstance(told, OwnRound)
    assert (told.number, told.contributors) == (2, 3)
    assert [what for what, _ in told.findings] == list(views)
    assert all(finding.candidates for _, finding in told.findings)


def test_a_finding_is_told_in_sentences_and_noted_without_captions(host: Host, enter: Enter) -> None:
    ada = enter("Ada")
    finding = Finding(captions=2, captions_of=5, listed=20, first=1, own=4, candidates=12, on_top=3)
    assert "2 of your 5" in str(finding)
    assert "nothing bounds" in str(finding)
    ada.note("looked", finding.record)
    kept = json.loads((ada.folder / "notes.jsonl").read_text())
    assert kept["record"]["on_top"] == 3
    assert not any(isinstance(value, str) for value in kept["record"].values())


def test_notes_go_into_the_ledger_where_there_is_one_and_cost_nothing(host: Host, enter: Enter) -> None:
    ada = enter("Ada")
    ada.privacy = PicturePrivacy(epsilon=8.0)
    ledger = ada._ledger_for(ada.privacy, ada._room_id())
    ada.note("looked before it left", {"first": 1})
    assert [text for _, text in ledger.notes] == ["looked before it left"]
    assert ledger.spent == 0
    assert ledger.entries == ()
    ledger.verify_export(ledger.to_json())


def test_a_look_that_runs_out_of_time_says_so(host: Host, enter: Enter, run) -> None:
    sessions = [enter(name) for name in ("Ada", "Ben", "Dee")]
    hosting = run(host.rounds())
    for future in [run(session.rounds()) for session in sessions]:
        future.result(DEADLINE_S)
    hosting.result(DEADLINE_S)
    *_, finding = look(sessions[0], sessions[0].sent_views()["your update in the clear"], budget_s=0.0)
    assert isinstance(finding, Finding)
    assert finding.first == 0 or finding.candidates > 0
    assert "safe" not in str(finding).replace("evidence of safety", "")
