"""How firmly should a personal adapter's drawing be tied to the bare backbone?

`fedart_nb.diffusion.Anchor` has the three numbers.

The artists with captions that can be looked for (the trio of `benchmarks/_personal.py` and gameicons) train the adapter
that ships, with a seed that no benchmark uses, and draw the held-out captions that `benchmarks/personal.py` does *not*
draw. Cells go to `anchors.jsonl`, adapters to `out/personal/anchor`; what is there already is not done again.

    python recipes/personal/anchor.py            # two processes of one thread
    python recipes/personal/anchor.py --table    # the cells as Markdown
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import statistics
import sys
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Adapter, Anchor, Backbone, draw

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from _personal import TRIO, Referee, held_out  # noqa: E402 - it lives beside the benchmark
from personal import FULL, trained  # noqa: E402 - the same

CELLS = Path(__file__).parent / "anchors.jsonl"
OUT = ROOT / "out" / "personal" / "anchor"
ARTISTS = (*TRIO, "gameicons")
TRAINING_SEED, DRAWING_SEEDS = 7, (0, 1)
BARE, PLAIN = "backbone alone", "no anchor"
#: caption, style, until
ANCHORS = (
    (2, 0, 0.7),
    (2, 0.5, 0.7),
    (2, 1, 0.7),
    (3, 1, 0.7),
    (3, 0.5, 0.8),
    (3, 1, 0.8),
    (6, 0.5, 0.9),
    (4, 0.5, 0.8),
    (4, 0.5, 0.85),
    (4, 1, 0.8),
    (5, 1, 0.8),
)
ARMS: dict[str, Anchor | None] = {BARE: None, PLAIN: None}
ARMS |= {f"caption {h:g}, style {s:g}, until {u:g}": Anchor(h, s, u) for h, s, u in ANCHORS}


@cache
def backbone() -> Backbone:
    torch.set_num_threads(1)
    return Backbone.embedded(device="cpu")


@cache
def referee() -> Referee:
    return Referee.fit({name: ArtSet.sample(name) for name in sorted(ArtSet.samples())}, backbone())


def captions(art: ArtSet) -> list[str]:
    """Held-out captions that are not those of the benchmark."""
    there = {picture.id for picture in held_out(art, FULL.captions)}
    return [picture.caption for picture in held_out(art) if picture.id not in there]


def adapter(name: str) -> Adapter:
    path = OUT / backbone().sha256[:8] / name
    if not path.exists():
        trained(backbone(), ArtSet.sample(name), FULL, TRAINING_SEED).save(path)
    return Adapter.load(path)


def cell(head: dict[str, Any]) -> dict[str, Any]:
    """Draw and judge one artist's captions in one way."""
    name, arm = head["artist"], head["arm"]
    asked = captions(ArtSet.sample(name))
    drawn = draw(
        backbone(),
        asked,
        seeds=[100_000 * (head["seed"] + 1) + i for i in range(len(asked))],
        adapters=[] if arm == BARE else [(adapter(name), 1.0)],
        steps=FULL.draw_steps,
        anchor=ARMS[arm],
    )
    verdict = referee().verdict(name, drawn, asked)
    return {
        **head,
        "style": round(verdict.accuracy(name), 4),
        "found": int(verdict.hits().sum()),
        "asked": len(verdict.ranks),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """A row for each arm: mean style, captions found, and the latter as a share of what the bare backbone finds."""
    lines = [line for line in lines if line["backbone"] == lines[-1]["backbone"]]
    bare = {(line["artist"], line["seed"]): line["found"] for line in lines if line["arm"] == BARE}
    rows = ["| drawn with | style | found | kept |", "|---|---|---|---|"]
    for arm in dict.fromkeys(line["arm"] for line in lines):
        some = [line for line in lines if line["arm"] == arm]
        found, asked = (sum(line[key] for line in some) for key in ("found", "asked"))
        before = sum(bare[line["artist"], line["seed"]] for line in some)
        style = statistics.fmean(line["style"] for line in some)
        rows.append(f"| {arm} | {style:.0%} | {found} of {asked} | {found / before:.2f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="print the cells so far, do nothing else")
    done = [json.loads(line) for line in CELLS.read_text(encoding="utf-8").splitlines()] if CELLS.exists() else []
    if not parser.parse_args().table:
        known = [{key: line[key] for key in ("backbone", "artist", "arm", "seed")} for line in done]
        key = backbone().sha256[:8]
        heads = [
            {"backbone": key, "artist": name, "arm": arm, "seed": seed}
            for arm in ARMS
            for seed in DRAWING_SEEDS
            for name in ARTISTS
        ]
        with get_context("spawn").Pool(2) as workers:
            for line in workers.imap(cell, [head for head in heads if head not in known]):
                done.append(line)
                with CELLS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)
    print(table(done))


if __name__ == "__main__":
    main()
