"""Make the recordings that InversionPanel replays: one picture of sample art, five defences, and levels of noise.

    python recipes/inversion/make.py

About a quarter of an hour on one core. Run it again when the embedded weights change: takes are found by a hash of the
scene, weights included, so old ones are no longer replayed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fedart_nb.art import ArtSet
from fedart_nb.attack_lab import Defence, Level, Recording, Take, levels, save, scene_of, take_of
from fedart_nb.attacks import ThreatModel
from fedart_nb.attacks.scoring import baselines
from fedart_nb.diffusion import Backbone

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "fedart_nb" / "widgets" / "static" / "inversion"
ART, PICTURE = "openmoji", 1
TRIES = 150
NOISES = (0.0, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.5, 1.0, 2.0)
KNOWS = frozenset({"seed", "captions", "candidates"})


def main() -> None:
    """Run every attack and write the folder."""
    backbone, art = Backbone.embedded(), ArtSet.sample(ART, limit=30)
    scene = scene_of(backbone, art, picture=PICTURE)
    alone = ThreatModel("relay", "lora", KNOWS, first_round=True)
    summed = ThreatModel("relay", "sum", KNOWS, first_round=True)
    wanted = [
        (alone, Defence(), "pixels"),
        (alone, Defence(secret_seed=True), "pixels"),
        (summed, Defence(artists=3), "pixels"),
        (alone, Defence(noise_multiplier=0.1), "pixels"),
        (summed, Defence(artists=3, noise_multiplier=0.1), "pixels"),
        (alone, Defence(), "identify"),
    ]
    takes = []
    for threat, defence, attack in wanted:
        for event in take_of(scene, threat, defence, attack, evaluations=TRIES, budget_s=1e9):
            if isinstance(event, Take):
                print(attack, defence, event.last, file=sys.stderr, flush=True)
                takes.append(event)
    found = []
    for event in levels(scene, NOISES, evaluations=TRIES):
        if isinstance(event, Level):
            print(event, file=sys.stderr, flush=True)
            found.append(event)
    worth = baselines(scene.truth, backbone=backbone, public=scene.others)
    about = f"“{scene.caption}” by {ArtSet.samples()[ART].title}, one step, seed {scene.seed}, {TRIES} tries"
    truth = scene.picture[0]
    told = {name: round(float(np.mean(one.ssim)), 4) for name, one in worth.items()}
    save(Recording(about, scene.key, truth, scene.lineup, scene.place, tuple(takes), tuple(found), told), FOLDER)


if __name__ == "__main__":
    main()
