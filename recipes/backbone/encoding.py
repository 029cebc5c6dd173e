"""Latents of the dense pool: drawings upright, mirrored, moved a little, and tinted where they have no colours.

The autoencoder is frozen while the denoiser learns, so every variant is encoded once and kept in half precision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import autoencoder
import drawings as pool2
import numpy as np
import torch
from PIL import Image

_SCALE, _TURN_DEG = (0.8, 1.0), 5.0
_CHUNK = 512


#: Variants in the order that they are encoded; "moved" is a random scale, turn and shift.
KINDS = ("upright", "mirrored", "moved0", "tinted", "moved1")


@dataclass(frozen=True)
class Latents:
    """z (n, c, 16, 16) float16 of unit deviation, the drawing each shows (n,), and whether it was tinted (n,).

    `held` has the held-out drawings upright, in the order of the drawings; `scale` is what made the deviation 1.
    """

    z: torch.Tensor
    drawing: torch.Tensor
    tint: torch.Tensor
    held: torch.Tensor
    scale: float


def encode(drawings: list[pool2.Drawing], folder: Path, device: torch.device, kinds: Sequence[str] = KINDS) -> None:
    """Encode variants with `folder`'s autoencoder into `latents/KIND-NNNN.pt`; what is there already stays."""
    model = autoencoder.read(folder).eval().to(device, memory_format=torch.channels_last)
    (folder / "latents").mkdir(exist_ok=True)
    for kind in ("held", *kinds):
        jobs = _jobs(drawings, kind)
        for start in range(0, len(jobs), _CHUNK):
            path = folder / "latents" / f"{kind}-{start // _CHUNK:04d}.pt"
            if path.exists():
                continue
            chunk = jobs[start : start + _CHUNK]
            pictures = np.stack([_variant(drawings[i], "upright" if kind == "held" else kind) for i in chunk])
            temporary = path.with_suffix(".tmp")
            torch.save(autoencoder.encode(model, pictures, device).half(), temporary)
            temporary.replace(path)
            print(f"{kind}: encoded {start + len(chunk)} of {len(jobs)}", flush=True)


def read(drawings: list[pool2.Drawing], folder: Path) -> Latents:
    """The variants that are encoded completely; upright ones and the held-out drawings must be."""
    found = {kind: _read(folder, kind, len(_jobs(drawings, kind))) for kind in ("held", *KINDS)}
    if found["held"] is None or found["upright"] is None:
        raise FileNotFoundError(f"{folder / 'latents'} lacks the upright drawings: run train.py --stage latents first.")
    scale = 1.0 / float(found["upright"].float().std())
    there = [kind for kind in KINDS if found[kind] is not None]
    return Latents(
        z=torch.cat([found[kind] * scale for kind in there]),
        drawing=torch.cat([torch.tensor(_jobs(drawings, kind)) for kind in there]),
        tint=torch.cat([torch.full((len(found[kind]),), kind == "tinted") for kind in there]),
        held=found["held"].float() * scale,
        scale=scale,
    )


def _read(folder: Path, kind: str, count: int) -> torch.Tensor | None:
    parts = sorted((folder / "latents").glob(f"{kind}-*.pt"))
    if len(parts) < -(-count // _CHUNK):
        return None
    return torch.cat([torch.load(part, weights_only=True) for part in parts])


def _jobs(drawings: list[pool2.Drawing], kind: str) -> list[int]:
    """Which drawings have this variant."""
    if kind == "held":
        return [i for i, d in enumerate(drawings) if d.held_out]
    train = [i for i, d in enumerate(drawings) if not d.held_out]
    if kind == "mirrored":
        return [i for i in train if drawings[i].flippable]
    if kind == "tinted":
        return [i for i in train if pool2.tinted(drawings[i])]
    return train


def _variant(drawing: pool2.Drawing, kind: str) -> np.ndarray:
    """One variant, uint8 (128, 128, 3); its chance comes from the path and the kind."""
    with Image.open(drawing.path) as image:
        picture = image.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
    if kind == "upright":
        return np.asarray(picture)
    if kind == "mirrored":
        return np.asarray(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    seed = hashlib.sha256(f"{drawing.source}/{drawing.path.name}/{kind}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(seed[:8], "big"))
    if kind == "tinted" and (found := pool2.tinted(drawing)):
        grey = np.asarray(picture.convert("L"), np.float32)[:, :, None] / 255
        inked = grey * 255 + (1 - grey) * np.array(found[1], np.float32)
        picture = Image.fromarray(inked.round().astype(np.uint8))
    return np.asarray(_moved(picture, rng, flip=drawing.flippable and bool(rng.random() < 0.5)))


def _moved(picture: Image.Image, rng: np.random.Generator, *, flip: bool) -> Image.Image:
    """Scaled, turned and shifted about the middle; what comes in from outside has the border's commonest colour."""
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = tuple(int(v) for v in np.median(border, axis=0))
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    scale = rng.uniform(*_SCALE)
    angle = np.deg2rad(rng.uniform(-_TURN_DEG, _TURN_DEG))
    dx, dy = rng.uniform(-1, 1, 2) * 60 * (1 - scale)  # no further than the drawing stays whole
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    middle = 64.0
    matrix = (cos, sin, middle - cos * (middle + dx) - sin * (middle + dy))
    matrix += (-sin, cos, middle + sin * (middle + dx) - cos * (middle + dy))
    return picture.transform((128, 128), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=ground)
