"""Stage 2: an 11 M-parameter `UNet2DConditionModel` and a small CLIP text model, trained together by rectified flow.

Forward process x_t = (1 - t) x_0 + t eps with logit-normal t; the network learns the velocity eps - x_0 (Liu et al.,
2209.03003; Esser et al., 2403.03206, section 3.1). Captions are dropped for classifier-free guidance. A word for the
look (`<line>`) or, in colour, for the source (`<noto>`) stands before captions; drawings in colour also go without, so
that a caption alone asks for colour. Matrices are trained by Muon (Jordan et al. 2024; 2502.16982), the rest by AdamW.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import autoencoder
import drawings as pool2
import encoding
import pool
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

MAX_TOKENS = 24
TEXT_WIDTH = 192
#: Captions left out altogether, and style words alone, for classifier-free guidance.
NO_CAPTION, STYLE_ALONE = 0.06, 0.04
#: Of drawings in colour: how often no style word stands before the caption, and how often the look's, not the source's.
NO_STYLE, LOOK_STYLE = 0.40, 0.15
#: Of solid and duotone drawings, how often one is shown in a named colour.
TINTED = 0.15
NOISY_SHIFT = 3.0
#: Edges of the bands of t that held-out losses are given for.
BANDS = (0.0, 0.25, 0.55, 0.75, 1.0)
#: A source in colour has a word of its own from this many drawings on.
LEAST_OF_SOURCE = 20


@dataclass(frozen=True)
class Setup:
    """What `gates.py` compares: the optimiser, the pooled caption, how noisy, how wide.

    Attributes:
        optimiser: "muon" (matrices; AdamW for the rest) or "adamw".
        pooled: the caption, pooled, is added to the time embedding of every block (`addition_embed_type="text"`).
        noisy: share of timesteps that are shifted towards noise.
        widths: channels of the UNet's three levels.
    """

    optimiser: str = "muon"
    lr: float = 1e-3
    pooled: bool = True
    noisy: float = 0.5
    widths: tuple[int, int, int] = (64, 128, 192)
    batch: int = 64
    decay: float = 0.9995


def styles_of(drawings: list[pool2.Drawing]) -> list[str]:
    """All style words: the looks', and those of the sources in colour that have enough drawings."""
    counts = Counter(d.style for d in drawings if d.look in ("colour", "portrait"))
    return [f"<{look}>" for look in pool2.LOOKS] + sorted(s for s, n in counts.items() if n >= LEAST_OF_SOURCE)


def build_tokenizer(drawings: list[pool2.Drawing]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer: lower case, punctuation dropped, style words in angle brackets kept whole."""
    special = ["<pad>", "<start>", "<end>", "<unk>"]
    counts = Counter(w for d in drawings if not d.held_out for c in {d.caption, d.concept} for w in pool.words_of(c))
    for colour in pool2.COLOURS:
        counts.setdefault(colour, 1)
    words = [*special, *styles_of(drawings), *sorted(counts, key=lambda w: (-counts[w], w))]
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


def build_unet(latent_channels: int, setup: Setup) -> UNet2DConditionModel:
    """Convolutions at 16x16, cross-attention at 8x8 and 4x4: where the words matter and attention is cheap."""
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=setup.widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        **({"addition_embed_type": "text", "addition_embed_type_num_heads": 4} if setup.pooled else {}),
    )
    if setup.pooled:  # the pooled caption starts without effect
        torch.nn.init.zeros_(unet.add_embedding.norm2.weight)
    unet.set_attn_processor(AttnProcessor())  # at 64 positions plain attention trains a quarter faster on a CPU
    return unet


def start_from(model: torch.nn.ModuleDict, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Go on from a trained pipeline, also with other words or more latent channels: what is new starts small."""
    old = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, requires_safety_checker=False)
    blank = model["unet"].state_dict()  # channels that the old network lacks start at zero, without effect
    theirs = blank | old.unet.state_dict()  # the pooled caption is new and has no effect yet
    model["unet"].load_state_dict(autoencoder.widened(theirs, blank, zero=blank))
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


def tokens_of(tokenizer: PreTrainedTokenizerFast, captions: list[str]) -> torch.Tensor:
    encoded = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return encoded.input_ids


def timesteps(n: int, noisy: float, rng: torch.Generator) -> torch.Tensor:
    """Logit-normal t in (0, 1), (n,); a share `noisy` of them shifted towards noise (2403.03206, section 5.3.2).

    What a picture shows is decided near t = 1, and the plain law draws 1.4 % of its timesteps above 0.9; half of them
    shifted, 8 %.
    """
    t = torch.sigmoid(torch.randn(n, generator=rng))
    shifted = NOISY_SHIFT * t / (1 + (NOISY_SHIFT - 1) * t)
    return torch.where(torch.rand(n, generator=rng) < noisy, shifted, t)


class Batches:
    """Random batches: latents and the tokens that they are trained under."""

    def __init__(self, drawings: list[pool2.Drawing], latents: encoding.Latents, tokenizer: PreTrainedTokenizerFast):
        self.latents = latents
        share = torch.zeros(len(drawings), dtype=torch.float64)
        trained = [i for i, d in enumerate(drawings) if not d.held_out]
        share[trained] = torch.from_numpy(pool2.weights([drawings[i] for i in trained]))
        tints = torch.zeros(len(drawings)).index_add_(0, latents.drawing, latents.tint.float())
        plain = torch.zeros(len(drawings)).index_add_(0, latents.drawing, (~latents.tint).float())
        of_tints = torch.where(tints > 0, TINTED, 0.0)[latents.drawing]
        self.weights = share[latents.drawing] * torch.where(
            latents.tint, of_tints / tints[latents.drawing].clamp(min=1), (1 - of_tints) / plain[latents.drawing]
        )
        known = set(styles_of(drawings))
        rows: list[str] = []
        self.no_style = torch.zeros(len(latents.drawing), dtype=torch.bool)
        for row, (index, tint) in enumerate(zip(latents.drawing.tolist(), latents.tint.tolist(), strict=True)):
            drawing = drawings[index]
            if tint and (found := pool2.tinted(drawing)):
                drawing = found[0]
            look = f"<{'colour' if drawing.look == 'portrait' else drawing.look}>"
            style = drawing.style if drawing.style in known else look
            self.no_style[row] = drawing.look in ("colour", "portrait")
            for caption in pool2.captions(drawing):
                rows += [caption, f"{style} {caption}", f"{look} {caption}"]
            rows.append(style)
        self.tokens = tokens_of(tokenizer, rows).view(len(latents.drawing), 7, MAX_TOKENS)
        self.empty = tokens_of(tokenizer, [""])[0]

    def draw(self, batch: int, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """x0 (batch, c, 16, 16) float32 and token ids (batch, MAX_TOKENS)."""
        index = torch.multinomial(self.weights, batch, replacement=True, generator=rng)
        caption = (torch.rand(batch, generator=rng) < 0.5).long()
        u = torch.rand(batch, generator=rng)
        style = torch.where(u < NO_STYLE, 0, torch.where(u < NO_STYLE + LOOK_STYLE, 2, 1))
        style = torch.where(self.no_style[index], style, 1)  # a drawing without colours always says so
        ids = self.tokens[index, caption * 3 + style]
        drop = torch.rand(batch, generator=rng)[:, None]
        ids = torch.where(drop < NO_CAPTION, self.empty, ids)
        ids = torch.where(drop > 1 - STYLE_ALONE, self.tokens[index, 6], ids)
        return self.latents.z[index].float(), ids


@dataclass(frozen=True)
class HeldOut:
    """Held-out drawings of listed concepts: latents, tokens, and fixed noise."""

    x0: torch.Tensor
    ids: torch.Tensor

    @classmethod
    def of(
        cls, drawings: list[pool2.Drawing], latents: encoding.Latents, tokenizer: PreTrainedTokenizerFast
    ) -> HeldOut:
        held = [d for d in drawings if d.held_out]
        listed, known = pool2.everyday(), set(styles_of(drawings))
        rows = [i for i, d in enumerate(held) if d.concept in listed]
        styles = {i: held[i].style if held[i].style in known else f"<{held[i].look}>" for i in rows}
        return cls(latents.held[rows], tokens_of(tokenizer, [f"{styles[i]} {held[i].concept}" for i in rows]))

    @torch.no_grad()
    def losses(self, unet: UNet2DConditionModel, text: CLIPTextModel, device: torch.device) -> list[float]:
        """Mean squared velocity error in each band of t, one stratified draw a band and drawing."""
        generator = torch.Generator().manual_seed(1234)
        out = []
        for low, high in itertools.pairwise(BANDS):
            total, count = 0.0, 0
            for start in range(0, len(self.x0), 64):
                x = self.x0[start : start + 64].to(device)
                t = (low + (high - low) * (torch.arange(len(x)) + 0.5) / len(x)).to(device)
                eps = torch.randn(x.shape, generator=generator).to(device)
                noisy = torch.lerp(x, eps, t[:, None, None, None])
                with torch.autocast(device.type, dtype=torch.bfloat16):
                    v = unet(noisy, t * 1000, text(self.ids[start : start + 64].to(device))[0]).sample
                total += F.mse_loss(v.float(), eps - x, reduction="sum").item()
                count += x.numel()
            out.append(total / count)
        return out


class Optimiser:
    """AdamW, or Muon for the matrices (views of the convolutions' weights among them) and AdamW for the rest."""

    def __init__(self, model: torch.nn.ModuleDict, setup: Setup) -> None:
        self.views: list[tuple[torch.nn.Parameter, torch.nn.Parameter]] = []
        rest = []
        edges = ("conv_in.", "conv_out.", "embedding", "positional")
        for name, p in model.named_parameters():
            if setup.optimiser == "muon" and p.ndim >= 2 and not any(edge in name for edge in edges):
                self.views.append((p, torch.nn.Parameter(_matrix(p.data))))
            else:
                rest.append(p)
        betas = (0.9, 0.99)
        self.parts = [torch.optim.AdamW(rest, setup.lr, betas=betas, weight_decay=1e-2, fused=True)]
        if self.views:
            matrices = [view for _, view in self.views]
            self.parts.append(
                torch.optim.Muon(matrices, lr=setup.lr, weight_decay=1e-2, adjust_lr_fn="match_rms_adamw")
            )

    def step(self, lr: float) -> None:
        for p, view in self.views:
            view.grad = _matrix(p.grad) if p.grad is not None else None
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr
            part.step()

    def state(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]

    def load(self, states: list[dict]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    """A weight as (out, rest), sharing its memory: convolutions lie channels last."""
    flat = weight.permute(0, 2, 3, 1) if weight.ndim == 4 else weight
    return flat.view(len(weight), -1)


def train(
    drawings: list[pool2.Drawing],
    *,
    folder: Path,
    setup: Setup,
    samples: int,
    seed: int,
    device: torch.device,
    minutes: float = math.inf,
    start: Path | None = None,
    compiled: bool = False,
    validate_every: int = 1000,
    by_time: bool = False,
) -> Iterator[dict[str, object]]:
    """Train on `samples` drawings in all; resumes from `denoiser.pt`; EMA weights are kept beside.

    Args:
        minutes: stop (and save) after so many minutes of processor time of this process, to go on another day.
        by_time: the learning rate falls with the minutes, not with the samples.
        compiled: spend some minutes first and then train a third faster (measured on one core).
    """
    torch.manual_seed(seed)
    latents = encoding.read(drawings, folder)
    tokenizer = build_tokenizer(drawings)
    batches = Batches(drawings, latents, tokenizer)
    held = HeldOut.of(drawings, latents, tokenizer)
    unet = build_unet(latents.z.shape[1], setup).to(device, memory_format=torch.channels_last)
    text = build_text_encoder(len(tokenizer)).to(device)
    model = torch.nn.ModuleDict({"unet": unet, "text": text})
    if start is not None:
        start_from(model, tokenizer, start)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = Optimiser(model, setup)
    step, spent = 0, 0.0
    path = folder / "denoiser.pt"
    if path.exists():
        state = torch.load(path, weights_only=True, map_location=device)
        for module, key in ((model, "model"), (ema, "ema")):
            module.load_state_dict(state[key])
        optimiser.load(state["optimiser"])
        step, spent = state["step"], state["spent"]
    yield {"step": step, "setup": asdict(setup), "variants": len(latents.z), "parameters": _count(model)}

    def velocity(ids: torch.Tensor, noisy: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return unet(noisy, t * 1000, text(ids)[0]).sample

    predict = torch.compile(velocity) if compiled else velocity
    rng = torch.Generator().manual_seed(seed * 1_000_003 + step)
    running, last, saved, began = float("nan"), time.process_time(), spent, spent
    weights, averages = list(model.parameters()), list(ema.parameters())

    def save() -> None:
        state = {"model": model.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state()}
        temporary = path.with_suffix(".tmp")
        torch.save(state | {"step": step, "spent": spent, "setup": asdict(setup)}, temporary)
        temporary.replace(path)

    def ended() -> dict[str, object]:
        losses = held.losses(ema["unet"], ema["text"], device)
        return {"held_out": [round(loss, 5) for loss in losses], "held_out_mean": sum(losses) / len(losses)}

    steps = -(-samples // setup.batch)
    try:
        while step < steps and spent - began < 60 * minutes:
            progress = (spent - began) / (60 * minutes) if by_time else step / steps
            lr = setup.lr * min(1.0, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
            x0, ids = batches.draw(setup.batch, rng)
            t = timesteps(setup.batch, setup.noisy, rng)
            eps = torch.randn(x0.shape, generator=rng)
            noisy = torch.lerp(x0, eps, t[:, None, None, None])
            v = predict(ids.to(device), noisy.to(device, memory_format=torch.channels_last), t.to(device))
            loss = F.mse_loss(v.float(), (eps - x0).to(device))
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step(lr)
            step += 1
            keep = min(setup.decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(averages, weights, 1 - keep)
            now = time.process_time()
            spent, last = spent + now - last, now
            running = loss.item() if math.isnan(running) else 0.99 * running + 0.01 * loss.item()
            if not math.isfinite(running):
                raise RuntimeError(f"loss is {running} at step {step}: lower the learning rate ({setup.lr})")
            if step % 100 == 0:
                event = {"step": step, "samples": step * setup.batch, "loss": running, "lr": lr, "seconds": spent}
                if step % validate_every == 0:
                    event |= ended()
                if spent - saved > 600:
                    save()
                    saved = spent
                yield event
    except KeyboardInterrupt:
        save()  # the same command goes on from here
        raise
    save()
    yield {"step": step, "samples": step * setup.batch, "loss": running, "seconds": spent, **ended()}


def _count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
