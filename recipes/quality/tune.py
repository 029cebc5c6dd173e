"""Try rounds, steps and rates of federated rules on train pictures that were kept back, on one federation of three.

    python recipes/quality/tune.py centralised:steps=40,rate=2e-2 rolora:rounds=20,steps=2,rate=2e-2
    python recipes/quality/tune.py --artists 10 local:steps=100,rate=1e-2 warm:steps=60,rate=1e-2

"personal" and "warm" come after `benchmarks/quality.py`'s default rounds with the same artists: an adapter of one's own
on top of the frozen shared one, from zero, or from a copy of the shared one in its place.

Held-out pictures are not touched: every sixth train picture judges in their place. The federation is drawn with a seed
that `benchmarks/quality.py` does not use. Every try is a line of `tried.jsonl`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _federation import Recipe, centralised, federate, held_out_losses, local, split_off, studio  # noqa: E402
from quality import DEFAULT  # noqa: E402

from fedart_nb.art import ArtSet  # noqa: E402
from fedart_nb.diffusion import Adapter, AdapterConfig, Backbone, initial_adapter  # noqa: E402

SEED = 100
WHOLE, WORDS = ("rounds", "steps", "rank", "bits"), ("server", "schedule")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artists", type=int, default=3, help="how many (3; 10 are all)")
    parser.add_argument("tries", nargs="+", metavar="WAY:NAME=VALUE,...")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    backbone = Backbone.embedded(device="cpu")
    order = np.random.default_rng(SEED).permutation(sorted(ArtSet.samples()))[: chosen.artists]
    cache = ROOT / "out" / "quality" / "latents"
    people = {str(name): split_off(studio(backbone, str(name), cache)) for name in order}

    def loss(*adapters: object) -> float:
        return round(statistics.fmean(held_out_losses(backbone, people, adapters, draws=1).values()), 4)  # type: ignore[arg-type]

    bare = loss()
    shared: list[Adapter] = []  # trained when it is first needed
    for text in chosen.tries:
        way, _, settings = text.partition(":")
        losses: dict[str, float] = {}  # by artist, of ways that end in an adapter for each
        given = dict(pair.split("=") for pair in settings.split(","))
        options = {k: int(v) if k in WHOLE else v if k in WORDS else float(v) for k, v in given.items()}
        rank = options.pop("rank", 4)
        core = SEED if way == "fedsb" else None
        start = initial_adapter(backbone, AdapterConfig(rank=rank, alpha=float(rank), core_seed=core), seed=SEED)
        if way == "centralised":
            found = loss(centralised(backbone, people, start, seed=1, **options))
        elif way in ("local", "personal", "warm"):
            if way != "local" and not shared:
                *_, last = federate(backbone, people, DEFAULT, initial_adapter(backbone, seed=SEED), seed=1)
                shared.append(last.shared)
            frozen, begin = (shared if way == "personal" else []), (shared[0] if way == "warm" else start)
            below = [(adapter, 1.0) for adapter in frozen]
            for name, one in people.items():
                made = local(backbone, one.own, begin, seed=1, frozen=below, **options)
                losses[name] = held_out_losses(backbone, {name: one}, [*frozen, made], draws=1)[name]
            found = round(statistics.fmean(losses.values()), 4)
        else:
            *_, last = federate(backbone, people, Recipe(way, **options), start, seed=1)
            found = loss(last.shared)
        line = {"try": text, "artists": list(people), "backbone": bare, "loss": found, "weights": backbone.sha256[:8]}
        if losses:
            line["by_artist"] = {name: round(value, 4) for name, value in losses.items()}
        print(json.dumps(line), flush=True)
        with (Path(__file__).parent / "tried.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
