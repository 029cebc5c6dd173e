"""An artist withdraws: the room goes back to before they came and trains without them. What is left of them then?

Five artists and a sixth who joins in round 3 and withdraws after the last one; three seeds, another sixth for each.

* *replayed*: from the shared adapter of before round 3, the other five train the rounds from 3 on again.
* *never there*: the five from round 1 on. On the same seeds both must agree in every bit, or the benchmark fails. A
  live room takes fresh seeds instead: two sums on the same seeds would differ in the leaver's updates alone.
* *fast*: the five go on from the last shared adapter for a third of the rounds, and hope that it forgets.

Distance is |adapter - replayed| / |with the artist - replayed|, over all factors: 0 is forgotten, 1 is nothing done.
Membership AUC is of the leaver's train pictures against their held-out ones, by the fall of each picture's loss from
the bare backbone's on fixed noise. Weights by loss would show the leaver in everybody's weight, so these are equal.

    python benchmarks/withdrawal.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _federation import Recipe, Studio, federate, studio
from _quality import interval
from _report import measure, options, report
from numpy.typing import NDArray

from fedart_nb.art import ArtSet
from fedart_nb.attacks.participation import auc
from fedart_nb.diffusion import Adapter, Backbone, Conditioning, LatentSet, denoising_loss, initial_adapter
from fedart_nb.federated import DEFAULT_RULE

OUT = Path(__file__).parents[1] / "out" / "quality" / "latents"


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    seeds: int
    others: int
    recipe: Recipe
    joins: int
    judged: int
    pictures: int | None


FULL = Size(3, 5, Recipe(DEFAULT_RULE, rounds=9, steps=4, rate=3e-2, bits=16, schedule="cosine"), 3, 40, None)
QUICK = Size(1, 3, Recipe(DEFAULT_RULE, rounds=3, steps=1, rate=3e-2, bits=16, schedule="cosine"), 2, 4, 12)


def one(backbone: Backbone, size: Size, seed: int) -> dict[str, Any]:
    """Train all four ways with one seed, and compare."""
    names = [str(n) for n in np.random.default_rng(seed).permutation(sorted(ArtSet.samples()))][: size.others + 1]
    studios = {name: studio(backbone, name, OUT, limit=size.pictures) for name in names}
    leaver = names[-1]  # last: the others' seeds are the same with them and without
    others = {name: studios[name] for name in names[:-1]}
    start, recipe, seconds = initial_adapter(backbone, seed=seed), size.recipe, dict[str, float]()

    def trained(what: str, people: Mapping[str, Studio], begin: Adapter, **more: Any) -> tuple[list[Adapter], int]:
        began, sent, made = time.process_time(), 0, []
        for done in federate(backbone, people, recipe, begin, seed=seed, **more):
            made.append(done.shared)
            sent = done.sent
        seconds[what] = round(time.process_time() - began, 1)
        return made, sent

    together, _ = trained("with the artist", studios, start, joins={leaver: size.joins})
    replayed, sent = trained("replayed", others, together[size.joins - 2], first=size.joins)
    never, _ = trained("never there", others, start)
    if replayed[-1].digest != never[-1].digest:  # of every bit of every factor
        raise AssertionError("The replay differs from training without the artist; expected the same bits.")
    again = recipe.rounds - recipe.rounds // 3 + 1
    fast, fast_sent = trained("fast", others, together[-1], first=again)

    whole = distance(together[-1], replayed[-1])
    found: dict[str, Any] = {"leaver": leaver, "seconds": seconds, "numbers": [sent, fast_sent]}
    found["distance"] = {"fast": distance(fast[-1], replayed[-1]) / whole}
    bare = picture_losses(backbone, studios[leaver], size, [])
    for way, made in {"with": together, "replayed": replayed, "fast": fast}.items():
        own, rest = picture_losses(backbone, studios[leaver], size, [(made[-1], 1.0)])
        found[way] = {"auc": auc(bare[0] - own, bare[1] - rest), "loss": float(own.mean())}
    found["loss_backbone"] = float(bare[0].mean())
    return found


def distance(one: Adapter, other: Adapter) -> float:
    return float(np.sqrt(sum(float(np.square(delta).sum()) for delta in one.minus(other).values())))


def picture_losses(
    backbone: Backbone, artist: Studio, size: Size, adapters: list[tuple[Adapter, float]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every picture's loss on the same noises: of those that were trained on, and of held-out ones."""

    def losses(data: LatentSet) -> NDArray[np.float64]:
        count = min(size.judged, len(data))
        rows = [
            LatentSet(
                data.latents[i : i + 1], Conditioning(data.embeddings.embeddings[i : i + 1]), data.empty, ("one",)
            )
            for i in range(count)
        ]
        return np.array([denoising_loss(backbone, row, adapters) for row in rows])

    return losses(artist.own), losses(artist.held_out)


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(1)
    size = QUICK if chosen.quick else FULL
    backbone = Backbone.embedded(device="cpu")
    runs = []
    for seed in range(size.seeds):
        runs.append(one(backbone, size, seed))
        print(f"seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)

    def mean(way: str, key: str) -> float:
        return round(statistics.fmean(run[way][key] for run in runs), 4)

    recipe = size.recipe
    how = (
        f"{size.others} artists and one who joins in round {size.joins} and withdraws at the end; {recipe.rule}, "
        f"{recipe.rounds} rounds x {recipe.steps} local steps, {recipe.schedule} from {recipe.rate:g}, equal weights"
    )
    leavers = [run["leaver"] for run in runs]
    apart = [run["distance"]["fast"] for run in runs]
    cost = {way: round(statistics.fmean(run["seconds"][way] for run in runs), 1) for way in runs[0]["seconds"]}
    aucs = {way: mean(way, "auc") for way in ("with", "replayed", "fast")}
    lines = [
        measure(
            "withdrawal.replay_bits_differing",
            0,
            "bits",
            seeds=size.seeds,
            baseline={"leavers": leavers, "cpu_s": cost, "numbers_sent_again": runs[0]["numbers"][0]},
            how=f"{how}: replayed against never there, same seeds; the benchmark fails where one bit differs",
        ),
        measure(
            "withdrawal.fast_distance",
            round(statistics.fmean(apart), 4),
            "of the distance with the artist",
            seeds=size.seeds,
            baseline={"by_seed": [round(v, 4) for v in apart], "numbers_sent_again": runs[0]["numbers"][1]},
            how=f"{how}; fast: the others go on for a third of the rounds",
            **({"spread": interval(apart)} if size.seeds > 1 else {}),
        ),
        measure(
            "withdrawal.leaver_loss_rise",
            round(mean("replayed", "loss") - mean("with", "loss"), 4),
            "mse",
            seeds=size.seeds,
            baseline={
                **{way: mean(way, "loss") for way in ("with", "replayed", "fast")},
                "backbone": round(statistics.fmean(run["loss_backbone"] for run in runs), 4),
            },
            how=f"{how}; mean loss of {size.judged} of the leaver's train pictures, replayed less with",
        ),
        measure(
            "withdrawal.membership_auc_replayed",
            aucs["replayed"],
            "area under the ROC curve",
            seeds=size.seeds,
            baseline={**aucs, "guessing": 0.5, "by_seed": [[run[w]["auc"] for w in aucs] for run in runs]},
            how=f"{how}; {size.judged} train pictures of the leaver against as many held-out ones, by the fall of loss",
        ),
    ]
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
