"""What differs between families of pipelines: text encoders, the denoiser's call, latents, schedule, LoRA targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import AdapterError, BackboneError

__all__ = ["ATTENTION", "ATTENTION_AND_UP_CONVOLUTIONS", "FAMILIES", "Conditioning", "Family", "family_of"]

#: Attention projections everywhere in a UNet.
ATTENTION = r".*attentions\..*\.(to_q|to_k|to_v|to_out\.0)"
#: And the convolutions of its up blocks (colour and line texture live there).
ATTENTION_AND_UP_CONVOLUTIONS = rf"{ATTENTION}|up_blocks\.\d+\.resnets\.\d+\.(conv1|conv2)"
#: And every convolution with what ties it to the time: a hand that draws in large square dots needs the first and last.
_WHOLE_UNET = rf"{ATTENTION}|.*\.resnets\.\d+\.(conv\w+|time_emb_proj)|.*samplers\.0\.conv|conv_(in|out)"
#: Both streams of the joint attention: the picture's (to_*) and the text's (add_*).
_JOINT_ATTENTION = r".*\.attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"


@dataclass(frozen=True)
class Conditioning:
    """What a denoiser is told beside latents and time, for n pictures; a row for each.

    `embeddings` (n, tokens, width), and where the family has them `pooled` (n, width), `time_ids` (n, 6: original
    height and width, top and left of the crop, target height and width, in pixels) and `guidance` (n,).

    Example:
        >>> both = Conditioning.cat([backbone.embed([""]), backbone.embed(["a red fox"])])
        >>> len(both), len(both[1:])
        (2, 1)
    """

    embeddings: torch.Tensor = field(repr=False)
    pooled: torch.Tensor | None = field(default=None, repr=False)
    time_ids: torch.Tensor | None = field(default=None, repr=False)
    guidance: torch.Tensor | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.embeddings)

    def __getitem__(self, rows: Any) -> Conditioning:
        """Rows by slice, or by a tensor of indices."""
        return Conditioning(**{name: value[rows] for name, value in self._present().items()})

    @property
    def nbytes(self) -> int:
        """Bytes that its tensors hold."""
        return sum(value.nbytes for value in self._present().values())

    def to(self, *args: Any, **kwargs: Any) -> Conditioning:
        """Every tensor moved or cast, as `torch.Tensor.to` does."""
        return Conditioning(**{name: value.to(*args, **kwargs) for name, value in self._present().items()})

    def repeat(self, n: int) -> Conditioning:
        """A single row n times, without copying it."""
        return Conditioning(**{name: value.expand(n, *value.shape[1:]) for name, value in self._present().items()})

    def styled(self, token: torch.Tensor) -> Conditioning:
        """With a style token, (k, width), added to the last k places of every row's embeddings.

        Raises:
            AdapterError: it is not as wide as the embeddings, or longer than they are.
        """
        k, (_, places, width) = len(token), self.embeddings.shape
        if token.shape != (k, width) or not 1 <= k <= places:
            raise AdapterError(
                f"The style token is {tuple(token.shape)}; captions of this backbone have {places} places of width "
                f"{width}. Load the backbone that it was trained on."
            )
        before, last = self.embeddings[:, :-k], self.embeddings[:, -k:]
        return replace(self, embeddings=torch.cat([before, last + token.to(last)], dim=1))

    def where(self, chosen: torch.Tensor, other: Conditioning) -> Conditioning:
        """Its own rows where `chosen` (bool, (n,)), the other's elsewhere; a single row of `other` serves all."""
        theirs = other._present()
        mixed = {
            name: torch.where(chosen.reshape(-1, *[1] * (value.dim() - 1)), value, theirs[name])
            for name, value in self._present().items()
        }
        return Conditioning(**mixed)

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """The rows of all parts, in order."""
        names = parts[0]._present()
        return Conditioning(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})

    def _present(self) -> dict[str, torch.Tensor]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class Family:
    """Stable Diffusion 1.x, 2.x and their turbo kin: one CLIP text encoder and a UNet. The others differ from it.

    A family knows a diffusers pipeline class; it holds no state. `denoiser` is the pipeline's attribute, and the prefix
    of every tensor's name in an adapter's file; `targets` are the modules that an adapter changes by default, and
    `personal_targets` those of a personal adapter, which never travels and may be larger ("": the same).
    """

    pipeline: ClassVar[str] = "StableDiffusionPipeline"
    title: ClassVar[str] = "Stable Diffusion 1.x, 2.x, SD-Turbo"
    denoiser: ClassVar[str] = "unet"
    targets: ClassVar[str] = ATTENTION_AND_UP_CONVOLUTIONS
    personal_targets: ClassVar[str] = _WHOLE_UNET
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
    tokenizers: ClassVar[tuple[str, ...]] = ("tokenizer",)
    load_options: ClassVar[dict[str, Any]] = {"safety_checker": None, "requires_safety_checker": False}
    optional: ClassVar[tuple[str, ...]] = ()  # parts that a pipeline may do without
    steps_and_guidance: ClassVar[tuple[int, float]] = (20, 5.0)
    turbo_steps_and_guidance: ClassVar[tuple[int, float]] = (4, 1.0)
    guidance_is_told: ClassVar[bool] = False  # True: the strength goes into the denoiser, no second prediction is made

    def is_turbo(self, pipe: Any, name: str) -> bool:  # noqa: ARG002 - others read the name
        """Whether it was distilled to draw in 1 to 4 steps without guidance (Sauer et al. 2311.17042).

        Distilled UNets come with an Euler scheduler that begins at the very last timestep.
        """
        config = pipe.scheduler.config
        trailing = config.get("timestep_spacing") == "trailing" and not config.get("rescale_betas_zero_snr")
        return trailing and type(pipe.scheduler).__name__.startswith("Euler")

    def latent_shape(self, pipe: Any, size_px: int | None) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of a picture of `size_px`; the pipeline's own size when None."""
        config = getattr(pipe, self.denoiser).config
        if size_px is None:
            size = config.sample_size
            height, width = size if isinstance(size, (list, tuple)) else (size, size)
        else:
            height = width = size_px // pipe.vae_scale_factor
        return (int(config.in_channels), int(height), int(width))

    def size_step_px(self, pipe: Any) -> int:
        """Picture sizes are multiples of this: one latent value, halved by every down block of the UNet."""
        return int(pipe.vae_scale_factor * 2 ** (len(pipe.unet.config.block_out_channels) - 1))

    def embed(self, pipe: Any, captions: list[str], size_px: int) -> Conditioning:  # noqa: ARG002 - SDXL wants it
        """Conditioning of captions; the empty caption's is what guidance starts from."""
        return Conditioning(pipe.encode_prompt(captions, pipe._execution_device, 1, False)[0])

    def predict(self, pipe: Any, x: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        """The denoiser's output for noisy latents (n, c, h, w) at timesteps (n,)."""
        out: torch.Tensor = pipe.unet(x, t, encoder_hidden_states=told.embeddings).sample
        return out

    def set_timesteps(
        self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, int, int], device: torch.device
    ) -> None:
        """Prepare a scheduler for drawing in so many steps."""
        del pipe, shape
        scheduler.set_timesteps(steps, device=device)


class _StableDiffusionXL(Family):
    """Two CLIP encoders side by side, pooled embeddings, picture sizes told as well (Podell et al. 2307.01952)."""

    pipeline = "StableDiffusionXLPipeline"
    title = "Stable Diffusion XL, SDXL-Turbo"
    targets = ATTENTION
    personal_targets = ""
    text_encoders = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    load_options: ClassVar[dict[str, Any]] = {}

    def embed(self, pipe: Any, captions: list[str], size_px: int) -> Conditioning:
        embeddings, _, pooled, _ = pipe.encode_prompt(
            captions, device=pipe._execution_device, do_classifier_free_guidance=False
        )
        if pipe.config.force_zeros_for_empty_prompt:  # as it was trained: no caption is zeros, not an encoded ""
            said = torch.tensor([bool(caption) for caption in captions], device=embeddings.device)
            embeddings, pooled = embeddings * said[:, None, None], pooled * said[:, None]
        sizes = torch.tensor([[size_px, size_px, 0, 0, size_px, size_px]], dtype=embeddings.dtype)
        return Conditioning(embeddings, pooled, sizes.to(embeddings.device).repeat(len(captions), 1))

    def predict(self, pipe: Any, x: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        added = {"text_embeds": told.pooled, "time_ids": told.time_ids}
        out: torch.Tensor = pipe.unet(x, t, encoder_hidden_states=told.embeddings, added_cond_kwargs=added).sample
        return out


class _StableDiffusion3(Family):
    """Two CLIP encoders, T5 or nothing in its place, a joint-attention transformer, flow (Esser et al. 2403.03206)."""

    pipeline = "StableDiffusion3Pipeline"
    title = "Stable Diffusion 3 and 3.5"
    denoiser = "transformer"
    targets = _JOINT_ATTENTION
    personal_targets = ""
    text_encoders = ("text_encoder", "text_encoder_2", "text_encoder_3")
    tokenizers = ("tokenizer", "tokenizer_2", "tokenizer_3")
    optional = ("text_encoder_3", "tokenizer_3")
    load_options: ClassVar[dict[str, Any]] = {}
    steps_and_guidance = (28, 5.0)

    def is_turbo(self, pipe: Any, name: str) -> bool:
        """Nothing in its configuration tells a distilled one: its name does."""
        del pipe
        return "turbo" in name.lower()

    def size_step_px(self, pipe: Any) -> int:
        return int(pipe.vae_scale_factor * pipe.transformer.config.patch_size)

    def embed(self, pipe: Any, captions: list[str], size_px: int) -> Conditioning:
        del size_px
        embeddings, _, pooled, _ = pipe.encode_prompt(
            captions,
            None,
            None,
            device=pipe._execution_device,
            do_classifier_free_guidance=False,
        )
        return Conditioning(embeddings, pooled)

    def predict(self, pipe: Any, x: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        out: torch.Tensor = pipe.transformer(
            hidden_states=x, timestep=t, encoder_hidden_states=told.embeddings, pooled_projections=told.pooled
        ).sample
        return out

    def set_timesteps(
        self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, int, int], device: torch.device
    ) -> None:
        tokens = shape[1] * shape[2] // pipe.transformer.config.patch_size**2
        scheduler.set_timesteps(steps, device=device, **_shift_of(scheduler, tokens, 1.16))


class _Flux(Family):
    """CLIP for the pooled embedding, T5 for the words, latents packed 2x2; the guidance-distilled and the fast one."""

    pipeline = "FluxPipeline"
    title = "FLUX.1 dev and schnell"
    denoiser = "transformer"
    targets = _JOINT_ATTENTION
    personal_targets = ""
    text_encoders = ("text_encoder", "text_encoder_2")
    tokenizers = ("tokenizer", "tokenizer_2")
    load_options: ClassVar[dict[str, Any]] = {}
    steps_and_guidance = (28, 3.5)
    guidance_is_told = True

    def is_turbo(self, pipe: Any, name: str) -> bool:
        """The variant without a guidance embedding draws in four steps."""
        del name
        return not pipe.transformer.config.guidance_embeds

    def latent_shape(self, pipe: Any, size_px: int | None) -> tuple[int, int, int]:
        side = pipe.default_sample_size if size_px is None else size_px // pipe.vae_scale_factor
        return (int(pipe.transformer.config.in_channels) // 4, int(side), int(side))

    def size_step_px(self, pipe: Any) -> int:
        return int(pipe.vae_scale_factor * 2)

    def embed(self, pipe: Any, captions: list[str], size_px: int) -> Conditioning:
        del size_px
        told = bool(pipe.transformer.config.guidance_embeds)
        tokens = 512 if told else 256  # the lengths that dev and schnell were trained with
        device = pipe._execution_device
        embeddings, pooled, _ = pipe.encode_prompt(captions, None, device=device, max_sequence_length=tokens)
        # Training tells it 1, no guidance, as the diffusers example does; drawing puts its own number there.
        return Conditioning(embeddings, pooled, guidance=torch.ones(len(captions), device=device) if told else None)

    def predict(self, pipe: Any, x: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        n, channels, height, width = x.shape
        packed = x.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
        rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
        places = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).to(x)
        out = pipe.transformer(
            hidden_states=packed.reshape(n, (height // 2) * (width // 2), channels * 4),
            timestep=t / 1000,
            guidance=told.guidance,
            pooled_projections=told.pooled,
            encoder_hidden_states=told.embeddings,
            txt_ids=torch.zeros(told.embeddings.shape[1], 3).to(x),
            img_ids=places,
        ).sample
        out = out.reshape(n, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
        unpacked: torch.Tensor = out.reshape(n, channels, height, width)
        return unpacked

    def set_timesteps(
        self, pipe: Any, scheduler: Any, steps: int, shape: tuple[int, int, int], device: torch.device
    ) -> None:
        del pipe
        even = None if scheduler.config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        tokens = shape[1] * shape[2] // 4
        scheduler.set_timesteps(steps, device=device, sigmas=even, **_shift_of(scheduler, tokens, 1.15))


def _shift_of(scheduler: Any, tokens: int, largest: float) -> dict[str, float]:
    """More tokens, more noise: mu is linear in their number (Esser et al. 2403.03206, section 5.3.2)."""
    config = scheduler.config
    if not config.get("use_dynamic_shifting"):
        return {}
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", largest)
    return {"mu": low + (high - low) * (tokens - few) / (many - few)}


#: The families that this version drives, by the pipeline's class name.
FAMILIES: dict[str, Family] = {f.pipeline: f for f in (Family(), _StableDiffusionXL(), _StableDiffusion3(), _Flux())}


def family_of(pipeline_class: str | None, shown: str) -> Family:
    """The family of a pipeline class.

    Raises:
        BackboneError: this version does not drive it; the message names those that it does.
    """
    if pipeline_class in FAMILIES:
        return FAMILIES[pipeline_class]
    known = "; ".join(f"{name} ({family.title})" for name, family in FAMILIES.items())
    raise BackboneError(
        f"{shown!r} is a {pipeline_class}, which this version does not drive. It drives {known}. "
        "Choose such a folder or hub id, or Backbone.embedded()."
    )
