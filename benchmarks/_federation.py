"""Federations in one process: local training, what a rule sends, the sum, the host's step; and what they are held to.

Numbers travel as in a room: `Rule.sent`, encoded as words, added up, `server_step`, `aggregate`. The masks alone are
left out where many rounds are compared (`masked=True` puts them back): they cancel to the last bit, which `quality.py`
shows once.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import (
    Adapter,
    Backbone,
    Conditioning,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    cache_latents,
    denoising_loss,
    train,
)
from fedart_nb.events import Trained
from fedart_nb.federated import RoundPlan, Simulation, aggregate, aggregation_error, metadata_of, pack, rule_of, unpack
from fedart_nb.federated.plan import MIN_ARTISTS
from fedart_nb.federated.strategies import server_step
from fedart_nb.federated.tensors import Tensors
from fedart_nb.federated.vector import encode, layout, open_sum, sent_like

__all__ = [
    "Recipe",
    "Round",
    "Studio",
    "centralised",
    "federate",
    "held_out_losses",
    "local",
    "seed_of",
    "split_off",
    "studio",
]


@dataclass(frozen=True)
class Studio:
    """One artist: cached latents to learn from, and others to be judged by."""

    own: LatentSet = field(repr=False)
    held_out: LatentSet = field(repr=False)


@dataclass(frozen=True)
class Recipe:
    """How a federation trains; `steps` are every artist's in every round."""

    rule: str
    rounds: int
    steps: int
    rate: float
    server: str = "average"
    server_rate: float = 1.0
    batch: int = 8
    bits: int = 32
    schedule: str = "constant"
    q: float = 0.0  # above 0: artists weigh by the q-th power of their loss

    @property
    def clip(self) -> float:
        """Half words want a near one: Adam moves a number by about the rate in every step, and this is twice that."""
        return 1.0 if self.bits == 32 else 2 * self.steps * self.rate

    @property
    def local_steps(self) -> int:
        """Every artist's, over all rounds."""
        return self.rounds * self.steps


@dataclass(frozen=True)
class Round:
    """What came of a round: the shared adapter, numbers that one artist has sent so far, the aggregation's error.

    `plan`, what each artist sent, and what the round `moved` are what the artists' kernels know, each its own.
    """

    number: int
    shared: Adapter = field(repr=False)
    sent: int
    error: float
    plan: RoundPlan = field(repr=False)
    updates: Mapping[str, Tensors] = field(repr=False)
    before: Tensors = field(repr=False)

    @property
    def moved(self) -> Tensors:
        """What the round did to the shared adapter, in the place of what was sent."""
        return rule_of(self.plan.rule).moved(self.number, self.before, unpack(self.shared.to_bytes()))


def studio(backbone: Backbone, name: str, cache: Path, *, limit: int | None = None) -> Studio:
    """An artist's latents, kept in `cache` between runs."""
    art = ArtSet.sample(name, limit=limit)
    return Studio(*(_latents(backbone, art, split, cache / f"{name}-{limit}-{split}") for split in ("train", "test")))


def _latents(backbone: Backbone, art: ArtSet, split: str, path: Path) -> LatentSet:
    path = path.with_name(f"{path.name}-{backbone.sha256[:12]}.safetensors")
    if not path.exists():
        made = cache_latents(backbone, art, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {"latents": made.latents, "told": made.embeddings.embeddings, "empty": made.empty.embeddings}
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)
    kept = load_file(path)
    ids = tuple(picture.id for picture in art.included(split))
    return LatentSet(kept["latents"], Conditioning(kept["told"]), Conditioning(kept["empty"]), ids)


def federate(
    backbone: Backbone,
    studios: Mapping[str, Studio],
    recipe: Recipe,
    start: Adapter,
    *,
    seed: int,
    masked: bool = False,
    private: Mapping[str, PrivateTraining] | None = None,
    batches: Mapping[str, int] | None = None,
    first: int = 1,
    joins: Mapping[str, int] | None = None,
) -> Iterator[Round]:
    """Round after round; `masked` sends the updates through the secure sum, `private` noises each artist's training.

    `batches` are artists' own, in the place of the recipe's. `start` is what round `first` starts from, and `joins`
    says from which round on an artist takes part (not with `masked`).
    """
    rule, shared, state, sent = rule_of(recipe.rule), start.to_bytes(), b"", 0
    names = list(studios)
    room = Simulation(
        names,
        unpack(shared),
        rounds=recipe.rounds,
        rule=recipe.rule,
        server=recipe.server,
        server_rate=recipe.server_rate,
        learning_rate=recipe.rate,
        schedule=recipe.schedule,
        bits=recipe.bits,
        clip=recipe.clip,
        weighting="loss" if recipe.q else "equal",
        q=recipe.q,
        min_artists=max(MIN_ARTISTS, len(names) - len(joins or {})),
    )
    plan = room.plan
    for number in range(first, recipe.rounds + 1):
        before, now = unpack(shared), Adapter.from_bytes(shared)
        sent += rule.size(number, before)
        updates, told = {}, {}
        for index, name in enumerate(names):
            if number < (joins or {}).get(name, 1):
                continue
            after, told[name] = _trained(
                backbone,
                studios[name].own,
                now,
                TrainConfig.of_round(
                    steps=recipe.steps,
                    batch=(batches or {}).get(name, recipe.batch),
                    learning_rate=replace(plan, number=number).round_rate,
                    seed=None if private else seed_of(seed, number, index),
                ),
                factors=rule.factors(number),
                private=(private or {}).get(name),
            )
            updates[name] = after.minus(now)
        inexact = rule.name in ("fedavg", "bfirst") and now.core is None
        error = aggregation_error(before, list(updates.values())) if inexact else 0.0
        sent_by = {name: rule.sent(number, before, update) for name, update in updates.items()}
        if masked:
            done = room.round(updates, metrics=told)
            if done.result is None:
                raise RuntimeError(done.reason)
            shared = pack(unpack(done.result.shared), metadata_of(shared))
        else:
            mean = _mean_of_words(replace(plan, number=number), before, sent_by, told)
            step, state = server_step(recipe.server, mean, state, rate=recipe.server_rate)
            shared = pack(aggregate(recipe.rule, before, step, 1.0), metadata_of(shared))
        yield Round(number, Adapter.from_bytes(shared), sent, error, replace(plan, number=number), sent_by, before)


def _mean_of_words(
    plan: RoundPlan, shared: Tensors, sent_by: Mapping[str, Tensors], told: Mapping[str, Mapping[str, float]]
) -> dict[str, NDArray[np.float64]]:
    """The mean as the secure sum gives it: encoded, added up modulo 2^32 and read, without the masks that cancel."""
    code = layout(plan, shared, len(sent_by))
    total, words = np.zeros(code.size, np.uint32), np.empty(code.size, np.uint32)
    for name, update in sent_by.items():
        encode(code, plan, update, pictures=1, metrics=told[name], out=words)
        total += words
    summed = open_sum(code, sent_like(plan, shared), total, len(sent_by))
    return {name: value / summed.weight for name, value in summed.update.items()}


def local(
    backbone: Backbone,
    data: LatentSet,
    start: Adapter,
    *,
    steps: int,
    rate: float,
    seed: int,
    batch: int = 8,
    frozen: Sequence[tuple[Adapter, float]] = (),
) -> Adapter:
    """Training in one place, both factors."""
    config = TrainConfig(steps=steps, batch=batch, learning_rate=rate, seed=seed, validate_every=0)
    return _trained(backbone, data, start, config, frozen=frozen)[0]


def centralised(
    backbone: Backbone,
    studios: Mapping[str, Studio],
    start: Adapter,
    *,
    steps: int,
    rate: float,
    seed: int,
    batch: int = 8,
) -> Adapter:
    """All pictures in one place: the federation's number of steps, and with each of them its number of pictures.

    An artist is drawn as often as another, however many pictures they have, as under the equal weights of a room.
    """
    pooled = LatentSet(
        torch.cat([one.own.latents for one in studios.values()]),
        Conditioning.cat([one.own.embeddings for one in studios.values()]),
        next(iter(studios.values())).own.empty,
        tuple(i for one in studios.values() for i in one.own.ids),
    )
    return local(backbone, pooled, start, steps=steps, rate=rate, seed=seed, batch=batch * len(studios))


def _trained(
    backbone: Backbone, data: LatentSet, start: Adapter, config: TrainConfig, **more: object
) -> tuple[Adapter, dict[str, float]]:
    """The adapter, and the loss that it began with: the mean of the first quarter of steps, as a session tells it."""
    after, losses = start, list[float]()
    for event in train(backbone, data, config=config, start=start, **more):  # type: ignore[arg-type]
        if isinstance(event, Trained):
            after = event.adapter
        else:
            losses.append(event.loss)
    return after, {"loss_before": statistics.fmean(losses[: max(1, len(losses) // 4)])}


def held_out_losses(
    backbone: Backbone, studios: Mapping[str, Studio], adapters: Sequence[Adapter], *, draws: int = 4
) -> dict[str, float]:
    """Every artist's loss on pictures that nobody learnt from."""
    weighted = [(adapter, 1.0) for adapter in adapters]
    return {name: denoising_loss(backbone, one.held_out, weighted, draws=draws) for name, one in studios.items()}


def split_off(one: Studio, every: int = 6) -> Studio:
    """For tuning: every sixth train picture judges in the place of the held-out ones, which stay unseen."""
    judge = torch.arange(len(one.own)) % every == 0
    return Studio(rows(one.own, ~judge), rows(one.own, judge))


def rows(data: LatentSet, mask: torch.Tensor) -> LatentSet:
    rows = mask.nonzero().squeeze(1)
    ids = tuple(data.ids[i] for i in rows.tolist())
    return replace(data, latents=data.latents[rows], embeddings=data.embeddings[rows], ids=ids)


def seed_of(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
