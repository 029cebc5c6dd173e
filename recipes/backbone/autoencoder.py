"""Stage 1: a tiny f8 autoencoder (TAESD's blocks, `AutoencoderTiny`) trained on the pool's pictures.

The usual layout spends most of its time at full resolution, where a CPU manages one picture a second; here the
residual blocks sit at 1/2, 1/4 and 1/8 only, and bf16 does the rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

LATENT_NOISE = 0.05


def build(latent_channels: int = 4) -> AutoencoderTiny:
    """About 1.6 M parameters: 128x128x3 to latent_channels x16x16 and back."""
    return AutoencoderTiny(
        encoder_block_out_channels=(64, 64, 64, 64),
        decoder_block_out_channels=(64, 64, 64, 64),
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 2, 1, 0),
        latent_channels=latent_channels,
    )


def to_tensor(pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in [-1, 1], channels last in memory."""
    x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 + MSE + 0.5 L1 of finite differences at two scales: edges and ink lines count more than flat ground."""
    loss = F.l1_loss(y, x) + F.mse_loss(y, x)
    for scale in (1, 2):
        a, b = (F.avg_pool2d(t, scale) for t in (y, x)) if scale > 1 else (y, x)
        for dim in (2, 3):
            loss = loss + 0.5 / scale * F.l1_loss(a.diff(dim=dim), b.diff(dim=dim))
    return loss


def psnr(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB per picture; inputs in [-1, 1]."""
    mse = (y.clamp(-1, 1) - x).square().mean(dim=(1, 2, 3)) / 4
    return -10 * torch.log10(mse + 1e-10)


@torch.no_grad()
def evaluate(model: AutoencoderTiny, pictures: np.ndarray, device: torch.device) -> float:
    """Mean PSNR in dB over held-out pictures."""
    values = []
    for start in range(0, len(pictures), 64):
        x = to_tensor(pictures[start : start + 64], device)
        values.append(psnr(model.decoder(model.encoder(x)), x))
    return float(torch.cat(values).mean())


def train(
    pictures: np.ndarray,
    held_out: np.ndarray,
    *,
    state_path: Path,
    minutes: float,
    steps: int,
    seed: int,
    device: torch.device,
    batch: int = 16,
    lr: float = 2e-3,
) -> Iterator[dict[str, float]]:
    """Train until `steps` or `minutes`, whichever is first (the learning rate follows); resumes from `state_path`."""
    torch.manual_seed(seed)
    model = build().to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=1e-4)
    step, spent = 0, 0.0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    rng = np.random.default_rng((seed, step))
    last = time.monotonic()
    running = 0.0
    while True:
        progress = min(1.0, max(step / steps, spent / (60 * minutes)))
        if progress >= 1.0:
            break
        for group in optimiser.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        x = to_tensor(pictures[rng.integers(0, len(pictures), batch)], device)
        if rng.random() < 0.5:
            x = x.flip(3)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            z = model.encoder(x)
            y = model.decoder(z + LATENT_NOISE * torch.randn_like(z))
        z = z.float()
        centred = z.mean(dim=(0, 2, 3)).square().mean() + (z.std(dim=(0, 2, 3)) - 1).square().mean()
        loss = reconstruction_loss(y.float(), x) + 0.01 * centred
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 200 == 0:
            event = {"step": step, "loss": running, "lr": optimiser.param_groups[0]["lr"], "seconds": spent}
            if step % 1000 == 0:
                event["psnr_held_out"] = evaluate(model, held_out, device)
                save(state_path, model, optimiser, step, spent)
            yield event
    save(state_path, model, optimiser, step, spent)
    yield {"step": step, "loss": running, "seconds": spent, "psnr_held_out": evaluate(model, held_out, device)}


def save(path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int, spent: float) -> None:
    """Write a checkpoint atomically: an interrupted save never loses the previous one."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "spent": spent}, temporary
    )
    temporary.replace(path)


@torch.no_grad()
def encode(model: AutoencoderTiny, pictures: np.ndarray, device: torch.device, *, flip: bool = False) -> torch.Tensor:
    """Latents (n, 4, 16, 16), unscaled, float32 on the CPU."""
    out = []
    for start in range(0, len(pictures), 64):
        x = to_tensor(pictures[start : start + 64], device)
        out.append(model.encoder(x.flip(3) if flip else x).float().cpu())
    return torch.cat(out)
