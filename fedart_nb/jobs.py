"""Runs one generator of events in a background thread that can be watched, cancelled, waited for and awaited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from typing import Any, Literal

from ._system.cancelling import Cancelled, cancellable

__all__ = ["Job", "JobState"]

JobState = Literal["waiting", "running", "done", "cancelled", "failed"]

_SLICE_S = 0.1  # wait() wakes this often, so that an interrupted kernel is noticed
_POLL_S = 0.05  # await wakes this often, so that a notebook's Cancel button stays alive


class Job:
    """One generator of events, run once in one daemon thread.

    The generator knows nothing of threads: every `yield` is a progress report and a place where it may be cancelled
    (it then sees `GeneratorExit`, so `finally` blocks run); so is every `cancelling.checkpoint` between them (it then
    sees `Cancelled`). A second small thread tells the watcher, so a slow
    watcher never slows the work, and events that arrive faster than `every_s` are skipped, never queued.
    `on_event` is called from that thread alone with the latest event: at most once in `every_s` seconds, and always
    with the very last one. `on_end` follows it, once.

    `state` is "waiting", "running", "done", "cancelled" or "failed"; `last` is the latest event; `result` is what
    the generator returned, or else its last event; `error` is what it raised.

    >>> job = Job(iter([1, 2, 3]), name="count").start()
    >>> job.wait()
    3
    >>> job
    Job('count', done)
    """

    def __init__(
        self,
        events: Iterable[Any],
        *,
        name: str,
        on_event: Callable[[Any], None] | None = None,
        on_end: Callable[[Job], None] | None = None,
        every_s: float = 0.1,
    ) -> None:
        self.name = name
        self.last: Any = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.state: JobState = "waiting"
        self._events = iter(events)
        self._on_event, self._on_end, self._every_s = on_event, on_end, every_s
        self._changed = threading.Condition()
        self._cancel = threading.Event()
        self._ended = threading.Event()
        self._seen = 0  # events so far
        self._finished = False  # the generator will yield no more

    def __repr__(self) -> str:
        return f"Job({self.name!r}, {self.state})"

    @property
    def is_cancelling(self) -> bool:
        """Cancel was asked for, and the generator has not reached its next yield yet."""
        return self._cancel.is_set() and not self._ended.is_set()

    @property
    def has_ended(self) -> bool:
        """The generator is over and the watcher was told."""
        return self._ended.is_set()

    def start(self) -> Job:
        """Run the generator; returns at once with the job itself. A job runs once: a second start is an error."""
        first = False
        try:
            with self._changed:
                if self.state != "waiting":
                    raise RuntimeError(f"{self!r} was already started; make a new Job to run it again")
                first = True
                self.state = "running"
            threading.Thread(target=self._tell, name=f"fedart-{self.name}-watch", daemon=True).start()
            threading.Thread(target=self._work, name=f"fedart-{self.name}", daemon=True).start()
        except BaseException as error:  # an interrupt between the two threads would leave a job that never ends
            if first:
                self._give_up(error)
            raise
        return self

    def cancel(self) -> None:
        """Ask the generator to stop at its next yield or checkpoint; harmless when it is over."""
        self._cancel.set()
        with self._changed:
            if self.state != "waiting":
                return
            self.state = "cancelled"
        self._close_generator()
        self._ended.set()

    def wait(self, timeout_s: float | None = None) -> Any:
        """Block until the job is over and return its result; what the generator raised is raised here.

        An interrupt of the kernel cancels the job and is passed on. In a notebook prefer `await job`: it keeps the
        Cancel button working while the cell runs. Raises `TimeoutError` after `timeout_s`; the job goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            while not self._ended.wait(_SLICE_S):
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"{self!r} is still going after {timeout_s:g} s; wait again, or cancel() it")
        except KeyboardInterrupt:
            self.cancel()
            raise
        return self._outcome()

    def __await__(self) -> Generator[Any, None, Any]:
        """Like `wait`, with the event loop free meanwhile. Interrupting the cell cancels the job."""
        return self._poll().__await__()

    async def follow(self, *, every_s: float = 2.0) -> AsyncIterator[Any]:
        """Yield the latest event whenever it says something new, at most one in `every_s` seconds, and always the last.

        Buttons stay alive meanwhile, as with `await job`. Interrupting the cell cancels the job; leaving the loop does
        not. What the generator raised is raised at the end.

        >>> async for event in job.follow():  # doctest: +SKIP
        ...     print(event)
        """
        told, not_before, said = 0, 0.0, ""
        while True:
            ended = self._ended.is_set()
            if self._seen > told and (ended or time.monotonic() >= not_before):
                told, event = self._seen, self.last
                if str(event) != said:  # ten times "Waiting for the others." would tell nobody anything
                    said, not_before = str(event), time.monotonic() + every_s
                    yield event
            if ended:
                break
            try:
                await asyncio.sleep(_POLL_S)
            except (asyncio.CancelledError, KeyboardInterrupt):
                self.cancel()
                raise
        self._outcome()

    async def _poll(self) -> Any:
        try:
            while not self._ended.is_set():  # noqa: ASYNC110 - a thread tells the end, on no event loop
                await asyncio.sleep(_POLL_S)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.cancel()
            raise
        return self._outcome()

    def _outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result

    def _work(self) -> None:
        state: JobState = "done"
        try:
            while not self._cancel.is_set():
                try:
                    with cancellable(self._cancel.is_set):
                        event = next(self._events)
                except StopIteration as stop:
                    self.result = self.last if stop.value is None else stop.value
                    break
                with self._changed:
                    self.last, self._seen = event, self._seen + 1
                    self._changed.notify_all()
            else:
                state = "cancelled"
                self._close_generator()
        except Cancelled:
            state = "cancelled"
        except BaseException as error:  # noqa: BLE001 - the thread is the boundary: wait() raises it where it is seen
            self.error, state = error, "failed"
        with self._changed:
            self.state, self._finished = state, True
            self._changed.notify_all()

    def _give_up(self, error: BaseException) -> None:
        """Starting was interrupted: whatever thread runs already stops, and the job is over for everybody."""
        self._cancel.set()
        with self._changed:
            if self.error is None:
                self.error, self.state = error, "failed"
            self._finished = True
            self._changed.notify_all()
        self._ended.set()

    def _close_generator(self) -> None:
        close = getattr(self._events, "close", None)
        if close is not None:
            close()

    def _tell(self) -> None:
        """Pass on the latest event, at most one in `every_s`, until the generator is over and the last one was told."""
        told, not_before = 0, 0.0
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda told=told: self._finished or self._seen > told)  # type: ignore[misc]
                    if not self._finished:  # leave time for newer events, unless the end comes first
                        pause_s = max(0.0, not_before - time.monotonic())
                        self._changed.wait_for(lambda: self._finished, timeout=pause_s)
                    event, seen, finished = self.last, self._seen, self._finished
                if seen > told and self._on_event is not None:
                    self._on_event(event)
                told, not_before = seen, time.monotonic() + self._every_s
                if finished:
                    break
        except BaseException as error:  # noqa: BLE001 - the same boundary
            self._fail_watch(error)
        try:
            if self._on_end is not None:
                self._on_end(self)
        except BaseException as error:  # noqa: BLE001 - the same boundary
            self._fail_watch(error)
        self._ended.set()

    def _fail_watch(self, error: BaseException) -> None:
        """A broken watcher stops the work and is reported like a failure of it, rather than lost."""
        self._cancel.set()
        with self._changed:
            self._changed.wait_for(lambda: self._finished)
            if self.error is None:
                self.error, self.state = error, "failed"
