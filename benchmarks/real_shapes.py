"""What would a round cost with Stable Diffusion 1.5 or SDXL? Bytes of an update, memory and step time at real shapes.

The denoisers are built from their published configurations (`unet/config.json` of stable-diffusion-v1-5 and
stable-diffusion-xl-base-1.0), and their parameter counts are asserted. Weights are random: neither bytes nor memory nor
time depends on their values.

Counted everywhere, on torch's `meta` device, which allocates nothing:
- `update_bytes`: trainable numbers x 4 bytes, for attention only and for attention with the up blocks' convolutions.
  Masked for secure aggregation a number is one uint32, so the masked update has the same size.
- `memory`: an estimate of a training step's peak at batch 1: frozen weights + adapter, gradients and two AdamW moments
  in float32 + what autograd keeps for the backward pass. The last is counted exactly, storage by storage, with
  `saved_tensors_hooks`; attention keeps q, k, v, output and log-sum-exp, as fused kernels do; with checkpointing it is
  the inputs of all blocks and the largest block. Workspaces, fragmentation, the CUDA context, and the float32 copies
  that autocast makes for norms and the adapter come on top.

Measured where torch finds a GPU, in bfloat16 with a float32 adapter: peak memory, step time, and the time of a private
step (Abadi et al. 1607.00133), done as a plain loop: one picture at a time, its gradient clipped, summed, noised.

    python benchmarks/real_shapes.py --json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from _report import measure, options, report
from diffusers import UNet2DConditionModel
from peft import LoraConfig

from fedart_nb.diffusion import ATTENTION, ATTENTION_AND_UP_CONVOLUTIONS

TARGETS = {
    "attention": ATTENTION,
    "attention_and_up_convolutions": ATTENTION_AND_UP_CONVOLUTIONS,
}
RANKS = (4, 8, 16, 32)
MEASURED_RANK = 8
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
CLIP_NORM, NOISE_MULTIPLIER = 1.0, 1.0


@dataclass(frozen=True)
class Shape:
    """A published denoiser: its configuration, its parameter count in millions, and the size of its text input."""

    config: dict[str, Any]
    parameters_m: float
    pooled: int | None = None  # width of the pooled text embedding, for SDXL


SHAPES = {
    "sd15": Shape(
        {
            "sample_size": 64,
            "block_out_channels": (320, 640, 1280, 1280),
            "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
            "attention_head_dim": 8,
            "cross_attention_dim": 768,
        },
        859.5,
    ),
    "sdxl": Shape(
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        2567.5,
        pooled=1280,
    ),
}


def build(shape: Shape, device: str, dtype: torch.dtype = torch.float32) -> Any:
    """The frozen denoiser with random weights, its parameter count checked."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            unet = UNet2DConditionModel(**shape.config)
    finally:
        torch.set_default_dtype(before)
    millions = sum(p.numel() for p in unet.parameters()) / 1e6
    assert abs(millions - shape.parameters_m) < 0.1, (
        f"{millions:.1f} M parameters, published are {shape.parameters_m} M"
    )
    return unet.requires_grad_(False)


def add_adapter(unet: Any, rank: int, targets: str, dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    """Attach one adapter; returns what learns."""
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=targets), adapter_name="adapter")
    learning = [p for p in unet.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.data = parameter.data.to(dtype)
    return learning


def trainable(unet: Any, rank: int, targets: str) -> int:
    """Number of values in an update; the network is left as it was."""
    try:
        return sum(p.numel() for p in add_adapter(unet, rank, targets))
    finally:
        unet.delete_adapters("adapter")
        unet.requires_grad_(False)


def inputs(unet: Any, pooled: int | None, batch: int, device: str, dtype: torch.dtype) -> tuple[Any, ...]:
    """Arguments of the denoiser: noisy latents, timesteps, text embeddings, and what SDXL is told beside them."""
    config = unet.config
    x = torch.randn(batch, config.in_channels, config.sample_size, config.sample_size, device=device, dtype=dtype)
    t = torch.full((batch,), 500, device=device)
    told = torch.randn(batch, 77, config.cross_attention_dim, device=device, dtype=dtype)
    more = None
    if pooled:
        text = torch.randn(batch, pooled, device=device, dtype=dtype)
        more = {"text_embeds": text, "time_ids": torch.zeros(batch, 6, device=device, dtype=dtype)}
    return x, t, told, more


def denoise(unet: Any, x: torch.Tensor, t: torch.Tensor, told: torch.Tensor, more: Any) -> torch.Tensor:
    out: torch.Tensor = unet(x, t, told, added_cond_kwargs=more, return_dict=False)[0]
    return out


class FusedAttention(torch.autograd.Function):
    """The shapes that a fused attention kernel returns and keeps; only for the meta device."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out


class Kept:
    """Storages that autograd keeps, each counted once and held so that its identity is not used again."""

    def __init__(self, known: list[torch.nn.Parameter]) -> None:
        self.known = {p.untyped_storage()._cdata for p in known}
        self.storages: dict[int, torch.UntypedStorage] = {}

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.known:
            self.storages[storage._cdata] = storage
        return tensor

    @property
    def nbytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


@contextmanager
def counting(kept: Kept) -> Iterator[None]:
    with torch.autograd.graph.saved_tensors_hooks(kept.add, lambda tensor: tensor):
        yield


def activation_bytes(unet: Any, arguments: tuple[Any, ...], *, checkpointing: bool) -> int:
    """Bytes that autograd keeps for one backward pass, for a denoiser on the meta device with an adapter attached."""
    parameters = list(unet.parameters())
    kept, largest_block = Kept(parameters), 0

    def checkpoint(block: Any, *args: Any) -> Any:
        nonlocal largest_block
        for arg in args:
            if torch.is_tensor(arg):
                kept.add(arg)
        inside = Kept(parameters)
        with counting(inside):
            out = block(*args)
        largest_block = max(largest_block, inside.nbytes)
        return out

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **_: Any) -> Any:
        return FusedAttention.apply(q, k, v)

    unet.train()
    if checkpointing:
        unet.enable_gradient_checkpointing(checkpoint)
    try:
        with counting(kept), mock.patch.object(F, "scaled_dot_product_attention", attend):
            F.mse_loss(denoise(unet, *arguments).float(), arguments[0].float())
    finally:
        if checkpointing:
            unet.disable_gradient_checkpointing()
    return kept.nbytes + largest_block


def memory_estimate(unet: Any, pooled: int | None, *, batch: int = 1) -> dict[str, float]:
    """GiB by part, without and with checkpointing, for a denoiser on the meta device with an adapter attached."""
    dtype = next(p.dtype for p in unet.parameters() if not p.requires_grad)
    frozen = sum(p.nbytes for p in unet.parameters() if not p.requires_grad)
    learning = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    arguments = inputs(unet, pooled, batch, "meta", dtype)
    parts = {"weights": frozen, "adapter_gradients_moments": learning * 16}
    for name, checkpointing in (("activations", False), ("activations_checkpointed", True)):
        parts[name] = activation_bytes(unet, arguments, checkpointing=checkpointing)
    return {name: round(value / 2**30, 3) for name, value in parts.items()}


def plain_step(unet: Any, learning: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer, arguments: Any) -> None:
    """Forward, backward, clip, AdamW; the weights' type under autocast where it is a half one."""
    x = arguments[0]
    half = x.dtype != torch.float32
    with torch.autocast(x.device.type, x.dtype if half else torch.bfloat16, enabled=half):
        out = denoise(unet, *arguments)
    optimiser.zero_grad()
    F.mse_loss(out.float(), x.float()).backward()
    torch.nn.utils.clip_grad_norm_(learning, CLIP_NORM)
    optimiser.step()


def private_step(
    unet: Any, learning: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer, arguments: Any
) -> None:
    """DP-SGD by a loop: each picture's gradient clipped to `CLIP_NORM`, summed, noised, averaged; AdamW."""
    x, t, told, more = arguments
    half = x.dtype != torch.float32
    sums = [torch.zeros_like(p) for p in learning]
    for i in range(len(x)):
        one = slice(i, i + 1)
        extra = {key: value[one] for key, value in more.items()} if more else None
        with torch.autocast(x.device.type, x.dtype if half else torch.bfloat16, enabled=half):
            out = denoise(unet, x[one], t[one], told[one], extra)
        gradients = torch.autograd.grad(F.mse_loss(out.float(), x[one].float()), learning)
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        scale = (CLIP_NORM / (norm + 1e-12)).clamp(max=1.0)
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient * scale)
    for parameter, total in zip(learning, sums, strict=True):
        parameter.grad = (total + NOISE_MULTIPLIER * CLIP_NORM * torch.randn_like(total)) / len(x)
    optimiser.step()


def timed(step: Any, unet: Any, learning: Any, arguments: Any, repetitions: int) -> tuple[list[float], float]:
    """Seconds of every repetition after two to warm up, and the peak of GPU memory in GiB (0 on a CPU)."""
    optimiser = torch.optim.AdamW(learning, 1e-4, weight_decay=0.0)
    on_gpu = arguments[0].device.type == "cuda"
    times = []
    for index in range(repetitions + 2):
        if on_gpu:
            torch.cuda.synchronize()
            if index == 2:
                torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        step(unet, learning, optimiser, arguments)
        if on_gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return times[2:], torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0


def counted(name: str, shape: Shape, ranks: tuple[int, ...], dtypes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Bytes and memory estimates, on the meta device."""
    unet = build(shape, "meta")
    lines = []
    for kind, targets in TARGETS.items():
        for rank in ranks:
            n = trainable(unet, rank, targets)
            lines.append(
                measure(
                    f"real.{name}.update_bytes.{kind}.r{rank}",
                    4 * n,
                    "B",
                    how=f"rank {rank}, float32; a masked update (uint32 fixed point) has the same size",
                    baseline={"parameters": n, "backbone_parameters": round(shape.parameters_m * 1e6)},
                )
            )
    for label in dtypes:
        unet = build(shape, "meta", DTYPES[label])
        add_adapter(unet, MEASURED_RANK, TARGETS["attention"], DTYPES[label])
        parts = memory_estimate(unet, shape.pooled)
        fixed = parts["weights"] + parts["adapter_gradients_moments"]
        for suffix, activations in (("", "activations"), ("_checkpointed", "activations_checkpointed")):
            lines.append(
                measure(
                    f"real.{name}.memory_estimate_{label}{suffix}",
                    round(fixed + parts[activations], 2),
                    "GiB",
                    how=f"counted on the meta device: batch 1, rank {MEASURED_RANK} attention adapter, denoiser alone",
                    baseline=parts,
                )
            )
    return lines


def measured(name: str, shape: Shape, repetitions: int) -> list[dict[str, Any]]:
    """Peak memory and times on a GPU."""
    unet = build(shape, "cuda", torch.bfloat16)
    learning = add_adapter(unet, MEASURED_RANK, TARGETS["attention"])
    arguments = inputs(unet, shape.pooled, 1, "cuda", torch.bfloat16)
    unet.train()
    lines = []
    how = f"{torch.cuda.get_device_name()}, bfloat16, batch 1, rank {MEASURED_RANK} attention adapter in float32"
    for suffix in ("", "_checkpointed"):
        if suffix:
            unet.enable_gradient_checkpointing()
        for label, step in (("step", plain_step), ("dp_step", private_step)):
            times, peak_gib = timed(step, unet, learning, arguments, repetitions)
            seconds, spread = statistics.median(times), (round(min(times), 4), round(max(times), 4))
            lines += [
                measure(
                    f"real.{name}.{label}_s{suffix}", round(seconds, 4), "s", how=how, spread=spread, seeds=len(times)
                ),
                measure(f"real.{name}.{label}_peak{suffix}", round(peak_gib, 2), "GiB", how=how),
            ]
    return lines


def main() -> None:
    chosen = options(__doc__)
    lines = []
    for name, shape in SHAPES.items():
        lines += counted(name, shape, (8,) if chosen.quick else RANKS, ("bf16",) if chosen.quick else tuple(DTYPES))
        if torch.cuda.is_available():
            lines += measured(name, shape, 3 if chosen.quick else 10)
            torch.cuda.empty_cache()
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
