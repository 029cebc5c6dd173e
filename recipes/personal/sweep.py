"""Which settings make a personal adapter? One factor at a time, scored on captions that the adapter never saw.

A cell is one setting and one artist: train, draw the artist's held-out captions, have the pictures judged as in
`benchmarks/personal.py`. Cells go to `cells.jsonl` (settings), adapters to `out/personal/sweep`; what is there already
is not done again, so the command may be stopped and started at will.

    python recipes/personal/sweep.py                                 # five artists choose
    python recipes/personal/sweep.py --confirm --only "all x4 shift3"   # the other five confirm
    python recipes/personal/sweep.py --table                         # the cells as Markdown
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import (
    ATTENTION,
    ATTENTION_AND_UP_CONVOLUTIONS,
    Adapter,
    AdapterConfig,
    Backbone,
    LatentSet,
    TrainConfig,
    cache_latents,
    denoising_loss,
    draw,
    initial_adapter,
    train,
)
from fedart_nb.events import Step

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _personal import Referee, held_out  # noqa: E402 - it lives beside the benchmark
from _report import backbone_of  # noqa: E402 - the same

CELLS = Path(__file__).parent / "cells.jsonl"
OUT = ROOT / "out" / "personal" / "sweep"
CHOOSING = ("fluent3d", "gameicons", "lorelei", "openmoji", "rollandin")
CONFIRMING = ("fluent_ink", "freehand", "gerald_ink", "open_peeps", "pixel_art")

TARGETS = {
    "attention": ATTENTION,
    "attention + up": ATTENTION_AND_UP_CONVOLUTIONS,
    "attention + up + mid + out": rf"{ATTENTION_AND_UP_CONVOLUTIONS}|mid_block\.resnets\.\d+\.(conv1|conv2)|conv_out",
    "all": rf"{ATTENTION}|.*\.resnets\.\d+\.(conv\w+|time_emb_proj)|.*samplers\.0\.conv|conv_(in|out)",
}


@dataclass(frozen=True)
class Setting:
    """What one cell tries.

    `b_over_a` is alpha / rank. Where B starts at zero, Adam (whose steps do not depend on the gradient's scale) makes
    of it the learning rate of B over that of A: LoRA+'s lambda (Hayou et al. 2402.12354). `shift` moves the trained
    timesteps towards noise, where palette and ground are decided (Esser et al. 2403.03206, section 5.3.2). `ema`
    averages the adapter over its steps. `style_tokens` as in `TrainConfig`. The last two only concern drawing.
    """

    targets: str = "attention + up"
    rank: int = 4
    b_over_a: float = 1.0
    learning_rate: float = 3e-3
    shift: float = 1.0
    steps: int = 100
    batch: int = 8
    caption_dropout: float = 0.1
    ema: float = 0.0
    style_tokens: int = 0
    weight: float = 1.0
    guidance: float = 5.0

    @property
    def training(self) -> Setting:
        """The same without what only concerns drawing: cells that share it share an adapter."""
        return replace(self, weight=1.0, guidance=5.0)


FIRST = Setting()
ALL = replace(FIRST, targets="all")
PLUS = replace(ALL, b_over_a=4.0, learning_rate=1e-3)
LATE = replace(PLUS, shift=3.0)
#: `personal_config` and `PERSONAL`: an emphasis is a weight that is kept.
SHIPS = replace(ALL, rank=8, shift=3.0, steps=200, batch=16, weight=1.2, guidance=3.0)
SETTINGS: dict[str, Setting] = {
    "first version": FIRST,
    "all": ALL,
    "all x4": PLUS,
    "all x4 shift3": LATE,
    "first version, shift3": replace(FIRST, shift=3.0),
    "attention only": replace(FIRST, targets="attention"),
    "up + mid + out x4 shift3": replace(LATE, targets="attention + up + mid + out"),
    "all x4 shift3, lr 5e-4": replace(LATE, learning_rate=5e-4),
    "all x4 shift3, lr 2e-3": replace(LATE, learning_rate=2e-3),
    "all x8 shift3": replace(LATE, b_over_a=8.0),
    "all, lr 1e-3": replace(ALL, learning_rate=1e-3),
    "all, lr 5e-3": replace(ALL, learning_rate=5e-3),
    "all x4 shift3, rank 8": replace(LATE, rank=8),
    "all x4 shift3, 200 steps": replace(LATE, steps=200),
    "first version, 200 steps": replace(FIRST, steps=200),
    "first version, 200 steps, shift3": replace(FIRST, steps=200, shift=3.0),
    "first version, 200 steps, shift3, guidance 3": replace(FIRST, steps=200, shift=3.0, guidance=3.0),
    "first version, 200 steps, shift3, rank 8": replace(FIRST, steps=200, shift=3.0, rank=8),
    "all x4 shift3, 200 steps, rank 8": replace(LATE, steps=200, rank=8),
    "all x4 shift3, average": replace(LATE, ema=0.95),
    "all x4 shift3, dropout 0.2": replace(LATE, caption_dropout=0.2),
    "all x4 shift3, guidance 3": replace(LATE, guidance=3.0),
    "all x4 shift3, guidance 7": replace(LATE, guidance=7.0),
    "all x4 shift3, weight 1.25": replace(LATE, weight=1.25),
    "ships": SHIPS,
    "ships, 160 steps": replace(SHIPS, steps=160),
    "ships, style token": replace(SHIPS, style_tokens=4),
}


def trained(backbone: Backbone, data: LatentSet, setting: Setting, folder: Path) -> tuple[Adapter, float | None]:
    """The adapter of a setting, read from `folder` if it is there; and the CPU seconds that training took."""
    record = folder / "training.json"
    if record.exists():
        return Adapter.load(folder), json.loads(record.read_text(encoding="utf-8"))["cpu_s"]
    shape = AdapterConfig(setting.rank, setting.rank * setting.b_over_a, TARGETS[setting.targets])
    config = TrainConfig(
        steps=setting.steps,
        batch=setting.batch,
        learning_rate=setting.learning_rate,
        caption_dropout=setting.caption_dropout,
        validate_every=0,
        seed=0,
        timestep_shift=setting.shift,
        style_tokens=setting.style_tokens,
    )
    started, mean = time.process_time(), None
    for event in train(backbone, data, config=config, start=initial_adapter(backbone, shape)):
        if isinstance(event, Step) and setting.ema:
            now = event.state.adapter.tensors
            mean = {k: setting.ema * mean[k] + (1 - setting.ema) * v for k, v in now.items()} if mean else now
    seconds = round(time.process_time() - started, 1)
    adapter = replace(event.adapter, tensors=mean) if mean else event.adapter
    adapter.save(folder)
    record.write_text(json.dumps({"cpu_s": seconds, "setting": asdict(setting)}), encoding="utf-8")
    return adapter, seconds


def cell(
    backbone: Backbone, referee: Referee, name: str, art: ArtSet, sizes: dict[str, int], setting: Setting | None
) -> dict[str, Any]:
    """Train, draw and judge; `setting` None is the bare backbone."""
    asked = [picture.caption for picture in held_out(art, sizes["captions"])]
    test = cache_latents(backbone, art, "test")
    own, seconds = [], None
    if setting:
        key = "-".join(str(value) for value in asdict(setting.training).values()).replace(" ", "")
        folder = OUT / backbone.sha256[:8] / key / name
        adapter, seconds = trained(backbone, cache_latents(backbone, art, "train"), setting.training, folder)
        own = [(adapter, setting.weight)]
    guidance = setting.guidance if setting else backbone.steps_and_guidance[1]
    seeds = list(range(1000, 1000 + len(asked)))
    drawn = draw(backbone, asked, seeds=seeds, adapters=own, steps=sizes["draw_steps"], guidance=guidance)
    verdict = referee.verdict(name, drawn, asked)
    return {
        "style": round(verdict.accuracy(name), 4),
        "colour": round(verdict.colour_accuracy(name), 4),
        "mistaken_for": verdict.mistaken_for(name),
        "found": int(verdict.hits().sum()),
        "asked": len(verdict.ranks),
        "loss": round(denoising_loss(backbone, test, own, draws=2), 4),
        "parameters": own[0][0].size if own else 0,
        "cpu_s": seconds,
    }


def cells(
    backbone: Backbone,
    names: list[str],
    settings: dict[str, Setting],
    sizes: dict[str, int],
    done: list[dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """Every cell that is not done yet, the bare backbone first."""
    known = [{key: line[key] for key in ("backbone", "artist", "setting", "sizes")} for line in done]
    art: dict[str, ArtSet] = {}
    referee = None
    for label, setting in {"backbone alone": None, **settings}.items():
        for name in names:
            head = {
                "backbone": backbone.sha256[:8],
                "artist": name,
                "setting": asdict(setting) if setting else None,
                "sizes": sizes,
            }
            if head in known:
                continue
            art = art or {each: ArtSet.sample(each) for each in sorted(ArtSet.samples())}
            referee = referee or Referee.fit(art, backbone)
            yield {"label": label, **head, **cell(backbone, referee, name, art[name], sizes, setting)}


def table(lines: list[dict[str, Any]]) -> str:
    """The newest backbone's cells as Markdown: a row for each setting, best style first."""
    lines = [line for line in lines if line["backbone"] == lines[-1]["backbone"]]
    bare = {line["artist"]: line for line in lines if line["setting"] is None}
    rows = []
    for label in dict.fromkeys(line["label"] for line in lines):
        some = [line for line in lines if line["label"] == label]
        found, before = (sum(line["found"] for line in group) for group in (some, [bare[x["artist"]] for x in some]))
        worst = min(some, key=lambda line: line["style"])
        style, colour = (statistics.fmean(line[key] for line in some) for key in ("style", "colour"))
        columns = (
            label,
            len(some),
            f"{style:.0%}",
            f"{worst['artist']} {worst['style']:.0%}",
            f"{colour:.0%}",
            f"{found} : {before}",
            f"{statistics.fmean(line['loss'] / bare[line['artist']]['loss'] for line in some):.3f}",
            f"{some[0]['parameters']:,}",
            f"{statistics.fmean(line['cpu_s'] or 0 for line in some):.0f}",
        )
        rows.append((style, "| " + " | ".join(map(str, columns)) + " |"))
    head = "| setting | artists | style | worst | by colours | found : bare | loss / bare | parameters | CPU s |"
    return "\n".join([head, "|---" * 9 + "|", *(text for _, text in sorted(rows, reverse=True))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", metavar="FOLDER", help="a pipeline in diffusers' format, not the embedded one")
    parser.add_argument("--confirm", action="store_true", help="the five artists that did not choose")
    parser.add_argument("--artists", nargs="+", choices=CHOOSING + CONFIRMING, help="these artists and no others")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), help="these settings and no others")
    parser.add_argument("--captions", type=int, default=16, help="held-out captions of each artist")
    parser.add_argument("--draw-steps", type=int, default=12)
    parser.add_argument("--table", action="store_true", help="print the cells so far, do nothing else")
    chosen = parser.parse_args()
    done = [json.loads(line) for line in CELLS.read_text(encoding="utf-8").splitlines()] if CELLS.exists() else []
    if chosen.table:
        print(table(done))
        return
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    backbone = backbone_of(chosen.backbone, device="cpu")
    settings = {label: SETTINGS[label] for label in chosen.only} if chosen.only else SETTINGS
    sizes = {"captions": chosen.captions, "draw_steps": chosen.draw_steps}
    names = chosen.artists or (CONFIRMING if chosen.confirm else CHOOSING)
    for line in cells(backbone, names, settings, sizes, done):
        with CELLS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{line['label']}, {line['artist']}: style {line['style']:.0%}, found {line['found']}", flush=True)


if __name__ == "__main__":
    main()
