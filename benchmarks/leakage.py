"""Can a stranger tell which artist took part, and how much of a hand does the shared adapter alone give away?

Linkage. Every sample artist's train pictures are cut into two halves, so there are twenty members of shadow
federations; an artist's test pictures stand for published works, which the attacker has. From one public shared adapter
(of the first round, and of a later one) each member trains an update, several times over; the attacker trains
references on the published works with the same settings, without noise. Then cohorts are drawn: half of them with one
of the target's two members, half without either, other places filled with members of other artists. The attacker sees
one member's update (plain) or the mean of all (secure aggregation) and scores the target (`attacks/participation.py`).
The figure is the area under the ROC curve, mean over ten targets; 0.5 is guessing. The interval resamples targets.

With epsilon 8, members train with picture-level noise as the product does (`PicturePrivacy(epsilon=8)`), for a budget
of three rounds; the attacker trains references with the same clipping and no noise.

Style gap. Shared adapters of federations of 1, 5 and 10 artists draw a target's held-out captions, and the judge of
`benchmarks/_personal.py` says how much nearer the pictures are to the target's hand than to the nearest other's
(cosine, whitened). Beside it: the same captions by as many artists without the target (nine at
most), and by the backbone alone.

    python benchmarks/leakage.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from _personal import Referee, held_out
from _report import backbone_of, measure, options, report
from numpy.typing import NDArray

from fedart_nb.art import ArtSet
from fedart_nb.attacks.participation import Flat, Shadows, Suspects, flat
from fedart_nb.diffusion import (
    Adapter,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    cache_latents,
    draw,
    initial_adapter,
    train,
)
from fedart_nb.federated import aggregate, pack, unpack
from fedart_nb.federated.tensors import metadata_of
from fedart_nb.metrics import bootstrap
from fedart_nb.privacy.planning import default_delta, solve_noise

EPSILON, PRIVATE_RATE = 8.0, 2e-2
HALVES = 2


@dataclass(frozen=True)
class Size:
    """How much is run."""

    steps: int = 15
    rounds: int = 3
    repeats: int = 3
    references: int = 3
    cohorts: int = 200
    targets: tuple[str, ...] = ("lorelei", "gameicons", "freehand", "openmoji")
    captions: int = 8
    pictures: int | None = None


FULL = Size()
QUICK = Size(3, 2, 1, 1, 20, ("lorelei",), 4, 16)


def part(data: LatentSet, index: Sequence[int]) -> LatentSet:
    chosen = torch.as_tensor(list(index))
    return LatentSet(data.latents[chosen], data.embeddings[chosen], data.empty, tuple(data.ids[i] for i in index))


def update(
    backbone: Backbone,
    data: LatentSet,
    start: Adapter,
    *,
    steps: int,
    seed: int | None,
    rate: float = 3e-3,
    private: PrivateTraining | None = None,
) -> dict[str, NDArray[np.float32]]:
    """What one artist's round changes."""
    config = TrainConfig(steps=steps, batch=8, seed=seed, validate_every=0, learning_rate=rate)
    *_, last = train(backbone, data, config=config, start=start, private=private)
    return {name: delta for name, delta in last.adapter.minus(start).items() if delta.any() or private is None}


def federated(
    backbone: Backbone, members: Sequence[LatentSet], start: Adapter, *, rounds: int, steps: int, seed: int
) -> Adapter:
    """The shared adapter after some rounds of plain averaging."""
    shared = start.to_bytes()
    for number in range(rounds):
        now = Adapter.from_bytes(shared)
        total = {name: np.zeros(array.shape) for name, array in unpack(shared).items()}
        for index, data in enumerate(members):
            changed = update(backbone, data, now, steps=steps, seed=_seed(seed, number, index))
            for name, delta in changed.items():
                total[name] += delta
        shared = pack(aggregate("fedavg", unpack(shared), total, len(members)), metadata_of(shared))
    return Adapter.from_bytes(shared)


def shadows(
    backbone: Backbone,
    train_sets: Mapping[str, LatentSet],
    published: Mapping[str, LatentSet],
    start: Adapter,
    size: Size,
    *,
    private: bool,
) -> Shadows:
    """Train all members' updates and all references from one shared adapter."""
    members: dict[str, list[list[Flat]]] = {}
    references: dict[str, list[dict[str, NDArray[np.float32]]]] = {}
    rate = PRIVATE_RATE if private else 3e-3
    for index, (name, data) in enumerate(train_sets.items()):
        order = np.random.default_rng(index).permutation(len(data))
        members[name] = []
        for half in range(HALVES):
            own = part(data, order[half::HALVES])
            noise = None
            if private:
                sigma = solve_noise(
                    EPSILON,
                    delta=default_delta(len(own)),
                    sample_rate=min(1.0, 8 / len(own)),
                    steps=size.steps * size.rounds,
                )
                noise = PrivateTraining(sigma)
            members[name].append(
                [
                    flat(
                        update(
                            backbone,
                            own,
                            start,
                            steps=size.steps,
                            seed=None if private else _seed(index, half, repeat),
                            rate=rate,
                            private=noise,
                        )
                    )
                    for repeat in range(size.repeats)
                ]
            )
        clipped = PrivateTraining(0.0) if private else None
        references[name] = [
            update(
                backbone,
                published[name],
                start,
                steps=size.steps,
                seed=None if private else _seed(index, 7, repeat),
                rate=rate,
                private=clipped,
            )
            for repeat in range(size.references)
        ]
        print(f"updates of {name}{', with noise' if private else ''}", file=sys.stderr, flush=True)
    return Shadows(Suspects.of(references), members)


def linkage(found: Mapping[str, Shadows], size: Size) -> list[dict[str, Any]]:
    """Figures of all ways to look, from shadows named "first", "later" and "eps8"."""
    curves: dict[tuple[str, int], list[float]] = {}
    for (name, shadow), n in product(found.items(), (1, 3, 5, 10)):
        if n > min(shadow.largest(target) for target in shadow.members):
            continue
        rng = np.random.default_rng(n)
        curves[name, n] = [shadow.auc(target, n, cohorts=size.cohorts, rng=rng) for target in shadow.members]
    estimates = {key: bootstrap(values, rng=np.random.default_rng(0)) for key, values in curves.items()}

    def line(name: str, key: tuple[str, int], beside: dict[str, tuple[str, int]], what: str) -> dict[str, Any]:
        beside = {label: other for label, other in beside.items() if other in estimates}
        value = estimates[key]
        return measure(
            name,
            round(value.value, 3),
            "area under the ROC curve",
            how=f"{what}; {size.cohorts} shadow federations with, as many without each of {len(curves[key])} artists, "
            f"{size.steps} local steps, halves of an artist's train pictures, references on test pictures",
            spread=(round(value.low, 3), round(value.high, 3)),
            seeds=size.repeats,
            baseline={"chance": 0.5}
            | {label: round(estimates[other].value, 3) for label, other in beside.items()}
            | {
                f"{label}_interval": [round(estimates[o].low, 3), round(estimates[o].high, 3)]
                for label, o in beside.items()
            },
        )

    lines = [
        line(
            "quality.linkage_auc_plain",
            ("later", 1),
            {"first_round": ("first", 1)},
            "one artist's update in the clear, a later round",
        ),
        line(
            "quality.linkage_auc_secagg",
            ("later", 5),
            {
                "artists_3": ("later", 3),
                "artists_10": ("later", 10),
                "first_round_artists_5": ("first", 5),
                "first_round_artists_10": ("first", 10),
                "plain": ("later", 1),
            },
            "the sum of five artists, a later round",
        ),
    ]
    if "eps8" in found:
        lines.append(
            line(
                "quality.linkage_auc_eps8",
                ("eps8", 5),
                {
                    "artists_1": ("eps8", 1),
                    "artists_3": ("eps8", 3),
                    "artists_10": ("eps8", 10),
                    "without_noise_artists_5": ("later", 5),
                },
                f"the sum of five artists who trained at epsilon {EPSILON:g} per picture over {size.rounds} rounds",
            )
        )
    return lines


def style_gaps(
    backbone: Backbone, art: Mapping[str, ArtSet], train_sets: Mapping[str, LatentSet], size: Size
) -> list[dict[str, Any]]:
    """How much of a target's hand a shared adapter draws, by the number of artists, with and without the target."""
    referee = Referee.fit(art, backbone)
    names = list(train_sets)
    gaps: dict[str, list[float]] = {}
    for target in size.targets:
        captions = [picture.caption for picture in held_out(art[target], size.captions)]
        own = referee.style.artists.index(target)

        def gap(adapters: list[tuple[Adapter, float]], captions: list[str] = captions, own: int = own) -> float:
            seeds = range(1000, 1000 + len(captions))
            pictures = draw(backbone, captions, seeds=seeds, adapters=adapters, steps=14)
            distances = referee.style.distances(pictures)
            others = np.delete(distances, own, axis=1).min(1)
            return float(np.mean((others - distances[:, own]) / (others + distances[:, own])))

        gaps.setdefault("backbone", []).append(gap([]))
        rest = [name for name in names if name != target]
        for n in sorted({1, 5, min(10, len(names))}):
            rng = np.random.default_rng(n)
            others = [str(name) for name in rng.permutation(rest)]
            for label, members in (("with", [target, *others[: n - 1]]), ("without", others[:n])):
                start = initial_adapter(backbone, seed=n)
                data = [train_sets[name] for name in members]
                shared = federated(backbone, data, start, rounds=size.rounds, steps=size.steps, seed=n)
                gaps.setdefault(f"{label}_{n}", []).append(gap([(shared, 1.0)]))
        print(f"style gap of {target}", file=sys.stderr, flush=True)
    five = [a - b for a, b in zip(gaps["with_5"], gaps["without_5"], strict=True)]
    return [
        measure(
            "leakage.style_gap_5",
            round(float(np.mean(five)), 4),
            "of the distance to both hands",
            how="(distance to the nearest other hand - distance to the target's) / their sum, mean over pictures; five "
            f"artists with the target less five without; shared adapter alone, {size.rounds} rounds of {size.steps} "
            f"steps, {size.captions} held-out captions of {', '.join(size.targets)}",
            spread=(round(min(five), 4), round(max(five), 4)),
            seeds=1,
            baseline={key: round(float(np.mean(values)), 4) for key, values in gaps.items()},
        )
    ]


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def main() -> None:
    chosen = options(__doc__, backbone=True)
    torch.set_num_threads(1)
    size = QUICK if chosen.quick else FULL
    backbone = backbone_of(chosen.backbone, device="cpu")
    names = sorted(ArtSet.samples())[: 4 if chosen.quick else None]
    if chosen.quick and "lorelei" not in names:
        names[-1] = "lorelei"
    art = {name: ArtSet.sample(name, limit=size.pictures) for name in names}
    train_sets = {name: cache_latents(backbone, one, "train") for name, one in art.items()}
    published = {name: cache_latents(backbone, one, "test") for name, one in art.items()}
    start = initial_adapter(backbone, seed=0)
    later = federated(backbone, list(train_sets.values()), start, rounds=1, steps=size.steps, seed=0)
    found = {
        "first": shadows(backbone, train_sets, published, start, size, private=False),
        "later": shadows(backbone, train_sets, published, later, size, private=False),
        "eps8": shadows(backbone, train_sets, published, later, size, private=True),
    }
    report(__file__, [*linkage(found, size), *style_gaps(backbone, art, train_sets, size)], chosen)


if __name__ == "__main__":
    main()
