"""Tiny random pipelines, built from configuration, in the layouts that real ones have."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WORDS = ["<pad>", "<start>", "<end>", "<unk>", "cat", "dog", "red", "blue"]
_BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def build(kind: str = "flow") -> DiffusionPipeline:
    """A pipeline of 32 px pictures.

    `flow`: AutoencoderTiny and rectified flow, as the embedded backbone has; `epsilon`: AutoencoderKL and DDPM, as
    Stable Diffusion 1.x; `v`: 2.x; `turbo`: SD-Turbo; `sdxl`; `sdxl-turbo`; `sd3`; `sd3-without-t5`; `flux` (dev);
    `schnell`.
    """
    torch.manual_seed(0)
    if kind.startswith("sdxl"):
        return _sdxl(turbo=kind == "sdxl-turbo")
    if kind.startswith("sd3"):
        return _sd3(with_t5=kind == "sd3")
    if kind in ("flux", "schnell"):
        return _flux(guidance_embeds=kind == "flux")
    return StableDiffusionPipeline(
        vae=_tiny_vae() if kind == "flow" else _vae(),
        text_encoder=CLIPTextModel(_clip_config(len(WORDS), bos=1, eos=2)),
        tokenizer=_words(),
        unet=_unet(cross_attention_dim=16),
        scheduler=_scheduler(kind),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _scheduler(kind: str) -> Any:
    if kind == "flow":
        return DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, steps_offset=1)
    if kind == "turbo":
        return EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="trailing")
    predicts = "v_prediction" if kind == "v" else "epsilon"
    return DDIMScheduler(**_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=predicts)


def _sdxl(*, turbo: bool) -> StableDiffusionXLPipeline:
    euler: Any = EulerAncestralDiscreteScheduler if turbo else EulerDiscreteScheduler
    tokenizer = _clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config(len(tokenizer))),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(len(tokenizer))),
        tokenizer=tokenizer,
        tokenizer_2=_clip_tokenizer(),
        unet=_unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 16,
        ),
        scheduler=euler(**_BETAS, steps_offset=1, timestep_spacing="trailing" if turbo else "leading"),
        add_watermarker=False,
    )


def _sd3(*, with_t5: bool) -> StableDiffusion3Pipeline:
    tokenizer = _clip_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=32,
            out_channels=4,
            pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(_clip_config(len(tokenizer))),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(len(tokenizer))),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_3=_t5() if with_t5 else None,
        tokenizer_3=_words() if with_t5 else None,
    )


def _flux(*, guidance_embeds: bool) -> FluxPipeline:
    tokenizer = _clip_tokenizer()
    dynamic: dict[str, Any] = {"use_dynamic_shifting": True, "shift": 3.0} if guidance_embeds else {"shift": 1.0}
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(**dynamic),
        vae=_vae(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(_clip_config(len(tokenizer))),
        tokenizer=tokenizer,
        text_encoder_2=_t5(),
        tokenizer_2=_words(),
    )


def _unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
        **more,
    )


def _tiny_vae() -> AutoencoderTiny:
    widths = (8, 8, 8)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=(0, 0, 1),
        num_decoder_blocks=(1, 0, 0),
    )


def _vae(**scaling: float) -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=32,
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=4,
        **scaling,
    )


def _clip_config(vocabulary: int, *, bos: int | None = None, eos: int | None = None) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        projection_dim=16,
        bos_token_id=vocabulary - 2 if bos is None else bos,
        eos_token_id=vocabulary - 1 if eos is None else eos,
        pad_token_id=0,
    )


def _clip_tokenizer() -> CLIPTokenizer:
    """Byte-pair encoding as CLIP has it, over single letters and the whole word "cat"."""
    letters = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase), "ca", "cat</w>"]
    names = [*letters, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: i for i, name in enumerate(names)}
    return CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")], model_max_length=8)


def _words() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_max_length=8)


def _t5() -> T5EncoderModel:
    config = T5Config(
        vocab_size=len(WORDS), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return T5EncoderModel(config)
