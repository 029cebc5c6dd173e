"""Stage 3: write the trained pipeline in diffusers' own format (fp16, files of at most 16 MB), its card and a sheet."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import autoencoder
import denoiser
import drawings as pool2
import encoding
import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

from fedart_nb.figures import contact_sheet

SHARD_SIZE = "15MB"


def pipeline_of(folder: Path, drawings: list[pool2.Drawing]) -> StableDiffusionPipeline:
    """The checkpointed parts (EMA weights) as a `StableDiffusionPipeline` that samples flow-matched velocities."""
    state = torch.load(folder / "denoiser.pt", weights_only=True, map_location="cpu")
    weights, setup = state["ema"], denoiser.Setup(**state["setup"])
    tokenizer = denoiser.build_tokenizer(drawings)
    vae = autoencoder.read(folder)
    vae.register_to_config(scaling_factor=encoding.read(drawings, folder).scale)
    unet = denoiser.build_unet(vae.config.latent_channels, setup)
    text = denoiser.build_text_encoder(len(tokenizer))
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


#: What the sheet shows: everyday words, as a person would try them.
SHEET = """cat dog tree house fish bird car apple flower sun moon boat cup key book chair hat shoe star heart mushroom
bicycle guitar castle"""


def write(drawings: list[pool2.Drawing], *, folder: Path, log: Path, seed: int) -> None:
    """Write `folder/embedded` (the pipeline), its README.md model card and `sheet.png`."""
    pipeline = pipeline_of(folder, drawings)
    target = folder / "embedded"
    pipeline.to(torch.float16).save_pretrained(target, safe_serialization=True, max_shard_size=SHARD_SIZE)
    pipeline.to(torch.float32)
    names = {synonym: c.name for c in pool2.everyday().values() for synonym in (*c.synonyms, c.name)}
    prompts = [names.get(word, word) for word in SHEET.split()]
    pictures = []
    for start in range(0, len(prompts), 6):
        row = prompts[start : start + 6]
        pictures += pipeline(
            row,
            num_inference_steps=20,
            guidance_scale=3.0,
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(row))],
            output_type="np",
        ).images.tolist()
    images = (np.asarray(pictures) * 255).round().astype(np.uint8)
    sheet = contact_sheet(images, prompts, columns=6)
    (folder / "sheet.png").write_bytes(sheet.png)
    (target / "README.md").write_text(card(drawings, log, pipeline), encoding="utf-8")
    print("wrote", target, "and", folder / "sheet.png")


def card(drawings: list[pool2.Drawing], log: Path, pipeline: StableDiffusionPipeline) -> str:
    """The model card: what it is, what it was trained on, how long, how well, and what it is not for."""
    events = [json.loads(line) for line in log.read_text().splitlines()]
    data = next(e for e in reversed(events) if e["stage"] == "data")
    runs = "\n".join(_runs(events))
    sources = Counter((d.source, d.licence) for d in drawings)
    origins = {source: sorted({d.origin for d in drawings if d.source == source}) for source, _ in sources}
    rows = "\n".join(
        f"| {s} | {n} | {_credit(origins[s])} | {licence} |" for (s, licence), n in sorted(sources.items())
    )
    widths = ", ".join(map(str, pipeline.unet.config.block_out_channels))
    styles = " ".join(f"`{style}`" for style in denoiser.styles_of(drawings))
    channels = pipeline.vae.config.latent_channels
    vae, unet, text = (_millions(module) for module in (pipeline.vae, pipeline.unet, pipeline.text_encoder))
    listed = len({d.concept for d in drawings} & pool2.everyday().keys())
    return f"""# The embedded backbone

A small latent diffusion pipeline that ships with fedart-nb: 128 px pictures, {channels}x16x16 latents, drawn
in the manner of emoji, icons, clip art and portrait avatars. A teaching model: {data["n_train"]} training pictures,
{unet} parameters. It draws {listed} everyday things (`recipes/backbone/everyday.csv`), some hundred others,
and faces; it cannot write text, compose scenes or draw photographs.

| part | what | parameters |
|---|---|---|
| `vae` | `AutoencoderTiny`, f8, residual blocks at 1/2, 1/4 and 1/8 resolution | {vae} |
| `unet` | `UNet2DConditionModel` ({widths}), cross-attention at 8x8 and 4x4 | {unet} |
| `text_encoder` | `CLIPTextModel`, 2 layers of width {denoiser.TEXT_WIDTH}, words | {text} |
| `scheduler` | `DPMSolverMultistepScheduler`, rectified flow | |

Load it with plain diffusers: `StableDiffusionPipeline.from_pretrained(folder)`. Prompts are lower-case words; a
word in front asks for a look or, in colour, for one source's style: {styles}. Without one it draws in colour. The
encoder knows whole words only.
`Backbone` reads another word as a form of a known one, as the nearest in meaning (`tokenizer/nearest_words.json`, made
with all-MiniLM-L6-v2, Apache-2.0) or as a typing slip, and ignores the rest; `Backbone.understand(prompt)` says which,
and the panels show it. Plain diffusers reads every such word as `<unk>`: give it `Backbone.understand(prompt).text`.

## How it was trained

`recipes/backbone/train.py` with seed {data["seed"]} on {data["device"]} (torch {data["torch"]}), in several runs, each
going on from the one before (`recipes/backbone/README.md`); data SHA-256 of the last `{data["data_sha256"]}`.

| run | stage | steps | minutes | held out |
|---|---|---|---|---|
{runs}

Held out: {data["n_held_out"]} drawings; velocity errors are those of listed things, the mean of four bands of t.
Minutes are the processor's, of one run on a busy two-core machine, partly on one thread.

## What it was trained on, and whose it is

Every picture was drawn by somebody else and is used under its licence; no share-alike art and none of the ten sample
artists' pictures is among them, nor any of their studios'. Every sheet of the pools was looked at: likenesses of real
people, brands, photographs, text and what nobody could recognise were dropped, and captions that were file names or
foreign words were written anew (`recipes/backbone/curation_*.csv`).
The weights are released under the MIT licence of this repository; keep this table with them.

| source | pictures | from, by | licence |
|---|---|---|---|
{rows}
"""


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} M"


def _credit(origins: list[str]) -> str:
    """One origin as it stands; of many authors in one package, their number."""
    return origins[0] if len(origins) == 1 else f"{origins[0].split(' (')[0]} ({len(origins)} authors)"


def _runs(events: list[dict[str, object]]) -> list[str]:
    """The end of every run in the log, a row each: a run begins with its data."""
    held_out = {
        "autoencoder": lambda e: f"{e['psnr_held_out']:.2f} dB PSNR, unseen pictures",
        "denoiser": lambda e: f"velocity error {e['held_out_mean']:.4f}",
    }
    ends: dict[tuple[int, str], dict[str, object]] = {}
    run = 0
    for event in events:
        run += event["stage"] == "data"
        if "psnr_held_out" in event or "held_out_mean" in event:
            ends[run, str(event["stage"])] = event
    return [
        f"| {event['at']} | {stage} | {event['step']} | {event['seconds'] / 60:.0f} | {held_out[stage](event)} |"
        for (_, stage), event in ends.items()
    ]
