"""Twenty processor minutes for each way to train the denoiser, from equal starts, judged on held-out drawings.

    python recipes/backbone/gates.py --pool POOL --pool2 POOL2 --out out/backbone

Each gate trains as `train.py` does, with the learning rate falling to the end of its own budget, and writes one line
to `gates.jsonl`: held-out velocity error by band of t, pictures trained on, seconds. A gate that is there is not run
again. The budget is time of the processor, not of the clock, so that what else the machine does matters little.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import denoiser
import drawings as pool2

BASE = denoiser.Setup(optimiser="adamw", pooled=False, lr=6e-4, decay=0.998)
MUON = replace(BASE, optimiser="muon")
#: name: (setup, whether it starts from the weights that ship). What is compared starts alike.
GATES: dict[str, tuple[denoiser.Setup, bool]] = {
    "adamw": (BASE, True),
    "muon": (MUON, True),
    "muon+pooled": (replace(MUON, pooled=True), True),
    "muon+pooled+noisier": (replace(MUON, pooled=True, noisy=1.0), True),
    "muon+pooled, scratch": (replace(MUON, pooled=True, lr=1e-3), False),
    "muon+pooled+64,192,320, scratch": (replace(MUON, pooled=True, lr=1e-3, widths=(64, 192, 320)), False),
    "muon+pooled, batch 128": (replace(MUON, pooled=True, batch=128), True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--pool2", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("out/backbone"))
    parser.add_argument("--start", type=Path, default=Path("fedart_nb/diffusion/embedded"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--only", nargs="*", choices=list(GATES), help="these gates")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    drawings = pool2.read(args.pool, args.pool2)
    path = args.out / "gates.jsonl"
    done = {json.loads(line)["gate"] for line in path.read_text().splitlines()} if path.exists() else set()
    for name in args.only or GATES:
        if name in done:
            continue
        setup, from_shipped = GATES[name]
        with tempfile.TemporaryDirectory(dir=args.out) as folder:
            (Path(folder) / "latents").mkdir()
            for part in (args.out / "latents").glob("*.pt"):  # upright ones alone: every gate the same data
                if part.name.startswith(("held-", "upright-")):
                    (Path(folder) / "latents" / part.name).symlink_to(part.resolve())
            shutil.copy(args.out / "autoencoder.pt", folder)
            events = denoiser.train(
                drawings,
                folder=Path(folder),
                setup=setup,
                samples=10**9,
                seed=args.seed,
                device=torch.device("cpu"),
                minutes=args.minutes,
                start=args.start if from_shipped else None,
                by_time=True,
            )
            for event in events:
                print(name, json.dumps(event), flush=True)
            kept = args.out / "gates" / f"{name.replace(' ', '_')}.pt"
            kept.parent.mkdir(exist_ok=True)
            state = torch.load(Path(folder) / "denoiser.pt", weights_only=True)
            torch.save({"ema": state["ema"], "setup": asdict(setup)}, kept)
        with path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"gate": name, "setup": asdict(setup), "seed": args.seed, **event}) + "\n")


if __name__ == "__main__":
    main()
