"""Which panels there are, and which job their session is busy with; no panel's failure reaches another one."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from fedart_nb.errors import FedArtError
from fedart_nb.jobs import Job

if TYPE_CHECKING:
    from fedart_nb.widgets.panel import Panel

__all__ = ["begin", "forget", "forget_job", "job_of", "panels", "register", "sync_all"]

_log = logging.getLogger(__name__)
_panels: WeakSet[Panel] = WeakSet()
_jobs: dict[int, tuple[object, Job]] = {}  # by the owner's id: a session does one thing at a time
_lock = threading.RLock()


def register(panel: Panel) -> None:
    """From now on a finished panel is told when its session's job begins and ends."""
    with _lock:
        _panels.add(panel)


def forget(panel: Panel) -> None:
    """A closed panel is told nothing more."""
    with _lock:
        _panels.discard(panel)


def panels(owner: object | None = None) -> list[Panel]:
    """All registered panels, or those of one owner."""
    with _lock:
        return [panel for panel in _panels if owner is None or panel.owner is owner]


def sync_all(owner: object) -> None:
    """Let every panel of an owner set its controls; one that fails says so in its own error area."""
    for panel in panels(owner):
        try:
            panel.sync()
        except Exception as error:  # noqa: BLE001 - the boundary between panels
            _log.warning("%s could not set its controls", type(panel).__name__, exc_info=True)
            with suppress(Exception):
                panel.show_error(error)


def begin(owner: object, job: Job) -> None:
    """Take note of an owner's one job.

    Raises:
        FedArtError: another one is still running.
    """
    with _lock:
        running = job_of(owner)
        if running is not None:
            raise FedArtError(f"“{running.name}” is still running. Wait until it is over, or cancel it first.")
        _jobs[id(owner)] = (owner, job)


def job_of(owner: Any) -> Job | None:
    """The owner's job that is not over yet. One that ended without a word, by an interrupt, blocks nothing."""
    with _lock:
        job = _jobs.get(id(owner), (None, None))[1]
        if job is not None and job.has_ended:
            del _jobs[id(owner)]
            return None
        return job


def forget_job(owner: object, job: Job) -> None:
    """The job is over, or never began."""
    with _lock:
        if _jobs.get(id(owner), (None, None))[1] is job:
            del _jobs[id(owner)]
