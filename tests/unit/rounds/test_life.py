"""Slow kernels stay in the round, dead ones do not hold it up, and a host that stops or dies is told of truthfully."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from small_room import HOST, Clock, Room, new_side

from fedart_nb.errors import RelayUnreachable
from fedart_nb.events import Step
from fedart_nb.federated import Phase, Task
from fedart_nb.federated.liveness import HostLife, HostSigns, Pace, SignsOfLife
from fedart_nb.relay import Envelope

Training = tuple[Room, dict[str, Task]]
DEADLINE_S = 20.0


class Ticks:
    """A clock for `SignsOfLife` that goes on when the test says so; `next` returns when the tick was dealt with."""

    def __init__(self) -> None:
        self._go: queue.Queue[bool] = queue.Queue()
        self._waits = threading.Semaphore(0)

    def __call__(self, _seconds: float) -> bool:
        self._waits.release()
        return self._go.get(timeout=DEADLINE_S)

    def next(self, *, over: bool = False) -> None:
        assert self._waits.acquire(timeout=DEADLINE_S)
        self._go.put(over)
        if not over:
            assert self._waits.acquire(timeout=DEADLINE_S)
            self._waits.release()


def test_while_the_work_is_queued_for_a_lock_signs_of_life_go_on() -> None:
    backbone, signs, ticks = threading.Lock(), [], Ticks()
    backbone.acquire()

    def work() -> Iterator[Any]:
        with backbone:
            yield Step(1, 2, 0.5, None, 1.0)

    events = SignsOfLife(signs.append, every_s=3.0, wait=ticks).over(work())
    thread = threading.Thread(target=lambda: signs.append(next(events)))
    thread.start()
    for _ in range(5):
        ticks.next()
    assert signs == [0] * 6, "one at the start, and one every three seconds"
    backbone.release()
    thread.join(DEADLINE_S)
    assert isinstance(signs[-1], Step)
    ticks.next()
    assert signs[-1] == 1, "and it says how far the training is"
    events.close()
    ticks.next(over=True)


def test_a_generator_that_is_left_lying_shows_no_life() -> None:
    signs: list[int] = []
    ticks = Ticks()
    events = SignsOfLife(signs.append, every_s=3.0, wait=ticks).over(iter([1, 2]))
    next(events)
    ticks.next()  # it worked since the last one
    before = len(signs)
    for _ in range(3):
        ticks.next()
    assert len(signs) == before
    events.close()
    ticks.next(over=True)


def test_a_relay_that_is_away_for_a_sign_does_not_stop_the_work() -> None:
    def away(_step: int) -> None:
        raise RelayUnreachable("No answer.")

    assert list(SignsOfLife(away, every_s=60).over(iter("ab"))) == ["a", "b"]


# --- the host's patience ---


def test_patience_grows_with_the_slowest_step_and_not_without_end() -> None:
    pace = Pace(60.0)
    assert pace.patience_s == 60.0
    pace.heard(0.0, 0)
    pace.heard(100.0, 1)
    assert pace.patience_s == 400.0
    pace.heard(10_000.0, 2)
    assert pace.patience_s == 600.0


def test_an_artist_whose_steps_take_longer_than_the_plan_s_patience_stays_in_the_round(training: Training) -> None:
    room, tasks = training
    slow, *others = sorted(tasks)
    zeros = {name: value * 0 for name, value in tasks[slow].shared.items()}
    for step in (0, 1):
        room.send(room.artists[slow].progress(step, 3))
        room.tick(room.engine.plan.patience_s - 5)
    for me in others:
        room.send(room.artists[me].submit(zeros, pictures=5))
    room.send(room.artists[slow].progress(2, 3))
    room.tick(room.engine.plan.patience_s + 30)
    assert room.engine.members[slow].state == "training"
    assert room.engine.patient_s() > 0
    room.send(room.artists[slow].submit(zeros, pictures=5))
    assert room.engine.result is not None
    assert slow in room.engine.result.contributors


def test_who_gives_up_is_not_waited_for(training: Training) -> None:
    room, tasks = training
    gone, *others = sorted(tasks)
    zeros = {name: value * 0 for name, value in tasks[gone].shared.items()}
    for me in others:
        room.send(room.artists[me].submit(zeros, pictures=5))
    assert room.engine.phase is Phase.UPDATE
    late = room.artists[gone].progress(1, 3)
    room.send(room.artists[gone].give_up(room.engine.plan))
    room.send(late)  # a sign that was on its way changes nothing
    assert room.engine.result is not None
    assert room.engine.result.dropped == (gone,)


def test_who_gives_up_before_the_round_begins_skips_it(room: Room) -> None:
    sides = [room.add(letter) for letter in "abcd"]
    room.open()
    room.send(sides[0].answer(contribute=True))
    room.send(sides[0].give_up(room.engine.plan))
    for side in sides[1:]:
        room.send(side.answer(contribute=True))
    assert sides[0].me not in room.engine.roster
    assert len(room.engine.roster) == 3


# --- the host's own life ---


def note(**body: Any) -> Envelope:
    return Envelope(room="room", round=1, kind="note", sender=HOST, recipient="all", body=body)


def plan_sent() -> Envelope:
    return Envelope(room="room", round=1, kind="plan", sender=HOST, recipient="all", body={})


def test_an_artist_is_told_why_the_host_stopped_until_it_goes_on() -> None:
    host = HostLife(clock=Clock())
    host.heard(plan_sent(), patience_s=60)
    assert host.pause == ""
    host.heard(note(stopped="Round 1 failed 5 times."), patience_s=60)
    assert "The host stopped the rounds: Round 1 failed 5 times." in host.waiting("the others")
    host.heard(plan_sent(), patience_s=60)
    assert host.waiting("the others") == "Waiting for the others."


def test_a_host_that_is_silent_for_longer_than_it_said_may_have_died_and_the_artist_is_told() -> None:
    clock = Clock()
    host, signs = HostLife(clock=clock), HostSigns(first_s=20.0)
    host.heard(plan_sent(), patience_s=60)
    for now in range(0, 3600, 10):  # an honest host that waits for an hour never looks dead
        clock.now = float(now)
        if again_s := signs.due("update", clock.now):
            host.heard(note(again_s=again_s), patience_s=60)
        assert host.pause == ""
    clock.now += 1000
    assert "its kernel may have died" in host.pause
    host.excuse()
    assert host.pause == "", "it was the relay that could not be reached"


def test_before_a_round_is_open_and_after_the_room_is_closed_silence_means_nothing() -> None:
    clock = Clock()
    host = HostLife(clock=clock)
    clock.now = 9999.0
    assert host.pause == ""
    host.heard(plan_sent(), patience_s=60)
    host.heard(Envelope(room="room", round=1, kind="close", sender=HOST, recipient="all", body={}), patience_s=60)
    clock.now += 9999.0
    assert host.pause == ""


@pytest.mark.parametrize("again_s", [0, -5, 1e9, "soon", True])
def test_a_host_cannot_promise_nonsense(again_s: Any) -> None:
    clock = Clock()
    host = HostLife(clock=clock)
    host.heard(note(again_s=again_s), patience_s=60)
    clock.now = 10_000.0
    assert host.silent_s in (0.0, 10_000.0)
    assert new_side("a").feed(note(again_s=again_s)) == []
