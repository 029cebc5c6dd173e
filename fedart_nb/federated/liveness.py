"""Signs of life of artists who work on a round and of hosts that wait, and what each makes of the other's silence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

from ..errors import FedArtError
from ..events import Step
from ..relay.wire import Envelope

__all__ = ["HostLife", "HostSigns", "Pace", "SignsOfLife", "first_sign_s", "sign_every_s"]

_SIGN_S = 3.0
_FIRST_S = (5.0, 20.0)  # a host's first sign in a phase comes after a third of its patience, within these
_LONGEST_S = 300.0  # its later ones take twice as long each, up to this: a room may wait for days
_GRACE_S = 10.0
_TIMES = 4.0  # an artist is patient with: so many of its slowest steps
_MOST = 10.0  # but no longer than so many times the plan's patience: nobody holds a room up for good


def sign_every_s(patience_s: float) -> float:
    """How often a kernel shows that it lives: every three seconds, or a quarter of the host's patience if that is less.

    >>> sign_every_s(60.0), sign_every_s(4.0)
    (3.0, 1.0)
    """
    return min(_SIGN_S, patience_s / 4)


class SignsOfLife:
    """Shows every few seconds that work goes on, whatever the working thread waits for: a lock, a long step, an upload.

    The signs come from a thread of their own. They stop when the work is over, and also when nobody asks the work for
    its next event any more: a generator that is left lying must not hold up a room.

    Args:
        say: sends one sign: how many steps are done. What it raises of ours is dropped: the next sign may get through.
        every_s: how often; wait: lets so many seconds pass, and says True when there are to be no more signs.

    >>> signs = SignsOfLife(print, every_s=60)
    >>> list(signs.over(iter([1, 2])))
    0
    [1, 2]
    """

    def __init__(
        self, say: Callable[[int], object], *, every_s: float, wait: Callable[[float], bool] | None = None
    ) -> None:
        self._say, self._every_s = say, every_s
        self._step = 0
        self._worked = False  # since the last sign
        self._working = False
        self._over = threading.Event()
        self._wait = wait or self._over.wait

    def over(self, work: Any) -> Generator[Any, None, Any]:
        """Pass the work's events on, with signs of life as long as it takes; returns what the work returns."""
        self._sign()
        self._working = True
        thread = threading.Thread(target=self._keep_on, name="fedart-signs-of-life", daemon=True)
        thread.start()
        try:
            while True:
                self._working = self._worked = True
                try:
                    event = next(work)
                except StopIteration as over:
                    return over.value
                finally:
                    self._working, self._worked = False, True
                if isinstance(event, Step):
                    self._step = event.index
                yield event
        finally:
            self._over.set()
            if close := getattr(work, "close", None):
                close()

    def _keep_on(self) -> None:
        while not self._wait(self._every_s) and not self._over.is_set():
            worked, self._worked = self._worked, False
            if worked or self._working:
                self._sign()

    def _sign(self) -> None:
        with suppress(FedArtError):
            self._say(self._step)


class Pace:
    """How long to wait for one artist, from how long its signs of life and its steps took so far.

    >>> pace = Pace(patience_s=60.0)
    >>> for now, step in ((0.0, 0), (40.0, 1), (80.0, 2)):
    ...     pace.heard(now, step)
    >>> pace.patience_s
    160.0
    """

    def __init__(self, patience_s: float) -> None:
        self._plan_s, self._slowest_s = patience_s, 0.0
        self._sign: float | None = None
        self._step: tuple[float, int] | None = None

    def heard(self, now: float, step: int) -> None:
        """A sign of life came, after so many steps of training."""
        if self._sign is not None:
            self._slowest_s = max(self._slowest_s, now - self._sign)
        self._sign = now
        if self._step is None or step < self._step[1]:
            self._step = now, step
        elif step > self._step[1]:
            self._slowest_s = max(self._slowest_s, (now - self._step[0]) / (step - self._step[1]))
            self._step = now, step

    @property
    def patience_s(self) -> float:
        """Silence for so long means that the kernel is gone."""
        return min(max(self._plan_s, _TIMES * self._slowest_s), _MOST * self._plan_s)


def first_sign_s(patience_s: float) -> float:
    """When a host gives its first sign of life in a phase."""
    return min(max(patience_s / 3, _FIRST_S[0]), _FIRST_S[1])


class HostSigns:
    """When a waiting host shows that it lives: soon at first, then less and less often; each sign names the next.

    >>> signs = HostSigns(first_s=20.0)
    >>> [signs.due("update", now) for now in (0.0, 19.0, 20.0, 59.0, 60.0)]
    [None, None, 40.0, None, 80.0]
    """

    def __init__(self, *, first_s: float) -> None:
        self._first_s = self._wait_s = first_s
        self._phase, self._next = "", 0.0

    def due(self, phase: str, now: float) -> float | None:
        """Seconds until the sign after this one, where one is due now; a new phase begins soon again."""
        if phase != self._phase:
            self._phase, self._wait_s, self._next = phase, self._first_s, now + self._first_s
        if now < self._next:
            return None
        self._wait_s = min(2 * self._wait_s, _LONGEST_S)
        self._next = now + self._wait_s
        return self._wait_s


class HostLife:
    """What an artist knows of its host: whether it said that it stopped, and for how long it has been silent.

    >>> now = 0.0
    >>> host = HostLife(clock=lambda: now)
    >>> host.waiting("the others")
    'Waiting for the others.'
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard_at = clock()
        self._promised_s: float | None = None  # until the next sign; None: nothing is running
        self.stopped = ""

    def heard(self, envelope: Envelope, *, patience_s: float) -> None:
        """A message of the host came; `patience_s` is the running plan's."""
        self._heard_at, body = self._clock(), envelope.body
        if envelope.kind == "note":
            if isinstance(why := body.get("stopped"), str):
                self.stopped, self._promised_s = why or "It did not say why.", None
            elif isinstance(again_s := body.get("again_s"), int | float) and 0 < again_s <= 2 * _LONGEST_S:
                self.stopped, self._promised_s = "", float(again_s)
        elif envelope.kind == "close":
            self._promised_s = None
        elif envelope.kind != "refuse":
            self.stopped, self._promised_s = "", first_sign_s(patience_s)

    def excuse(self) -> None:
        """Nobody could be heard: the relay was away."""
        self._heard_at = self._clock()

    @property
    def silent_s(self) -> float:
        """For how long a host that should have been heard was not; 0.0 while there is nothing to wonder about."""
        silent_s = self._clock() - self._heard_at
        return silent_s if self._promised_s is not None and silent_s > 1.5 * self._promised_s + _GRACE_S else 0.0

    @property
    def pause(self) -> str:
        """Why the rounds stand still, as sentences; "" while they go on."""
        if self.stopped:
            return (
                f"The host stopped the rounds: {self.stopped} They go on when the host starts them again. Nothing of "
                "yours waits for it; you can leave, or stay."
            )
        if self.silent_s:
            return (
                f"The host has not been heard for {self.silent_s / 60:.0f} min: its kernel may have died. The rounds "
                "stand still until it comes back; ask the host, or leave. What you have stays with you."
            )
        return ""

    def waiting(self, what: str) -> str:
        """What this kernel waits for, truthfully."""
        return self.pause or f"Waiting for {what}."
