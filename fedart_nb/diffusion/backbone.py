"""The frozen diffusion pipeline that every adapter rests on: embedded, a local folder or a hub id, one code path."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import settings
from ..errors import BackboneError
from .process import Process, process_of

__all__ = ["Backbone"]

#: Pipeline classes that this version drives; others are refused with their name.
_KNOWN_PIPELINES = ("StableDiffusionPipeline",)
_ENCODE_BATCH = 32
_loading = threading.Lock()  # loading patches torch's module constructors for all threads


class Backbone:
    """A frozen text-to-image latent diffusion pipeline.

    Attributes:
        pipeline: the plain diffusers pipeline underneath; nothing of it is subclassed or patched.
        name: folder name or hub id, for people.
        lock: held while adapters are attached, so that two jobs never train on one network at once.

    Example:
        >>> backbone = Backbone.embedded()
        >>> backbone.latent_shape
        (4, 16, 16)
    """

    def __init__(self, pipeline: Any, *, name: str) -> None:
        known = type(pipeline).__name__
        if known not in _KNOWN_PIPELINES:
            raise BackboneError(
                f"{name!r} is a {known}; this version drives {', '.join(_KNOWN_PIPELINES)} "
                "(Stable Diffusion 1.x and 2.x layouts). Choose such a folder or hub id, or Backbone.embedded()."
            )
        self.pipeline = pipeline
        self.name = name
        self.lock = threading.RLock()
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            part.requires_grad_(False)
            part.eval()
        pipeline.set_progress_bar_config(disable=True)
        self.process: Process = process_of(pipeline.scheduler)

    @classmethod
    def embedded(cls, *, device: str | None = None) -> Backbone:
        """The small pipeline that ships with this package (see its model card, `diffusion/embedded/README.md`)."""
        folder = resources.files(__package__).joinpath("embedded")
        with resources.as_file(folder) as path:
            return cls.from_pretrained(path, device=device, name="embedded")

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | os.PathLike[str],
        *,
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
        local_files_only: bool | None = None,
        name: str | None = None,
    ) -> Backbone:
        """Load a pipeline in diffusers' format from a folder, or from a hub by its id. Only safetensors are read.

        Raises:
            BackboneError: no such folder or id, weights that are not safetensors, or an unknown family.
        """
        import diffusers

        path = Path(folder_or_hub_id)
        shown = name or str(folder_or_hub_id)
        if path.exists() and not (path / "model_index.json").is_file():
            found = ", ".join(sorted(p.name for p in path.iterdir())[:5]) if path.is_dir() else "a file"
            raise BackboneError(
                f"{shown!r} holds no diffusers pipeline: model_index.json is missing (found: {found or 'nothing'}). "
                "Give the folder that save_pretrained() wrote."
            )
        if path.exists():
            declared = json.loads((path / "model_index.json").read_text(encoding="utf-8")).get("_class_name")
            if declared not in _KNOWN_PIPELINES:
                raise BackboneError(
                    f"{shown!r} is a {declared}; this version drives {', '.join(_KNOWN_PIPELINES)}. "
                    "Choose such a folder or hub id, or Backbone.embedded()."
                )
        offline = path.exists() if local_files_only is None else local_files_only
        try:
            with _loading, _quiet():
                pipeline = diffusers.DiffusionPipeline.from_pretrained(
                    str(folder_or_hub_id),
                    dtype=dtype,
                    use_safetensors=True,
                    safety_checker=None,
                    requires_safety_checker=False,
                    local_files_only=offline,
                )
                pipeline.to(device or settings.device())
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"Cannot load {shown!r}: {_first_line(error)} Give a folder with safetensors weights, or a hub id that "
                "this machine can reach."
            ) from error
        return cls(pipeline, name=shown)

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, latents {self.latent_shape}, {self.device.type})"

    @property
    def unet(self) -> Any:
        """The denoiser, a `UNet2DConditionModel`."""
        return self.pipeline.unet

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.pipeline.device)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of its weights."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture's latents at the native size."""
        config = self.unet.config
        size = config.sample_size
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        return (int(config.in_channels), int(height), int(width))

    @property
    def size_px(self) -> int:
        """Native picture size in pixels."""
        return int(self.latent_shape[2] * self.pipeline.vae_scale_factor)

    @cached_property
    def sha256(self) -> str:
        """Hash of weights (as float32), scheduler and vocabulary: two kernels agree on a backbone by this."""
        digest = hashlib.sha256()
        for part_name in ("unet", "vae", "text_encoder"):
            part = getattr(self.pipeline, part_name)
            state = {k.replace(".base_layer", ""): w for k, w in part.state_dict().items() if "lora_" not in k}
            for key, tensor in sorted(state.items()):
                digest.update(f"{part_name}.{key}{tuple(tensor.shape)}".encode())
                digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).data)
        scheduler = {k: v for k, v in dict(self.pipeline.scheduler.config).items() if not k.startswith("_")}
        digest.update(json.dumps(scheduler, sort_keys=True, default=str).encode())
        digest.update(json.dumps(self.pipeline.tokenizer.get_vocab(), sort_keys=True).encode())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Pictures, uint8 (n, h, w, 3), to scaled latents, float32 (n, *latent_shape) on the backbone's device."""
        vae = self.pipeline.vae
        out = []
        for start in range(0, len(pictures), _ENCODE_BATCH):
            x = torch.from_numpy(np.ascontiguousarray(pictures[start : start + _ENCODE_BATCH])).to(self.device)
            encoded = vae.encode((x.permute(0, 3, 1, 2).float() / 127.5 - 1).to(vae.dtype))
            z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
            out.append((z.float() - _shift(vae)) * vae.config.scaling_factor)
        return torch.cat(out) if out else torch.empty((0, *self.latent_shape), device=self.device)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Scaled latents (n, c, h, w) to pictures, uint8 (n, height, width, 3)."""
        vae = self.pipeline.vae
        x = vae.decode((latents / vae.config.scaling_factor + _shift(vae)).to(vae.dtype)).sample
        x = (x.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        pictures: NDArray[np.uint8] = (x * 255).round().astype(np.uint8)
        return pictures

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions to text embeddings, (n, tokens, width); cut at the text encoder's length."""
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(
            list(captions),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        out: torch.Tensor = self.pipeline.text_encoder(ids.to(self.device))[0]
        return out

    def unknown_words(self, caption: str) -> tuple[str, ...]:
        """Words of a caption that the text encoder has no token for, in order; empty for subword tokenizers."""
        tokenizer = self.pipeline.tokenizer
        unknown = tokenizer.unk_token_id
        words = dict.fromkeys(re.findall(r"<[a-z0-9_]+>|[^\W_]+", caption.lower()))
        return tuple(w for w in words if unknown in tokenizer(w, add_special_tokens=False).input_ids)


def _shift(vae: Any) -> float:
    return float(getattr(vae.config, "shift_factor", None) or 0.0)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if line.endswith(".") else line + "."


@contextmanager
def _quiet() -> Iterator[None]:
    """Loading prints bars and advice that mean nothing to an artist; errors still get through."""
    import diffusers
    import transformers

    before = (diffusers.utils.logging.get_verbosity(), transformers.utils.logging.get_verbosity())
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        diffusers.utils.logging.set_verbosity(before[0])
        transformers.utils.logging.set_verbosity(before[1])
