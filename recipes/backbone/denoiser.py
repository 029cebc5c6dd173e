"""Stage 2: an 11 M-parameter `UNet2DConditionModel` and a small CLIP text model, trained together by rectified flow.

Forward process x_t = (1 - t) x_0 + t eps with logit-normal t; the network learns the velocity eps - x_0 (Liu et al.,
2209.03003; Esser et al., 2403.03206, section 3.1). Captions are dropped for classifier-free guidance; the source's
style word (`<noto>`, ...) stands before most captions, so that the backbone spans many hands.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from pathlib import Path

import autoencoder
import pool
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

MAX_TOKENS = 24
TEXT_WIDTH = 192
CAPTION_DROP = 0.10
STYLE_DROP = 0.30
NOISY_SHARE, NOISY_SHIFT = 0.5, 3.0
VALIDATION_DRAWS = 4


def style_word(source: str) -> str:
    """The word that asks for one source's hand: `<noto>`."""
    return f"<{source}>"


def build_tokenizer(records: list[pool.Record]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, punctuation dropped, style words in angle brackets kept whole."""
    special = ["<pad>", "<start>", "<end>", "<unk>"]
    styles = sorted({style_word(record.source) for record in records})
    words = [*special, *styles, *pool.vocabulary(records)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"<[a-z0-9_]+>|[a-z0-9]+"), behavior="removed", invert=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
    )


def build_text_encoder(vocab_size: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=TEXT_WIDTH,
            hidden_act="gelu",
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def build_unet(latent_channels: int) -> UNet2DConditionModel:
    """Convolutions at 16x16, cross-attention at 8x8 and 4x4: where the words matter and attention is cheap."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    unet.set_attn_processor(AttnProcessor())  # at 64 positions plain attention trains a quarter faster on a CPU
    return unet


def start_from(model: torch.nn.ModuleDict, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Go on from a trained pipeline, also with other words or more latent channels: what is new starts small."""
    old = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    blank = model["unet"].state_dict()  # channels that the old network lacks start at zero, without effect
    model["unet"].load_state_dict(autoencoder.widened(old.unet.state_dict(), blank, zero=blank))
    embedding = "embeddings.token_embedding.weight"
    before = old.text_encoder.state_dict()
    after = model["text"].state_dict()
    name = next(key for key in after if key.endswith(embedding))
    known = old.tokenizer.get_vocab()
    rows = after[name].clone()
    for word, index in tokenizer.get_vocab().items():
        if word in known:
            rows[index] = before[name][known[word]]
    model["text"].load_state_dict({**before, name: rows})


def latents_of(parts: dict[str, list[pool.Record]], folder: Path, device: torch.device) -> dict[str, torch.Tensor]:
    """Encode every picture once, upright and mirrored; cached in `latents.pt`. Scaled to unit standard deviation."""
    path = folder / "latents.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    model = autoencoder.read(folder).to(device)
    out: dict[str, torch.Tensor] = {}
    for part, records in parts.items():
        pictures = pool.pixels(records)
        out[part] = autoencoder.encode(model, pictures, device)
        out[f"{part}/flipped"] = autoencoder.encode(model, pictures, device, flip=True)
    scale = 1.0 / out["train"].std()
    out = {name: z * scale for name, z in out.items()}
    out["scaling_factor"] = scale
    torch.save(out, path)
    return out


def tokens_of(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> torch.Tensor:
    encoded = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return encoded.input_ids


def timesteps(n: int, rng: torch.Generator) -> torch.Tensor:
    """Logit-normal t in (0, 1), (n,); `NOISY_SHARE` of them shifted towards noise (2403.03206, section 5.3.2).

    What a picture shows is decided near t = 1, and the plain law draws 1.4 % of its timesteps above 0.9; this one 8 %.
    """
    t = torch.sigmoid(torch.randn(n, generator=rng))
    shifted = NOISY_SHIFT * t / (1 + (NOISY_SHIFT - 1) * t)
    return torch.where(torch.rand(n, generator=rng) < NOISY_SHARE, shifted, t)


@torch.no_grad()
def validate(
    unet: UNet2DConditionModel, text: CLIPTextModel, x0: torch.Tensor, ids: torch.Tensor, device: torch.device
) -> float:
    """Mean squared velocity error on fixed noise and stratified timesteps."""
    generator = torch.Generator().manual_seed(1234)
    total, count = 0.0, 0
    for draw in range(VALIDATION_DRAWS):
        for start in range(0, len(x0), 64):
            x = x0[start : start + 64].to(device)
            t = ((torch.arange(len(x)) + (draw + 0.5) / VALIDATION_DRAWS) / len(x)).to(device)
            eps = torch.randn(x.shape, generator=generator).to(device)
            noisy = torch.lerp(x, eps, t[:, None, None, None])
            v = unet(noisy, t * 1000, text(ids[start : start + 64].to(device))[0]).sample
            total += F.mse_loss(v, eps - x, reduction="sum").item()
            count += x.numel()
    return total / count


def train(
    parts: dict[str, list[pool.Record]],
    *,
    folder: Path,
    minutes: float,
    steps: int,
    batch: int,
    seed: int,
    device: torch.device,
    start: Path | None = None,
    lr: float = 1e-3,
    decay: float = 0.999,
    compiled: bool = False,
) -> Iterator[dict[str, float]]:
    """Train until `steps` or `minutes`, whichever is first; resumes from `denoiser.pt`; EMA weights are kept beside.

    `compiled` spends some minutes first and then trains a third faster (measured on one core).
    """
    torch.manual_seed(seed)
    latents = latents_of(parts, folder, device)
    tokenizer = build_tokenizer([r for part in parts.values() for r in part])
    records = parts["train"]
    plain = tokens_of(tokenizer, [r.caption for r in records])
    styled = tokens_of(tokenizer, [f"{style_word(r.source)} {r.caption}" for r in records])
    style_only = tokens_of(tokenizer, [style_word(r.source) for r in records])
    empty = tokens_of(tokenizer, [""])[0]
    flippable = torch.tensor([r.flippable for r in records])
    held = {p: tokens_of(tokenizer, [f"{style_word(r.source)} {r.caption}" for r in parts[p]]) for p in parts}

    channels = latents["train"].shape[1]
    unet = build_unet(channels).to(device, memory_format=torch.channels_last)
    text = build_text_encoder(len(tokenizer)).to(device)
    model = torch.nn.ModuleDict({"unet": unet, "text": text})
    if start is not None:
        start_from(model, tokenizer, start)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    step, spent = 0, 0.0
    path = folder / "denoiser.pt"
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=device)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]

    def velocity(ids: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return unet(noisy, t * 1000, text(ids)[0]).sample

    predict = torch.compile(velocity) if compiled else velocity
    rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
    running, last, saved = float("nan"), time.monotonic(), spent

    def save() -> None:
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "model": model.state_dict(),
                "ema": ema.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "spent": spent,
            },
            temporary,
        )
        temporary.replace(path)

    try:
        while (progress := max(step / steps, spent / (60 * minutes))) < 1.0:
            now_lr = lr * min(1.0, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            for group in optimiser.param_groups:
                group["lr"] = now_lr
            index = torch.randint(len(records), (batch,), generator=rng)
            mirrored = (torch.rand(batch, generator=rng) < 0.5) & flippable[index]
            x0 = torch.where(mirrored[:, None, None, None], latents["train/flipped"][index], latents["train"][index])
            drop = torch.rand(batch, generator=rng)[:, None]
            ids = torch.where(drop < 1 - STYLE_DROP, styled[index], plain[index])
            ids = torch.where(
                drop > 1 - CAPTION_DROP / 2, empty, torch.where(drop < CAPTION_DROP / 2, style_only[index], ids)
            )
            t = timesteps(batch, rng)
            eps = torch.randn(x0.shape, generator=rng)
            noisy = torch.lerp(x0, eps, t[:, None, None, None])
            v = predict(ids.to(device), noisy.to(device, memory_format=torch.channels_last), t.to(device))
            loss = F.mse_loss(v.float(), (eps - x0).to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step += 1
            keep = min(decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - keep)
            now = time.monotonic()
            spent, last = spent + now - last, now
            running = loss.item() if math.isnan(running) else 0.99 * running + 0.01 * loss.item()
            if not math.isfinite(running):
                raise RuntimeError(f"loss is {running} at step {step}: lower the learning rate ({lr})")
            if step % 100 == 0:
                event = {"step": step, "loss": running, "lr": now_lr, "seconds": spent}
                if step % 1000 == 0:
                    for p in ("pictures", "captions"):
                        event[f"held_out_{p}"] = validate(ema["unet"], ema["text"], latents[p], held[p], device)
                if spent - saved > 600:
                    save()
                    saved = spent
                yield event
    except KeyboardInterrupt:
        save()  # the same command goes on from here
        raise
    save()
    yield {
        "step": step,
        "loss": running,
        "seconds": spent,
        **{
            f"held_out_{p}": validate(ema["unet"], ema["text"], latents[p], held[p], device)
            for p in ("pictures", "captions")
        },
    }
