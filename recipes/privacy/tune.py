"""Try one way of private rounds after the other: five sample artists, judged on train pictures that are kept back.

A try is `name=value,...` of: rule, rounds, steps, rate (AdamW's), schedule (over the rounds), rank, core (1:
`diffusion/cores.py`), share (of the pictures in a batch; 1: all of them), draws (K), clip, epsilon (0: without noise,
as `benchmarks/quality.py` trains; inf: clipped as with noise, but without it).
Each try is a line of `tried.jsonl`. What it taught: AdamW's first step is as long as its rate whatever the gradient, so
without noise the same rate overshoots (`epsilon=inf`), and what helps is whole batches (a better signal at one epsilon)
with half the rate; several draws, a falling rate and few long rounds gave no more.

    python recipes/privacy/tune.py epsilon=0 rounds=8,rate=1e-2,draws=4
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _federation import federate, held_out_losses, split_off, studio  # noqa: E402
from _private import Way, halves  # noqa: E402
from quality import DEFAULT  # noqa: E402

from fedart_nb.diffusion import AdapterConfig, Backbone, initial_adapter  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    backbone = Backbone.embedded(device="cpu")
    cache = ROOT / "out" / "privacy" / "latents"
    people = {name: split_off(studio(backbone, name, cache)) for name in halves()[0]}
    bare = held_out_losses(backbone, people, [], draws=1)
    for text in sys.argv[1:]:
        pairs = (pair.split("=") for pair in text.split(","))
        given = {key: value if key in ("rule", "schedule") else float(value) for key, value in pairs}
        began = time.process_time()
        if given.get("epsilon") == 0:
            start = initial_adapter(backbone, AdapterConfig(), seed=1)
            recipe = replace(DEFAULT, rule=given.get("rule", DEFAULT.rule))
            *_, last = federate(backbone, people, recipe, start, seed=1)
        else:
            way = Way(**{k: int(v) if k in ("rounds", "steps", "rank", "draws") else v for k, v in given.items()})
            *_, last = way.federate(backbone, people, seed=1)
        after = held_out_losses(backbone, people, [last.shared.expanded()], draws=1)
        line = {
            "try": text,
            "backbone": round(statistics.fmean(bare.values()), 4),
            "loss": round(statistics.fmean(after.values()), 4),
            "by_artist": {n: [round(bare[n], 4), round(after[n], 4)] for n in people},
            "cpu_s": round(time.process_time() - began),
            "weights": backbone.sha256[:8],
        }
        print(json.dumps(line), flush=True)
        with (Path(__file__).parent / "tried.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
