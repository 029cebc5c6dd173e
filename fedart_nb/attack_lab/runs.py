"""Shots: an attack's frames beside their scores; a take is all of them, with the sentence that is true of its end."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .._system.cancelling import checkpoint
from ..attacks import BY_TRIES, Frame, Outcome, load
from ..attacks.scoring import Score, Truth, score
from ..attacks.threat import ThreatModel
from ..attacks.view import ServerView
from ..diffusion.backbone import Backbone
from ..errors import AttackError
from .scene import Defence, Scene

__all__ = ["Pausing", "Shot", "Take", "key_of", "shots_of", "take_of", "verdict"]

_EXPLAINED = 1e-3
_SEEN_SSIM = 0.8
_SHOWS_SSIM, _MARGIN = 0.5, 0.1  # of a reconstruction that is not good and yet tells something
_HALF = 0.5  # of captions or timesteps
_REBUILDS = ("exact", *BY_TRIES)
_LOOK_S = 0.1


@dataclass(frozen=True)
class Shot:
    """One frame of an attack, as the scorer sees it; the last of a take has the attack's own `outcome`."""

    frame: Frame
    score: Score
    outcome: Outcome | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.frame} ({self.score})" if str(self.score) != "Nothing was guessed." else str(self.frame)

    @property
    def alt(self) -> str:
        """What a reader who does not see the picture is told."""
        return self.score.alt


@dataclass(frozen=True)
class Take:
    """An attack from its first frame to its last.

    Attributes:
        key: of scene, threat model, defence, attack and tries; replays are found by it.
        recorded: it came with the package, or was made in this kernel.
    """

    key: str
    attack: str
    threat: ThreatModel
    defence: Defence
    evaluations: int
    shots: tuple[Shot, ...] = field(repr=False)
    recorded: bool = False

    @property
    def last(self) -> Shot:
        """Its end."""
        return self.shots[-1]


class Pausing:
    """A switch that an attack looks at between two frames: pause, go on, stop. Time stands still in a pause."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._go.set()
        self.stopped = False

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return not self._go.is_set()

    def pause(self) -> None:
        """Stand still after the frame that is being worked on."""
        self._go.clear()

    def resume(self) -> None:
        """Go on."""
        self._go.set()

    def stop(self) -> None:
        """Give up what is paused."""
        self.stopped = True
        self._go.set()

    def wait(self) -> float:
        """Block while it stands still; how many seconds that took."""
        began = time.monotonic()
        while not self._go.wait(_LOOK_S):
            checkpoint()
        return time.monotonic() - began


def key_of(scene: Scene, threat: ThreatModel, defence: Defence, attack: str, evaluations: int) -> str:
    """The content hash by which a take is found again."""
    told = {**asdict(threat), "knows": sorted(threat.knows), "defence": asdict(defence)}
    text = json.dumps([scene.key, told, attack, evaluations], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def take_of(
    scene: Scene,
    threat: ThreatModel,
    defence: Defence,
    attack: str,
    *,
    evaluations: int = 300,
    budget_s: float = 90.0,
    pausing: Pausing | None = None,
) -> Iterator[Shot | Take]:
    """Run an attack on a scene: a `Shot` for each frame, and the `Take` at last.

    Args:
        attack: a name in `attacks.ATTACKS` that this threat model allows.
        evaluations: tries at most, of attacks that match gradients; lists are always gone through, and `exact` ends
            when it is done.
        budget_s: seconds of work at most; pauses do not count.

    Raises:
        AttackError: the threat model does not allow it; the message says why.

    Example:
        >>> threat = ThreatModel("relay", "lora", frozenset({"seed", "captions"}), first_round=True)
        >>> for event in take_of(scene, threat, Defence(), "pixels", budget_s=60):  # doctest: +SKIP
        ...     print(event)
    """
    if why := threat.why_not(attack):
        raise AttackError(f"{attack} cannot be tried here. {why}")
    shots = []
    view = scene.view(threat, defence)
    for shot in shots_of(
        view, scene.backbone, attack, scene.truth, evaluations=evaluations, budget_s=budget_s, pausing=pausing
    ):
        shots.append(shot)
        yield shot
    if shots:
        key = key_of(scene, threat, defence, attack, evaluations)
        yield Take(key, attack, threat, defence, evaluations, tuple(shots))


def shots_of(
    view: ServerView,
    backbone: Backbone,
    attack: str,
    truth: Truth,
    *,
    evaluations: int | None = None,
    budget_s: float = 60.0,
    pausing: Pausing | None = None,
    **options: Any,
) -> Iterator[Shot]:
    """Run one attack on a view and score every frame; attacks see the view, the scorer the truth."""
    pausing = pausing or Pausing()
    began, rested = time.monotonic(), 0.0
    view = _completed(view, backbone, attack)
    if evaluations is not None and attack in BY_TRIES:
        options["evaluations"] = evaluations
    events = load(attack)(view, backbone, budget_s=math.inf, **options)
    last: Frame | None = None
    try:
        for event in events:
            seconds = time.monotonic() - began - rested
            if isinstance(event, Outcome):
                yield _scored(replace(event.frame, seconds=seconds), truth, event)
                return
            last = replace(event, seconds=seconds)
            if seconds >= budget_s:
                break
            yield _scored(last, truth)
            rested += pausing.wait()
            if pausing.stopped:
                break
    finally:
        events.close()  # type: ignore[attr-defined]
    if last is not None:
        known = not math.isnan(last.residual)
        why = f"{last.residual:.2g} of the update is left unexplained." if known else "it did not come to its end."
        done = attack in _REBUILDS and last.residual < _EXPLAINED
        yield _scored(last, truth, Outcome(last, done, why, stopped=True))


def _scored(frame: Frame, truth: Truth, outcome: Outcome | None = None) -> Shot:
    """The frame beside its score; of a sum's pictures, the one nearest to the scorer's comes first."""
    found, true = frame.pictures, truth.pictures
    if found is not None and true is not None and len(true) == 1 < len(found):
        away = np.square(found.astype(np.float32) - true.astype(np.float32)).mean(axis=(1, 2, 3))
        frame = replace(frame, pictures=found[np.argsort(away)])
    return Shot(frame, score(frame, truth), replace(outcome, frame=frame) if outcome else None)


def _completed(view: ServerView, backbone: Backbone, attack: str) -> ServerView:
    """What a rebuilding attack lacks is read from the update first, where it can be."""
    knows = view.knows
    if attack not in _REBUILDS:
        return view
    if knows.captions is None and knows.caption_list:
        view = view.knowing(captions=_end(load("captions")(view, backbone, count=view.artists)).captions)
    if knows.seed is None and knows.timesteps is None and view.full:
        view = view.knowing(timesteps=_end(load("timesteps")(view, backbone)).timesteps)
    return view


def _end(events: Iterator[Frame | Outcome]) -> Frame:
    *_, outcome = events
    return outcome.frame if isinstance(outcome, Outcome) else outcome


def verdict(shot: Shot, *, best_baseline: float = 0.0) -> tuple[bool, str]:
    """Whether the scorer calls it recovered, and the sentence to show.

    Args:
        best_baseline: SSIM of the best guess that needs no update; a reconstruction must beat it.

    A picture counts as recovered from an SSIM of 0.8 on, as partly so from 0.5 and 0.1 above every baseline; captions
    and timesteps when all are right, partly when half of them are; a ranking when the right one is first.
    """
    frame, scored = shot.frame, shot.score
    spent = f"{frame.evaluations} tries, {frame.seconds:.0f} s"
    read = [share for share in (scored.captions, scored.timesteps) if not math.isnan(share)]
    if scored.ssim:
        found = max(scored.ssim) >= max(_SEEN_SSIM, best_baseline)
    elif read:
        found = min(read) == 1
    else:
        found = scored.rank == 1
    if found:
        return True, f"Recovered ({spent}). {scored}"
    if scored.ssim and max(scored.ssim) >= max(_SHOWS_SSIM, best_baseline + _MARGIN):
        return True, f"Partly recovered ({spent}): nearer to the picture than any guess without the update. {scored}"
    if not scored.ssim and read and min(read) >= _HALF:
        return True, f"Partly recovered ({spent}). {scored}"
    said = "" if str(scored) == "Nothing was guessed." else f" {scored}"
    why = f" {shot.outcome.why[:1].upper()}{shot.outcome.why[1:]}" if shot.outcome else ""
    return False, (
        f"Not recovered by this attack within this budget ({spent}).{said}{why} That is not evidence of safety."
    )
