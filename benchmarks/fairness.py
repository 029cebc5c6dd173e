"""Who gains, who loses, and what an artist's part is worth: the weighting's q, opting out, scores for contributions.

Three questions, over ten artists, on pictures that nobody learnt from:

* **q.** Artists weigh by the q-th power of their loss. Does a larger q help whoever gains least, and what does it cost
  the mean?
* **Opting out.** Every artist in turn stays away and the room trains without them, on the same seeds (leave-one-out by
  replay). What do they lose, and what do the others? The artist whose style is farthest from everybody else's is looked
  at by name: that is the part of the room that nobody else stands in for.
* **Scores.** Of five artists every coalition is trained: exact Shapley values, from 32 federations. How well do the
  scores that masked sums allow order the artists beside them?

Equal weights in the second and third: a share can be taken out of a sum only where everybody weighs the same.

Cells are kept in `out/fairness/<recipe>/cells.jsonl` as they are done; a run that was stopped goes on, and `--seed N`
computes one seed's cells and prints nothing, so that seeds can run side by side.

    python benchmarks/fairness.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import Cells
from _federation import Recipe, Round, Studio, federate, held_out_losses, studio
from _quality import interval
from _report import measure, options, report
from quality import DEFAULT

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Adapter, Backbone, initial_adapter
from fedart_nb.federated.data_valuation import leave_one_out, rank_correlation, shapley, two_ends
from fedart_nb.federated.leave_one_out import Followed, taken_out, taken_out_after
from fedart_nb.metrics import FeatureExtractor, StyleJudge

OUT = Path(__file__).parents[1] / "out" / "fairness"

QS = (0.0, 0.5, 1.0, 2.0)
_DRAWS = 2

_Losses = dict[str, float]


@dataclass(frozen=True)
class Size:
    """How much is run."""

    seeds: int
    artists: int
    few: int
    qs: tuple[float, ...]
    recipe: Recipe
    pictures: int | None


FULL = Size(3, 10, 5, QS, replace(DEFAULT, q=0.0), None)
QUICK = Size(1, 4, 3, (0.0, 1.0), replace(DEFAULT, q=0.0, rounds=2, steps=1), 16)


@dataclass
class Bench:
    """The cells of a run, each computed once and kept."""

    size: Size
    backbone: Backbone
    studios: Mapping[str, Studio]
    cells: Cells

    def order(self, seed: int) -> tuple[str, ...]:
        """All artists, in a seed's order."""
        return tuple(str(name) for name in np.random.default_rng(seed).permutation(sorted(self.studios)))

    def few(self, seed: int) -> tuple[str, ...]:
        """The first of them: the federation whose coalitions are trained."""
        return self.order(seed)[: self.size.few]

    def losses(self, names: Sequence[str], *adapters: Adapter) -> _Losses:
        return held_out_losses(self.backbone, {name: self.studios[name] for name in names}, adapters, draws=_DRAWS)

    def bare(self) -> _Losses:
        found: _Losses = self.cells.get("backbone", lambda: self.losses(sorted(self.studios)))
        return found

    def start(self, seed: int) -> Adapter:
        return initial_adapter(self.backbone, seed=seed)

    def rounds(self, seed: int, names: Sequence[str], here: Sequence[str], recipe: Recipe) -> Iterator[Round]:
        """A federation of `names` of whom only `here` take part; everybody else's draws stay what they were."""
        away = {name: recipe.rounds + 1 for name in names if name not in here}
        everybody = {name: self.studios[name] for name in names}
        yield from federate(self.backbone, everybody, recipe, self.start(seed), seed=seed, joins=away)

    def trained(self, seed: int, names: Sequence[str], here: Sequence[str], q: float = 0.0) -> _Losses:
        """Everybody's losses, theirs too who stayed away."""
        recipe = replace(self.size.recipe, q=q)
        label = "all" if len(here) == len(names) else " ".join(sorted(here))

        def run() -> _Losses:
            *_, last = self.rounds(seed, names, here, recipe)
            return self.losses(names, last.shared)

        found: _Losses = self.cells.get(f"q {q:g}, {label} of {len(names)}, seed {seed}", run)
        return found

    def kernels(self, seed: int, names: Sequence[str]) -> dict[str, dict[str, _Losses]]:
        """What each artist's kernel can work out from one run: the model of its own updates, and that without them."""

        def run() -> dict[str, dict[str, _Losses]]:
            shared = self.start(seed)
            alone, kept = dict.fromkeys(names, shared), dict.fromkeys(names, b"")
            for done in self.rounds(seed, names, names, self.size.recipe):
                clip = done.plan.clip
                for name, sent in done.updates.items():
                    own = np.concatenate([sent[key].reshape(-1) for key in sorted(sent)])
                    followed = Followed(done.plan, own, done.moved, len(names))
                    kept[name] = taken_out_after(kept[name], shared.digest, done.shared.digest, followed)
                    alone[name] = alone[name].plus({key: np.clip(value, -clip, clip) for key, value in sent.items()})
                shared = done.shared
            return {
                name: {
                    "alone": self.losses(names, alone[name]),
                    "without": self.losses(names, shared.plus(taken_out(kept[name], shared.digest))),
                }
                for name in names
            }

        found: dict[str, dict[str, _Losses]] = self.cells.get(f"kernels of {len(names)}, seed {seed}", run)
        return found

    def coalitions(self, seed: int) -> dict[frozenset[str], _Losses]:
        """Every coalition of the few, trained; the empty one is the backbone."""
        names, bare = self.few(seed), self.bare()
        found = {frozenset[str](): {name: bare[name] for name in names}}
        for n in range(1, len(names) + 1):
            for here in combinations(names, n):
                found[frozenset(here)] = self.trained(seed, names, here)
        return found

    def apart(self) -> dict[str, float]:
        """How far each artist's style is from the nearest other's, by centroids of whitened style vectors."""

        def run() -> dict[str, float]:
            art = {name: ArtSet.sample(name) for name in sorted(self.studios)}
            pictures = {name: one.pixels(one.included("train")[:100]) for name, one in art.items()}
            judge = StyleJudge.fit(pictures, extractor=FeatureExtractor.load())
            far = np.linalg.norm(judge.centroids[:, None] - judge.centroids[None], axis=2)
            np.fill_diagonal(far, np.inf)
            return dict(zip(judge.artists, far.min(1).round(3).tolist(), strict=True))

        found: dict[str, float] = self.cells.get("styles apart", run)
        return found

    def run(self, seed: int) -> None:
        """A seed's cells, what matters most first."""
        names = self.order(seed)
        self.bare()
        for q in self.size.qs:
            self.trained(seed, names, names, q)
        for name in names:
            self.trained(seed, names, [other for other in names if other != name])
        self.kernels(seed, names)
        self.coalitions(seed)
        self.kernels(seed, self.few(seed))


def _by_seed(costs: Mapping[str, Sequence[float]]) -> list[float]:
    """Means over artists."""
    return [statistics.fmean(of_seed) for of_seed in zip(*costs.values(), strict=True)]


def figures(bench: Bench) -> Iterator[dict[str, Any]]:
    """The figures of a complete run."""
    size = bench.size
    recipe, seeds = size.recipe, range(size.seeds)
    work = f"{size.artists} artists, {recipe.rule}, {recipe.rounds} rounds x {recipe.steps} local steps"
    yield from _by_q(bench, work)

    # --- opting out: what each artist's staying away costs, by seed ---
    own, others, guessed = (dict[str, list[float]]() for _ in range(3))
    for seed in seeds:
        names = bench.order(seed)
        together, kernel = bench.trained(seed, names, names), bench.kernels(seed, names)
        for name in names:
            rest = [other for other in names if other != name]
            without, taken = bench.trained(seed, names, rest), kernel[name]["without"]
            own.setdefault(name, []).append(without[name] - together[name])
            others.setdefault(name, []).append(statistics.fmean(without[one] - together[one] for one in rest))
            guessed.setdefault(name, []).append(statistics.fmean(taken[one] - together[one] for one in rest))
    apart = bench.apart()
    far = max(apart, key=lambda name: apart[name])
    how = f"{work}, equal weights; each artist in turn stays away, the same seeds; spread: 95 % t-interval over seeds"
    ends = (
        ("oneself", own, "one's own", "loss of the shared adapter without me less with me, mean of artists"),
        ("others", others, "the others'", "the same on everybody else's, mean of them and of artists"),
    )
    for end, costs, whose, what in ends:
        yield measure(
            f"fairness.opting_out_costs_{end}",
            round(statistics.fmean(_by_seed(costs)), 4),
            f"mse on {whose} held-out pictures",
            spread=interval(_by_seed(costs)),
            seeds=size.seeds,
            baseline={"by_artist": {name: round(statistics.fmean(cost), 4) for name, cost in costs.items()}},
            how=f"{what}; {how}",
        )
    for end, costs, whom in (("own", own, "them"), ("others", others, "each of the others")):
        yield measure(
            f"fairness.rare_style_opts_out.{end}",
            round(statistics.fmean(costs[far]), 4),
            "mse",
            spread=interval(costs[far]),
            seeds=size.seeds,
            baseline={
                "artist": far,
                "mean_artist": round(statistics.fmean(_by_seed(costs)), 4),
                "styles_apart": apart,
            },
            how="the artist whose style centroid is farthest from the nearest other's stays away: what that costs "
            f"{whom}; {how}",
        )
    agree = [rank_correlation(*([costs[name][seed] for name in own] for costs in (guessed, others))) for seed in seeds]
    yield measure(
        "fairness.kernel_vs_replay",
        round(statistics.fmean(agree), 3),
        "rank correlation",
        spread=interval(agree),
        seeds=size.seeds,
        baseline={
            "by_seed": [round(value, 3) for value in agree],
            "mean_in_kernel": round(statistics.fmean(_by_seed(guessed)), 4),
            "mean_by_replay": round(statistics.fmean(_by_seed(others)), 4),
        },
        how="leave-one-out by taking one's own updates out of the final adapter, as a kernel can, against training "
        f"without the artist; both judged on all others' held-out pictures; {work}, equal weights",
    )
    yield from _scores(bench)


def _by_q(bench: Bench, work: str) -> Iterator[dict[str, Any]]:
    size, bare = bench.size, bench.bare()
    for q in size.qs:
        means, worst, spreads, won, by_artist = [], [], [], [], dict[str, list[float]]()
        for seed in range(size.seeds):
            names = bench.order(seed)
            gains = {name: bare[name] - loss for name, loss in bench.trained(seed, names, names, q).items()}
            means.append(statistics.fmean(gains.values()))
            worst.append(min(gains.values()))
            spreads.append(statistics.pstdev(gains.values()))
            won.append(sum(gain > 0 for gain in gains.values()))
            for name, gain in gains.items():
                by_artist.setdefault(name, []).append(gain)
        yield measure(
            f"fairness.gain.q_{q:g}",
            round(statistics.fmean(means), 4),
            "mse, mean of artists",
            spread=interval(means),
            seeds=size.seeds,
            baseline={
                "least": round(statistics.fmean(worst), 4),
                "least_interval": interval(worst),
                "between_artists": round(statistics.fmean(spreads), 4),
                "gained": won,
                "by_artist": {name: round(statistics.fmean(gains), 4) for name, gains in sorted(by_artist.items())},
            },
            how=f"fall of the loss on everybody's own held-out pictures; {work}, weights by loss to the power {q:g}; "
            "least: of the artist who gains least; spread: 95 % t-interval over seeds",
        )


def _scores(bench: Bench) -> Iterator[dict[str, Any]]:
    """Spearman's correlation of each score with exact Shapley values, by seed."""
    size, bare = bench.size, bench.bare()
    found: dict[str, list[float]] = {}
    shown: dict[str, dict[str, dict[str, float]]] = {}
    for seed in range(size.seeds):
        names, trained = bench.few(seed), bench.coalitions(seed)
        kernel, everybody = bench.kernels(seed, names), trained[frozenset(names)]

        def worth(losses: _Losses, judges: Sequence[str]) -> float:
            return statistics.fmean(bare[one] - losses[one] for one in judges)

        value = shapley({here: worth(losses, names) for here, losses in trained.items()}, names)
        all_ = worth(everybody, names)
        scores: dict[str, _Losses] = {"shapley": value}
        for name in names:
            without = trained[frozenset(names) - {name}]
            alone, rest = kernel[name]["alone"], kernel[name]["without"]
            mine = {
                "leave_one_out.replayed": leave_one_out(all_, worth(without, names)),
                "leave_one_out.kernel": leave_one_out(all_, worth(rest, names)),
                "two_ends.kernel": two_ends(worth(alone, names), all_, worth(rest, names)),
                "two_ends.own_pictures": two_ends(worth(alone, [name]), worth(everybody, [name]), worth(rest, [name])),
                "own_gain": worth(everybody, [name]),
            }
            for label, score in mine.items():
                scores.setdefault(label, {})[name] = score
        for label, by_artist in scores.items():
            if label != "shapley":
                ranks = [[of[name] for name in names] for of in (by_artist, value)]
                if len(set(ranks[0])) == 1:
                    continue  # all alike: no order to compare
                found.setdefault(label, []).append(rank_correlation(*ranks))
        shown[str(seed)] = {
            label: {name: round(score, 4) for name, score in by_artist.items()} for label, by_artist in scores.items()
        }
    meaning = {
        "leave_one_out.replayed": "training without the artist, judged on all pictures",
        "leave_one_out.kernel": "the artist's updates taken out of the final adapter, judged on all pictures",
        "two_ends.kernel": "mean of first and last to join, from one run, judged on all pictures",
        "two_ends.own_pictures": "the same, judged on the artist's own held-out pictures: all that a kernel has",
        "own_gain": "what the artist gains, as if that were what they give",
    }
    for label, values in found.items():
        yield measure(
            f"fairness.score.{label}",
            round(statistics.fmean(values), 3),
            "rank correlation with exact Shapley values",
            spread=interval(values),
            seeds=size.seeds,
            baseline={"by_seed": [round(value, 3) for value in values]}
            | ({"scores": shown} if label == "two_ends.kernel" else {}),
            how=f"{meaning[label]}; {size.few} artists, others each seed, {2**size.few} coalitions trained, equal "
            "weights; 0 is no relation, and chance alone gives five artists a value within 0.9 of it 95 % of the time",
        )


def main() -> None:
    chosen = options(__doc__, seeds=True)
    torch.set_num_threads(1)
    size = QUICK if chosen.quick else FULL
    backbone = Backbone.embedded(device="cpu")
    folder = OUT / hashlib.sha256(repr((size, backbone.sha256)).encode()).hexdigest()[:8]
    names = sorted(ArtSet.samples())[: size.artists]
    studios = {name: studio(backbone, name, OUT / "latents", limit=size.pictures) for name in names}
    bench = Bench(size, backbone, studios, Cells(folder))
    for seed in range(size.seeds) if chosen.seed is None else [chosen.seed]:
        bench.run(seed)
    if chosen.seed is None:
        report(__file__, list(figures(bench)), chosen)


if __name__ == "__main__":
    main()
