"""Make the frames that `NoisePanel` flips through: one sample artist, trained at each epsilon, from the same start.

Beside each: how many of twelve pictures a judge gives to the artist, and what an attacker makes of one step.
About ten minutes on one core. The frames belong to the embedded weights: make them again when these change.

    python recipes/noise/make.py
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from fedart_nb._system import settings
from fedart_nb.art import ArtSet
from fedart_nb.attack_lab.frame_scores import seen_by_others
from fedart_nb.diffusion import Backbone, cache_latents
from fedart_nb.diffusion.noise_preview import NoiseFrame, Seen, noise_frame, save_frames

ARTIST = "openmoji"
JUDGED, SHOWN, TRIES = 12, 4, 200
EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, 20.0, math.inf)
FOLDER = Path(__file__).parents[2] / "fedart_nb" / "widgets" / "static" / "noise"


def main() -> None:
    settings.limit_threads()
    backbone = Backbone.embedded()
    art = ArtSet.sample(ARTIST)
    learn, held_out = cache_latents(backbone, art, "train"), cache_latents(backbone, art, "test")
    prompts = list(dict.fromkeys(p.caption for p in art.included("test")))[:JUDGED]
    frames = []
    for wished in EPSILONS:
        *_, frame = noise_frame(backbone, learn, wished=wished, prompts=prompts, held_out=held_out)
        assert isinstance(frame, NoiseFrame)
        *_, seen = seen_by_others(backbone, art, frame, evaluations=TRIES)
        assert isinstance(seen, Seen)
        print(frame, seen, sep="; ", flush=True)
        frames.append(replace(frame, prompts=frame.prompts[:SHOWN], pictures=frame.pictures[:SHOWN], seen=seen))
    save_frames(frames, FOLDER, about=f"the sample artist {ARTIST}, {len(learn)} pictures, one kernel alone")


if __name__ == "__main__":
    main()
