"""The most memory that this process and its children held together, sampled in a thread.

Pages that several processes share (torch's libraries) are counted once: proportional set size where the system has it.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import psutil

__all__ = ["PeakMemory"]

_EVERY_S = 1.0


class PeakMemory:
    """Measures inside a `with` block; `peak_gib` is the largest sum seen.

    Example:
        >>> with PeakMemory() as memory:
        ...     pass
        >>> memory.peak_gib > 0
        True
    """

    def __init__(self) -> None:
        self.peak_gib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="fedart-memory", daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._look()
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        me = psutil.Process()
        total = 0
        for process in (me, *me.children(recursive=True)):
            try:
                total += _held(process)
            except psutil.Error:
                continue
        self.peak_gib = max(self.peak_gib, total / 2**30)


def _held(process: psutil.Process) -> int:
    if psutil.LINUX:
        return int(process.memory_full_info().pss)
    return int(process.memory_info().rss)
