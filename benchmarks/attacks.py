"""What an update gives away, attack by attack, on the embedded backbone and the sample artists' pictures.

Every victim trains as a session does; every attack is given a `ServerView` (what was sent, the public model, and the
knowledge that the line names) and nothing else; the truth stays here. Five artists, one picture of each, three seeds,
unless the line says otherwise. SSIM is held against the autoencoder's own reconstruction of the picture, the best that
an attack in latent space can do, and the three guesses that need no update stand beside it. A budget is CPU seconds on
one core.

Cells are kept in `out/attacks/<settings>/cells.jsonl` as they are done, by as many processes as there are cores; a run
that was stopped goes on.

    python benchmarks/attacks.py --json
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from _attacked import Lab
from _cells import Cells
from _report import measure, options, report

from fedart_nb._system import settings
from fedart_nb.art import ArtSet
from fedart_nb.attacks.bounds import identification_bound, mu_of
from fedart_nb.diffusion import Backbone

OUT = Path(__file__).parents[1] / "out" / "attacks"
SIGMAS = (0.25, 0.5, 1.0, 2.0)
TRIALS = 200


@dataclass(frozen=True)
class Size:
    """How much is attacked."""

    artists: tuple[str, ...] = ("fluent_ink", "gameicons", "lorelei", "openmoji", "rollandin")
    few: tuple[str, ...] = ("fluent_ink", "lorelei", "openmoji")  # in whom the dearer cases are tried, one seed
    everybody: tuple[str, ...] = tuple(sorted(ArtSet.samples()))
    limit: int | None = None
    seeds: int = 3
    batches: tuple[int, ...] = (1, 4, 8, 16)
    listed: int = 500
    evaluations: int = 380
    passes: int = 2500
    together: tuple[int, ...] = (2, 3, 5, 10)
    candidates: int = 64
    local_steps: tuple[int, ...] = (1, 10, 40)
    tries: int = 4
    draws: int = 12
    rooms: tuple[int, ...] = (2, 3, 5, 10)
    each: int = 8


FULL = Size()
QUICK = Size(
    ("openmoji",), (), ("fluent3d", "lorelei", "openmoji"), 24, 1, (4,), 40, 12, 60, (2,), 8, (10,), 1, 2, (2, 3), 3
)

Values = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One cell: its name, and what computes it."""

    name: str
    call: str
    arguments: tuple[Any, ...]


def tasks(size: Size) -> list[Task]:
    """All cells of a run, the cheap ones first."""
    names, seeds, few = size.artists, range(size.seeds), size.few
    found = [Task(f"timesteps of {b}, seed {s}", "timesteps", (b, s)) for b in size.batches for s in seeds]
    for steps, first in ((0, False), (10, False), (0, True)):
        found += [
            Task(_caption(name, s, steps, first), "caption", (name, s, steps, first)) for name in names for s in seeds
        ]
    found += [Task(f"noised {name}, seed {s}", "noised", (name, s)) for name in names for s in seeds]
    found += [Task(f"identified {name}", "identified", (name,)) for name in names]
    found += [Task(f"rooms, seed {s}", "rooms", (s,)) for s in seeds]
    found += [Task(f"guessed {name}", "guessed", (name,)) for name in names]
    for kind in ("full", "lora"):
        found += [Task(f"{kind} {name}, seed {s}", "pixels", (name, kind, s)) for s in seeds for name in names]
    found += [Task(f"{case} {name}", "case", (name, case)) for case in CASES for name in few]
    found += [Task(f"sum of {n}, seed {s}", "together", (n, s)) for n in size.together for s in seeds]
    found += [Task(f"members {name}", "members", (name,)) for name in few]
    return found


def _caption(name: str, seed: int, steps: int, first: bool) -> str:
    return f"caption {name}, {steps or 'one'} steps{', first round' * first}, seed {seed}"


# --- one cell -------------------------------------------------------------------------------------------------------


def _timesteps(lab: Lab, _size: Size, batch: int, seed: int) -> float:
    return lab.timesteps(batch, seed)


def _read_caption(lab: Lab, size: Size, name: str, seed: int, steps: int, first: bool) -> Any:
    return lab.caption(name, seed, steps=steps, first_round=first, listed=size.listed)


def _noised(lab: Lab, size: Size, name: str, seed: int) -> Any:
    return lab.noised(name, seed, size.candidates, SIGMAS, TRIALS)


def _identified(lab: Lab, size: Size, name: str) -> Any:
    return lab.identified(name, size.candidates, size.local_steps, size.tries, size.draws)


def _rooms(lab: Lab, size: Size, seed: int) -> Any:
    return lab.summed(seed, sizes=size.rooms, steps=10, each=size.each, draws=size.draws)


def _guessed(lab: Lab, _size: Size, name: str) -> Any:
    return lab.guessed(name)


def _pixels(lab: Lab, size: Size, name: str, kind: str, seed: int) -> Any:
    return _of_kind(lab, size, name, kind, lab.view(name, kind, seed))


def _of_kind(lab: Lab, size: Size, name: str, kind: str, view: Any) -> Any:
    if kind == "full":
        return lab.rebuilt((name,), view, size.passes, attack="exact")
    return lab.rebuilt((name,), view, size.evaluations)


def _case(lab: Lab, size: Size, name: str, case: str) -> Any:
    many = size.evaluations
    if case == "baseline":  # breaching's recipe: Adam on the cosine, with total variation
        return lab.rebuilt((name,), lab.view(name, "full", 0), many, attack="baseline")
    if case.startswith("secret"):
        kind = case.split()[1]
        return _of_kind(lab, size, name, kind, lab.secret(lab.view(name, kind, 0)))
    if case.startswith(("matched", "longer")):
        how, kind = case.split()
        return lab.rebuilt((name,), lab.view(name, kind, 0), many * (5 if how == "longer" else 1))
    kind, steps = case.split()
    return lab.rebuilt((name,), lab.view(name, kind, 0, steps=int(steps)), many)


def _together(lab: Lab, size: Size, n: int, seed: int) -> Any:
    names = [size.everybody[(seed + i) % len(size.everybody)] for i in range(n)]
    summed = lab.sum_of([lab.view(name, "full", seed + i) for i, name in enumerate(names)])
    return lab.rebuilt(names, summed, size.passes, attack="exact")


def _members(lab: Lab, size: Size, name: str) -> Any:
    return lab.members(name, trained=24, others=24, steps=40, draws=size.draws)


CALLS: dict[str, Callable[..., Any]] = {
    "timesteps": _timesteps,
    "caption": _read_caption,
    "noised": _noised,
    "identified": _identified,
    "rooms": _rooms,
    "guessed": _guessed,
    "pixels": _pixels,
    "case": _case,
    "together": _together,
    "members": _members,
}
#: Cases that are reported as found: what was sent, and what the attack is not told.
CASES = {
    "secret full": "by linear algebra; seed secret, whole denoiser's gradient, timesteps read from it",
    "matched full": "L-BFGS on the whole denoiser's gradient, seed known",
    "longer full": "the same with five times the evaluations",
    "longer lora": "L-BFGS on the adapter's gradient, seed known, five times the evaluations",
    "secret lora": "seed secret, adapter's gradient, timesteps told",
    "sgd 1": "one SGD step of the adapter, seed known",
    "sgd 5": "five SGD steps, as one gradient, seed known",
    "adam 1": "one Adam step of the adapter, seed known",
    "baseline": "breaching's recipe (Adam, cosine, total variation) on the whole gradient, seed known",
}


@cache
def lab_of(size: Size) -> Lab:
    """What every cell needs, once in each process."""
    torch.set_num_threads(1)
    return Lab(Backbone.embedded(device="cpu"), size.artists, size.everybody, size.limit)


def computed(size: Size, task: Task) -> tuple[Any, float]:
    """A cell's value and its CPU seconds."""
    lab, began = lab_of(size), time.process_time()
    return CALLS[task.call](lab, size, *task.arguments), round(time.process_time() - began, 1)


def run(size: Size, folder: Path) -> Values:
    """All cells, those of earlier runs from their file."""
    cells = Cells(folder)
    missing = [task for task in tasks(size) if task.name not in cells.values]
    if not missing:
        return cells.values
    with ProcessPoolExecutor(settings.cpu_limit(), mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(computed, size, task): task for task in missing}
        for future in as_completed(waiting):
            cells.keep(waiting[future].name, *future.result())
    return cells.values


# --- figures --------------------------------------------------------------------------------------------------------


def figures(size: Size, cells: Values) -> Iterator[dict[str, Any]]:
    """The figures of a complete run."""
    names, seeds = size.artists, range(size.seeds)
    whole = "the relay or host of a room without masks; knows the public model"
    exact = {b: [cells[f"timesteps of {b}, seed {s}"] for s in seeds] for b in size.batches}
    every = [value for values in exact.values() for value in values]
    yield measure(
        "attack.timestep_exact",
        _mean(every),
        "of timesteps",
        spread=(min(every), max(every)),
        seeds=size.seeds,
        baseline={"chance": 0.001, "by_batch": {str(b): _mean(values) for b, values in exact.items()}},
        how=f"whole denoiser's gradient, one step; {whole}, nothing else",
    )
    yield from _captions(size, cells, whole)
    for kind, what in (
        ("full", "by linear algebra; whole denoiser's gradient"),
        ("lora", "by L-BFGS; adapter's gradient, rank 4, all default targets"),
    ):
        runs = {(n, s): cells[f"{kind} {n}, seed {s}"] for n in names for s in seeds}
        yield _rebuilt(
            f"attack.pixel_{kind}_ssim", cells, runs, f"{what}, one step, one picture; seed and caption known"
        )
    for case, what in CASES.items():
        if size.few:
            runs = {(n, 0): cells[f"{case} {n}"] for n in size.few}
            yield _rebuilt(f"attack.pixel_{case.replace(' ', '_')}_ssim", cells, runs, what)
    for n in size.together:
        runs = [cells[f"sum of {n}, seed {s}"] for s in seeds]
        pictures = [value for one in runs for value in one["ssim"]]
        yield measure(
            f"attack.pixel_sum_of_{n}_ssim",
            _mean(pictures),
            "SSIM",
            spread=(_least(runs), _most(runs)),
            seeds=size.seeds,
            baseline={
                "at_least_0.95": f"{sum(v >= 0.95 for v in pictures)} of {len(pictures)}",
                "psnr_db": [round(v, 1) for one in runs for v in one["psnr_db"]],
                "cpu_s": _seconds(runs),
            },
            how=f"by linear algebra; sum of {n} artists' whole gradients, one picture each, seeds and captions known",
        )
    yield from _identification(size, cells)
    yield from _rooms_figures(size, cells)
    for method in ("one_query", "loss", "gradient") if size.few else ():
        found = [cells[f"members {name}"][method] for name in size.few]
        yield measure(
            f"attack.membership_auc_{method}",
            _mean(a for a, _ in found),
            "area under the ROC curve",
            spread=(round(min(a for a, _ in found), 4), round(max(a for a, _ in found), 4)),
            seeds=1,
            baseline={"chance": 0.5, "tpr_at_1_percent_fpr": _mean(t for _, t in found)},
            how="24 pictures trained on (40 local steps of 8) against 24 others of the artist, one update in the clear",
        )


def _captions(size: Size, cells: Values, whole: str) -> Iterator[dict[str, Any]]:
    for steps, label in ((0, "1step"), (10, "10steps")):
        runs = [[cells[_caption(n, s, steps, False)] for n in size.artists] for s in range(size.seeds)]
        rates = [_mean(one["hit"] for one in row) for row in runs]
        first = [cells[_caption(n, s, 0, True)] for n in size.artists for s in range(size.seeds)]
        if max(one["largest_dA"] for one in first) > 0 or any(one["guessed"] for one in first):
            raise AssertionError("At B = 0 the gradient of A is zero: nothing can be read, and something was.")
        yield measure(
            f"attack.caption_top1_500_{label}",
            _mean(rates),
            "of captions",
            spread=(min(rates), max(rates)),
            seeds=size.seeds,
            baseline={"chance": round(1 / size.listed, 4), "guessed_where_B_is_0": 0, "tried_where_B_is_0": len(first)},
            how=f"first of {size.listed} captions; {label}, batch 1; {whole} and the list; spread over seeds",
        )


def _rebuilt(name: str, cells: Values, runs: dict[tuple[str, int], Any], what: str) -> dict[str, Any]:
    values = {key: statistics.fmean(one["ssim"]) for key, one in runs.items()}
    artists = sorted({artist for artist, _ in runs})
    by_artist = {a: [round(v, 4) for (one, _), v in values.items() if one == a] for a in artists}
    guesses = {a: {way: round(pair[0], 4) for way, pair in cells[f"guessed {a}"].items()} for a in artists}
    return measure(
        name,
        _mean(values.values()),
        "SSIM",
        spread=(round(min(values.values()), 4), round(max(values.values()), 4)),
        seeds=len({seed for _, seed in runs}),
        baseline={
            "at_least_0.95": f"{sum(v >= 0.95 for v in values.values())} of {len(values)}",
            "at_least_0.8": f"{sum(v >= 0.8 for v in values.values())} of {len(values)}",
            "psnr_db": _mean(p for one in runs.values() for p in one["psnr_db"]),
            "by_artist": by_artist,
            "timesteps": {a: [one["t"][0] for (who, _), one in runs.items() if who == a] for a in artists},
            "cpu_s": _seconds(runs.values()),
            "evaluations": _mean(one["evaluations"] for one in runs.values()),
            "without_the_update": guesses,
        },
        how=f"{what}; against the autoencoder's own reconstruction; spread: least and most of the pictures",
    )


def _identification(size: Size, cells: Values) -> Iterator[dict[str, Any]]:
    n = size.candidates
    for steps in size.local_steps:
        places = [p for name in size.artists for p in cells[f"identified {name}"][str(steps)]]
        by_artist = {name: _mean(p == 1 for p in cells[f"identified {name}"][str(steps)]) for name in size.artists}
        yield measure(
            f"attack.identify_{n}_{steps}steps",
            _mean(p == 1 for p in places),
            "of pictures",
            spread=(min(by_artist.values()), max(by_artist.values())),
            seeds=size.tries,
            baseline={"chance": round(1 / n, 4), "by_artist": by_artist, "places": sorted(places)},
            how=f"on which of {n} pictures of the artist an update was trained, {steps} local Adam steps, seen in the "
            "clear; knows the candidates; spread over artists",
        )
    for sigma in SIGMAS:
        found = [cells[f"noised {name}, seed {s}"][f"{sigma:g}"] for name in size.artists for s in range(size.seeds)]
        bound = identification_bound(mu_of(sigma), n)
        tried = TRIALS * n * len(found)
        error = (bound * (1 - bound) / tried) ** 0.5
        if max(found) > bound + 3 * (bound * (1 - bound) / (TRIALS * n)) ** 0.5:
            raise AssertionError(f"{max(found)} of pictures were identified at noise {sigma}; the bound is {bound}.")
        yield measure(
            f"attack.vs_bound_sigma{f'{sigma:g}'.replace('.', '')}",
            _mean(v / bound for v in found),
            "of the bound",
            spread=(round(min(found) / bound, 4), round(max(found) / bound, 4)),
            seeds=size.seeds,
            baseline={"identified": _mean(found), "bound": round(bound, 4), "standard_error": round(error, 5)},
            how=f"one of {n} pictures picked from one clipped gradient, noise of {sigma:g} clip norms, all else known",
        )


def _rooms_figures(size: Size, cells: Values) -> Iterator[dict[str, Any]]:
    for n in size.rooms:
        runs = [cells[f"rooms, seed {s}"][str(n)] for s in range(size.seeds)]
        clear, seen = [one["attributed_clear"] for one in runs], [one["took_part_auc"] for one in runs]
        both = {
            "took_part_auc": [round(v, 4) for v in seen],
            "attributed_in_the_clear": [round(v, 4) for v in clear],
            "chance": round(1 / n, 4),
            "pictures": runs[0]["pictures"],
        }
        what = f"{n} artists, {size.each} pictures of each, 10 local steps of 8"
        if "attributed" in runs[0]:
            over = [one["attributed"] * n for one in runs]
            yield measure(
                "attack.secagg_attribution_over_chance" + ("" if n == 5 else f"_{n}"),
                _mean(over),
                "x chance",
                spread=(round(min(over), 4), round(max(over), 4)),
                seeds=size.seeds,
                baseline=both,
                how=f"{what}: whose a picture is, from the masked shares of a real round; beside it whether it took "
                "part at all, from the opened sum (AUC against held-out pictures of the same artists)",
            )
        else:
            yield measure(
                f"attack.sum_of_{n}_took_part_auc",
                _mean(seen),
                "area under the ROC curve",
                spread=(round(min(seen), 4), round(max(seen), 4)),
                seeds=size.seeds,
                baseline=both,
                how=f"{what}: whether a picture took part, from the sum; rooms of two are refused, this is why",
            )


def _mean(values: Any) -> float:
    return round(statistics.fmean(float(v) for v in values), 4)


def _seconds(runs: Any) -> list[float]:
    each = [one["cpu_s"] for one in runs]
    return [round(min(each), 1), round(max(each), 1)]


def _least(runs: Sequence[Any]) -> float:
    return round(min(v for one in runs for v in one["ssim"]), 4)


def _most(runs: Sequence[Any]) -> float:
    return round(max(v for one in runs for v in one["ssim"]), 4)


def main() -> None:
    chosen = options(__doc__)
    size = QUICK if chosen.quick else FULL
    sha = Backbone.embedded(device="cpu").sha256
    key = hashlib.sha256(json.dumps([asdict(size), SIGMAS, TRIALS, sha]).encode()).hexdigest()[:8]
    report(__file__, list(figures(size, run(size, OUT / key))), chosen)


if __name__ == "__main__":
    main()
