"""Do personal adapters draw what they never saw, in their artist's hand? All ten sample artists, each on its own.

For every artist and seed: encode the train pictures, train one personal adapter on the bare backbone with the default
settings, and draw the artist's held-out captions (test captions that no train picture of the artist has), anchored as
`Session.pictures` draws them. The bare backbone draws the same captions from the same seeds, and so does the adapter
without the anchor ("unanchored").

* `personal.style_accuracy`: share of pictures that a judge gives to the right artist (whitened style vector, nearest of
  ten centroids, fitted on train pictures, each as it is and as the autoencoder gives it back), averaged over artists.
  Beside it: chance, the bare backbone, what a colour histogram sees in the same pictures, the judge's own accuracy on
  real test pictures (its ceiling), and all that by a stricter judge, fitted on the files alone. That one takes a real
  picture that was merely encoded and decoded for somebody else's where its artist's mark is the size of a pixel.
* `personal.caption_kept`: hits of the adapter's pictures divided by hits of the bare backbone's, over all artists and
  seeds. A hit: the caption's concept is among the five nearest of 239 in a gallery of real drawings *by other artists*
  (fluent3d, fluent_ink, openmoji, without the artist itself), so that drawing in the right hand does not help. Counted
  are artists with four or more held-out captions in the gallery: the trio and gameicons. The interval resamples
  captions.
* `personal.seconds`: wall time to encode and train one artist on two threads, nothing else running: three artists, one
  after another, once all else is done.

Adapters of the first seed are left in `out/personal/<artist>/`, and a sheet of six prompts by ten artists in
`out/personal/sheet.png`.

    python benchmarks/personal.py --json
    python benchmarks/personal.py --json --backbone out/candidate
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _personal import TOP, Pictures, Referee, Verdict, held_out
from _report import backbone_of, measure, options, report
from numpy.typing import NDArray

from fedart_nb._system import settings
from fedart_nb.art import ArtSet
from fedart_nb.diffusion import (
    PERSONAL,
    Adapter,
    Anchor,
    Backbone,
    TrainConfig,
    anchor_of,
    cache_latents,
    denoising_loss,
    draw,
    initial_adapter,
    personal_config,
    train,
)
from fedart_nb.figures import contact_sheet
from fedart_nb.metrics import bootstrap

THREADS = 2
OUT = Path(__file__).parents[1] / "out" / "personal"


@dataclass(frozen=True)
class Size:
    """How much is run. `steps` None is the default of personal adapters."""

    seeds: int = 3
    captions: int = 24
    draw_steps: int = 20
    artists: tuple[str, ...] = ()
    pictures: int | None = None
    steps: int | None = None

    def config(self, seed: int) -> TrainConfig:
        made = replace(PERSONAL, validate_every=0, seed=seed)
        return replace(made, steps=self.steps) if self.steps else made


FULL = Size()
QUICK = Size(1, 6, 8, ("fluent3d", "gameicons", "openmoji"), 60, 15)
#: Told apart by neither ground nor grid: all ten artists less the portraits and the white-on-black icons.
HARD = ("fluent3d", "fluent_ink", "freehand", "gerald_ink", "openmoji", "rollandin")
#: Nobody of the ten has these captions among the train pictures.
SHEET = (
    "turtle",
    "maple leaf",
    "ambulance",
    "whale",
    "bell",
    "portrait of a person, brown short hair, glasses, happy mouth",
)
SHEET_SEED = 1


@dataclass(frozen=True)
class Run:
    """One artist and seed: what the referee said of the adapter's pictures and of the backbone's, and losses.

    `personal` is drawn as the package draws an artist's pictures, `unanchored` as plain diffusers would.
    """

    personal: Verdict
    unanchored: Verdict
    backbone: Verdict
    loss_backbone: float
    loss_personal: float
    adapter: Adapter = field(repr=False)


def trained(backbone: Backbone, art: ArtSet, size: Size, seed: int) -> Adapter:
    """What `Session.train_personal` makes of the train pictures, on the bare backbone."""
    latents = cache_latents(backbone, art, "train")
    start = initial_adapter(backbone, personal_config(backbone), seed=seed)
    *_, last = train(backbone, latents, config=size.config(seed), start=start)
    return last.adapter


def one_run(backbone: Backbone, name: str, art: ArtSet, referee: Referee, size: Size, seed: int) -> Run:
    """Train one artist's adapter and have its pictures judged."""
    adapter = trained(backbone, art, size, seed)
    asked = [picture.caption for picture in held_out(art, size.captions)]
    seeds = [1000 * (seed + 1) + i for i in range(len(asked))]
    test = cache_latents(backbone, art, "test")

    def drawn(adapters: list[tuple[Adapter, float]], anchor: Anchor | None = None) -> Pictures:
        return draw(backbone, asked, seeds=seeds, adapters=adapters, steps=size.draw_steps, anchor=anchor)

    own = [(adapter, 1.0)]
    return Run(
        referee.verdict(name, drawn(own, anchor_of(backbone)), asked),
        referee.verdict(name, drawn(own), asked),
        referee.verdict(name, drawn([]), asked),
        denoising_loss(backbone, test),
        denoising_loss(backbone, test, own),
        adapter,
    )


@dataclass(frozen=True)
class Outcome:
    """All runs by artist, with what the referee said of the real test pictures; figures are made of it.

    `decoded`: the same test pictures, encoded and decoded: the best that this backbone's drawings could get.
    """

    runs: dict[str, list[Run]]
    real: dict[str, Verdict]
    decoded: dict[str, Verdict]
    concepts: int
    how: str
    seconds: tuple[float, ...] = ()

    @property
    def names(self) -> list[str]:
        return list(self.runs)

    @property
    def seeds(self) -> int:
        return min(len(runs) for runs in self.runs.values())

    def own(self, *names: str) -> list[float]:
        """Style accuracy of every run of these artists (all by default)."""
        return [run.personal.accuracy(name) for name in names or self.names for run in self.runs[name]]

    def bare(self, *names: str) -> list[float]:
        return [run.backbone.accuracy(name) for name in names or self.names for run in self.runs[name]]

    def unanchored(self, *names: str) -> list[float]:
        return [run.unanchored.accuracy(name) for name in names or self.names for run in self.runs[name]]

    def strict(self, *names: str) -> list[float]:
        return [run.personal.strict_accuracy(name) for name in names or self.names for run in self.runs[name]]

    def by_colour(self, *names: str) -> list[float]:
        return [run.personal.colour_accuracy(name) for name in names or self.names for run in self.runs[name]]


def style_figure(outcome: Outcome) -> dict[str, Any]:
    names, real, decoded = outcome.names, outcome.real, outcome.decoded
    by_seed = [
        statistics.fmean(outcome.runs[name][i].personal.accuracy(name) for name in names) for i in range(outcome.seeds)
    ]
    worst = min(names, key=lambda name: _mean(outcome.own(name)))
    hard = [name for name in HARD if name in names]
    return measure(
        "personal.style_accuracy",
        _mean(by_seed),
        "of pictures",
        how=outcome.how,
        spread=(round(min(by_seed), 4), round(max(by_seed), 4)),
        seeds=outcome.seeds,
        baseline={
            "chance": round(1 / len(names), 4),
            "backbone": _mean(outcome.bare()),
            "unanchored": _mean(outcome.unanchored()),
            "colour_histogram": _mean(outcome.by_colour()),
            "real_test_pictures": _mean([real[name].accuracy(name) for name in names]),
            "decoded_test_pictures": _mean([decoded[name].accuracy(name) for name in names]),
            "strict_judge": _mean(outcome.strict()),
            "strict_judge_real_test_pictures": _mean([real[name].strict_accuracy(name) for name in names]),
            "strict_judge_decoded_test_pictures": _mean(
                [outcome.decoded[name].strict_accuracy(name) for name in names]
            ),
            "real_test_pictures_colour_histogram": _mean([real[name].colour_accuracy(name) for name in names]),
            "hard_artists": _mean(outcome.own(*hard)),
            "worst_artist": worst,
            "worst_artist_accuracy": _mean(outcome.own(worst)),
        },
    )


def caption_figure(outcome: Outcome) -> dict[str, Any] | None:
    """None where the bare backbone drew nothing that was found: there is nothing to keep."""
    asked = [name for name in outcome.names if len(outcome.runs[name][0].personal.ranks)]
    tables = {name: hits(outcome.runs[name]) for name in asked}
    pairs = np.concatenate([np.zeros((0, 3)), *tables.values()])
    if not pairs[:, 1].any():
        return None
    kept = bootstrap(pairs, kept_of, rng=np.random.default_rng(0))
    return measure(
        "personal.caption_kept",
        round(kept.value, 4),
        "of the backbone's hits",
        how=f"top {TOP}; {len(pairs)} captions of {', '.join(asked)}, each from {outcome.seeds} seeds; {outcome.how}",
        spread=(round(kept.low, 4), round(kept.high, 4)),
        seeds=outcome.seeds,
        baseline={
            "unanchored": round(kept_of(pairs[:, [2, 1]]), 4),
            "personal_top5": _mean(pairs[:, 0]),
            "backbone_top5": _mean(pairs[:, 1]),
            "real_test_pictures_top5": _mean(np.concatenate([outcome.real[name].hits() for name in asked])),
            "chance": round(TOP / outcome.concepts, 4),
        }
        | {f"personal_top5_{name}": _mean(rows[:, 0]) for name, rows in tables.items()}
        | {f"backbone_top5_{name}": _mean(rows[:, 1]) for name, rows in tables.items()},
    )


def seconds_figure(outcome: Outcome) -> dict[str, Any]:
    return measure(
        "personal.seconds",
        round(statistics.fmean(outcome.seconds), 1),
        "s",
        how=f"encode the train pictures and train, {THREADS} threads, {len(outcome.seconds)} artists; {outcome.how}",
        spread=(round(min(outcome.seconds), 1), round(max(outcome.seconds), 1)),
    )


def artist_figure(outcome: Outcome, name: str) -> dict[str, Any]:
    runs, own = outcome.runs[name], outcome.own(name)
    mistaken = sum((Counter(run.personal.mistaken_for(name)) for run in runs), Counter())
    return measure(
        f"personal.style_accuracy.{name}",
        _mean(own),
        "of pictures",
        how=f"{len(runs[0].personal.judged)} held-out captions; {outcome.how}",
        spread=(round(min(own), 4), round(max(own), 4)),
        seeds=outcome.seeds,
        baseline={
            "backbone": _mean(outcome.bare(name)),
            "unanchored": _mean(outcome.unanchored(name)),
            "colour_histogram": _mean(outcome.by_colour(name)),
            "real_test_pictures": round(outcome.real[name].accuracy(name), 4),
            "decoded_test_pictures": round(outcome.decoded[name].accuracy(name), 4),
            "strict_judge": _mean(outcome.strict(name)),
            "strict_judge_decoded_test_pictures": round(outcome.decoded[name].strict_accuracy(name), 4),
            "mistaken_for": dict(mistaken.most_common()),
            "held_out_loss": _mean([run.loss_personal for run in runs]),
            "held_out_loss_backbone": round(runs[0].loss_backbone, 4),
        },
    )


def hits(runs: list[Run]) -> NDArray[np.float64]:
    """(captions, 3): how often the adapter's, the backbone's and the unanchored picture were found, mean over seeds."""
    found = np.array([[r.personal.hits(), r.backbone.hits(), r.unanchored.hits()] for r in runs])
    return found.mean(axis=0).T


def kept_of(rows: NDArray[np.float64]) -> float:
    """The adapter's hits over the backbone's; infinite or not a number where the backbone has none."""
    return float(np.divide(rows[:, 0].sum(), rows[:, 1].sum()))


def _mean(values: Sequence[float] | NDArray[Any]) -> float:
    return round(float(np.mean(values)), 4)


def sheet(backbone: Backbone, adapters: dict[str, Adapter], draw_steps: int) -> bytes:
    """Six prompts by as many artists as there are, one row for each artist, all from one seed: PNG."""
    rows = [
        draw(
            backbone,
            SHEET,
            seeds=[SHEET_SEED],
            adapters=[(adapter, 1.0)],
            steps=draw_steps,
            anchor=anchor_of(backbone),
        )
        for adapter in adapters.values()
    ]
    captions = [f"{name}: {prompt}" for name in adapters for prompt in SHEET]
    return contact_sheet(np.concatenate(rows), captions, columns=len(SHEET)).png


@cache
def studio(folder: str | None, size: Size) -> tuple[Backbone, dict[str, ArtSet], Referee]:
    """What every run needs, once in each process."""
    torch.set_num_threads(1)
    art = {name: ArtSet.sample(name, limit=size.pictures) for name in size.artists or sorted(ArtSet.samples())}
    backbone = backbone_of(folder, device="cpu")
    return backbone, art, Referee.fit(art, backbone)


def run_in_process(folder: str | None, size: Size, name: str, seed: int) -> Run:
    backbone, art, referee = studio(folder, size)
    return one_run(backbone, name, art[name], referee, size, seed)


def timed(backbone: Backbone, art: dict[str, ArtSet], size: Size) -> tuple[float, ...]:
    """Seconds to encode and train each of three artists, on `THREADS` threads."""
    torch.set_num_threads(THREADS)
    seconds = []
    for name in list(art)[:3]:
        started = time.monotonic()
        trained(backbone, art[name], size, 0)
        seconds.append(time.monotonic() - started)
    torch.set_num_threads(1)
    return tuple(seconds)


def main() -> None:
    chosen = options(__doc__, backbone=True)
    size = QUICK if chosen.quick else FULL
    backbone, art, referee = studio(chosen.backbone, size)
    real, decoded = {}, {}
    for name, drawings in art.items():
        test = held_out(drawings)
        pictures, captions = drawings.pixels(test), [picture.caption for picture in test]
        real[name] = referee.verdict(name, pictures, captions)
        decoded[name] = referee.verdict(name, backbone.decode(backbone.encode(pictures)), captions)
    done: dict[tuple[str, int], Run] = {}
    cores = settings.cpu_limit()
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        tasks = product(art, range(size.seeds))
        waiting = {pool.submit(run_in_process, chosen.backbone, size, *task): task for task in tasks}
        for finished in as_completed(waiting):
            name, seed = waiting[finished]
            run = done[name, seed] = finished.result()
            print(f"{name}, seed {seed}: {run.personal.accuracy(name):.0%} in style", file=sys.stderr, flush=True)
    runs = {name: [done[name, seed] for seed in range(size.seeds)] for name in art}
    adapters = {name: runs[name][0].adapter for name in art}
    for name, adapter in adapters.items():
        adapter.save(OUT / name)
    (OUT / "sheet.png").write_bytes(sheet(backbone, adapters, size.draw_steps))
    shape, config, anchor = adapters[next(iter(art))].config, size.config(0), anchor_of(backbone)
    tied = f"anchored ({anchor.caption:g}, {anchor.style:g}, {anchor.until:g})" if anchor else "not anchored"
    how = (
        f"rank {shape.rank}, alpha {shape.alpha:g}, lr {config.learning_rate:g}, {config.steps} steps of "
        f"{config.batch}, timestep shift {config.timestep_shift:g}, emphasis {config.emphasis:g}, "
        f"{size.draw_steps} drawing steps, {tied}, {len(art)} artists, backbone {backbone.sha256[:8]}"
    )
    seconds = timed(backbone, art, size)
    outcome = Outcome(runs, real, decoded, len(referee.galleries[""].concepts), how, seconds)
    three = [style_figure(outcome), caption_figure(outcome), seconds_figure(outcome)]
    report(__file__, [line for line in three if line] + [artist_figure(outcome, name) for name in art], chosen)


if __name__ == "__main__":
    main()
