"""Threads that stand for kernels: daemons, so that a room that hangs fails one test and the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T]) -> Future[T]:
    """Run `work` in a daemon thread; the future holds what it returns or raises."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - the test that asks for the result hears of it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
