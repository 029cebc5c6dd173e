"""What does noise cost the art, and what the attacker? Ten sample artists at epsilon 1, 3, 8 and without noise.

Every artist trains alone in its kernel, three times at each epsilon, as the product does: pictures clipped, a factor of
noise (`SOLO`, B alone). No noise still clips. Beside the held-out loss stand, for each epsilon:

* style accuracy: pictures of captions that nobody learnt from, judged by `measures.StyleJudge` among ten artists;
* KID of those pictures, of all artists together, to the real held-out ones, by style features;
* membership AUC: cosine of the update with a picture's mean gradient (`attacks.identify`), of 64 pictures that were
  trained on against the held-out ones; 0.5 is guessing;
* identified: one step whose sample happened to be one single picture, the worst case for it, seen in the clear: is the
  right one of 64 candidates ranked first? Chance is 1 in 64; the bound is what no attack whatsoever can exceed.

Attackers see what leaves one kernel, as if secure aggregation were broken.

`privacy.kept_gain_eps8` is federated: five artists, secure aggregation, each with noise of its own for epsilon 8 over
all rounds (`FEDERATED`). Kept is (backbone - private) / (backbone - non-private) of the mean held-out loss; non-private
is the better of `quality.py`'s default and plain averaging, 20 rounds of 2 steps. The way was tuned on five artists'
train pictures (`recipes/privacy`), and the figure is measured on the other five, on held-out pictures.

Cells are kept in `out/privacy/cells.jsonl` as they are done; a run that was stopped goes on.

    python benchmarks/privacy.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import Cells
from _federation import Recipe, Studio, federate, held_out_losses, seed_of, studio
from _personal import evenly, held_out
from _private import FEDERATED, SOLO, Way, halves, one_picture_steps
from _quality import interval
from _report import measure, options, report
from quality import DEFAULT
from scipy.stats import rankdata

from fedart_nb.art import ArtSet
from fedart_nb.attacks import Knowledge, ServerView
from fedart_nb.attacks.bounds import identification_bound, mu_of
from fedart_nb.attacks.identify import Features, features_of, scores_of
from fedart_nb.attacks.opened import opened
from fedart_nb.diffusion import Adapter, Backbone, PrivateTraining, TrainConfig, draw, initial_adapter, train
from fedart_nb.metrics import FeatureExtractor, StyleJudge, kid

OUT = Path(__file__).parents[1] / "out" / "privacy"
EPSILONS = (1.0, 3.0, 8.0, math.inf)
CANDIDATES = 64
START_SEED = 0  # of the public start, the same for everybody


@dataclass(frozen=True)
class Size:
    """How much is run."""

    seeds: int = 3
    epsilons: tuple[float, ...] = EPSILONS
    artists: int = 5  # of each half
    pictures: int | None = None
    captions: int = 4
    draw_steps: int = 10
    feature_draws: int = 6
    judge_pictures: int = 60
    single: int = 8
    solo: Way = SOLO
    federated: Way = FEDERATED
    plain: Recipe = DEFAULT


FULL = Size()
QUICK = Size(
    seeds=1,
    epsilons=(8.0, math.inf),
    artists=3,
    pictures=24,
    captions=3,
    draw_steps=2,
    feature_draws=1,
    judge_pictures=8,
    single=4,
    solo=replace(SOLO, rounds=1, steps=2),
    federated=replace(FEDERATED, rounds=2, draws=1),
    plain=replace(DEFAULT, rounds=2, steps=2),
)


@dataclass
class Bench:
    """The cells of a run, each computed once and kept."""

    size: Size
    backbone: Backbone
    folder: Path
    cell: Callable[[str, Callable[[], Any]], Any] = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
        self.cell = Cells(self.folder).get
        tuned, others = halves()
        self.halves = {"other five": others[: self.size.artists], "tuned five": tuned[: self.size.artists]}
        self.names = sorted([*self.halves["other five"], *self.halves["tuned five"]])
        self.art = {name: ArtSet.sample(name, limit=self.size.pictures) for name in self.names}
        self.start = initial_adapter(self.backbone, self.size.solo.config(START_SEED), seed=START_SEED)
        self._features: dict[str, Features] = {}
        self._judge: StyleJudge | None = None
        self.extractor = FeatureExtractor.load()

    def studio(self, name: str) -> Studio:
        return studio(self.backbone, name, OUT / "latents", limit=self.size.pictures)

    def bare(self) -> dict[str, float]:
        """The backbone's held-out losses."""
        people = {name: self.studio(name) for name in self.names}
        found: dict[str, float] = self.cell("backbone", lambda: held_out_losses(self.backbone, people, []))
        return found

    # --- one artist alone ---

    def solo(self, name: str, epsilon: float, seed: int) -> dict[str, Any]:
        """One private training: its loss, its pictures, and what attacks make of it."""

        def run() -> dict[str, Any]:
            one, size = self.studio(name), self.size
            way = replace(size.solo, epsilon=epsilon)
            private = way.private(len(one.own))
            config = TrainConfig(
                steps=way.rounds * way.steps, batch=way.batch(len(one.own)), learning_rate=way.rate, validate_every=0
            )
            *_, last = train(self.backbone, one.own, config=config, start=self.start, private=private)
            adapter = last.adapter
            loss = held_out_losses(self.backbone, {name: one}, [adapter.expanded()])[name]
            pictures = self.drawn(name, [adapter.expanded()], seed)
            np.save(self.folder / "pictures" / f"{name}-{epsilon:g}-{seed}.npy", pictures)
            hits, asked = self.identified(name, one, private, seed)
            return {
                "loss": loss,
                "right": self.judge().judge(pictures).count(name),
                "pictures": len(pictures),
                "auc": self.membership(name, adapter),
                "hits": hits,
                "asked": asked,
                "noise_multiplier": private.noise_multiplier,
                "bound": identification_bound(mu_of(private.noise_multiplier), self.candidates(name)[1]),
            }

        found: dict[str, Any] = self.cell(f"{name} at {epsilon:g}, seed {seed}", run)
        return found

    def drawn(self, name: str, adapters: list[Adapter], seed: int) -> Any:
        captions = [p.caption for p in held_out(self.art[name], self.size.captions)]
        seeds = [seed_of(seed, i) for i in range(len(captions))]
        weighted = [(adapter, 1.0) for adapter in adapters]
        return draw(self.backbone, captions, seeds=seeds, adapters=weighted, steps=self.size.draw_steps)

    def judge(self) -> StyleJudge:
        """Fitted on train pictures as they are and as the autoencoder gives them back, as in `_personal.py`."""
        if self._judge is None:
            both = {}
            for name, one in self.art.items():
                x = one.pixels(evenly(one.included("train"), self.size.judge_pictures))
                both[name] = np.concatenate([x, self.backbone.decode(self.backbone.encode(x))])
            self._judge = StyleJudge.fit(both, extractor=self.extractor)
        return self._judge

    def candidates(self, name: str) -> tuple[ServerView, int]:
        """A view that knows trained pictures first, then held-out ones; and how many were trained on."""
        art = self.art[name]
        members = evenly(art.included("train"), CANDIDATES)
        shown = [*members, *art.included("test")]
        knows = Knowledge(candidates=art.pixels(shown), candidate_captions=tuple(p.caption for p in shown))
        update = {f"{self.start.part}.{k}": v for k, v in self.start.tensors.items() if ".lora_A." not in k}
        view = ServerView.of(update, self.start.to_bytes(), self.backbone.sha256, kind="steps", knows=knows)
        return view, len(members)

    def features(self, name: str) -> Features:
        if name not in self._features:
            view, _ = self.candidates(name)
            *_, found = features_of(view, self.backbone, draws=self.size.feature_draws)
            assert isinstance(found, Features)
            self._features = {name: found}
        return self._features[name]

    def membership(self, name: str, adapter: Adapter) -> float:
        """Area under the ROC curve of trained against held-out pictures, by the update."""
        view, members = self.candidates(name)
        features = self.features(name)
        moved = adapter.minus(self.start)
        with opened(self.backbone, view) as model:
            update = torch.cat([torch.from_numpy(moved[key]).reshape(-1) for key in model.names])
        scores = scores_of(view, features, update).numpy()
        ranks, others = rankdata(scores), len(scores) - members
        return float((ranks[:members].sum() - members * (members + 1) / 2) / (members * others))

    def identified(self, name: str, one: Studio, private: PrivateTraining, seed: int) -> tuple[int, int]:
        """How often the picture of a one-picture step is ranked first of 64, and of how many tries."""
        view, members = self.candidates(name)
        rows = self.features(name).rows[:members]
        features = Features(rows, self.size.feature_draws)
        view = replace(view, kind="gradient")
        ids = {picture_id: row for row, picture_id in enumerate(one.own.ids)}
        places = [ids[p.id] for p in evenly(self.art[name].included("train"), CANDIDATES)]
        asked = [int(i) for i in np.random.default_rng((seed, len(rows))).permutation(members)[: self.size.single]]
        gradients = one_picture_steps(self.backbone, one.own, self.start, private, [places[i] for i in asked])
        hits = sum(int(scores_of(view, features, g).argmax()) == i for i, g in zip(asked, gradients, strict=True))
        return hits, len(asked)

    def kid(self, epsilon: float, seed: int) -> float:
        """Of the pictures of all artists to the real held-out ones."""

        def run() -> float:
            drawn = [np.load(self.folder / "pictures" / f"{name}-{epsilon:g}-{seed}.npy") for name in self.names]
            real = np.concatenate([self.art[n].pixels(held_out(self.art[n], 20)) for n in self.names])
            style = self.extractor.style
            return kid(style(np.concatenate(drawn)), style(real), rng=np.random.default_rng(seed), subsets=20).value

        found: float = self.cell(f"kid at {epsilon:g}, seed {seed}", run)
        return found

    # --- five together ---

    def together(self, half: str, seed: int, epsilon: float | None) -> dict[str, float]:
        """Held-out losses after a federation; `epsilon` None: the better of two non-private ones."""
        people = {name: self.studio(name) for name in self.halves[half]}

        def private() -> dict[str, float]:
            assert epsilon is not None
            way = replace(self.size.federated, epsilon=epsilon)
            *_, last = way.federate(self.backbone, people, seed=seed, masked=True)
            return held_out_losses(self.backbone, people, [last.shared.expanded()])

        def plain() -> dict[str, float]:
            found = []
            for rule in dict.fromkeys((self.size.plain.rule, "fedavg")):
                start, recipe = initial_adapter(self.backbone, seed=seed), replace(self.size.plain, rule=rule)
                *_, last = federate(self.backbone, people, recipe, start, seed=seed)
                found.append(held_out_losses(self.backbone, people, [last.shared]))
            return min(found, key=lambda losses: sum(losses.values()))

        label = "plain" if epsilon is None else f"epsilon {epsilon:g}"
        found: dict[str, float] = self.cell(f"{half}, {label}, seed {seed}", plain if epsilon is None else private)
        return found


def run(bench: Bench) -> None:
    """Every cell, what matters most first."""
    size = bench.size
    bench.bare()
    for seed in range(size.seeds):
        for epsilon in (8.0, None):
            bench.together("other five", seed, epsilon)
    for name in bench.names:
        for seed in range(size.seeds):
            for epsilon in size.epsilons:
                bench.solo(name, epsilon, seed)
    for seed in range(size.seeds):
        for epsilon in size.epsilons:
            bench.kid(epsilon, seed)
    for epsilon in (1.0, 3.0):
        bench.together("other five", 0, epsilon)
    for epsilon in (8.0, None):
        bench.together("tuned five", 0, epsilon)


def kept(bench: Bench, half: str, seed: int, epsilon: float) -> float:
    """(backbone - private) / (backbone - non-private) of the mean held-out loss."""
    losses = bench.together(half, seed, epsilon), bench.together(half, seed, None)
    before = statistics.fmean(bench.bare()[name] for name in bench.halves[half])
    private, plain = (statistics.fmean(one.values()) for one in losses)
    return (before - private) / (before - plain)


def figures(bench: Bench) -> Iterator[dict[str, Any]]:
    """The figures of a complete run."""
    size, bare, seeds = bench.size, bench.bare(), range(bench.size.seeds)
    for epsilon in size.epsilons:
        cells = {name: [bench.solo(name, epsilon, seed) for seed in seeds] for name in bench.names}

        def over(of: Callable[[dict[str, Any]], float], cells: dict[str, list[dict[str, Any]]] = cells) -> list[float]:
            return [statistics.fmean(of(cells[name][seed]) for name in cells) for seed in seeds]

        loss, auc = over(lambda c: c["loss"]), over(lambda c: c["auc"])
        accuracy, hits = over(lambda c: c["right"] / c["pictures"]), over(lambda c: c["hits"] / c["asked"])
        apart = [bench.kid(epsilon, seed) for seed in seeds]
        gains = {n: statistics.median(bare[n] - c["loss"] for c in cells[n]) for n in cells}
        yield measure(
            f"privacy.loss_{'no_noise' if math.isinf(epsilon) else f'eps{epsilon:g}'}",
            round(statistics.fmean(loss), 4),
            "mse",
            spread=interval(loss),
            seeds=size.seeds,
            baseline={
                "loss_backbone": round(statistics.fmean(bare.values()), 4),
                "artists_improved": sum(gain > 0 for gain in gains.values()),
                "gain_by_artist": {name: round(gain, 4) for name, gain in gains.items()},
                "style_accuracy": _spread(accuracy),
                "kid": _spread(apart),
                "membership_auc": _spread(auc),
                "identified_of_64": _spread(hits),
                "identified_bound": round(max(c["bound"] for one in cells.values() for c in one), 4),
                "noise_multiplier": round(
                    statistics.median(c["noise_multiplier"] for o in cells.values() for c in o), 3
                ),
                "pictures": sum(c["pictures"] for one in cells.values() for c in one),
                "steps_attacked": sum(c["asked"] for one in cells.values() for c in one),
            },
            how=f"{len(bench.names)} artists alone, {size.solo}, delta 1/(10 n); mean over artists, [mean, least, "
            "most] of seeds; style accuracy chance 0.1",
        )
    values = [kept(bench, "other five", seed, 8.0) for seed in seeds]
    first = {name: bench.together("other five", 0, 8.0)[name] for name in bench.halves["other five"]}
    plain = bench.together("other five", 0, None)
    yield measure(
        "privacy.kept_gain_eps8",
        round(statistics.fmean(values), 4),
        "of the non-private gain",
        spread=interval(values),
        seeds=size.seeds,
        baseline={
            "by_seed": [round(value, 4) for value in values],
            "tuned_five": round(kept(bench, "tuned five", 0, 8.0), 4),
            "at_epsilon": {f"{e:g}": round(kept(bench, "other five", 0, e), 4) for e in (1.0, 3.0, 8.0)},
            "by_artist": {n: [round(v, 4) for v in (bare[n], first[n], plain[n])] for n in first},
        },
        how=f"{len(first)} artists, masked sums, {size.federated}; non-private: better of {DEFAULT.rule} and fedavg, "
        f"{size.plain.rounds} rounds x {size.plain.steps} steps; tuned on five other artists' train pictures; spread: "
        "95 % t-interval over seeds; by artist: backbone, private, non-private",
    )


def _spread(values: list[float]) -> list[float]:
    return [round(v, 4) for v in (statistics.fmean(values), min(values), max(values))]


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(1)
    size, folder = (QUICK, OUT / "quick") if chosen.quick else (FULL, OUT)
    bench = Bench(size, Backbone.embedded(device="cpu"), folder)
    run(bench)
    report(__file__, list(figures(bench)), chosen)


if __name__ == "__main__":
    main()
