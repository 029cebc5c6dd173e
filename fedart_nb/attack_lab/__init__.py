"""The inversion lab without its buttons: scenes, defences, attacks on them as takes, and the look before sending.

Reconstructions are values in memory: nothing here writes one to a disk, but `recordings.save`, which the recipe of the
package's own recordings calls with sample art.
"""

from __future__ import annotations

from .own_round import OwnRound, look, own_round
from .preflight import Finding, preflight
from .recordings import Recording, load, save
from .runs import Pausing, Shot, Take, take_of, verdict
from .scene import Defence, Scene, scene_of
from .sweep import Level, levels

__all__ = [
    "Defence",
    "Finding",
    "Level",
    "OwnRound",
    "Pausing",
    "Recording",
    "Scene",
    "Shot",
    "Take",
    "levels",
    "load",
    "look",
    "own_round",
    "preflight",
    "save",
    "scene_of",
    "take_of",
    "verdict",
]
