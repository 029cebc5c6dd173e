"""One piece of work at a time on a backbone's network: who has it, who waits, and how paused work gives way.

A generator that nobody resumes holds nothing: `gives_way` lets others end or suspend what it has attached. Work that an
interrupt tore down in the middle holds nothing either: its holder is gone from every thread's stack, and what it
changed is put back before somebody else begins. Whoever waits for work that goes on can be cancelled.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from types import FrameType, GeneratorType
from typing import Any, Final, ParamSpec, Self, TypeVar

from .._system.cancelling import checkpoint
from ..errors import BackboneBusy, BackboneTaken

__all__ = ["GAVE_WAY", "Exclusive", "gives_way"]

_log = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

_LOOK_S = 0.01
#: So long a generator in another thread may rest between two of its steps before others take its place.
_REST_S = 2.0
#: A stack is read while its thread runs on; so often in a row a holder must be missing from all of them.
_LOOKS = 5
_ENTRIES = ("__enter__", "enter_context")
_MAY_PAUSE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR

#: What a generator yields to whoever took its place, when it can go on later.
GAVE_WAY: Final[Any] = object()


class _Work(Generator[Any, Any, Any]):
    """A generator that others may ask to give way while it is paused."""

    def __init__(self, events: GeneratorType[Any, Any, Any], name: str) -> None:
        self._events, self._name = events, name
        self._turn = threading.RLock()
        self._taken: BaseException | None = None
        self.thread = 0

    @property
    def frame(self) -> FrameType | None:
        """Where it runs or rests; None when it is over."""
        return self._events.gi_frame

    @property
    def is_running(self) -> bool:
        return self._events.gi_running

    @property
    def is_paused(self) -> bool:
        """Whether it rests at a yield."""
        return self._events.gi_frame is not None and not self._events.gi_running

    def send(self, value: Any) -> Any:
        with self._turn:
            if self._taken is not None:
                error, self._taken = self._taken, None
                raise error
            self.thread = threading.get_ident()
            stack = _stack()
            stack.append(self)
            try:
                return self._events.send(value)
            finally:
                while stack and stack.pop() is not self:
                    pass

    def throw(self, *error: Any) -> Any:
        with self._turn:
            return self._events.throw(*error)

    def close(self) -> None:
        with self._turn:
            self._events.close()

    def give_way(self) -> bool:
        """Let it put back what it changed, now; False where it runs after all."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            if not self.is_paused:
                return True
            try:
                self._events.throw(BackboneTaken(self._name))
            except BaseException as error:  # noqa: BLE001 - told to its own caller, when it goes on
                self._taken = error if isinstance(error, BackboneTaken) else BackboneTaken(self._name)
            return True
        finally:
            self._turn.release()


def gives_way(function: Callable[_P, Iterator[_T]]) -> Callable[_P, Iterator[_T]]:
    """For generators that use the network between their yields: paused ones make room for others.

    The generator is told by a `BackboneTaken` at its yield. It may put everything back, yield `GAVE_WAY` and go on
    later; otherwise it ends, and whoever resumes it gets the error.
    """

    @functools.wraps(function)
    def begin(*args: _P.args, **options: _P.kwargs) -> Iterator[_T]:
        events: Any = function(*args, **options)
        return _Work(events, function.__name__)

    return begin


@dataclass
class _Holder:
    frame: FrameType
    work: weakref.ref[_Work] | None
    depth: int = 1
    undo: list[Callable[[], None]] = field(default_factory=list)


class Exclusive:
    """A lock that a paused or torn-down holder does not keep. `with` the same holder again, it only counts.

    Raises (on entry):
        BackboneBusy: a generator that is not this package's holds it, and rests.
        Cancelled: the waiting job was cancelled.
    """

    def __init__(self) -> None:
        self._guard = threading.RLock()
        self._holder: _Holder | None = None

    def __enter__(self) -> Self:
        above = _frames(sys._getframe())
        frame = _holding_frame(above)
        rests_since, missing = None, 0
        while True:
            checkpoint()
            with self._guard:
                holder = self._holder
                if holder is None:
                    self._holder = _Holder(frame, _work_of(above))
                    return self
                if _is_mine(holder, above):
                    holder.depth += 1
                    return self
                work = holder.work() if holder.work is not None else None
                if work is not None and work.is_paused:
                    state = "paused"
                elif _is_on_a_stack(holder.frame) or (work is not None and work.is_running and work not in _stack()):
                    state = "works"
                elif work is None and _may_be_paused(holder):
                    state = "rests"
                else:
                    state = "gone"
                missing = missing + 1 if state == "gone" else 0
                if missing and (missing >= _LOOKS or not _others()):
                    self._put_back(holder)
                    self._holder = None
                    continue
            now = time.monotonic()
            rests_since = (rests_since or now) if state in ("paused", "rests") else None
            if state == "paused" and work is not None:
                mine = work.thread == threading.get_ident()
                if (mine or now - (rests_since or now) >= _REST_S) and work.give_way():
                    continue
            elif state == "rests" and now - (rests_since or now) >= _REST_S:
                raise BackboneBusy(
                    "The backbone is busy: another generator of this kernel uses it and is not running. Run it to its "
                    "end, or close() it, first."
                )
            time.sleep(_LOOK_S)

    def __exit__(self, *_error: object) -> None:
        above = _frames(sys._getframe())
        with self._guard:
            holder = self._holder
            if holder is None or not _is_mine(holder, above):
                return  # it was taken over
            holder.depth -= 1
            if holder.depth <= 0:
                self._put_back(holder)
                self._holder = None

    @property
    def is_held(self) -> bool:
        """Whether somebody has it now."""
        return self._holder is not None

    @contextmanager
    def undoing(self, undo: Callable[[], None]) -> Iterator[None]:
        """Call `undo` at the end of the block, or where an interrupt prevents that, before somebody else begins.

        It may be called twice. Only for who holds the lock.
        """
        holder = self._holder
        if holder is None:
            raise BackboneBusy("Nobody holds the backbone's lock; take it with `with backbone.lock:` first.")
        holder.undo.append(undo)
        try:
            yield
        finally:
            if holder is self._holder:
                undo()
            with suppress(ValueError):
                holder.undo.remove(undo)

    def _put_back(self, holder: _Holder) -> None:
        while holder.undo:
            try:
                holder.undo[-1]()
            except Exception:  # noqa: BLE001 - the others still have to be called
                _log.warning("Something of the backbone could not be put back", exc_info=True)
            holder.undo.pop()


_here = threading.local()


def _stack() -> list[_Work]:
    """Work that runs in this thread, the innermost last."""
    if not hasattr(_here, "stack"):
        _here.stack = []
    stack: list[_Work] = _here.stack
    return stack


def _frames(frame: FrameType | None) -> list[FrameType]:
    """A frame and all that wait for it, the innermost first."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def _holding_frame(frames: list[FrameType]) -> FrameType:
    """The frame whose `with` block (or ExitStack) it is, through context managers that are made of others."""
    for frame, back in pairwise(frames):
        made_of_others = _is_context(back) and back.f_code.co_name in _ENTRIES
        if frame.f_code.co_name not in _ENTRIES and not made_of_others:
            return frame
    return frames[-1]


def _is_mine(holder: _Holder, above: list[FrameType]) -> bool:
    """Whether these frames belong to the holder: to its frame, or to the work whose inner generator that frame is."""
    if any(holder.frame is frame for frame in above):
        return True
    work = holder.work() if holder.work is not None else None
    inner = bool(holder.frame.f_code.co_flags & _MAY_PAUSE)
    return inner and work is not None and any(work.frame is frame for frame in above)


def _is_context(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") == "contextlib"


def _work_of(above: list[FrameType]) -> weakref.ref[_Work] | None:
    """The innermost work that these frames belong to."""
    for work in reversed(_stack()):
        if any(work.frame is frame for frame in above):
            return weakref.ref(work)
    return None


def _others() -> bool:
    return threading.active_count() > 1


def _may_be_paused(holder: _Holder) -> bool:
    """Whether it is a generator's frame that nobody gave this package to keep: paused and over look the same."""
    return bool(holder.frame.f_code.co_flags & _MAY_PAUSE) and holder.work is None


def _is_on_a_stack(frame: FrameType) -> bool:
    for top in sys._current_frames().values():
        at: FrameType | None = top
        while at is not None:
            if at is frame:
                return True
            at = at.f_back
    return False
