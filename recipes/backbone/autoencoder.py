"""Stage 1: a tiny f8 autoencoder (TAESD's blocks, `AutoencoderTiny`) trained on the pool's pictures.

The usual layout spends most of its time at full resolution, where a CPU manages one picture a second; here the
residual blocks sit at 1/2, 1/4 and 1/8 only, bf16 does the rest, and it learns from 64 px crops: the network is fully
convolutional, so a crop teaches what a picture teaches, and of two crops the one with more in it is taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock

LATENT_NOISE = 0.03
CROP_PX = 64
SHRUNK_SHARE = 0.5
ANCHOR = 0.3


def build(latent_channels: int) -> AutoencoderTiny:
    """About 2.3 M parameters: 128x128x3 to latent_channels x16x16 and back."""
    return AutoencoderTiny(
        encoder_block_out_channels=(64, 64, 64, 64),
        decoder_block_out_channels=(64, 64, 64, 64),
        num_encoder_blocks=(0, 1, 3, 4),
        num_decoder_blocks=(5, 4, 2, 0),
        latent_channels=latent_channels,
    )


def read(folder: Path) -> AutoencoderTiny:
    """The checkpointed autoencoder of `folder`."""
    weights = torch.load(folder / "autoencoder.pt", weights_only=True, map_location="cpu")["model"]
    model = build(weights["decoder.layers.0.weight"].shape[1])
    model.load_state_dict(weights)
    return model


def adopt(vae: Path, folder: Path) -> None:
    """Take a pipeline's autoencoder as `folder`'s finished one: a denoiser alone is to be trained."""
    torch.save({"model": AutoencoderTiny.from_pretrained(vae).state_dict()}, folder / "autoencoder.pt")


def start_from(model: AutoencoderTiny, folder: Path) -> AutoencoderTiny:
    """Copy a trained autoencoder's weights, and return it; what it lacked (channels, blocks) has no effect yet."""
    old = AutoencoderTiny.from_pretrained(folder)
    for part in ("encoder", "decoder"):
        theirs = list(getattr(old, part).layers)
        for layer in getattr(model, part).layers:
            if isinstance(layer, AutoencoderTinyBlock) and not (theirs and isinstance(theirs[0], AutoencoderTinyBlock)):
                torch.nn.init.zeros_(layer.conv[-1].weight)  # relu(0 + x): a block more, after one that ends in a ReLU
                torch.nn.init.zeros_(layer.conv[-1].bias)
                continue
            first = layer is model.decoder.layers[0]
            layer.load_state_dict(
                widened(theirs.pop(0).state_dict(), layer.state_dict(), zero=["weight"] if first else [])
            )
    return old


def widened(
    old: dict[str, torch.Tensor], new: dict[str, torch.Tensor], *, zero: Collection[str]
) -> dict[str, torch.Tensor]:
    """Old weights in the new shapes; what the old ones lack is as `new` has it, or 0 in the tensors named by `zero`."""
    out = {}
    for name, weight in new.items():
        out[name] = torch.zeros_like(weight) if name in zero else weight.clone()
        both = tuple(slice(0, min(n, m)) for n, m in zip(old[name].shape, weight.shape, strict=True))
        out[name][both] = old[name][both].to(weight)
    return out


def to_tensor(pictures: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 (n, h, w, 3) to float (n, 3, h, w) in [-1, 1], channels last in memory."""
    x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)
    return x.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)


def crops(pictures: np.ndarray, batch: int, rng: np.random.Generator) -> np.ndarray:
    """Random crops, uint8 (batch, CROP_PX, CROP_PX, 3): of two places in a picture, the one with more contrast.

    Half of them show the whole picture at half its size: finer detail than most of the pool's icons have.
    """
    span = pictures.shape[1] - CROP_PX
    out = np.empty((batch, CROP_PX, CROP_PX, 3), np.uint8)
    for row, index in enumerate(rng.integers(0, len(pictures), batch)):
        if rng.random() < SHRUNK_SHARE:
            cells = pictures[index].reshape(CROP_PX, pictures.shape[1] // CROP_PX, CROP_PX, -1, 3)
            out[row] = cells.mean((1, 3)).round().astype(np.uint8)
            continue
        places = rng.integers(0, span + 1, (2, 2))
        candidates = [pictures[index, y : y + CROP_PX, x : x + CROP_PX] for y, x in places]
        out[row] = max(candidates, key=lambda crop: crop[::4, ::4].std())
    return out


def vary(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Hands that the pool lacks, made from its own pictures: mirrored, recoloured, inked, in pixels, white on black."""
    out = []
    for picture in x:
        y = picture.flip(2) if rng.random() < 0.5 else picture
        kind = rng.random()
        if kind < 0.25:
            y = _ink(y, width=int(rng.integers(1, 4)))
        elif kind < 0.33:
            cells = F.avg_pool2d(y[None], 8)
            y = F.interpolate(cells, scale_factor=8, mode="nearest")[0].roll(tuple(rng.integers(0, 8, 2)), (1, 2))
        elif kind < 0.6:
            y = y[torch.from_numpy(rng.permutation(3))]
        out.append(-y if rng.random() < 0.25 else y)
    return torch.stack(out).contiguous(memory_format=torch.channels_last)


def _ink(picture: torch.Tensor, *, width: int) -> torch.Tensor:
    """The picture's contours as dark lines on white, 1 to 3 px wide."""
    grey = picture.mean(0)[None, None]
    edges = F.pad(grey.diff(dim=3).abs(), (0, 1)) + F.pad(grey.diff(dim=2).abs(), (0, 0, 0, 1))
    if width > 1:
        edges = F.max_pool2d(edges, width, stride=1, padding=width // 2)[..., : grey.shape[2], : grey.shape[3]]
    return (1 - 2 * (3 * edges[0]).clamp(0, 1)).expand(3, -1, -1)


def ssim(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Mean structural similarity over 7 px windows (Wang et al. 2004), inputs in [-1, 1]: the perceptual term."""

    def mean(t: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(t, 7, stride=2)

    my, mx = mean(y), mean(x)
    vy, vx, vxy = mean(y * y) - my * my, mean(x * x) - mx * mx, mean(x * y) - mx * my
    c1, c2 = 0.02**2, 0.06**2
    return (((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean()


def reconstruction_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """L1 + 2 MSE + L1 of finite differences at two scales + (1 - SSIM) / 5: edges and ink lines count for more."""
    loss = F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + 0.2 * (1 - ssim(y, x))
    for scale in (1, 2):
        a, b = (F.avg_pool2d(t, scale) for t in (y, x)) if scale > 1 else (y, x)
        for dim in (2, 3):
            loss = loss + 0.25 / scale * F.l1_loss(a.diff(dim=dim), b.diff(dim=dim))
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
    latent_channels: int,
    start: Path | None = None,
    decoder_only: bool = False,
    batch: int = 48,
    lr: float = 1e-3,
) -> Iterator[dict[str, float]]:
    """Train until `steps` or `minutes`, whichever is first (the learning rate follows); resumes from `state_path`.

    With a `start`, latents are held near its own, so that its denoiser adapts quickly; `decoder_only` leaves the
    encoder as it is, so that the denoiser stays valid.
    """
    torch.manual_seed(seed)
    model = build(latent_channels)
    before = start_from(model, start).encoder.to(device, memory_format=torch.channels_last) if start else None
    model.to(device, memory_format=torch.channels_last)
    model.encoder.requires_grad_(not decoder_only)
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr, betas=(0.9, 0.99), weight_decay=1e-4
    )
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
        x = vary(to_tensor(crops(pictures, batch, rng), device), rng)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            z = model.encoder(x)
            y = model.decoder(z + LATENT_NOISE * torch.randn_like(z))
            with torch.no_grad():
                z_before = before(x).float() if before is not None and not decoder_only else None
        z = z.float()
        centred = z.mean(dim=(0, 2, 3)).square().mean() + (z.std(dim=(0, 2, 3)) - 1).square().mean()
        loss = reconstruction_loss(y.float(), x) + 0.01 * centred
        if z_before is not None:
            loss = loss + ANCHOR * F.mse_loss(z[:, : z_before.shape[1]], z_before)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        running = loss.item() if step == 1 else 0.98 * running + 0.02 * loss.item()
        if step % 100 == 0:
            event = {"step": step, "loss": running, "lr": optimiser.param_groups[0]["lr"], "seconds": spent}
            if step % 500 == 0:
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
    """Latents (n, channels, 16, 16), unscaled, float32 on the CPU."""
    out = []
    for start in range(0, len(pictures), 64):
        x = to_tensor(pictures[start : start + 64], device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            out.append(model.encoder(x.flip(3) if flip else x).float().cpu())
    return torch.cat(out)
