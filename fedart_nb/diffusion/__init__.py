"""The frozen backbone, LoRA adapters on it, training and sampling."""

from .adapters import (
    ATTENTION_AND_UP_CONVOLUTIONS,
    Adapter,
    AdapterConfig,
    attached,
    check_fits,
    initial_adapter,
    personal_config,
)
from .auditing import audit_training
from .backbone import Backbone
from .composing import compose, overlap
from .dp_sgd import PrivateTraining
from .example_level import PicturePrivacy
from .families import ATTENTION, Conditioning
from .latents import LatentSet, cache_latents, latents_of
from .sampling import ANCHOR, Anchor, anchor_of, draw, sample
from .training import PERSONAL, TrainConfig, TrainState, denoising_loss, train

__all__ = [
    "ANCHOR",
    "ATTENTION",
    "ATTENTION_AND_UP_CONVOLUTIONS",
    "PERSONAL",
    "Adapter",
    "AdapterConfig",
    "Anchor",
    "Backbone",
    "Conditioning",
    "LatentSet",
    "PicturePrivacy",
    "PrivateTraining",
    "TrainConfig",
    "TrainState",
    "anchor_of",
    "attached",
    "audit_training",
    "cache_latents",
    "check_fits",
    "compose",
    "denoising_loss",
    "draw",
    "initial_adapter",
    "latents_of",
    "overlap",
    "personal_config",
    "sample",
    "train",
]
