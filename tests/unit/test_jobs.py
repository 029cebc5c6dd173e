"""A job runs a generator in a thread, reports politely, and stops where it is asked to."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from fedart_nb._system.cancelling import abandonable, checkpoint
from fedart_nb.jobs import Job


class Gate:
    """A generator whose every step waits for the test to open it."""

    def __init__(self, steps: int = 1000) -> None:
        self.steps, self.opened, self.yielded = steps, threading.Semaphore(0), threading.Semaphore(0)
        self.closed = threading.Event()

    def __iter__(self):
        return self.run()

    def run(self):
        try:
            for index in range(1, self.steps + 1):
                assert self.opened.acquire(timeout=10)
                yield index
                self.yielded.release()
        finally:
            self.closed.set()


def test_a_job_runs_its_generator_to_the_end_and_keeps_the_last_event():
    job = Job(iter(range(5)), name="count").start()
    assert job.wait(10) == 4
    assert (job.state, job.last, job.result) == ("done", 4, 4)


def test_what_a_generator_returns_is_the_result():
    def events():
        yield "halfway"
        return "answer"

    assert Job(events(), name="answer").start().wait(10) == "answer"


def test_cancel_stops_at_the_next_yield_and_runs_the_generators_finally():
    gate = Gate()
    job = Job(gate, name="gate").start()
    gate.opened.release()
    assert gate.yielded.acquire(timeout=10) or True
    job.cancel()
    gate.opened.release()
    job.wait(10)
    assert job.state == "cancelled"
    assert gate.closed.is_set()
    assert job.last in (1, 2)


def test_a_job_cancelled_before_its_start_never_runs():
    gate = Gate()
    job = Job(gate, name="gate")
    job.cancel()
    assert job.wait(10) is None
    assert job.state == "cancelled"
    with pytest.raises(RuntimeError, match="already started"):
        job.start()


def test_an_error_is_kept_and_raised_by_every_wait():
    def events():
        yield 1
        raise ValueError("no more paint")

    job = Job(events(), name="paint").start()
    for _ in range(2):
        with pytest.raises(ValueError, match="no more paint"):
            job.wait(10)
    assert (job.state, job.last) == ("failed", 1)


def test_the_watcher_hears_at_most_one_event_per_interval_and_always_the_last():
    heard: list[tuple[float, int]] = []
    job = Job(iter(range(20_000)), name="fast", on_event=lambda event: heard.append((time.monotonic(), event)))
    job.start().wait(60)
    assert heard[-1][1] == 19_999
    gaps = [after[0] - before[0] for before, after in pairwise(heard[:-1])]
    assert all(gap >= 0.099 for gap in gaps)


def test_an_event_that_came_too_early_is_told_even_when_nothing_follows_it():
    heard, second = [], threading.Event()
    stop = threading.Event()

    def events():
        yield 1
        yield 2
        assert stop.wait(10)
        yield 3

    def on_event(event):
        heard.append(event)
        if event == 2:
            second.set()

    job = Job(events(), name="pause", on_event=on_event, every_s=0.05).start()
    assert second.wait(10), "the second event was swallowed by the pause"
    stop.set()
    job.wait(10)
    assert heard[-2:] == [2, 3]


def test_the_watcher_is_always_called_from_one_thread():
    threads = set()
    job = Job(iter(range(5)), name="one", on_event=lambda _: threads.add(threading.current_thread().name), every_s=0)
    job.start().wait(10)
    assert threads == {"fedart-one-watch"}


def test_the_end_is_told_once_after_the_last_event_and_before_wait_returns():
    told = []
    job = Job(iter("ab"), name="end", on_event=told.append, on_end=lambda job: told.append(job.state))
    job.start().wait(10)
    assert told[-2:] == ["b", "done"]
    assert told.count("done") == 1


def test_a_watcher_that_fails_stops_the_job_and_is_reported():
    def on_event(_event):
        raise LookupError("no such widget")

    job = Job(iter(range(10**9)), name="broken", on_event=on_event).start()
    with pytest.raises(LookupError, match="no such widget"):
        job.wait(10)
    assert job.state == "failed"


def test_a_timeout_leaves_the_job_going():
    gate = Gate(steps=1)
    job = Job(gate, name="slow").start()
    with pytest.raises(TimeoutError, match="still going"):
        job.wait(0.01)
    gate.opened.release()
    assert job.wait(10) == 1


def test_an_interrupt_while_waiting_cancels_and_is_passed_on(monkeypatch):
    gate = Gate()
    job = Job(gate, name="interrupted").start()
    real, calls = job._ended.wait, []

    def interrupted(timeout):
        calls.append(timeout)
        raise KeyboardInterrupt

    monkeypatch.setattr(job._ended, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert calls == [0.1]
    gate.opened.release()
    assert real(10)
    assert job.state == "cancelled"


def test_a_job_can_be_awaited_and_leaves_the_event_loop_free():
    gate = Gate(steps=2)

    async def cell():
        job = Job(gate, name="awaited").start()
        asyncio.get_running_loop().call_later(0.01, gate.opened.release)
        asyncio.get_running_loop().call_later(0.02, gate.opened.release)
        return await job

    assert asyncio.run(cell()) == 2


def test_awaiting_a_failed_job_raises_its_error():
    def events():
        raise ValueError("no more paint")
        yield

    async def cell():
        await Job(events(), name="paint").start()

    with pytest.raises(ValueError, match="no more paint"):
        asyncio.run(cell())


def test_a_second_start_is_an_error():
    job = Job(iter([1]), name="once").start()
    with pytest.raises(RuntimeError, match="already started"):
        job.start()
    job.wait(10)


def cancelled_while_awaited(waiting):
    """Starts a job, interrupts the cell that waits for it as a kernel does, and returns the job when it is over."""
    gate = Gate()

    async def cell():
        job = Job(gate, name="awaited").start()
        task = asyncio.ensure_future(waiting(job))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return job

    job = asyncio.run(cell())
    gate.opened.release()
    job.wait(10)
    return job


def test_an_interrupt_while_awaiting_cancels():
    async def awaiting(job):
        return await job

    assert cancelled_while_awaited(awaiting).state == "cancelled"


def test_an_interrupt_while_following_cancels_and_leaving_the_loop_does_not():
    async def following(job):
        async for _ in job.follow():
            pass

    assert cancelled_while_awaited(following).state == "cancelled"

    async def leaving():
        job = Job(iter(range(3)), name="left").start()
        async for _ in job.follow(every_s=0):
            break
        return await job

    assert asyncio.run(leaving()) == 2


@pytest.mark.parametrize("which", [1, 2])
def test_an_interrupt_while_a_job_starts_leaves_it_over(monkeypatch, which):
    started, real = [], threading.Thread.start

    def start(thread):
        started.append(thread)
        if len(started) == which:
            raise KeyboardInterrupt
        real(thread)

    job = Job(iter([1]), name="begun")
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        job.start()
    monkeypatch.undo()
    assert job.has_ended
    with pytest.raises(KeyboardInterrupt):
        job.wait(10)


def test_cancel_reaches_work_between_two_yields_and_lets_it_tidy_up():
    began, tidied = threading.Event(), []

    def events():
        try:
            began.set()
            while True:
                checkpoint()
                time.sleep(0.001)
            yield
        finally:
            checkpoint()  # what tidies up is not cancelled a second time
            tidied.append("yes")

    job = Job(events(), name="endless").start()
    assert began.wait(10)
    job.cancel()
    job.wait(10)
    assert (job.state, tidied) == ("cancelled", ["yes"])


def test_a_checkpoint_outside_a_job_does_nothing():
    assert checkpoint() is None


def test_cancel_does_not_wait_for_what_may_be_abandoned():
    began, let_go = threading.Event(), threading.Event()

    def stuck():
        began.set()
        let_go.wait(30)

    def events():
        yield "before"
        abandonable(stuck)
        yield "after"

    job = Job(events(), name="stuck").start()
    assert began.wait(10)
    job.cancel()
    job.wait(10)
    assert job.state == "cancelled"
    assert not let_go.is_set()
    let_go.set()


def test_what_may_be_abandoned_still_gives_its_result_or_its_error():
    def events():
        yield abandonable(lambda: 7)
        abandonable(lambda: 1 / 0)

    job = Job(events(), name="answers").start()
    with pytest.raises(ZeroDivisionError):
        job.wait(10)
    assert job.last == 7
    assert abandonable(lambda: 8) == 8
