"""The frozen diffusion pipeline that every adapter rests on: embedded, a local folder or a hub id, one code path."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .._system import settings
from .._system.arguments import texts
from .._system.cancelling import checkpoint
from .._system.files import user_path
from ..errors import BackboneError
from .exclusive import Exclusive
from .families import Conditioning, Family, family_of
from .process import Process, process_of
from .prompts import Lexicon, Understood

__all__ = ["Backbone"]

_PIXELS_AT_ONCE = 8 * 128 * 128  # as many go through the autoencoder together: more are no faster, and hold up a cancel
_loading = threading.Lock()  # loading patches torch's module constructors for all threads


#: What the embedded pipeline draws best with; among 3, 5 and 7.5 (`recipes/backbone/README.md`).
_EMBEDDED_GUIDANCE = 3.0


class Backbone:
    """A frozen text-to-image latent diffusion pipeline.

    Attributes:
        pipeline: the plain diffusers pipeline underneath; nothing of it is subclassed or patched.
        name: folder name or hub id, for people.
        family: what is particular to its kind of pipeline (`families.py`).
        lock: held while adapters are attached, so that two jobs never train on one network at once; paused work gives
            way (`exclusive.py`).
        tokens: style tokens, (k, width), and weights of the adapters that are attached now, by their names.

    Example:
        >>> backbone = Backbone.embedded()
        >>> backbone.latent_shape
        (8, 16, 16)
    """

    def __init__(self, pipeline: Any, *, name: str, size_px: int | None = None) -> None:
        self.family: Family = family_of(type(pipeline).__name__, name)
        self.pipeline = pipeline
        self.name = name
        self.lock = Exclusive()
        step_px = self.family.size_step_px(pipeline)
        if size_px is not None and (size_px < step_px or size_px % step_px):
            raise BackboneError(f"size_px is {size_px}; {name!r} works at multiples of {step_px} px.")
        self.tokens: dict[str, tuple[torch.nn.Parameter, float]] = {}
        self._asked_px = size_px
        for part in self._parts().values():
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
        size_px: int | None = None,
        variant: str | None = None,
        t5: bool = True,
        gradient_checkpointing: bool = False,
        vae_slicing: bool = False,
        vae_tiling: bool = False,
        offload: bool = False,
        local_files_only: bool | None = None,
        name: str | None = None,
    ) -> Backbone:
        """Load a pipeline in diffusers' format from a folder, or from a hub by its id. Only safetensors are read.

        Args:
            dtype: of the frozen weights; adapters stay float32. `torch.bfloat16` halves the memory. All artists of a
                room choose the same one, for rounded weights are another backbone (`sha256`).
            size_px: picture size, when it is not to be the pipeline's own.
            variant: the part of the weights' names that some folders carry, such as "fp16".
            t5: False leaves the T5 text encoder of Stable Diffusion 3 out, most of its memory; a folder may lack it.
            gradient_checkpointing: compute activations again on the way back: less memory, about a third more time.
            vae_slicing: encode and decode one picture at a time.
            vae_tiling: encode and decode large pictures in overlapping tiles.
            offload: keep only the network at work on the accelerator, the others on the CPU (through accelerate).
            local_files_only: never ask a hub; a folder never does.

        Raises:
            BackboneError: no such folder or id, weights that are not safetensors, or an unknown family.

        Example:
            >>> Backbone.from_pretrained("models/sdxl", dtype=torch.bfloat16, offload=True)  # doctest: +SKIP
        """
        import diffusers

        path = user_path(folder_or_hub_id)
        shown = name or str(folder_or_hub_id)
        target = device or settings.device()
        if offload and torch.device(target).type == "cpu":
            raise BackboneError(
                f"offload moves weights between an accelerator and the CPU; here the device is {target!r}. "
                "Leave offload at False, or choose device='cuda'."
            )
        offline = path.exists() if local_files_only is None else local_files_only
        if path.exists():
            family = family_of(_check_folder(path, shown, variant), shown)
        try:
            with _loading, _quiet():
                if not path.exists():
                    found = diffusers.DiffusionPipeline.load_config(str(folder_or_hub_id), local_files_only=offline)
                    family = family_of(found.get("_class_name"), shown)
                if not (t5 or family.optional):
                    raise BackboneError(f"{shown!r} does not work without its text encoders. Leave t5 at True.")
                absent = [p for p in family.optional if not t5 or (path.exists() and not (path / p).exists())]
                pipeline = diffusers.DiffusionPipeline.from_pretrained(
                    str(path if path.exists() else folder_or_hub_id),
                    dtype=dtype,
                    variant=variant,
                    use_safetensors=True,
                    local_files_only=offline,
                    **family.load_options,
                    **dict.fromkeys(absent),
                )
                if dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
                    pipeline.vae.to(torch.float32)  # this decoder overflows in half precision
                if offload:
                    pipeline.enable_model_cpu_offload(device=target)
                else:
                    pipeline.to(target)
        except (OSError, ValueError) as error:
            raise BackboneError(
                f"Cannot load {shown!r}: {_first_line(error)} Give a folder with safetensors weights, or a hub id that "
                "this machine can reach."
            ) from error
        if vae_slicing:
            pipeline.vae.enable_slicing()
        if vae_tiling:
            pipeline.vae.enable_tiling()
        backbone = cls(pipeline, name=shown, size_px=size_px)
        if gradient_checkpointing:
            backbone.denoiser.enable_gradient_checkpointing()
        return backbone

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, {self.family.title}, latents {self.latent_shape}, {self.device.type})"

    @property
    def denoiser(self) -> Any:
        """The network that adapters change: a `UNet2DConditionModel` or a transformer."""
        return getattr(self.pipeline, self.family.denoiser)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device(self.pipeline._execution_device)

    @property
    def dtype(self) -> torch.dtype:
        """Number type of its weights."""
        first: torch.nn.Parameter = next(self.denoiser.parameters())  # diffusers' property walks through all modules
        return first.dtype

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one picture's latents."""
        return self.family.latent_shape(self.pipeline, self._asked_px)

    @property
    def size_px(self) -> int:
        """Picture size in pixels: the pipeline's own, or what was asked for when it was loaded."""
        return int(self.latent_shape[2] * self.pipeline.vae_scale_factor)

    @property
    def steps_and_guidance(self) -> tuple[int, float]:
        """What `sample` uses when it is not told: few steps without guidance for distilled (turbo) pipelines."""
        family = self.family
        turbo = family.is_turbo(self.pipeline, self.name)
        steps, guidance = family.turbo_steps_and_guidance if turbo else family.steps_and_guidance
        return steps, _EMBEDDED_GUIDANCE if self.name == "embedded" else guidance

    @cached_property
    def sha256(self) -> str:
        """Hash of weights (as float32), scheduler, vocabulary, nearest words: kernels agree on a backbone by this."""
        digest = hashlib.sha256()
        for part_name, part in self._parts().items():
            state = {k.replace(".base_layer", ""): w for k, w in part.state_dict().items() if "lora_" not in k}
            for key, tensor in sorted(state.items()):
                digest.update(f"{part_name}.{key}{tuple(tensor.shape)}".encode())
                digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).data)
        scheduler = {k: v for k, v in dict(self.pipeline.scheduler.config).items() if not k.startswith("_")}
        digest.update(json.dumps(scheduler, sort_keys=True, default=str).encode())
        for tokenizer in filter(None, (getattr(self.pipeline, name) for name in self.family.tokenizers)):
            digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
        if self._lexicon and self._lexicon.table:
            digest.update(json.dumps(self._lexicon.table, sort_keys=True).encode())
        return digest.hexdigest()

    def _parts(self) -> dict[str, torch.nn.Module]:
        """The networks by the pipeline's names for them; an encoder may be left out of a pipeline (SD3's T5)."""
        names = (self.family.denoiser, "vae", *self.family.text_encoders)
        return {name: part for name in names if (part := getattr(self.pipeline, name)) is not None}

    @torch.no_grad()
    def encode(self, pictures: NDArray[np.uint8]) -> torch.Tensor:
        """Pictures, uint8 (n, h, w, 3), to scaled latents, float32 (n, *latent_shape) on the backbone's device."""
        vae = self.pipeline.vae
        out = []
        for part in _batches(len(pictures), self.size_px):
            checkpoint()
            x = torch.from_numpy(np.ascontiguousarray(pictures[part])).to(self.device)
            encoded = vae.encode((x.permute(0, 3, 1, 2).float() / 127.5 - 1).to(vae.dtype))
            z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
            out.append((z.float() - _shift(vae)) * vae.config.scaling_factor)
        return torch.cat(out) if out else torch.empty((0, *self.latent_shape), device=self.device)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """Scaled latents (n, c, h, w) to pictures, uint8 (n, height, width, 3)."""
        vae = self.pipeline.vae
        out = []
        for part in _batches(len(latents), self.size_px):
            checkpoint()
            z = latents[part].to(self.device) / vae.config.scaling_factor + _shift(vae)
            x = vae.decode(z.to(vae.dtype)).sample
            out.append((x.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())
        pictures: NDArray[np.uint8] = (np.concatenate(out) * 255).round().astype(np.uint8)
        return pictures

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Conditioning:
        """Captions, as `understand` reads them, to what the denoiser is told, a row each; cut at the encoder's length.

        The empty caption's row is what guidance starts from and what caption dropout puts in a caption's place.
        """
        checkpoint()
        lines = texts("captions", captions, BackboneError)
        return self.family.embed(self.pipeline, [self.understand(line).text for line in lines], self.size_px)

    def predict(self, x: torch.Tensor, t: torch.Tensor, conditioning: Conditioning) -> torch.Tensor:
        """What the denoiser makes of noisy latents: the one door for training, drawing, measures and attacks.

        Args:
            x: noisy latents, (n, *latent_shape).
            t: timesteps in the process's unit, (n,) or a single one for all.
            conditioning: n rows, from `embed` or a `LatentSet`.

        Returns:
            The prediction, of the latents' shape, in the backbone's number type. With half-precision weights and
            gradients switched on it runs under autocast, so that float32 adapters learn.
        """
        checkpoint()
        t = torch.as_tensor(t, device=x.device).expand(len(x))
        mixed = torch.is_grad_enabled() and self.dtype != torch.float32
        told = conditioning.to(x.device, self.dtype)
        for token, weight in self.tokens.values():
            told = told.styled(weight * token)
        with torch.autocast(x.device.type, self.dtype) if mixed else nullcontext():  # an outer autocast stays in force
            out: torch.Tensor = self.family.predict(self.pipeline, x.to(self.dtype), t, told)
        return out

    def understand(self, caption: str) -> Understood:
        """A caption as the text encoder will read it, and how each word came about (`words.py`).

        A word without a token is read as another form of itself, as the nearest known word or as a typing slip, or it
        is ignored; the readings say which. Encoders that know parts of words read the caption as it stands.

        Example:
            >>> Backbone.embedded().understand("a kitty").changed  # doctest: +SKIP
            (Reading(word='kitty', used=('cat',), how='meaning'),)
        """
        return self._lexicon.understand(caption) if self._lexicon else Understood(caption)

    @cached_property
    def _lexicon(self) -> Lexicon | None:
        return Lexicon.of(self.pipeline.tokenizer)


def _batches(n: int, size_px: int) -> Iterator[slice]:
    step = max(1, _PIXELS_AT_ONCE // size_px**2)
    return (slice(i, i + step) for i in range(0, n, step))


def _check_folder(path: Path, shown: str, variant: str | None) -> str | None:
    """The pipeline class that a folder declares; refused when weights of it are not in safetensors."""
    if not (path / "model_index.json").is_file():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:5]) if path.is_dir() else "a file"
        raise BackboneError(
            f"{shown!r} holds no diffusers pipeline: model_index.json is missing (found: {found or 'nothing'}). "
            "Give the folder that save_pretrained() wrote."
        )
    try:
        index = json.loads((path / "model_index.json").read_text(encoding="utf-8"))
        declared = index.get("_class_name")
    except (ValueError, AttributeError) as error:
        raise BackboneError(f"{shown!r}: model_index.json is damaged ({error}). Copy the folder again.") from error
    for part in (path / str(name) for name in sorted(index)):
        pickled = sorted(p.name for p in part.glob("*.bin")) if part.is_dir() else []
        if pickled and not list(part.glob("*.safetensors")):
            raise BackboneError(
                f"{shown!r} has {part.name}/{pickled[0]} and no safetensors beside it. Such files are pickles, which "
                "can run code when they are opened. Get the safetensors of this pipeline, or save it again with "
                "save_pretrained(folder, safe_serialization=True) where you trust it."
            )
        variants = {p.name.split(".")[1].split("-")[0] for p in part.glob("*.*.safetensors")}
        plain = [p for p in part.glob("*.safetensors") if p.name.count(".") == 1]
        if variant is None and variants and not plain:
            raise BackboneError(
                f"{shown!r} holds only the variant {', '.join(sorted(variants))} of {part.name}. "
                f"Load it with variant={min(variants)!r}."
            )
    return str(declared) if declared else None


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
