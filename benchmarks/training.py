"""How much faster is a training step than the loop of diffusers' public example? Same model, pictures, batch, adapter.

Ours is the real `train()` generator. The other is the loop of diffusers' `examples/text_to_image/
train_text_to_image_lora.py`, reproduced through the documented API in its default settings (float32, a `DataLoader`
without workers, `accelerate` where it is installed): in every step it opens the pictures' files, resizes, crops, flips
and normalises them, encodes them with the autoencoder and their captions with the text encoder, adds noise, predicts,
goes backward, clips, and steps AdamW and its schedule.

Both pass through the embedded backbone in turns in one process, on the same number of threads. Two things differ from
the example as published: its transforms are done by PIL and numpy, because torchvision is no dependency of ours (the
same operations: bilinear resize, crop, flip, to tensor, normalise), and its objective is the backbone's own (rectified
flow), so that the work is the same. The time of ours leaves out caching the pictures once (told as `cache_s`), and
counts the snapshot of every `Step`; the example's leaves out starting up and the first, warming steps, as does ours.

    python benchmarks/training.py --json

What each trick gave, one thread of a Zen 4 with AVX512_BF16, CPU time of forward and backward, batch 8, torch 2.13,
beside other work (read the ratios): float32 235 ms; bfloat16 autocast with fused attention 236 to 250 (its backward at
16 to 64 positions takes 2.4 to 4.9 ms against 0.3 to 0.7 plain); with plain attention 196; without peft's casts of the
input 187. Around it: a step's snapshot without the whole state dict 12.5 -> 1 ms; train() and eval() not in
every step, and the number type not asked of all modules, together about 10 ms. A whole step fell from 272 to 212 ms, of
a reproduced example's 490 to 540 (all CPU time). Tried and left out: channels_last
(GroupNorm in bfloat16 ten times slower: 193), weights cast once and kept (-2), A and B merged into W (its gradient
costs more than it saves), adapter convolutions as products and `fold` (+5), tracing (-10 %, 1.6 s to trace), LoRA
layers of our own in place of peft's forward (-5 %), channels_last with the norms' input put back (-2 %).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _report import backbone_of, measure, options, report
from diffusers.optimization import get_scheduler
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fedart_nb._system import settings
from fedart_nb.art import ArtSet
from fedart_nb.diffusion import Adapter, Backbone, LatentSet, TrainConfig, attached, initial_adapter, latents_of, train

BATCH, ARTIST = 8, "openmoji"
WARM_UP = 3

try:
    from accelerate import Accelerator
except ImportError:  # the loop is the same; only its wrapper is missing, and `how` says so
    Accelerator = None


class PictureFiles(Dataset[dict[str, torch.Tensor]]):
    """The example's dataset: a picture is opened and transformed, and its caption tokenized, whenever it is asked for.

    An item is `pixel_values`, float32 (3, size, size) in [-1, 1], and `input_ids`, (tokens,).
    """

    def __init__(self, files: list[Path], captions: list[str], tokenizer: Any, size_px: int) -> None:
        self.files, self.captions, self.tokenizer, self.size_px = files, captions, tokenizer, size_px

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        with Image.open(self.files[index]) as file:
            image = file.convert("RGB")
        scale = self.size_px / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left = int(torch.randint(image.width - self.size_px + 1, ()))
        top = int(torch.randint(image.height - self.size_px + 1, ()))
        image = image.crop((left, top, left + self.size_px, top + self.size_px))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        ids = self.tokenizer(
            [self.captions[index]],
            max_length=self.tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids[0]
        return {"pixel_values": (pixels - 0.5) / 0.5, "input_ids": ids}


def collate(items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {key: torch.stack([item[key] for item in items]) for key in ("pixel_values", "input_ids")}


def example_steps(
    backbone: Backbone, files: list[Path], captions: list[str], start: Adapter, config: TrainConfig
) -> Iterator[float]:
    """The example's training loop; yields the loss of every step."""
    pipeline = backbone.pipeline
    vae, text_encoder, unet = pipeline.vae, pipeline.text_encoder, pipeline.unet
    with attached(backbone, [(start, 1.0)], trainable=0):
        learning = [p for p in unet.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(learning, lr=config.learning_rate, weight_decay=0.0)
        loader: Any = DataLoader(
            PictureFiles(files, captions, pipeline.tokenizer, backbone.size_px),
            shuffle=True,
            collate_fn=collate,
            batch_size=config.batch,
            drop_last=True,  # an epoch's short last batch would flatter the example
        )
        schedule = get_scheduler("constant", optimizer=optimiser, num_warmup_steps=0, num_training_steps=config.steps)
        accelerator = Accelerator(cpu=backbone.device.type == "cpu") if Accelerator is not None else None
        if accelerator is not None:
            # Not the network itself: `prepare` would leave its marks on a backbone that other steps use in turns.
            optimiser, loader, schedule = accelerator.prepare(optimiser, loader, schedule)
        unet.train()
        try:
            done = 0
            while done < config.steps:
                for batch in loader:
                    encoded = vae.encode(batch["pixel_values"].to(backbone.device))
                    latents = encoded.latent_dist.sample() if hasattr(encoded, "latent_dist") else encoded.latents
                    latents = latents * vae.config.scaling_factor
                    noise = torch.randn_like(latents)
                    t = backbone.process.sample_t(len(latents), torch.default_generator).to(latents.device)
                    noisy = backbone.process.add_noise(latents, noise, t)
                    told = text_encoder(batch["input_ids"].to(backbone.device), return_dict=False)[0]
                    predicted = unet(noisy, t, told, return_dict=False)[0]
                    target = backbone.process.target(latents, noise, t)
                    loss = F.mse_loss(predicted.float(), target.float(), reduction="mean")
                    if accelerator is not None:
                        accelerator.backward(loss)
                        accelerator.clip_grad_norm_(learning, config.max_grad_norm)
                    else:
                        loss.backward()
                        torch.nn.utils.clip_grad_norm_(learning, config.max_grad_norm)
                    optimiser.step()
                    schedule.step()
                    optimiser.zero_grad()
                    done += 1
                    yield loss.detach().item()
                    if done == config.steps:
                        break
        finally:
            unet.eval()


def our_steps(backbone: Backbone, data: LatentSet, start: Adapter, config: TrainConfig) -> Iterator[float]:
    """Ours: the generator that panels and rounds run."""
    for event in train(backbone, data, config=config, start=start):
        if event.__class__.__name__ == "Step":
            yield event.loss


def step_times(steps: Iterator[float], clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Seconds of every step after the warm-up, waiting for the GPU where there is one."""
    times, last = [], clock()
    for index, _ in enumerate(steps):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = clock()
        if index >= WARM_UP:
            times.append(now - last)
        last = now
    return times


def compare(backbone: Backbone, art: ArtSet, folder: Path, *, steps: int, repetitions: int) -> dict[str, Any]:
    """Median step times of both ways, by repetition; one repetition is ours, then the example's."""
    pictures = art.included(None)
    captions = [picture.caption for picture in pictures]
    pixels = art.pixels(pictures)
    files = [folder / f"{index:04d}.png" for index in range(len(pictures))]
    for file, array in zip(files, pixels, strict=True):
        Image.fromarray(array).save(file)
    began = time.perf_counter()
    data = latents_of(backbone, pixels, captions, [picture.id for picture in pictures])
    cache_s = time.perf_counter() - began
    start = initial_adapter(backbone)
    config = TrainConfig(steps=steps + WARM_UP, batch=BATCH, learning_rate=1e-3, seed=0, validate_every=0)
    medians: dict[str, list[float]] = {"ours": [], "example": []}
    for _ in range(repetitions):
        medians["ours"].append(statistics.median(step_times(our_steps(backbone, data, start, config))))
        other = example_steps(backbone, files, captions, start, config)
        medians["example"].append(statistics.median(step_times(other)))
    return medians | {"cache_s": cache_s}


def main() -> None:
    chosen = options(__doc__, backbone=True)
    threads = settings.limit_threads()
    backbone = backbone_of(chosen.backbone)
    steps, repetitions, limit = (4, 2, 16) if chosen.quick else (20, 7, 40)
    with tempfile.TemporaryDirectory() as folder:
        art = ArtSet.sample(ARTIST, limit=limit)
        found = compare(backbone, art, Path(folder), steps=steps, repetitions=repetitions)
    ratios = [theirs / ours for ours, theirs in zip(found["ours"], found["example"], strict=True)]
    ours, theirs = statistics.median(found["ours"]), statistics.median(found["example"])
    half = backbone.device.type == "cpu" and settings.fast_bfloat16()
    lines = [
        measure(
            "train.speedup_vs_example",
            round(theirs / ours, 2),
            "x",
            spread=(round(min(ratios), 2), round(max(ratios), 2)),
            seeds=repetitions,
            baseline={
                "ours_step_s": round(ours, 4),
                "example_step_s": round(theirs, 4),
                "cache_s": round(found["cache_s"], 3),
            },
            how=f"{backbone.device.type}, {threads} threads, batch {BATCH}, {backbone.size_px} px, default adapter; "
            f"medians of {steps} steps, {repetitions} repetitions in turns; ours in "
            f"{'bfloat16' if half else 'float32'} on cached latents, the example in float32 from PNG files, "
            f"{'with' if Accelerator is not None else 'without'} accelerate",
        )
    ]
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
