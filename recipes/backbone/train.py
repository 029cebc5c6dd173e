"""Train the embedded backbone in one resumable command, on two CPU cores or a GPU.

    python recipes/backbone/train.py --pool POOL --pool2 POOL2 --out out/backbone

Stages, each from its checkpoint: autoencoder, latents, denoiser, export. The log (`log.jsonl`) holds loss, seeds, data
hash and versions; `export` writes the pipeline in diffusers' format with its model card and a contact sheet.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import autoencoder
import drawings as pool2
import pool


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="the first pool: metadata.csv and pictures")
    parser.add_argument("--pool2", type=Path, required=True, help="the second pool, with concepts and looks")
    parser.add_argument("--out", type=Path, default=Path("out/backbone"))
    parser.add_argument("--stage", choices=["all", "autoencoder", "latents", "denoiser", "export"], default="all")
    parser.add_argument("--autoencoder-minutes", type=float, default=20.0)
    parser.add_argument("--autoencoder-steps", type=int, default=60_000)
    parser.add_argument("--samples", type=int, default=10_000_000, help="denoiser: pictures trained on in all")
    parser.add_argument("--minutes", type=float, default=math.inf, help="denoiser: processor time, then save and stop")
    parser.add_argument("--compile", action="store_true", help="denoiser: spend some minutes, train a third faster")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latent-channels", type=int, default=8)
    parser.add_argument("--start", type=Path, help="go on from this pipeline folder, such as the embedded one")
    parser.add_argument("--decoder-only", action="store_true", help="keep the encoder, and with it the latents")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch decides")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    args.out.mkdir(parents=True, exist_ok=True)

    drawings = pool2.read(args.pool, args.pool2)
    log = Log(args.out / "log.jsonl")
    log.write(
        stage="data",
        seed=args.seed,
        device=str(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
        data_sha256=pool2.data_hash(drawings),
        n_train=sum(not d.held_out for d in drawings),
        n_held_out=sum(d.held_out for d in drawings),
        concepts=len({d.concept for d in drawings}),
    )

    if args.stage in ("all", "autoencoder"):
        events = autoencoder.train(
            pool.pixels([d for d in drawings if not d.held_out]),
            pool.pixels([d for d in drawings if d.held_out]),
            state_path=args.out / "autoencoder.pt",
            minutes=args.autoencoder_minutes,
            steps=args.autoencoder_steps,
            seed=args.seed,
            device=device,
            latent_channels=args.latent_channels,
            start=args.start / "vae" if args.start else None,
            decoder_only=args.decoder_only,
        )
        for event in events:
            log.write(stage="autoencoder", **event)
    if args.start and not (args.out / "autoencoder.pt").exists():
        autoencoder.adopt(args.start / "vae", args.out)
    if args.stage in ("all", "latents"):
        import encoding

        encoding.encode(drawings, args.out, device)
    if args.stage in ("all", "denoiser"):
        import denoiser

        events = denoiser.train(
            drawings,
            folder=args.out,
            setup=denoiser.Setup(),
            samples=args.samples,
            minutes=args.minutes,
            seed=args.seed,
            device=device,
            start=args.start,
            compiled=args.compile,
        )
        for event in events:
            log.write(stage="denoiser", **event)
    if args.stage in ("all", "export"):
        import export

        export.write(drawings, folder=args.out, log=args.out / "log.jsonl", seed=args.seed)


class Log:
    """Append-only JSON lines, echoed to the terminal."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **event: object) -> None:
        event = {k: round(v, 5) if isinstance(v, float) else v for k, v in event.items()}
        line = json.dumps({"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **event})
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
