"""How good is the backbone before anybody teaches it anything? Autoencoder, captions, look, speed, size, copies.

* `ae.psnr_pool`, `ae.psnr_worst_artist`: pictures encoded and decoded, mean PSNR; of held-out pool pictures, and of the
  hardest of the ten sample artists (their test pictures; the backbone has seen none of theirs).
* `backbone.caption_top5_of_ceiling`: 240 concepts drawn by three sample artists (openmoji, fluent3d, fluent_ink) make a
  gallery, one vector for each concept: style vector and head of EfficientNet-Lite0, z-scored, centred by artist, then
  averaged (chosen on real drawings alone). The backbone draws `<noto> caption` for every concept that the pool source
  `noto` has; a picture, centred by its set's mean, is a hit when its concept is among the five nearest. The ceiling is
  the same for noto's own drawings of the same captions. The value is the ratio; the interval resamples concepts, both
  columns together.
* `backbone.kid_style`, `backbone.kid_head`: unbiased KID of drawn pictures against held-out pool pictures; half of the
  prompts are theirs, half of training pictures of the same sources. Beside it the floor: real training pictures of the
  same sources against the same reference.
* `backbone.near_copies`: share of the drawn noto pictures whose nearest training picture (emoji sources, centred head
  features) is nearer than it is for the nearest twentieth of held-out real pictures; 5 % is what real pictures have.
  `results/memorisation.png` shows the twelve nearest ones beside their neighbours in latents and in features.
* `sample.four_pictures_s`: four pictures, 20 steps with guidance, two threads, median of five.
* `wheel.mb`: size of the package as a wheel.

Measures of the pool need `--pool`; without it they are left out and nothing is kept, nor is anything with `--backbone`.

    python benchmarks/backbone.py --json --pool POOL
    python benchmarks/backbone.py --json --quick --pool POOL --backbone out/candidate
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _personal import TOP, TRIO, Pictures, evenly
from _report import RESULTS, backbone_of, kept, measure, options, report
from numpy.typing import NDArray

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Backbone, draw
from fedart_nb.figures import contact_sheet
from fedart_nb.metrics import ConceptRetrieval, Estimate, FeatureExtractor, bootstrap, kid, psnr, ssim
from fedart_nb.metrics.geometry import distances

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "recipes" / "backbone"))
from pool import Record, pixels, read_pool  # noqa: E402 - a recipe, not a package

SOURCE = "noto"
EMOJI = ("emojione", "fxemoji", "noto", "noto_v1", "twemoji")
THREADS, BATCH = 2, 16
ROWS = 12


@dataclass(frozen=True)
class Size:
    """How much a run does: pictures of each artist and of the pool, concepts, pictures drawn for KID, and so on."""

    art: int | None = None
    held_out: int | None = None
    concepts: int | None = None
    drawn: int = 200
    steps: int = 20
    neighbours: int | None = None
    repeats: int = 5


QUICK = Size(art=6, held_out=48, concepts=24, drawn=24, steps=10, neighbours=200, repeats=1)


@dataclass(frozen=True)
class Drawn:
    """What the backbone drew for captions, beside the real drawings of the same captions."""

    records: list[Record] = field(repr=False)
    pictures: Pictures = field(repr=False)


def drawn_for(backbone: Backbone, prompts: list[str], *, steps: int, seed: int) -> Pictures:
    """One picture for each prompt, seeds counted up from `seed`."""
    out = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        out.append(draw(backbone, part, seeds=range(seed + start, seed + start + len(part)), steps=steps))
        print(f"drawn {start + len(part)} of {len(prompts)}", file=sys.stderr, flush=True)
    return np.concatenate(out)


def decoded(backbone: Backbone, pictures: Pictures) -> Pictures:
    return backbone.decode(backbone.encode(pictures))


def spread(estimate: Estimate, digits: int = 3) -> tuple[float, float]:
    return round(estimate.low, digits), round(estimate.high, digits)


def autoencoder_artists(backbone: Backbone, size: Size) -> dict[str, Any]:
    by_artist, likeness = {}, {}
    for name in sorted(ArtSet.samples()):
        art = ArtSet.sample(name, size_px=backbone.size_px)
        pictures = art.pixels(evenly(list(art.included("test")), size.art))
        again = decoded(backbone, pictures)
        by_artist[name] = psnr(pictures, again)
        likeness[name] = round(float(ssim(pictures, again).mean()), 3)
    worst = min(by_artist, key=lambda name: by_artist[name].mean())
    estimate = bootstrap(by_artist[worst], rng=np.random.default_rng(0))
    each = {name: round(float(values.mean()), 2) for name, values in by_artist.items()}
    return measure(
        "ae.psnr_worst_artist",
        round(estimate.value, 2),
        "dB",
        how=f"{worst}, {len(by_artist[worst])} test pictures, encoded and decoded; lowest mean of ten artists",
        spread=spread(estimate, 2),
        baseline={"all": each, "ssim": likeness},
    )


def autoencoder_pool(backbone: Backbone, pool: list[Record], size: Size) -> dict[str, Any]:
    pictures = pixels(evenly([r for r in pool if r.part == "pictures"], size.held_out))
    again = decoded(backbone, pictures)
    values = psnr(pictures, again)
    estimate = bootstrap(values, rng=np.random.default_rng(0))
    return measure(
        "ae.psnr_pool",
        round(estimate.value, 2),
        "dB",
        how=f"mean over {len(values)} held-out pool pictures, encoded and decoded",
        spread=spread(estimate, 2),
        baseline={
            "lowest_tenth": round(float(np.quantile(values, 0.1)), 2),
            "ssim": round(float(ssim(pictures, again).mean()), 3),
        },
    )


def concepts_of_source(pool: list[Record], concepts: set[str], limit: int | None) -> list[Record]:
    """One real drawing by `SOURCE` for each concept that it has."""
    first = {r.caption: r for r in reversed(pool) if r.source == SOURCE and r.caption in concepts}
    return evenly([first[caption] for caption in sorted(first)], limit)


def captions(backbone: Backbone, pool: list[Record], size: Size) -> tuple[dict[str, Any], Drawn]:
    gallery = {}
    for name in TRIO:
        art = ArtSet.sample(name)
        gallery[name] = (art.pixels(art.included()), [picture.caption.lower() for picture in art.included()])
    retrieval = ConceptRetrieval.fit(gallery)
    records = concepts_of_source(pool, set(retrieval.concepts), size.concepts)
    labels = [record.caption for record in records]
    pictures = drawn_for(backbone, [f"<{SOURCE}> {caption}" for caption in labels], steps=size.steps, seed=0)
    ranks = np.stack([retrieval.rank(pictures, labels), retrieval.rank(pixels(records), labels)], 1)
    hits = ranks <= TOP
    rng = np.random.default_rng(0)
    estimate = bootstrap(hits, lambda rows: float(rows[:, 0].mean() / rows[:, 1].mean()), rng=rng)
    alone = bootstrap(hits[:, 0], rng=rng)
    unseen = np.array([record.part == "captions" for record in records])
    chance = TOP / len(retrieval.concepts)
    line = measure(
        "backbone.caption_top5_of_ceiling",
        round(estimate.value, 3),
        "of 1",
        how=f"{len(records)} captions as <{SOURCE}>, top {TOP} of {len(retrieval.concepts)}, {size.steps} steps",
        spread=spread(estimate),
        baseline={
            "top5": round(alone.value, 3),
            "top5_interval": list(spread(alone)),
            "ceiling_top5": round(float(hits[:, 1].mean()), 3),
            "chance_top5": round(chance, 3),
            "top1": round(float((ranks[:, 0] == 1).mean()), 3),
            "ceiling_top1": round(float((ranks[:, 1] == 1).mean()), 3),
            "median_rank": float(np.median(ranks[:, 0])),
            "captions_never_trained_on": int(unseen.sum()),
            "top5_of_those": round(float(hits[unseen, 0].mean()), 3) if unseen.any() else None,
        },
    )
    return line, Drawn(records, pictures)


def look(backbone: Backbone, pool: list[Record], size: Size) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    reference = evenly([r for r in pool if r.part != "train"], None if size.held_out is None else 2 * size.held_out)
    by_source: dict[str, list[Record]] = {}
    for record in pool:
        if record.part == "train":
            by_source.setdefault(record.source, []).append(record)

    def trained(like: list[Record]) -> list[Record]:
        return [by_source[r.source][rng.integers(len(by_source[r.source]))] for r in like]

    chosen = [reference[i] for i in rng.permutation(len(reference))[: size.drawn]]
    asked = [*chosen[: len(chosen) // 2], *trained(chosen[len(chosen) // 2 :])]
    pictures = drawn_for(backbone, [f"<{r.source}> {r.caption}" for r in asked], steps=size.steps, seed=10_000)
    real, floor = pixels(reference), pixels(trained(chosen))
    extractor = FeatureExtractor.load()
    lines = []
    for name, read in (("style", extractor.style), ("head", extractor.head)):
        y = read(real)
        value, lowest = kid(read(pictures), y, rng=rng), kid(read(floor), y, rng=rng)
        lines.append(
            measure(
                f"backbone.kid_{name}",
                round(value.value, 4),
                "KID (z-scored features)",
                how=f"{len(pictures)} drawn pictures of {len({r.source for r in asked})} sources against "
                f"{len(real)} held-out pool pictures, {size.steps} steps",
                spread=spread(value, 4),
                baseline={"real_training_pictures": round(lowest.value, 4), "interval": list(spread(lowest, 4))},
            )
        )
    return lines


def copies(backbone: Backbone, pool: list[Record], drawn: Drawn, size: Size, sheet: Path | None) -> dict[str, Any]:
    train = evenly([r for r in pool if r.source in EMOJI and r.part == "train"], size.neighbours)
    held_out = evenly([r for r in pool if r.source in EMOJI and r.part != "train"], size.held_out)
    seen, unseen = pixels(train), pixels(held_out)
    extractor = FeatureExtractor.load()
    heads = extractor.head(seen)
    centre = heads.mean(0)

    def features(pictures: Pictures) -> NDArray[np.float64]:
        x = extractor.head(pictures).astype(np.float64) - centre
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def latents(pictures: Pictures) -> NDArray[np.float64]:
        return backbone.encode(pictures).flatten(1).double().cpu().numpy()

    known = heads.astype(np.float64) - centre
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    flat = latents(seen)
    away = {name: 1 - features(x) @ known.T for name, x in (("drawn", drawn.pictures), ("real", unseen))}
    apart = {name: distances(latents(x), flat) for name, x in (("drawn", drawn.pictures), ("real", unseen))}
    limits = {"feature": np.quantile(away["real"].min(1), 0.05), "latent": np.quantile(apart["real"].min(1), 0.05)}
    near = away["drawn"].min(1) < limits["feature"]
    estimate = bootstrap(near, rng=np.random.default_rng(0))
    if sheet is not None:
        sheet.parent.mkdir(exist_ok=True)
        sheet.write_bytes(nearest_sheet(drawn, train, seen, away["drawn"], apart["drawn"]))
    return measure(
        "backbone.near_copies",
        round(estimate.value, 3),
        "of 1",
        how=f"{len(near)} drawn pictures, {len(train)} training pictures; nearer (cosine, centred head features) than "
        f"the nearest twentieth of {len(held_out)} held-out real pictures",
        spread=spread(estimate),
        baseline={
            "real_held_out": 0.05,
            "by_latents": round(float((apart["drawn"].min(1) < limits["latent"]).mean()), 3),
            "median_feature_distance": round(float(np.median(away["drawn"].min(1))), 3),
            "median_feature_distance_real": round(float(np.median(away["real"].min(1))), 3),
            "median_latent_distance": round(float(np.median(apart["drawn"].min(1))), 2),
            "median_latent_distance_real": round(float(np.median(apart["real"].min(1))), 2),
        },
    )


def nearest_sheet(
    drawn: Drawn, train: list[Record], seen: Pictures, away: NDArray[np.float64], apart: NDArray[np.float64]
) -> bytes:
    """The drawn pictures that come nearest to a training picture: drawn, nearest by latents, nearest by features."""
    tiles, texts = [], []
    for i in away.min(1).argsort()[:ROWS]:
        by_latent, by_feature = int(apart[i].argmin()), int(away[i].argmin())
        tiles += [drawn.pictures[i], seen[by_latent], seen[by_feature]]
        texts += [
            f"drawn: {drawn.records[i].caption}",
            f"{train[by_latent].caption} <{train[by_latent].source}> latents {apart[i].min():.1f}",
            f"{train[by_feature].caption} <{train[by_feature].source}> features {away[i].min():.2f}",
        ]
    made = contact_sheet(np.stack(tiles), texts, columns=3, title="Drawn, and the nearest training pictures")
    assert made.png is not None
    return made.png


def speed(backbone: Backbone, size: Size) -> dict[str, Any]:
    prompts = ["<noto> red apple", "<twemoji> cat face", "<openclipart> blue fish", "<emojione> house"]
    took = []
    for repeat in range(size.repeats + 1):
        started = time.perf_counter()
        draw(backbone, prompts, seeds=[4 * repeat + i for i in range(4)], steps=20)
        took.append(time.perf_counter() - started)
    took = took[1:]  # the first one warms up
    return measure(
        "sample.four_pictures_s",
        round(statistics.median(took), 2),
        "s",
        how=f"four pictures of {backbone.size_px} px, 20 steps with guidance, {THREADS} threads, median of {len(took)}",
        spread=(round(min(took), 2), round(max(took), 2)),
        seeds=len(took),
        baseline={"device": backbone.device.type},
    )


def wheel() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        isolation = ["--no-isolation"] if find_spec("hatchling") else []  # else build fetches hatchling itself
        command = [sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", folder, str(ROOT)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (built,) = Path(folder).glob("*.whl")
        size_bytes = built.stat().st_size
    return measure(
        "wheel.mb", round(size_bytes / 1e6, 1), "MB", how="python -m build --wheel, weights and art included"
    )


def main() -> None:
    chosen = options(__doc__, backbone=True, pool=True)
    torch.set_num_threads(THREADS)
    size = QUICK if chosen.quick else Size()
    backbone = backbone_of(chosen.backbone)
    complete = chosen.pool is not None and (Path(chosen.pool) / "metadata.csv").is_file()
    lines = [autoencoder_artists(backbone, size), speed(backbone, size), wheel()]
    if not complete:
        print(
            f"--pool is {chosen.pool!r}, expected a folder with metadata.csv: ae.psnr_pool and all of backbone.* "
            "compare with the pre-training pool and are left out; nothing is kept. See recipes/backbone/README.md.",
            file=sys.stderr,
        )
    else:
        pool = read_pool(Path(chosen.pool))
        line, drawn = captions(backbone, pool, size)
        sheet = RESULTS / "memorisation.png" if kept(chosen) else None
        lines += [autoencoder_pool(backbone, pool, size), line, *look(backbone, pool, size)]
        lines.append(copies(backbone, pool, drawn, size, sheet))
    report(__file__, lines, chosen, complete=complete)


if __name__ == "__main__":
    main()
