"""Does joining pay for artists who have few pictures? All ten sample artists, each with a handful of train pictures.

Every seed draws each artist's handful. Two ways, at equal local steps, judged on held-out pictures that nobody learnt
from:

* alone: an adapter trained on the handful;
* joined: the shared adapter of a room of all ten (the default rule of `benchmarks/quality.py`, 40 local steps), and for
  the steps that are left a personal adapter on top of it, trained on the handful.

With few pictures, more steps are not better. So both ways are also compared with each stopped where it is best for its
artist, among the same three numbers of local steps (40, 55, 100); that choice sees the held-out pictures, for both ways
alike. How it is with all pictures is in `benchmarks/quality.py`.

Cells are kept in `out/few/` as they are done; a run that was stopped goes on.

    python benchmarks/few_pictures.py --json
    python benchmarks/few_pictures.py --seed 0         # one seed's cells, beside other seeds
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from _cells import Cells
from _federation import Recipe, Studio, federate, held_out_losses, local, rows, seed_of, studio
from _quality import interval
from _report import measure, options, report
from quality import DEFAULT, LOCAL_RATE

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Adapter, Backbone, initial_adapter

OUT = Path(__file__).parents[1] / "out" / "few"
_DRAWS = 2

_Losses = dict[str, float]  # of one artist, by the local steps after which it was stopped


@dataclass(frozen=True)
class Size:
    """How much is run. `more`: personal steps after the room's, from none."""

    seeds: int
    pictures: tuple[int, ...]
    more: tuple[int, ...]
    recipe: Recipe
    artists: int

    @property
    def steps(self) -> tuple[int, ...]:
        """Local steps in all."""
        return tuple(self.recipe.local_steps + more for more in self.more)


FULL = Size(3, (8,), (0, 15, 60), DEFAULT, 10)
QUICK = Size(1, (4,), (0, 2), replace(DEFAULT, rounds=2, steps=1), 3)


@dataclass
class Bench:
    """The cells of a run, each computed once and kept."""

    size: Size
    backbone: Backbone | None
    studios: Mapping[str, Studio]
    cells: Cells

    @property
    def names(self) -> list[str]:
        return sorted(self.studios)

    def handful(self, seed: int, n: int) -> dict[str, Studio]:
        """Every artist with n of their train pictures."""
        found = {}
        for index, (name, one) in enumerate(sorted(self.studios.items())):
            generator = torch.Generator().manual_seed(seed_of(seed, n, index))
            chosen = torch.zeros(len(one.own), dtype=torch.bool)
            chosen[torch.randperm(len(one.own), generator=generator)[:n]] = True
            found[name] = Studio(rows(one.own, chosen), one.held_out)
        return found

    def bare(self) -> dict[str, float]:
        found: dict[str, float] = self.cells.get("backbone", lambda: self._losses(self.studios))
        return found

    def joined(self, seed: int, n: int) -> dict[str, _Losses]:
        """By artist: with the shared adapter alone, and with a personal one on top."""

        def run() -> dict[str, dict[str, float]]:
            room = self.handful(seed, n)
            *_, last = federate(self.backbone, room, self.size.recipe, self._start(seed), seed=seed)
            shared = last.shared
            found = {name: {str(self.size.steps[0]): loss} for name, loss in self._losses(room, shared).items()}
            for more, steps in zip(self.size.more[1:], self.size.steps[1:], strict=True):
                for name in room:
                    mine = self._trained(seed, n, name, more, shared)
                    found[name][str(steps)] = self._losses({name: room[name]}, shared, mine)[name]
            return found

        found: dict[str, _Losses] = self.cells.get(f"joined with {n}, seed {seed}", run)
        return found

    def alone(self, seed: int, n: int, name: str) -> _Losses:
        def run() -> _Losses:
            one = {name: self.studios[name]}
            return {str(s): self._losses(one, self._trained(seed, n, name, s))[name] for s in self.size.steps}

        found: _Losses = self.cells.get(f"{name} alone with {n}, seed {seed}", run)
        return found

    def run(self, seed: int) -> None:
        """Every cell of a seed."""
        self.bare()
        for n in self.size.pictures:
            self.joined(seed, n)
            for name in self.names:
                self.alone(seed, n, name)

    def _start(self, seed: int) -> Adapter:
        return initial_adapter(self.backbone, seed=seed)

    def _losses(self, studios: Mapping[str, Studio], *adapters: Adapter) -> dict[str, float]:
        return held_out_losses(self.backbone, studios, adapters, draws=_DRAWS)

    def _trained(self, seed: int, n: int, name: str, steps: int, under: Adapter | None = None) -> Adapter:
        return local(
            self.backbone,
            self.handful(seed, n)[name].own,
            self._start(1000 + seed if under else seed),
            steps=steps,
            rate=LOCAL_RATE,
            seed=seed_of(seed, 99, self.names.index(name)),
            frozen=[(under, 1.0)] if under else [],
        )


def figures(bench: Bench) -> Iterator[dict[str, Any]]:
    """The benchmark's lines, from cells that are all there; spreads are 95 % t-intervals over seeds."""
    size, bare = bench.size, bench.bare()
    for n in size.pictures:
        for label, best in (("", False), (".best", True)):
            better, gains, told = [], [], {}
            for seed in range(size.seeds):
                joined = {name: _stopped(of, best) for name, of in bench.joined(seed, n).items()}
                alone = {name: _stopped(bench.alone(seed, n, name), best) for name in bench.names}
                better.append(sum(joined[name] < alone[name] for name in bench.names))
                gains.append(statistics.fmean(alone[name] - joined[name] for name in bench.names))
                for name in bench.names:
                    told.setdefault(name, []).append(alone[name] - joined[name])
                told.setdefault("alone", []).append(statistics.fmean(alone.values()))
                told.setdefault("joined", []).append(statistics.fmean(joined.values()))
            mean = {name: round(statistics.fmean(values), 4) for name, values in told.items()}
            stopped = "each stopped where it is best for its artist" if best else f"{size.steps[-1]} local steps each"
            how = (
                f"{len(bench.names)} artists with {n} train pictures each, other ones every seed; {stopped}; "
                f"{size.recipe.rule}, {size.recipe.rounds} rounds x {size.recipe.steps} local steps"
            )
            yield measure(
                f"few.joining_beats_alone_{n}{label}",
                round(statistics.fmean(better), 1),
                f"of {len(bench.names)}",
                spread=(min(better), max(better)),
                seeds=size.seeds,
                baseline={"by_seed": better},
                how=f"artists whose held-out loss is lower joined than alone, mean of seeds; {how}",
            )
            yield measure(
                f"few.gain_of_joining_{n}{label}",
                round(statistics.fmean(gains), 4),
                "mse on one's own held-out pictures",
                spread=interval(gains),
                seeds=size.seeds,
                baseline={
                    "backbone": round(statistics.fmean(bare.values()), 4),
                    "alone": mean.pop("alone"),
                    "joined": mean.pop("joined"),
                    "by_artist": mean,
                },
                how=f"loss alone less loss joined, mean of artists; {how}",
            )


def _stopped(losses: _Losses, best: bool) -> float:
    return min(losses.values()) if best else losses[max(losses, key=int)]


def main() -> None:
    chosen = options(__doc__, seeds=True)
    torch.set_num_threads(1)
    size = QUICK if chosen.quick else FULL
    backbone = Backbone.embedded(device="cpu")
    folder = OUT / hashlib.sha256(repr((size, backbone.sha256)).encode()).hexdigest()[:8]
    names = sorted(ArtSet.samples())[: size.artists]
    bench = Bench(size, backbone, {name: studio(backbone, name, OUT / "latents") for name in names}, Cells(folder))
    for seed in range(size.seeds) if chosen.seed is None else [chosen.seed]:
        bench.run(seed)
    if chosen.seed is None:
        report(__file__, list(figures(bench)), chosen)


if __name__ == "__main__":
    main()
