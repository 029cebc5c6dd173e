"""Does a federation of five teach something? Held-out loss of the shared adapter against the backbone alone.

Each seed splits the ten sample artists into two federations of five. Every artist takes `rounds` x `steps` local steps;
beside the shared adapter stand local-only (same steps, own pictures) and centralised (the five artists' pictures in one
place, same steps, five times the batch). Updates go through the same packing, checks, sum and rule as in a real round.
Losses are on held-out pictures, fixed noise, lower is better.

    python benchmarks/first_round.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from _report import measure, options, report

ROUNDS, STEPS, SEEDS, SIZE = 3, 15, 3, 5


def federation(seed: int, members: tuple[str, ...], rounds: int, steps: int, limit: int | None) -> dict[str, Any]:
    """Run one federation; returns, per artist, the held-out losses of the four ways."""
    import torch

    from fedart_nb.art import ArtSet
    from fedart_nb.diffusion import (
        Adapter,
        Backbone,
        Conditioning,
        LatentSet,
        TrainConfig,
        cache_latents,
        denoising_loss,
        initial_adapter,
        train,
    )
    from fedart_nb.federated import aggregate, pack, unpack
    from fedart_nb.federated.tensors import metadata_of

    torch.set_num_threads(1)
    backbone = Backbone.embedded(device="cpu")
    art = {name: ArtSet.sample(name, limit=limit) for name in members}
    own = {name: cache_latents(backbone, art[name], "train") for name in members}
    held_out = {name: cache_latents(backbone, art[name], "test") for name in members}

    def trained(start: Adapter, data: LatentSet, *, steps: int, batch: int, seed: int) -> Adapter:
        config = TrainConfig(steps=steps, batch=batch, seed=seed, validate_every=0)
        *_, last = train(backbone, data, config=config, start=start)
        return last.adapter

    start = initial_adapter(backbone, seed=seed)
    shared = start.to_bytes()
    for number in range(rounds):
        total = {name: np.zeros(array.shape) for name, array in unpack(shared).items()}
        now = Adapter.from_bytes(shared)
        for index, name in enumerate(members):
            after = trained(now, own[name], steps=steps, batch=8, seed=_seed(seed, number, index))
            for key, delta in after.minus(now).items():
                total[key] += delta
        shared = pack(aggregate("fedavg", unpack(shared), total, len(members)), metadata_of(shared))
    federated = Adapter.from_bytes(shared)
    local = {
        name: trained(start, own[name], steps=rounds * steps, batch=8, seed=_seed(seed, 99, i))
        for i, name in enumerate(members)
    }
    pooled = LatentSet(
        torch.cat([own[name].latents for name in members]),
        Conditioning.cat([own[name].embeddings for name in members]),
        own[members[0]].empty,
        tuple(i for name in members for i in own[name].ids),
    )
    centralised = trained(start, pooled, steps=rounds * steps, batch=8 * len(members), seed=_seed(seed, 98, 0))
    ways = {name: {"federated": federated, "local": local[name], "centralised": centralised} for name in members}
    return {
        name: {"backbone": denoising_loss(backbone, held_out[name])}
        | {way: denoising_loss(backbone, held_out[name], [(adapter, 1.0)]) for way, adapter in ways[name].items()}
        for name in members
    }


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def main() -> None:
    chosen = options(__doc__)
    from fedart_nb.art import ArtSet

    names = sorted(ArtSet.samples())
    seeds, rounds, steps, limit = (1, 2, 3, 16) if chosen.quick else (SEEDS, ROUNDS, STEPS, None)
    jobs = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(names)
        for start in range(0, len(names), SIZE):
            members = tuple(str(name) for name in order[start : start + SIZE])
            jobs.append((seed, members, rounds, steps, limit))
    with ProcessPoolExecutor(max_workers=min(2, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        results = []
        for job, result in zip(jobs, pool.map(federation, *zip(*jobs, strict=True)), strict=True):
            results.append((job[0], result))
            print(f"seed {job[0]}: {', '.join(job[1])}", file=sys.stderr, flush=True)

    improved_by_seed = []
    for seed in range(seeds):
        rows = [losses for s, result in results if s == seed for losses in result.values()]
        improved_by_seed.append(sum(row["federated"] < row["backbone"] for row in rows))
    means = {
        name: {
            way: statistics.fmean(result[name][way] for _, result in results if name in result)
            for way in ("backbone", "federated", "local", "centralised")
        }
        for name in names
    }
    improved = sum(row["federated"] < row["backbone"] for row in means.values())
    over = {way: statistics.fmean(row[way] for row in means.values()) for way in means[names[0]]}
    how = f"federations of {SIZE}, {rounds} rounds x {steps} local steps, batch 8, rank 4, fedavg; mean over seeds"
    lines = [
        measure(
            "first_round.artists_improved",
            improved,
            f"of {len(names)}",
            how=how,
            spread=(min(improved_by_seed), max(improved_by_seed)),
            seeds=seeds,
            baseline={f"mean_loss_{way}": round(value, 4) for way, value in over.items()},
        )
    ]
    for name in names:
        values = [result[name]["federated"] for _, result in results if name in result]
        lines.append(
            measure(
                f"first_round.held_out_loss.{name}",
                round(means[name]["federated"], 4),
                "mse",
                how=how,
                spread=(round(min(values), 4), round(max(values), 4)),
                seeds=seeds,
                baseline={way: round(means[name][way], 4) for way in ("backbone", "local", "centralised")},
            )
        )
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
