"""LoRA adapters: made, attached to a backbone, read back and saved as plain diffusers loads them."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save as save_safetensors

from .._system.arguments import number, whole
from .._system.files import user_path, write_file
from .._system.tensor_format import DamagedTensors, TensorFile, bounded_json
from ..errors import AdapterError
from .adapter_names import check_factors, exactly, foreign, modules_of
from .adapter_network import clean_afterwards, refuse_if_busy
from .backbone import Backbone
from .cores import CORE_NAME, Between, Core, seed_of
from .families import ATTENTION, ATTENTION_AND_UP_CONVOLUTIONS, FAMILIES

__all__ = [
    "ATTENTION_AND_UP_CONVOLUTIONS",
    "MAX_RANK",
    "MOST_TOKENS",
    "STYLE_TOKEN",
    "Adapter",
    "AdapterConfig",
    "attached",
    "check_fits",
    "detached",
    "initial_adapter",
    "personal_config",
    "read_adapter",
]

#: Of an adapter, and of several that are composed side by side.
MAX_RANK = 128
_MOST_WEIGHT = 1e4
_SHA256_LENGTH = 64
#: So many places of a caption's embeddings a style token may take.
MOST_TOKENS = 64

#: A style token's name in files. Other tools take the tensors of the networks that they know, and pass it by.
STYLE_TOKEN = "style.lora_token"  # noqa: S105 - no secret

_Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class AdapterConfig:
    """Shape of a LoRA adapter (Hu et al. 2106.09685): W + (alpha / rank) B A on every module that `targets` matches.

    `targets` is a regular expression over module names of the denoiser; empty leaves it to the backbone's family
    (`initial_adapter` then writes it in). It is yours alone: an adapter that is read from a file or a message acts on
    the modules that its tensors name, and no pattern is taken from there. With a `core_seed` only an r x r core learns
    in every layer, between factors that this public seed gives (`diffusion/cores.py`): hundreds of numbers, few enough
    for noise on whole artists.

    >>> AdapterConfig(rank=4, alpha=4.0, core_seed=1).core_seed
    1
    """

    rank: int = 4
    alpha: float = 4.0
    targets: str = ""
    core_seed: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("rank", whole("rank", self.rank, 1, MAX_RANK, AdapterError, hint="4 suits most art.")),
            ("alpha", number("alpha", self.alpha, 0, 1024, AdapterError, above=True, hint="Use alpha = rank.")),
            ("core_seed", None if self.core_seed is None else seed_of(self.core_seed)),
        ):
            object.__setattr__(self, name, value)
        try:
            re.compile(self.targets)
        except (re.error, TypeError, RecursionError, OverflowError) as error:
            raise AdapterError(f"targets {self.targets!r} is not a regular expression ({error}).") from error


@dataclass(frozen=True)
class Adapter:
    """LoRA weights for one backbone.

    `tensors` maps `<module>.lora_A.weight` / `.lora_B.weight` to float32 arrays; linear A is (rank, in) and B
    (out, rank), convolutions carry two more axes. `part` is the pipeline's network that they belong to ("unet" or
    "transformer"), and the prefix of their names in files and on the wire. With a `core` the tensors are
    `<module>.lora_core.weight` alone, (rank, rank): `expanded` gives the ordinary adapter.

    `token`, (k, width), is a learned style token (`TrainConfig.style_tokens`): its rows are added to the last k places
    of every caption's embeddings, which mostly pad. A soft prompt (Lester et al. 2104.08691) of one artist's, as the
    clients' embeddings of SPIRE (2506.12303) are. It is personal: there is no update (`minus`) of an adapter with one.
    """

    tensors: _Tensors = field(repr=False)
    config: AdapterConfig
    backbone_sha256: str
    part: str = "unet"
    core: Core | None = None
    token: NDArray[np.float32] | None = field(default=None, repr=False)

    #: As diffusers' `load_lora_weights` looks for it in a folder.
    FILE_NAME: ClassVar[str] = "pytorch_lora_weights.safetensors"

    def __post_init__(self) -> None:
        if self.core is not None:
            self.core.check(self.tensors)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(a.size for a in self._all().values())

    @property
    def digest(self) -> str:
        """SHA-256 of the weights in name order: equal digests, equal adapters."""
        digest = hashlib.sha256()
        for name, value in sorted(self._all().items()):
            digest.update(f"{name}{value.shape}".encode())
            digest.update(np.ascontiguousarray(value, "<f4").data)
        return digest.hexdigest()

    def minus(self, other: Adapter) -> dict[str, NDArray[np.float32]]:
        """The update: this adapter's tensors less another's of the same shape, by their names on the wire.

        `other.plus(self.minus(other))` is this adapter again.

        Raises:
            AdapterError: other modules, or a style token, which no update holds.
        """
        if self.token is not None or other.token is not None:
            raise AdapterError("A style token is personal and no part of an update. Train with style_tokens=0.")
        if self.tensors.keys() != other.tensors.keys():
            raise AdapterError("These adapters have different modules; train both from the same AdapterConfig.")
        return {f"{self.part}.{name}": value - other.tensors[name] for name, value in self.tensors.items()}

    def plus(self, change: Mapping[str, NDArray[np.float32]]) -> Adapter:
        """This adapter with a change added, by the names that tensors have on the wire; what it leaves out stays.

        >>> shared.plus({"unet.conv_in.lora_B.weight": step})  # doctest: +SKIP
        """
        part = f"{self.part}."
        moved = {n: a + change[part + n] if part + n in change else a for n, a in self.tensors.items()}
        return replace(self, tensors=moved)

    def expanded(self) -> Adapter:
        """The ordinary LoRA adapter that does the same: a core's R folded into B. Others are given back as they are."""
        if self.core is None:
            return self
        config = replace(self.config, core_seed=None)
        return replace(self, tensors=self.core.lora(self.tensors), config=config, core=None)

    def to_bytes(self) -> bytes:
        """Safetensors with the names that diffusers' `load_lora_weights` reads, and our configuration as metadata.

        A core is written as it is, for our own `load`; write `expanded()` for diffusers.
        """
        ours: dict[str, Any] = {"config": asdict(self.config), "backbone_sha256": self.backbone_sha256}
        metadata: dict[str, str] = {}
        if self.core is not None:
            ours["core"] = self.core.to_body()
        else:
            lora = {"r": self.config.rank, "lora_alpha": self.config.alpha, "target_modules": modules_of(self.tensors)}
            metadata["lora_adapter_metadata"] = json.dumps({f"{self.part}.{key}": value for key, value in lora.items()})
        metadata["fedart"] = json.dumps(ours)
        prefixed = {STYLE_TOKEN: STYLE_TOKEN} | {name: f"{self.part}.{name}" for name in self.tensors}
        named = {prefixed[name]: np.ascontiguousarray(value) for name, value in sorted(self._all().items())}
        return save_safetensors(named, metadata=metadata)

    def _all(self) -> _Tensors:
        return self.tensors if self.token is None else {**self.tensors, STYLE_TOKEN: self.token}

    @classmethod
    def from_bytes(cls, data: bytes) -> Adapter:
        """Read what `to_bytes` wrote.

        Raises:
            AdapterError: damaged bytes, foreign tensors, or values that are not finite.
        """
        try:
            file = TensorFile(data)
        except DamagedTensors as error:
            raise AdapterError(f"These {len(data):,} bytes are no adapter: {error}. Save or send it again.") from error
        if "fedart" not in file.metadata:
            raise AdapterError(foreign(file))
        try:
            ours = bounded_json(file.metadata["fedart"].encode())
            told = dict(ours["config"])
            label = told.pop("targets", "")
            config, sha256 = AdapterConfig(**told), ours["backbone_sha256"]
            if not isinstance(sha256, str) or len(sha256) > _SHA256_LENGTH:
                raise DamagedTensors("it names no backbone")
            core = Core.from_body(ours["core"]) if "core" in ours else None
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise AdapterError(
                f"These {len(data):,} bytes are no adapter of ours: what they say of themselves is damaged ({error}). "
                "Save or send it again."
            ) from error
        part = next((name for name in file.entries if name != STYLE_TOKEN), "").partition(".")[0]
        shapes = {name: entry.shape for name, entry in file.entries.items() if name != STYLE_TOKEN}
        check_factors(shapes, config, part=part, core=core is not None)
        tensors = {name.removeprefix(f"{part}."): _finite(file, name) for name in shapes}
        token = _token_in(file) if STYLE_TOKEN in file.entries else None
        config = replace(config, targets=_own_targets(str(label), modules_of(tensors)))
        return cls(tensors, config, sha256, part, core, token)

    def save(self, folder: str | Path) -> Path:
        """Write `pytorch_lora_weights.safetensors` into `folder`, atomically; `load_lora_weights(folder)` reads it.

        Raises:
            StorageError: the disk is full or the folder cannot be written to; the file that was there is whole.
        """
        path = user_path(folder) / self.FILE_NAME
        write_file(path, self.to_bytes())
        return path

    @classmethod
    def load(cls, folder_or_file: str | Path) -> Adapter:
        """Read an adapter from its file, or from the folder that holds it."""
        path = user_path(folder_or_file)
        path = path / cls.FILE_NAME if path.is_dir() else path
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise AdapterError(f"Cannot read an adapter from {str(path)!r}: {error.strerror}.") from error


def _finite(file: TensorFile, name: str) -> NDArray[np.float32]:
    """One tensor, of numbers; raises AdapterError for NaN, infinity and other number types."""
    try:
        array = file.numbers(name)
    except DamagedTensors as error:
        raise AdapterError(f"The adapter is damaged: {error}.") from error
    if not np.isfinite(array).all():
        raise AdapterError(f"{name[:100]!r} holds values that are not finite; the adapter is damaged.")
    return array.copy()


def _token_in(file: TensorFile) -> NDArray[np.float32]:
    shape = file.entries[STYLE_TOKEN].shape
    good = len(shape) == 2 and 1 <= shape[0] <= MOST_TOKENS and shape[1] >= 1
    token = file.numbers(STYLE_TOKEN) if good else None
    if token is None or not np.isfinite(token).all():
        raise AdapterError(
            f"The style token is damaged: {shape}, expected finite numbers, (places, width), up to {MOST_TOKENS} long."
        )
    return token.copy()


def _own_targets(label: str, modules: Sequence[str]) -> str:
    """A pattern for exactly these modules; what a file says is compared with our own patterns, and never used."""
    for family in FAMILIES.values():
        for known in (family.targets, family.personal_targets, ATTENTION):
            if known and label == known:
                return known
    return exactly(modules)


def personal_config(backbone: Backbone, config: AdapterConfig | None = None) -> AdapterConfig:
    """The shape of a personal adapter, which never travels: rank 8 on all of the UNet (chosen in `recipes/personal`).

    What `config` says is kept; where it leaves `targets` empty, they are filled in.

    >>> personal_config(backbone).rank  # doctest: +SKIP
    8
    """
    config = config or AdapterConfig(rank=8, alpha=8.0)
    return replace(config, targets=config.targets or backbone.family.personal_targets or backbone.family.targets)


def initial_adapter(backbone: Backbone, config: AdapterConfig | None = None, *, seed: int = 0) -> Adapter:
    """A fresh adapter: A Kaiming-uniform from `seed`, B zero, so that it changes nothing until it is trained.

    Raises:
        AdapterError: `targets` matches no module of this backbone.
    """
    config = config or AdapterConfig()
    if config.core_seed is not None:
        return _initial_core(backbone, config, config.core_seed)
    config = replace(config, targets=config.targets or backbone.family.targets)
    with backbone.lock, torch.random.fork_rng(devices=[]):
        refuse_if_busy(backbone)
        torch.manual_seed(seed)
        modules = list(_matching(backbone, config.targets))
        with clean_afterwards(backbone):
            _add(backbone, "initial", config, modules)
            return read_adapter(backbone, "initial", config)


def _initial_core(backbone: Backbone, config: AdapterConfig, seed: int) -> Adapter:
    """R of zeros; on attention alone unless `targets` says otherwise, and on linear layers in any case."""
    targets = config.targets or (ATTENTION if backbone.family.denoiser == "unet" else backbone.family.targets)
    with backbone.lock:
        refuse_if_busy(backbone)
        modules = _matching(backbone, targets)
    for name, module in modules.items():
        if not isinstance(module, torch.nn.Linear):
            raise AdapterError(
                f"{name!r} is a {type(module).__name__}; a core acts on linear layers. Leave targets empty."
            )
    core = Core(seed, config.rank, {name: (m.out_features, m.in_features) for name, m in modules.items()})
    return Adapter(core.initial(), replace(config, targets=targets), backbone.sha256, backbone.family.denoiser, core)


def read_adapter(backbone: Backbone, name: str, config: AdapterConfig) -> Adapter:
    """Copy the attached adapter `name` out of the network."""
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(backbone.denoiser, adapter_name=name)
    tensors = {key: value.detach().float().cpu().numpy().copy() for key, value in sorted(state.items())}
    return Adapter(tensors, config, backbone.sha256, backbone.family.denoiser)


@contextmanager
def attached(
    backbone: Backbone, adapters: Sequence[tuple[Adapter, float]], *, trainable: int | None = None
) -> Iterator[list[str]]:
    """Attach adapters with weights for the time of the `with` block: W + sum_i w_i (alpha_i / r_i) B_i A_i, exactly.

    Their style tokens are added to what the denoiser is told, w_i times each. Yields the adapters' names in the
    network. Only the one at index `trainable` gets gradients; of a core, only R. The backbone's lock is held, and the
    network is left as it was found.

    Raises:
        AdapterError: an adapter was made for another backbone, or its shapes do not fit.
    """
    names: list[str] = []
    with backbone.lock:
        refuse_if_busy(backbone)
        with clean_afterwards(backbone):
            denoiser = backbone.denoiser
            for index, (adapter, weight) in enumerate(adapters):
                check_fits(backbone, adapter)  # all of them, before the first is attached
                number("An adapter's weight", weight, -_MOST_WEIGHT, _MOST_WEIGHT, AdapterError)
                names.append(f"adapter_{index}")
            for index, (name, (adapter, weight)) in enumerate(zip(names, adapters, strict=True)):
                if adapter.core is not None and index == trainable:
                    _load_core(backbone, name, adapter, adapter.core)
                else:
                    _load(backbone, name, adapter.expanded())
                if adapter.token is not None:
                    token = torch.tensor(adapter.token, device=backbone.device)
                    backbone.tokens[name] = torch.nn.Parameter(token, index == trainable), weight
            if names:
                denoiser.set_adapters(names, [float(weight) for _, weight in adapters])
            for key, parameter in denoiser.named_parameters():
                learns = trainable is not None and f".adapter_{trainable}." in key
                parameter.requires_grad_(learns and (adapters[trainable or 0][0].core is None or ".core." in key))
            yield names


@contextmanager
def detached(backbone: Backbone) -> Iterator[None]:
    """The bare backbone for the time of the `with` block, within `attached`; its adapters and tokens come back."""
    tokens = dict(backbone.tokens)
    backbone.tokens.clear()
    backbone.denoiser.disable_adapters()
    try:
        yield
    finally:
        backbone.denoiser.enable_adapters()
        backbone.tokens.update(tokens)


def check_fits(backbone: Backbone, adapter: Adapter) -> None:
    """Check an adapter against a backbone by names and shapes alone; nothing is attached.

    Raises:
        AdapterError: it was made for another backbone or network, changes modules that are not there, or has shapes
            that do not fit them.
    """
    if adapter.backbone_sha256 != backbone.sha256:
        raise AdapterError(
            f"This adapter was made for the backbone {adapter.backbone_sha256[:12]}…, not for "
            f"{backbone.name!r} ({backbone.sha256[:12]}…). Load the backbone that it was trained on."
        )
    if adapter.part != backbone.family.denoiser:
        raise AdapterError(
            f"This adapter changes a {adapter.part!r}, {backbone.name!r} has a {backbone.family.denoiser!r}. "
            "Load the backbone that it was trained on."
        )
    known = dict(backbone.denoiser.named_modules())
    for module in modules_of(adapter.tensors):
        found = known.get(module)
        weight = getattr(getattr(found, "base_layer", found), "weight", None)
        if not isinstance(weight, torch.Tensor) or weight.ndim < 2:
            raise AdapterError(
                f"The adapter changes {module[:100]!r}, and {backbone.name!r} has no such module. "
                "Load the backbone that it was trained on."
            )
        _check_module(module, tuple(weight.shape), adapter)


def _check_module(module: str, weight: tuple[int, ...], adapter: Adapter) -> None:
    """Check the tensors of one module whose weight is (out, in) or, for a convolution, (out, in, height, width)."""
    out, into, *window = weight
    rank = adapter.config.rank
    if adapter.core is not None:
        if adapter.core.shapes[module] != (out, into) or window:
            raise AdapterError(f"The core of {module!r} is for {adapter.core.shapes[module]}; its weight is {weight}.")
        return
    for factor, needed in (("A", (rank, into, *window)), ("B", (out, rank, *[1] * len(window)))):
        name = f"{module}.lora_{factor}.weight"
        shape = adapter.tensors[name].shape if name in adapter.tensors else None
        if shape != needed:
            raise AdapterError(f"{name!r} is {shape}; this backbone needs {needed}.")


def _load(backbone: Backbone, name: str, adapter: Adapter) -> None:
    from peft.utils import set_peft_model_state_dict

    check_fits(backbone, adapter)
    _add(backbone, name, adapter.config, modules_of(adapter.tensors))
    state = {key: torch.from_numpy(np.asarray(value)) for key, value in adapter.tensors.items()}
    _check_shapes(backbone.denoiser, name, state)
    set_peft_model_state_dict(backbone.denoiser, state, adapter_name=name)


def _load_core(backbone: Backbone, name: str, adapter: Adapter, core: Core) -> None:
    """A and B as an ordinary adapter, and R in between."""
    config = replace(adapter.config, core_seed=None)
    _load(backbone, name, replace(adapter, tensors=core.lora(), config=config, core=None))
    for module in core.shapes:
        layer = backbone.denoiser.get_submodule(module)
        layer.lora_B[name] = Between(layer.lora_B[name], adapter.tensors[f"{module}{CORE_NAME}"])


def _matching(backbone: Backbone, targets: str) -> dict[str, Any]:
    """The modules that a caller's own pattern matches, by name, without what peft wrapped around them."""
    found = ((name, module) for name, module in backbone.denoiser.named_modules() if re.fullmatch(targets, name))
    modules = {name: getattr(module, "base_layer", module) for name, module in found}
    if not modules:
        raise AdapterError(
            f"No module of {backbone.name!r} matches targets {targets!r}. "
            "Use the default, or a regular expression over names such as 'mid_block.attentions.0.…to_q'."
        )
    return modules


def _add(backbone: Backbone, name: str, config: AdapterConfig, modules: Sequence[str]) -> None:
    """Put empty factors on exactly these modules."""
    from peft import LoraConfig

    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=exactly(modules),
        lora_dropout=0.0,
        init_lora_weights=True,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # two adapters are what we want
            backbone.denoiser.add_adapter(lora, adapter_name=name)
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise AdapterError(f"{config} cannot be put on {backbone.name!r}: {error}.") from error
    for key, parameter in backbone.denoiser.named_parameters():
        if f".{name}." in key:
            parameter.data = parameter.data.float()  # in half precision small steps of training would round to nothing


def _check_shapes(denoiser: Any, name: str, state: Mapping[str, torch.Tensor]) -> None:
    from peft.utils import get_peft_model_state_dict

    expected = get_peft_model_state_dict(denoiser, adapter_name=name)
    if expected.keys() != state.keys():
        missing = sorted(expected.keys() ^ state.keys())[:3]
        raise AdapterError(f"The adapter's modules do not fit its configuration (first differences: {missing}).")
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            raise AdapterError(f"{key!r} is {tuple(tensor.shape)}; this backbone needs {tuple(expected[key].shape)}.")
