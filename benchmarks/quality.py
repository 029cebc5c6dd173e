"""Is a federation worth joining? Ten sample artists, federations of 3, 5 and 10, on pictures that nobody learnt from.

Every seed draws one order of the artists; the first 3 and the first 5 of it, and all 10, are its federations. Every
artist of a federation takes the same number of local steps, whatever the rule. Beside them stand

* the backbone alone;
* centralised: the federation's pictures in one place, as many steps as one artist takes, with as many pictures in each
  as all artists take together: the same gradient work, one optimiser. Its learning rate is its own best of five;
* local-only: one artist's pictures, for as many steps as shared and personal adapter took together.

Recovered is (backbone - federated) / (backbone - centralised) of the mean held-out loss over the federation's artists.
Rates and rounds were chosen on another federation and on train pictures that were kept back (`recipes/quality`), never
on the pictures that are measured here.

Cells are kept in `out/quality/<recipes>/cells.jsonl` as they are done; a run that was stopped goes on.

    python benchmarks/quality.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _cells import Cells
from _federation import Recipe, Studio, centralised, federate, held_out_losses, local, seed_of, studio
from _personal import held_out
from _quality import convergence_plot, interval, recovered, upload_bytes
from _report import RESULTS, kept, measure, options, report

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Adapter, AdapterConfig, Backbone, PrivateTraining, draw, initial_adapter
from fedart_nb.federated import DEFAULT_RULE
from fedart_nb.metrics import FeatureExtractor, StyleJudge, kid
from fedart_nb.privacy.planning import default_delta, solve_noise

OUT = Path(__file__).parents[1] / "out" / "quality"

#: Chosen with `recipes/quality/tune.py`: many short rounds, for all rules; artists weigh by their loss (q-FFL, q = 1).
DEFAULT = Recipe(DEFAULT_RULE, rounds=20, steps=2, rate=3e-2, bits=16, schedule="cosine", q=1.0)
#: Words of 32 bits; rules that train one factor at a time diverge at the default's rate, and a core far below it.
_WHOLE = replace(DEFAULT, bits=32, rate=2e-2, q=0.0)
OTHERS: Mapping[str, Recipe] = {
    "equal": replace(DEFAULT, q=0.0),
    "fedavg": replace(_WHOLE, rule="fedavg", rate=DEFAULT.rate),
    "rolora": replace(_WHOLE, rule="rolora"),
    "dp8": replace(_WHOLE, rule="fedsb", rate=1e-3, batch=32),
    "ffa": replace(_WHOLE, rule="ffa"),
    "fedsvd": replace(_WHOLE, rule="fedsvd"),
    "fedsb": replace(_WHOLE, rule="fedsb", rate=1e-3),
    "dense": replace(_WHOLE, rule="dense"),
}
CENTRALISED_RATE = 3e-2
LOCAL_RATE = 1e-2
PERSONAL_STEPS = 60
EPSILON = 8.0


@dataclass(frozen=True)
class Size:
    """How much is run."""

    seeds: int
    sizes: tuple[int, ...]
    rules: tuple[str, ...]
    default: Recipe
    personal_steps: int
    pictures: int | None
    captions: int
    draw_steps: int
    draws: int


FULL = Size(3, (10, 5, 3), tuple(OTHERS), DEFAULT, PERSONAL_STEPS, None, 5, 10, 2)
QUICK = Size(1, (3,), ("fedavg",), replace(DEFAULT, rounds=2, steps=2), 3, 24, 0, 2, 1)


@dataclass
class Bench:
    """The cells of a run, each computed once and kept."""

    size: Size
    backbone: Backbone
    studios: Mapping[str, Studio]
    folder: Path
    cell: Callable[[str, Callable[[], Any]], Any] = field(init=False)

    def __post_init__(self) -> None:
        self.cell = Cells(self.folder).get

    def kept(self, name: str, adapter: Adapter) -> Adapter:
        adapter.save(self.folder / "adapters" / name)
        return adapter

    def adapter(self, name: str) -> Adapter:
        return Adapter.load(self.folder / "adapters" / name)

    def of(self, names: tuple[str, ...]) -> dict[str, Studio]:
        return {name: self.studios[name] for name in names}

    def losses(self, names: tuple[str, ...], *adapters: Adapter) -> dict[str, float]:
        return held_out_losses(self.backbone, self.of(names), adapters, draws=self.size.draws)

    # --- what is trained ---

    def members(self, seed: int, n: int) -> tuple[str, ...]:
        names = sorted(ArtSet.samples())
        return tuple(str(name) for name in np.random.default_rng(seed).permutation(names)[:n])

    def start(self, seed: int, rule: str = "") -> Adapter:
        core = AdapterConfig(rank=16, alpha=16.0, core_seed=seed) if rule == "fedsb" else None
        return initial_adapter(self.backbone, core, seed=seed)

    def bare(self) -> dict[str, float]:
        """The backbone's losses."""
        names = tuple(self.studios)
        found: dict[str, float] = self.cell("backbone", lambda: self.losses(names))
        return found

    def federated(self, seed: int, n: int, label: str, recipe: Recipe) -> dict[str, Any]:
        """A federation: losses by artist at the end, the mean after every third of the rounds, aggregation errors."""
        members = self.members(seed, n)
        looks = {round(recipe.rounds * part / 3) for part in (1, 2, 3)}

        def run() -> dict[str, Any]:
            private = self.noise(recipe, members) if label.startswith("dp") else {}
            curve, errors, losses, sent = [], [], {}, 0
            start = self.start(seed, recipe.rule)
            for done in federate(self.backbone, self.of(members), recipe, start, seed=seed, private=private):
                errors.append(done.error)
                if done.number in looks:
                    losses = self.losses(members, done.shared)
                    curve.append([done.number, statistics.fmean(losses.values())])
                    sent = done.sent
            self.kept(f"{label}-{n}-{seed}", done.shared)
            return {"losses": losses, "curve": curve, "errors": errors, "numbers_sent": sent}

        found: dict[str, Any] = self.cell(f"{label} of {n}, seed {seed}", run)
        return found

    def noise(self, recipe: Recipe, members: tuple[str, ...]) -> dict[str, PrivateTraining]:
        """Each artist's noise for `EPSILON` per picture over all rounds, at its own number of pictures."""
        return {
            name: PrivateTraining(
                solve_noise(
                    EPSILON,
                    delta=default_delta(len(self.studios[name].own)),
                    sample_rate=min(1.0, recipe.batch / len(self.studios[name].own)),
                    steps=recipe.local_steps,
                )
            )
            for name in members
        }

    def in_one_place(self, seed: int, n: int) -> dict[str, Any]:
        members, recipe = self.members(seed, n), self.size.default

        def run() -> dict[str, Any]:
            steps, batch = recipe.local_steps, recipe.batch
            made = centralised(
                self.backbone,
                self.of(members),
                self.start(seed),
                steps=steps,
                rate=CENTRALISED_RATE,
                seed=seed_of(seed, 98),
                batch=batch,
            )
            return {"losses": self.losses(members, self.kept(f"centralised-{n}-{seed}", made))}

        found: dict[str, Any] = self.cell(f"centralised of {n}, seed {seed}", run)
        return found

    def alone(self, seed: int, name: str) -> float:
        """Local-only, for as many steps as shared and personal adapter took together."""
        steps = self.size.default.local_steps + self.size.personal_steps
        return self._one(seed, name, "local", steps=steps)

    def personal(self, seed: int, name: str, n: int) -> float:
        """A personal adapter on top of the frozen shared one of the federation of n; the loss with both."""
        return self._one(seed, name, "personal", steps=self.size.personal_steps, under=f"default-{n}-{seed}")

    def _one(self, seed: int, name: str, label: str, *, steps: int, under: str = "") -> float:
        def run() -> float:
            below = [self.adapter(under)] if under else []
            made = local(
                self.backbone,
                self.studios[name].own,
                self.start(1000 + seed if under else seed),
                steps=steps,
                rate=LOCAL_RATE,
                seed=seed_of(seed, 99, sorted(self.studios).index(name)),
                batch=self.size.default.batch,
                frozen=[(adapter, 1.0) for adapter in below],
            )
            self.kept(f"{label}-{name}-{seed}", made)
            return self.losses((name,), *below, made)[name]

        found: float = self.cell(f"{label} {name}, seed {seed}", run)
        return found

    def matrix(self, seed: int, n: int) -> dict[str, dict[str, float]]:
        """Shared + personal of each artist (row) on every artist's held-out pictures (column)."""
        names, shared = self.members(seed, n), f"default-{n}-{seed}"

        def run() -> dict[str, dict[str, float]]:
            return {
                row: held_out_losses(
                    self.backbone,
                    self.of(names),
                    [self.adapter(shared), self.adapter(f"personal-{row}-{seed}")],
                    draws=1,
                )
                for row in names
            }

        found: dict[str, dict[str, float]] = self.cell(f"matrix of {n}, seed {seed}", run)
        return found

    def masked(self, seed: int, n: int) -> dict[str, float]:
        """Largest differences that masks make to a round's shared adapter, and that rounding to half words makes."""
        recipe, members = replace(self.size.default, rounds=1), self.members(seed, n)

        def run() -> dict[str, float]:
            def shared(masked: bool, bits: int) -> Adapter:
                one = replace(recipe, bits=bits)
                rounds = federate(self.backbone, self.of(members), one, self.start(seed), seed=seed, masked=masked)
                return next(rounds).shared

            def apart(one: Adapter, other: Adapter) -> float:
                return max(float(np.abs(value).max()) for value in one.minus(other).values())

            plain, masked = shared(False, recipe.bits), shared(True, recipe.bits)
            return {"masks": apart(plain, masked), "rounding": apart(plain, shared(False, 32))}

        found: dict[str, float] = self.cell(f"masked of {n}, seed {seed}", run)
        return found

    # --- pictures ---

    def pictures(self, seed: int, n: int) -> dict[str, dict[str, float]]:
        """Style accuracy and KID of few drawn pictures by what drew them, and of the real held-out ones."""
        names, size = self.members(seed, n), self.size

        def run() -> dict[str, dict[str, float]]:
            art = {name: ArtSet.sample(name) for name in names}
            asked = {name: [p.caption for p in held_out(art[name], size.captions)] for name in names}
            shared = self.adapter(f"default-{n}-{seed}")
            ways: dict[str, Callable[[str], list[Adapter]]] = {
                "backbone": lambda _: [],
                "shared": lambda _: [shared],
                "local-only": lambda name: [self.adapter(f"local-{name}-{seed}")],
                "shared + personal": lambda name: [shared, self.adapter(f"personal-{name}-{seed}")],
            }
            extractor = FeatureExtractor.load()
            judge = StyleJudge.fit(
                {name: one.pixels(one.included("train")[:100]) for name, one in art.items()}, extractor=extractor
            )
            real = {name: one.pixels(one.included("test")) for name, one in art.items()}
            features = extractor.style(np.concatenate(list(real.values())))
            found = {}
            for way, of in ways.items():
                drawn = {
                    name: draw(
                        self.backbone,
                        asked[name],
                        seeds=[seed_of(seed, i) for i in range(len(asked[name]))],
                        adapters=[(adapter, 1.0) for adapter in of(name)],
                        steps=size.draw_steps,
                    )
                    for name in names
                }
                right = [judge.judge(pictures).count(name) / len(pictures) for name, pictures in drawn.items()]
                rng = np.random.default_rng(seed)
                apart = kid(extractor.style(np.concatenate(list(drawn.values()))), features, rng=rng)
                count = sum(len(one) for one in drawn.values())
                found[way] = {
                    "style_accuracy": statistics.fmean(right),
                    "kid": apart.value,
                    "kid_low": apart.low,
                    "kid_high": apart.high,
                    "pictures": count,
                }
            return found

        result: dict[str, dict[str, float]] = self.cell(f"pictures of {n}, seed {seed}", run)
        return result


def run(bench: Bench) -> None:
    """Every cell, what matters most first."""
    size = bench.size
    bench.bare()
    for seed in range(size.seeds):
        for n in size.sizes:
            bench.federated(seed, n, "default", size.default)
            bench.in_one_place(seed, n)
        for name in bench.members(seed, size.sizes[0]):
            bench.alone(seed, name)
            bench.personal(seed, name, size.sizes[0])
        bench.federated(seed, middle(size), "fedavg", recipe_of(size, "fedavg"))
        bench.federated(seed, size.sizes[0], "equal", recipe_of(size, "equal"))
    bench.masked(0, middle(size))
    bench.matrix(0, size.sizes[0])
    if size.captions:
        bench.pictures(0, size.sizes[0])
    for seed in range(size.seeds):
        for rule in size.rules:
            bench.federated(seed, middle(size), rule, recipe_of(size, rule))


def middle(size: Size) -> int:
    """The federation in which rules are compared."""
    return 5 if 5 in size.sizes else size.sizes[0]


def recipe_of(size: Size, label: str) -> Recipe:
    """A rule's recipe at the default's rounds and steps."""
    return replace(OTHERS[label], rounds=size.default.rounds, steps=size.default.steps)


def figures(bench: Bench) -> Iterator[dict[str, Any]]:
    """The figures of a complete run."""
    size, bare, seeds = bench.size, bench.bare(), range(bench.size.seeds)
    default, n_rules = size.default, middle(size)
    work = f"{default.rounds} rounds x {default.steps} local steps, batch {default.batch}, rank 4"
    how = f"{default.rule}, {work}, rate {default.rate:g} {default.schedule}, {default.bits} bits a value, "
    how += f"weights by loss to the power of {default.q:g}"

    def share(n: int, label: str, recipe: Recipe) -> list[float]:
        runs = [(bench.federated(s, n, label, recipe)["losses"], bench.in_one_place(s, n)["losses"]) for s in seeds]
        return [recovered(bare, shared, together) for shared, together in runs]

    for n in size.sizes:
        values = share(n, "default", default)
        shared = [bench.federated(s, n, "default", default)["losses"] for s in seeds]
        together = [bench.in_one_place(s, n)["losses"] for s in seeds]
        worst = [max((one[name] / bare[name], name) for name in one) for one in shared]
        yield measure(
            f"quality.recovered_{n}",
            round(statistics.fmean(values), 4),
            "of centralised's gain",
            spread=interval(values),
            seeds=size.seeds,
            baseline={
                "by_seed": [round(v, 4) for v in values],
                "loss_backbone": _mean(bare[name] for one in shared for name in one),
                "loss_federated": _mean(v for one in shared for v in one.values()),
                "loss_centralised": _mean(v for one in together for v in one.values()),
                "worst_artist": [[name, round(ratio, 4)] for ratio, name in worst],
                "worse_than_backbone": [sum(one[name] > bare[name] for name in one) for one in shared],
                **({"equal_weights": _mean(share(n, "equal", recipe_of(size, "equal")))} if n == size.sizes[0] else {}),
            },
            how=f"{n} artists, {how}; centralised: same steps, {n} x batch, rate {CENTRALISED_RATE:g}; spread: 95 % "
            "t-interval over seeds; worst artist: its loss over the backbone's",
        )
    sent = {one.rule: upload_bytes(bench.start(0), one, n_rules) for one in (default, recipe_of(size, "fedavg"))}
    yield measure(
        "quality.bytes_vs_fedavg",
        round(sent[default.rule] / sent["fedavg"], 4),
        "of fedavg's upload",
        baseline={f"bytes_per_artist_{rule}": count for rule, count in sent.items()},
        how=f"all that one artist sends in {default.rounds} rounds of {n_rules}, masked, as counted in the log",
    )
    yield from _personal_figures(bench)
    yield measure(
        "quality.masked_difference",
        bench.masked(0, n_rules)["masks"],
        "largest difference of a value",
        baseline={"rounding_to_half_words": bench.masked(0, n_rules)["rounding"]},
        how=f"one round of {n_rules}, {default.rule}: shared adapter with the secure sum's masks and without",
    )
    labels = {"default": default} | {rule: recipe_of(size, rule) for rule in size.rules}
    for label, recipe in labels.items():
        values = share(n_rules, label, recipe)
        runs = [bench.federated(s, n_rules, label, recipe) for s in seeds]
        noise = f", epsilon {EPSILON:g} per picture, noise in each kernel" if label.startswith("dp") else ""
        yield measure(
            f"quality.rule.{label}",
            round(statistics.fmean(values), 4),
            "of centralised's gain",
            spread=interval(values),
            seeds=size.seeds,
            baseline={
                "loss": _mean(v for one in runs for v in one["losses"].values()),
                "numbers_sent": runs[0]["numbers_sent"],
                "aggregation_error": _mean(e for one in runs for e in one["errors"]),
                "curve": [one["curve"] for one in runs],
            },
            how=f"{n_rules} artists, {recipe.rule}, {work}, rate {recipe.rate:g}{noise}",
        )


def _personal_figures(bench: Bench) -> Iterator[dict[str, Any]]:
    size, bare, seeds, n = bench.size, bench.bare(), range(bench.size.seeds), bench.size.sizes[0]
    names = sorted(bench.members(0, n))
    rows = {
        name: {
            "backbone": bare[name],
            "local": _mean(bench.alone(s, name) for s in seeds if name in bench.members(s, n)),
            "both": _mean(bench.personal(s, name, n) for s in seeds if name in bench.members(s, n)),
        }
        for name in names
    }
    steps = f"{size.default.local_steps} shared + {size.personal_steps} personal steps against their sum alone"
    by_seed = [sum(bench.personal(s, m, n) < bench.alone(s, m) for m in bench.members(s, n)) for s in seeds]
    gains = [statistics.fmean(bench.alone(s, m) - bench.personal(s, m, n) for m in bench.members(s, n)) for s in seeds]
    yield measure(
        "quality.personal_beats_local",
        sum(row["both"] < row["local"] for row in rows.values()),
        f"of {n}",
        spread=(min(by_seed), max(by_seed)),
        seeds=size.seeds,
        baseline=rows,
        how=f"held-out own loss, mean over seeds; {steps}, rate {LOCAL_RATE:g}",
    )
    yield measure(
        "quality.collaboration_gain",
        round(statistics.fmean(gains), 4),
        "mse",
        spread=interval(gains),
        seeds=size.seeds,
        baseline={"by_artist": {name: round(row["local"] - row["both"], 4) for name, row in rows.items()}},
        how=f"local-only less shared + personal; {steps}",
    )
    table = bench.matrix(0, n)
    own = [min(table, key=lambda row, column=column: table[row][column]) == column for column in table]
    yield measure(
        "quality.matrix_own_best",
        sum(own),
        f"of {n}",
        baseline={row: {column: round(value, 4) for column, value in line.items()} for row, line in table.items()},
        how="shared + personal of each artist (rows) on everybody's held-out pictures: on whose own "
        "pictures no other artist's has a lower loss; one seed, one noise",
    )
    if size.captions:
        for way, found in bench.pictures(0, n).items():
            yield measure(
                f"quality.style_accuracy.{way.replace(' + ', '_and_')}",
                round(found["style_accuracy"], 3),
                "of pictures",
                baseline={"chance": 1 / n, "kid": round(found["kid"], 3)}
                | {end: round(found[f"kid_{end}"], 3) for end in ("low", "high")},
                how=f"{found['pictures']} pictures of unseen captions, {size.draw_steps} steps, one seed; KID to the "
                "real held-out pictures of all artists",
            )


def _mean(values: Any) -> float:
    return round(statistics.fmean(values), 4)


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(1)
    size = QUICK if chosen.quick else FULL
    backbone = Backbone.embedded(device="cpu")
    recipes = repr((size, OTHERS, CENTRALISED_RATE, LOCAL_RATE, EPSILON, backbone.sha256))
    folder = OUT / hashlib.sha256(recipes.encode()).hexdigest()[:8]  # cells of other recipes are other cells
    names = sorted(ArtSet.samples())
    bench = Bench(size, backbone, {}, folder)
    wanted = {m for seed in range(size.seeds) for n in size.sizes for m in bench.members(seed, n)}
    bench.studios = {
        name: studio(backbone, name, OUT / "latents", limit=size.pictures) for name in names if name in wanted
    }
    run(bench)
    lines = list(figures(bench))
    if kept(chosen):
        convergence_plot(lines, RESULTS / "quality.png")
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
