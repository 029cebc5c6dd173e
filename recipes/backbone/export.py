"""Stage 3: write the trained pipeline in diffusers' own format (fp16, files of at most 16 MB), its card and a sheet."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import autoencoder
import denoiser
import numpy as np
import pool
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from fedart_nb.figures import contact_sheet

SHARD_SIZE = "15MB"


def pipeline_of(folder: Path, records: list[pool.Record]) -> StableDiffusionPipeline:
    """The checkpointed parts (EMA weights) as a `StableDiffusionPipeline` that samples flow-matched velocities."""
    latents = torch.load(folder / "latents.pt", weights_only=True)
    weights = torch.load(folder / "denoiser.pt", weights_only=True, map_location="cpu")["ema"]
    tokenizer = denoiser.build_tokenizer(records)
    channels = latents["train"].shape[1]
    vae = autoencoder.read(folder)
    vae.register_to_config(scaling_factor=float(latents["scaling_factor"]))
    unet, text = denoiser.build_unet(channels), denoiser.build_text_encoder(len(tokenizer))
    for name, module in (("unet", unet), ("text", text)):
        prefix = f"{name}."
        module.load_state_dict({k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)})
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
        final_sigmas_type="zero",
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sheet_captions(held_out: list[pool.Record], count: int = 24) -> list[pool.Record]:
    """Held-out captions for the sheet: each once, at most four portraits, spread over sources, by a fixed seed."""
    rng = np.random.default_rng(7)
    order = [held_out[i] for i in rng.permutation(len(held_out))]
    chosen: list[pool.Record] = []
    per_source: Counter[str] = Counter()
    portraits = 0
    for record in order:
        portrait = record.source.startswith("dicebear")
        if (
            record.caption in {r.caption for r in chosen}
            or per_source[record.source] >= 5
            or (portrait and portraits >= 4)
        ):
            continue
        chosen.append(record)
        per_source[record.source] += 1
        portraits += portrait
    return chosen[:count]


def load_as_float32(folder: Path) -> None:
    """Half the bytes on disk, float32 in memory: transformers would load what its config names, and diffusers float32.

    Without it `StableDiffusionPipeline.from_pretrained` mixes the two, and a prompt ends in an error.
    """
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": "float32"}, indent=2, sort_keys=True) + "\n")


def write(parts: dict[str, list[pool.Record]], *, folder: Path, log: Path, seed: int) -> None:
    """Write `folder/embedded` (the pipeline), its README.md model card and `sheet.png`."""
    records = [r for rs in parts.values() for r in rs]
    pipeline = pipeline_of(folder, records)
    target = folder / "embedded"
    pipeline.to(torch.float16).save_pretrained(target, safe_serialization=True, max_shard_size=SHARD_SIZE)
    load_as_float32(target)
    pipeline.to(torch.float32)
    chosen = sheet_captions(parts["captions"])
    pictures = []
    for start in range(0, len(chosen), 6):
        row = chosen[start : start + 6]
        pictures += pipeline(
            [f"{denoiser.style_word(r.source)} {r.caption}" for r in row],
            num_inference_steps=20,
            guidance_scale=3.0,
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(row))],
            output_type="np",
        ).images.tolist()
    images = (np.asarray(pictures) * 255).round().astype(np.uint8)
    sheet = contact_sheet(images, [f"{r.caption} {denoiser.style_word(r.source)}" for r in chosen], columns=6)
    (folder / "sheet.png").write_bytes(sheet.png)
    (target / "README.md").write_text(card(parts, log, pipeline.vae.config.latent_channels), encoding="utf-8")
    print("wrote", target, "and", folder / "sheet.png")


def card(parts: dict[str, list[pool.Record]], log: Path, channels: int) -> str:
    """The model card: what it is, what it was trained on, how long, how well, and what it is not for."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    data = next(e for e in reversed(events) if e["stage"] == "data")
    runs = "\n".join(_runs(events))
    used = [r for rs in parts.values() for r in rs]
    sources = Counter((r.source, r.licence) for r in used)
    origins = {source: sorted({r.origin for r in used if r.source == source}) for source, _ in sources}
    rows = "\n".join(
        f"| {s} | {n} | {_credit(origins[s])} | {licence} |" for (s, licence), n in sorted(sources.items())
    )
    return f"""# The embedded backbone

A small latent diffusion pipeline that ships with fedart-nb: 128 px pictures, {channels}x16x16 latents, drawn
in the manner of emoji, icons, clip art and portrait avatars. A teaching model: {data["n_train"]} training pictures,
11 M parameters.
It draws single objects and faces; it cannot write text, compose scenes or draw photographs.

| part | what | parameters |
|---|---|---|
| `vae` | `AutoencoderTiny`, f8, residual blocks at 1/2, 1/4 and 1/8 resolution | 2.3 M |
| `unet` | `UNet2DConditionModel` (64, 128, 192), cross-attention at 8x8 and 4x4 | 11.0 M |
| `text_encoder` | `CLIPTextModel`, 2 layers of width {denoiser.TEXT_WIDTH}, word-level tokenizer | 1.2 M |
| `scheduler` | `DPMSolverMultistepScheduler`, rectified flow | |

Load it with plain diffusers: `StableDiffusionPipeline.from_pretrained(folder)`. Prompts are lower-case words; a style
word such as `<noto>` or `<openclipart>` in front asks for one source's hand. The encoder knows whole words only.
`Backbone` reads another word as a form of a known one, as the nearest in meaning (`tokenizer/nearest_words.json`, made
with all-MiniLM-L6-v2, Apache-2.0) or as a typing slip, and ignores the rest; `Backbone.understand(prompt)` says which,
and the panels show it. Plain diffusers reads every such word as `<unk>`: give it `Backbone.understand(prompt).text`.

## How it was trained

`recipes/backbone/train.py` with seed {data["seed"]} on {data["device"]} (torch {data["torch"]}), in several runs, each
going on from the one before (`recipes/backbone/README.md`); data SHA-256 of the last `{data["data_sha256"]}`.

| run | stage | steps | minutes | held out |
|---|---|---|---|---|
{runs}

Held out: {data["n_captions"]} pictures whose whole caption never occurs in training, and {data["n_pictures"]} single
pictures. Minutes are of one run on a busy two-core machine, partly on one thread.

## What it was trained on, and whose it is

Every picture was drawn by somebody else and is used under its licence; no share-alike art and none of the ten sample
artists' pictures is among them. Two sources (streamline_emojis, streamline_ultimate_color) come from the studio of the
sample artist `freehand`, in another style; the designer of `lorelei` was left out. Every sheet of the pool was looked
at: likenesses of real people, brands, photographs, text and what nobody could recognise were dropped, and captions that
were file names or foreign words were written anew (`recipes/backbone/curation_*.csv`).
The weights are released under the MIT licence of this repository; keep this table with them.

| source | pictures | from, by | licence |
|---|---|---|---|
{rows}
"""


def _credit(origins: list[str]) -> str:
    """One origin as it stands; of many authors in one package, their number."""
    return origins[0] if len(origins) == 1 else f"{origins[0].split(' (')[0]} ({len(origins)} authors)"


def _runs(events: list[dict[str, object]]) -> list[str]:
    """The end of every run in the log, a row each: a run begins with its data."""
    held_out = {
        "autoencoder": lambda e: f"{e['psnr_held_out']:.2f} dB PSNR, unseen pictures",
        "denoiser": lambda e: (
            f"velocity error {e['held_out_pictures']:.4f} pictures, {e['held_out_captions']:.4f} captions"
        ),
    }
    ends: dict[tuple[int, str], dict[str, object]] = {}
    run = 0
    for event in events:
        run += event["stage"] == "data"
        if "psnr_held_out" in event or "held_out_pictures" in event:
            ends[run, str(event["stage"])] = event
    return [
        f"| {event['at']} | {stage} | {event['step']} | {event['seconds'] / 60:.0f} | {held_out[stage](event)} |"
        for (_, stage), event in ends.items()
    ]
