"""The frozen backbone, LoRA adapters on it, training and sampling."""

from .adapters import ATTENTION_AND_UP_CONVOLUTIONS, Adapter, AdapterConfig, attached, initial_adapter, personal_config
from .auditing import audit_training
from .backbone import Backbone
from .families import ATTENTION, Conditioning
from .latents import LatentSet, cache_latents, latents_of
from .private import PrivateTraining
from .protection import PicturePrivacy
from .sampling import draw, sample
from .training import PERSONAL, TrainConfig, TrainState, denoising_loss, train

__all__ = [
    "ATTENTION",
    "ATTENTION_AND_UP_CONVOLUTIONS",
    "PERSONAL",
    "Adapter",
    "AdapterConfig",
    "Backbone",
    "Conditioning",
    "LatentSet",
    "PicturePrivacy",
    "PrivateTraining",
    "TrainConfig",
    "TrainState",
    "attached",
    "audit_training",
    "cache_latents",
    "denoising_loss",
    "draw",
    "initial_adapter",
    "latents_of",
    "personal_config",
    "sample",
    "train",
]
