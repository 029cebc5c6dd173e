"""Two hundred artists in one process: what does a round cost each of them, and how much memory does it take?

Artists share one frozen backbone and the envelopes of real rounds: keys, sealed shares, masked vectors, signatures, the
unmasked sum. Each holds a part of a sample artist's pictures and takes real training steps in every round. Up to 64
artists share masks with everybody, 200 with `DEGREE` neighbours each, as `secagg.graph` allows in simulations alone.

* `scale.peak_gib_200`: the most memory that the process held, backbone and pictures included.
* `scale.cost_ratio_200_vs_10`: CPU time for each artist and round with 200 artists, divided by that with 10; the time
  that secure aggregation takes of it stands in the baseline.

Each size runs in a process of its own.

    python benchmarks/scale.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from _report import measure, options, report
from numpy.typing import NDArray

from fedart_nb._system.memory import PeakMemory
from fedart_nb.federated import DEFAULT_RULE, Simulation, rule_of, unpack
from fedart_nb.secagg.graph import COMPLETE_UP_TO, risks

LATENTS = Path(__file__).parents[1] / "out" / "quality" / "latents"
DEGREE = 60
ROUNDS, STEPS, BATCH, RATE = 5, 1, 4, 1e-2


@dataclass(frozen=True)
class Cost:
    """One federation: CPU seconds for each artist and round, of them for training; the mean loss moved by so much."""

    artists: int
    cpu_s: float
    training_s: float
    peak_gib: float
    moved: float


class Trained(Mapping[str, Mapping[str, NDArray[np.float32]]]):
    """Updates that are trained when they are asked for, one at a time: nobody holds two hundred of them."""

    def __init__(self, names: tuple[str, ...], train: Any) -> None:
        self.names, self.train, self.seconds = names, train, 0.0

    def __getitem__(self, name: str) -> Mapping[str, NDArray[np.float32]]:
        began = time.process_time()
        update: Mapping[str, NDArray[np.float32]] = self.train(name)
        self.seconds += time.process_time() - began
        return update

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def federation(artists: int, rounds: int, steps: int, limit: int | None) -> Cost:
    """Run one federation to its end."""
    import torch
    from _federation import studio

    from fedart_nb.art import ArtSet
    from fedart_nb.diffusion import Adapter, Backbone, TrainConfig, initial_adapter, train

    torch.set_num_threads(1)
    with PeakMemory() as memory:
        backbone = Backbone.embedded(device="cpu")
        samples = ArtSet.samples()
        known = [studio(backbone, name, LATENTS, limit=limit).own for name in sorted(samples)]
        names = tuple(f"artist {i}" for i in range(artists))
        shares = -(-artists // len(known))  # so many artists have each sample artist's pictures between them
        start = initial_adapter(backbone, seed=0)
        room = Simulation(
            list(names),
            unpack(start.to_bytes()),
            rounds=rounds,
            rule=DEFAULT_RULE,
            degree=DEGREE if artists > COMPLETE_UP_TO else 0,
        )

        def trained(name: str, now: Adapter, number: int) -> Mapping[str, NDArray[np.float32]]:
            index = names.index(name)
            whole = known[index % len(known)]
            part = slice(index // len(known), None, shares)
            own = replace(whole, latents=whole.latents[part], embeddings=whole.embeddings[part], ids=whole.ids[part])
            config = TrainConfig.of_round(steps=steps, batch=BATCH, learning_rate=RATE, seed=1000 * number + index)
            factors = rule_of(DEFAULT_RULE).factors(number)
            *_, last = train(backbone, own, config=config, start=now, factors=factors)
            return last.adapter.minus(now)

        began, training = time.process_time(), 0.0
        for number in range(1, rounds + 1):
            tensors = {key.removeprefix(f"{start.part}."): array for key, array in unpack(room.shared).items()}
            updates = Trained(names, partial(trained, now=replace(start, tensors=tensors), number=number))
            done = room.round(updates)
            if done.result is None or len(done.result.contributors) != artists:
                raise RuntimeError(f"Round {number} of {artists} did not end: {done.reason or done.noticed[:1]}")
            training += updates.seconds
            del done
        cpu = time.process_time() - began
        moved = max(float(np.abs(array).max()) for key, array in unpack(room.shared).items() if ".lora_B." in key)
    each = artists * rounds
    return Cost(artists, cpu / each, training / each, memory.peak_gib, moved)


def main() -> None:
    chosen = options(__doc__)
    sizes, rounds, limit = ((10, 70), 1, 24) if chosen.quick else ((10, 200), ROUNDS, None)
    costs = {}
    for artists in sizes:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            costs[artists] = process.submit(federation, artists, rounds, STEPS, limit).result()
    few, many = costs[sizes[0]], costs[sizes[-1]]
    lost, seen = risks(many.artists, DEGREE, gone=many.artists // 5, colluders=many.artists // 10)
    how = (
        f"{DEFAULT_RULE}, {rounds} rounds x {STEPS} local steps, batch {BATCH}, rank 4, masked sums of "
        f"{many.artists} artists with {DEGREE} neighbours each (chance that a round fails with a fifth gone: "
        f"{lost:.1g}; that a tenth colluding open an update: {seen:.1g}), one process, one core"
    )
    sizes_told = {
        str(n): {
            "cpu_s_per_artist_and_round": round(cost.cpu_s, 4),
            "of_them_training_s": round(cost.training_s, 4),
            "secagg_and_rest_s": round(cost.cpu_s - cost.training_s, 4),
            "peak_gib": round(cost.peak_gib, 2),
        }
        for n, cost in costs.items()
    }
    lines = [
        measure(
            f"scale.peak_gib_{many.artists}",
            round(many.peak_gib, 2),
            "GiB",
            baseline={f"peak_gib_{few.artists}": round(few.peak_gib, 2), "moved": round(many.moved, 5)},
            how=how,
        ),
        measure(
            f"scale.cost_ratio_{many.artists}_vs_{few.artists}",
            round(many.cpu_s / few.cpu_s, 3),
            "x",
            baseline=sizes_told,
            how=how,
        ),
    ]
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
