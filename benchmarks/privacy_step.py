"""What does a private training step cost? Plain, ours, and Opacus' stock recipe: same model, pictures, batch, adapter.

Plain and ours are the real `train()` generator, without and with `private=PrivateTraining(...)`. Opacus' recipe is what
its documentation shows, on the same network with the same LoRA adapter: `PrivacyEngine().make_private(module=unet,
optimizer=AdamW, data_loader=..., grad_sample_mode="hooks", wrap_model=False)`, float32, its Poisson loader, its
optimizer's clipping and noise (torch's generator; `secure_mode` needs torchcsprng, which has no build for this torch).

All three pass through the embedded backbone in turns in one process on the same threads. Every step has exactly 8
pictures in it: eight pictures, batch 8, so that a Poisson sample of rate 1 is all of them; with `--poisson`, samples
of expected size 8 out of 40 (their sizes vary, and so do the times). Ours and plain also take every `Step`'s snapshot.
Times are wall-clock; beside other work read the ratios.

    python benchmarks/privacy_step.py --json
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from _report import backbone_of, measure, options, report

from fedart_nb._system import settings
from fedart_nb.art import ArtSet
from fedart_nb.diffusion import (
    Adapter,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    attached,
    cache_latents,
    initial_adapter,
    train,
)
from fedart_nb.events import Step

BATCH, WARM_UP = 8, 3
PRIVATE = PrivateTraining(noise_multiplier=1.4, clip_norm=0.1, factors="both")


def our_steps(
    backbone: Backbone, data: LatentSet, start: Adapter, steps: int, private: PrivateTraining | None
) -> Iterator[None]:
    config = TrainConfig(steps=steps, batch=BATCH, learning_rate=1e-3, validate_every=0)
    for event in train(backbone, data, config=config, start=start, private=private):
        if isinstance(event, Step):
            yield


def opacus_steps(backbone: Backbone, data: LatentSet, start: Adapter, steps: int) -> Iterator[None]:
    from opacus import PrivacyEngine

    network = backbone.denoiser
    with attached(backbone, [(start, 1.0)], trainable=0):
        learning = [p for p in network.parameters() if p.requires_grad]
        network.train()
        pictures: Any = torch.utils.data.TensorDataset(data.latents, data.embeddings.embeddings)
        hooks, optimiser, loader = PrivacyEngine().make_private(
            module=network,
            optimizer=torch.optim.AdamW(learning, lr=1e-3, weight_decay=0.0),
            data_loader=torch.utils.data.DataLoader(pictures, batch_size=min(BATCH, len(data))),
            noise_multiplier=PRIVATE.noise_multiplier,
            max_grad_norm=PRIVATE.clip_norm,
            grad_sample_mode="hooks",
            wrap_model=False,
        )
        try:
            done = 0
            while done < steps:
                for x0, told in loader:
                    optimiser.zero_grad()
                    if len(x0):
                        t = backbone.process.sample_t(len(x0), torch.default_generator)
                        eps = torch.randn_like(x0)
                        noisy = backbone.process.add_noise(x0, eps, t)
                        predicted = network(noisy, t, encoder_hidden_states=told).sample
                        F.mse_loss(predicted, backbone.process.target(x0, eps, t)).backward()
                        optimiser.step()
                    done += 1
                    yield
                    if done == steps:
                        break
        finally:
            hooks.cleanup()
            network.eval()


def step_times(steps: Iterator[None]) -> list[float]:
    """Seconds of every step after the warm-up."""
    times, last = [], time.perf_counter()
    for index, _ in enumerate(steps):
        now = time.perf_counter()
        if index >= WARM_UP:
            times.append(now - last)
        last = now
    return times


def compare(backbone: Backbone, data: LatentSet, *, steps: int, repetitions: int) -> dict[str, list[float]]:
    """Median step times of the three ways, by repetition; one repetition is each of them once."""
    start = initial_adapter(backbone)
    medians: dict[str, list[float]] = {"plain": [], "private": [], "opacus": []}
    for _ in range(repetitions):
        ways = {
            "plain": our_steps(backbone, data, start, steps + WARM_UP, None),
            "private": our_steps(backbone, data, start, steps + WARM_UP, PRIVATE),
            "opacus": opacus_steps(backbone, data, start, steps + WARM_UP),
        }
        for name, way in ways.items():
            medians[name].append(statistics.median(step_times(way)))
    return medians


def main() -> None:
    poisson = "--poisson" in sys.argv
    if poisson:
        sys.argv.remove("--poisson")
    chosen = options(__doc__, backbone=True)
    warnings.filterwarnings("ignore", message="Full backward hook|Secure RNG turned off")
    threads = settings.limit_threads()
    backbone = backbone_of(chosen.backbone)
    steps, repetitions = (4, 2) if chosen.quick else (20, 7)
    data = cache_latents(backbone, ArtSet.sample("openmoji", limit=40 if poisson else BATCH), None)
    found = compare(backbone, data, steps=steps, repetitions=repetitions)
    seconds = {name: statistics.median(values) for name, values in found.items()}
    half = backbone.device.type == "cpu" and settings.fast_bfloat16()
    how = (
        f"{backbone.device.type}, {threads} threads, {'Poisson samples of expected size' if poisson else 'batch'} "
        f"{BATCH}, default adapter; medians of {steps} steps, {repetitions} repetitions in turns; plain and ours in "
        f"{'bfloat16' if half else 'float32'}, Opacus in float32"
    )
    lines = []
    for name, against, label in (
        ("private", "plain", "privacy.dp_step_ratio"),
        ("opacus", "plain", "privacy.opacus_step_ratio"),
        ("opacus", "private", "privacy.dp_step_speedup_vs_opacus"),
    ):
        ratios = [a / b for a, b in zip(found[name], found[against], strict=True)]
        lines.append(
            measure(
                label,
                round(statistics.median(ratios), 2),
                "x",
                spread=(round(min(ratios), 2), round(max(ratios), 2)),
                seeds=repetitions,
                baseline={f"{key}_step_s": round(value, 4) for key, value in seconds.items()},
                how=how,
            )
        )
    report(__file__, lines, chosen, complete=not poisson)


if __name__ == "__main__":
    main()
