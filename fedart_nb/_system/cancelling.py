"""Cancel in the middle of long work: loops call `checkpoint`, which ends the work when its job was cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["Cancelled", "abandonable", "cancellable", "checkpoint"]

_Result = TypeVar("_Result")
_LOOK_S = 0.05
_here = threading.local()


class Cancelled(BaseException):
    """The job that this thread works for was cancelled. Like an interrupt, it is no `Exception`: let it pass."""


class _Watch:
    """Whether one job was cancelled; it is told once, so that what tidies up afterwards is left in peace."""

    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled, self._told = is_cancelled, False

    def look(self) -> None:
        if not self._told and self._is_cancelled():
            self._told = True
            raise Cancelled


@contextmanager
def cancellable(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """While the block runs, `checkpoint` in this thread raises `Cancelled` once when `is_cancelled()` is true."""
    before = getattr(_here, "watch", None)
    _here.watch = _Watch(is_cancelled)
    try:
        yield
    finally:
        _here.watch = before


def checkpoint() -> None:
    """A place where long work may be cancelled. Does nothing outside a job, and costs next to nothing.

    Raises:
        Cancelled: the job of this thread was cancelled.
    """
    watch: _Watch | None = getattr(_here, "watch", None)
    if watch is not None:
        watch.look()


def abandonable(action: Callable[[], _Result]) -> _Result:
    """Call what may block for long, such as a request over the network; when the job is cancelled, wait no longer.

    Outside a job it is an ordinary call. In one, `action` runs in a thread of its own and is left to itself by a
    cancel: only for what may end later, or twice, without harm.
    """
    if getattr(_here, "watch", None) is None:
        return action()
    done, box = threading.Event(), dict[str, Any]()

    def run() -> None:
        try:
            box["result"] = action()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            box["error"] = error
        done.set()

    threading.Thread(target=run, name="fedart-waits", daemon=True).start()
    while not done.wait(_LOOK_S):
        checkpoint()
    if "error" in box:
        raise box["error"]
    result: _Result = box["result"]
    return result
