"""Recordings: takes and levels of a scene of sample art, kept with the package so that a workshop can replay them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._system.files import user_path
from ..attacks import Frame, Outcome
from ..attacks.scoring import Score
from ..attacks.threat import ThreatModel
from ..errors import AttackError, FedArtError
from ..figures import watermarked
from .runs import Shot, Take
from .scene import Defence
from .sweep import Level

__all__ = ["Recording", "load", "save"]

_MOST_SHOTS = 20
_QUALITY = 88


@dataclass(frozen=True)
class Recording:
    """What was kept.

    Attributes:
        about: of what; scene: the scene's key, so that nothing is replayed for another scene or other weights.
        takes: whole attacks; levels: one step under more and more noise.
        truth: the picture, uint8 (h, w, 3); lineup: the candidates, uint8 (N, h, w, 3); place: the picture's there.
        baselines: SSIM of guesses that need no update, by name.
    """

    about: str
    scene: str
    truth: NDArray[np.uint8] = field(repr=False)
    lineup: NDArray[np.uint8] = field(repr=False)
    place: int
    takes: tuple[Take, ...] = field(repr=False)
    levels: tuple[Level, ...] = field(repr=False)
    baselines: dict[str, float] = field(default_factory=dict)

    def find(self, key: str) -> Take | None:
        """The take of this key, if it was recorded."""
        return next((take for take in self.takes if take.key == key), None)


def save(recording: Recording, folder: str | Path) -> None:
    """Write `takes.json` and a strip of watermarked pictures for each take. For sample art alone."""
    folder = user_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept: dict[str, Any] = {"about": recording.about, "scene": recording.scene, "baselines": recording.baselines}
    kept |= {"place": recording.place, "candidates": len(recording.lineup), "takes": []}
    _row([recording.truth, *recording.lineup], folder / "lineup.jpg")
    for number, take in enumerate(recording.takes):
        shots = _thinned(take.shots)
        _strip(shots, folder / f"take-{number}.jpg")
        head = {"key": take.key, "attack": take.attack, "evaluations": take.evaluations}
        head |= {"threat": {**asdict(take.threat), "knows": sorted(take.threat.knows)}, "defence": asdict(take.defence)}
        kept["takes"].append({**head, "shots": [_told(shot) for shot in shots]})
    _strip([level.shot for level in recording.levels], folder / "levels.jpg")
    kept["levels"] = [
        {
            "noise_multiplier": level.noise_multiplier,
            "epsilon": level.epsilon if math.isfinite(level.epsilon) else None,
            "ranking": [[i, round(value, 4)] for i, value in level.ranking],
            "picked": level.picked,
            "trials": level.trials,
            "bound": level.bound,
            "shot": _told(level.shot),
        }
        for level in recording.levels
    ]
    (folder / "takes.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def load(folder: str | Path) -> Recording:
    """What `save` wrote.

    Raises:
        AttackError: a file is missing or damaged.
    """
    folder = user_path(folder)
    try:
        told = json.loads((folder / "takes.json").read_text(encoding="utf-8"))
        takes = []
        for number, head in enumerate(told["takes"]):
            shots = _shots(head["shots"], folder / f"take-{number}.jpg", head["attack"])
            threat = ThreatModel(**{**head["threat"], "knows": frozenset(head["threat"]["knows"])})
            takes.append(
                Take(head["key"], head["attack"], threat, Defence(**head["defence"]), head["evaluations"], shots, True)
            )
        ends = _shots([level["shot"] for level in told["levels"]], folder / "levels.jpg", "pixels")
        found = tuple(
            Level(
                level["noise_multiplier"],
                math.inf if level["epsilon"] is None else level["epsilon"],
                shot,
                tuple((int(i), float(value)) for i, value in level["ranking"]),
                level["picked"],
                level["trials"],
                level["bound"],
            )
            for level, shot in zip(told["levels"], ends, strict=True)
        )
        candidates = int(told["candidates"])
        truth, *lineup = _cut(folder / "lineup.jpg", 1 + candidates)
        place, worth = int(told["place"]), dict(told["baselines"])
        return Recording(told["about"], told["scene"], truth, np.stack(lineup), place, tuple(takes), found, worth)
    except (
        OSError,
        SyntaxError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        FedArtError,
    ) as error:
        raise AttackError(
            f"The recordings in {str(folder)!r} cannot be read ({type(error).__name__}). Make them again with "
            "recipes/inversion/make.py, or run the attacks yourself."
        ) from error


def _thinned(shots: Sequence[Shot]) -> list[Shot]:
    """The first, the last, and some between, closer together where more happens: at the beginning."""
    if len(shots) <= _MOST_SHOTS:
        return list(shots)
    places = {round((len(shots) - 1) * (i / (_MOST_SHOTS - 1)) ** 1.5) for i in range(_MOST_SHOTS)}
    return [shots[i] for i in sorted(places)]


def _strip(shots: Sequence[Shot], path: Path) -> None:
    pictures = [shot.frame.pictures[0] for shot in shots if shot.frame.pictures is not None]
    if pictures:
        _row([watermarked(picture) for picture in pictures], path)


def _row(pictures: Sequence[NDArray[np.uint8]], path: Path) -> None:
    row = Image.fromarray(np.concatenate(list(pictures), axis=1))
    row.save(path, "JPEG", quality=_QUALITY, subsampling=0)


def _cut(path: Path, count: int) -> list[NDArray[np.uint8]]:
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return np.split(np.asarray(image.convert("RGB")), count, axis=1)


def _told(shot: Shot) -> dict[str, Any]:
    frame, outcome = shot.frame, shot.outcome
    told: dict[str, Any] = {
        "evaluations": frame.evaluations,
        "of": frame.of,
        "residual": None if math.isnan(frame.residual) else frame.residual,
        "seconds": round(frame.seconds, 1),
        "cpu_seconds": round(frame.cpu_seconds, 1),
        "pictured": frame.pictures is not None,
        "ranking": [[i, round(value, 4)] for i, value in frame.ranking],
        "captions": list(frame.captions),
        "timesteps": list(frame.timesteps),
        "score": {k: v for k, v in asdict(shot.score).items() if not (isinstance(v, float) and math.isnan(v))},
    }
    if outcome is not None:
        told["outcome"] = {"recovered": outcome.recovered, "why": outcome.why, "stopped": outcome.stopped}
    return told


def _shots(told: Sequence[dict[str, Any]], path: Path, attack: str) -> tuple[Shot, ...]:
    count = sum(one["pictured"] for one in told)
    left = iter(_cut(path, count) if count else ())
    shots = []
    for one in told:
        frame = Frame(
            attack,
            one["evaluations"],
            one["of"],
            math.nan if one["residual"] is None else one["residual"],
            one["seconds"],
            one["cpu_seconds"],
            next(left)[None] if one["pictured"] else None,
            tuple((int(i), float(value)) for i, value in one["ranking"]),
            tuple(one["captions"]),
            tuple(one["timesteps"]),
        )
        scored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in one["score"].items()}
        outcome = Outcome(frame, **one["outcome"]) if "outcome" in one else None
        shots.append(Shot(frame, Score(**scored), outcome))
    return tuple(shots)
