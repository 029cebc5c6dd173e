"""Private training for `privacy.py` and its tuning: who is tuned on, a way of noised rounds, one noised step alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from _federation import Recipe, Round, Studio, federate

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import (
    Adapter,
    AdapterConfig,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    attached,
    initial_adapter,
)
from fedart_nb.diffusion.dp_sgd import PrivateStep
from fedart_nb.diffusion.per_picture import PerPicture
from fedart_nb.diffusion.training import picture_losses
from fedart_nb.privacy.planning import default_delta, solve_noise

__all__ = ["FEDERATED", "SOLO", "Way", "halves", "one_picture_steps"]


def halves() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ten artists in an order drawn once: five to tune on, and the five others to confirm it."""
    order = [str(name) for name in np.random.default_rng(5).permutation(sorted(ArtSet.samples()))]
    return tuple(order[:5]), tuple(order[5:])


@dataclass(frozen=True)
class Way:
    """Noised rounds: `share` of an artist's pictures in a batch, `draws` K; epsilon holds over all rounds."""

    epsilon: float = 8.0
    rule: str = "ffa"
    rounds: int = 8
    steps: int = 1
    rate: float = 1e-2
    rank: int = 4
    core: int = 0
    share: float = 1.0
    draws: int = 1
    clip: float = 0.02
    schedule: str = "constant"

    def batch(self, pictures: int) -> int:
        """How many pictures to expect in a sample of so many."""
        return max(1, round(self.share * pictures))

    def config(self, seed: int) -> AdapterConfig:
        """The adapter's shape; a core's factors come from `seed`."""
        return AdapterConfig(self.rank, float(self.rank), core_seed=seed if self.core else None)

    def private(self, pictures: int) -> PrivateTraining:
        """How an artist with so many pictures trains."""
        sigma = 0.0
        if math.isfinite(self.epsilon):
            rate, steps = self.batch(pictures) / pictures, self.rounds * self.steps
            sigma = solve_noise(self.epsilon, delta=default_delta(pictures), sample_rate=rate, steps=steps)
        return PrivateTraining(sigma, clip_norm=self.clip, draws=self.draws)

    def federate(
        self, backbone: Backbone, people: Mapping[str, Studio], *, seed: int, masked: bool = False
    ) -> Iterator[Round]:
        """All rounds; noise and samples are unpredictable, `seed` is that of the adapter's public start."""
        yield from federate(
            backbone,
            people,
            Recipe(self.rule, rounds=self.rounds, steps=self.steps, rate=self.rate, schedule=self.schedule),
            initial_adapter(backbone, self.config(seed), seed=seed),
            seed=seed,
            masked=masked,
            private={name: self.private(len(one.own)) for name, one in people.items()},
            batches={name: self.batch(len(one.own)) for name, one in people.items()},
        )


#: One artist alone at each epsilon; and five together, cores of 32 x 32 numbers. Chosen with `recipes/privacy`.
SOLO = Way(rounds=1, steps=8, share=0.25, rate=2e-2)
FEDERATED = Way(rule="fedsb", rounds=20, rate=1e-3, rank=32, core=1)


def one_picture_steps(
    backbone: Backbone, data: LatentSet, start: Adapter, private: PrivateTraining, rows: Sequence[int]
) -> list[torch.Tensor]:
    """For each row of `data` the noised gradient of a step on this picture alone, (parameters,), in float32."""
    found = []
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence().generate_state(1)[0]))
    with attached(backbone, [(start, 1.0)], trainable=0):
        whole = {name: p for name, p in backbone.denoiser.named_parameters() if p.requires_grad}
        learning = private.learning(whole)
        with torch.enable_grad(), PerPicture(backbone.denoiser, learning).watching() as gradients:
            step = PrivateStep(gradients, private, pictures=1, batch=1)
            for row in rows:
                for parameter in learning.values():
                    parameter.grad = None
                step(lambda index, row=row: picture_losses(backbone, data, TrainConfig(), generator, index + row))
                found.append(torch.cat([p.grad.reshape(-1) for p in learning.values() if p.grad is not None]))
    return found
