"""Train a LoRA adapter on cached latents: a generator of `Step` events that can be stopped and resumed anywhere."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

from .._system import settings
from .._system.arguments import number, plain, whole
from .._system.files import private_folder, user_path, write_private
from .._system.tensor_format import bounded_json
from ..errors import BackboneTaken, FedArtError, TrainingError
from ..events import Step, Trained
from ..privacy.ledger import Ledger
from .adapters import STYLE_TOKEN, Adapter, AdapterConfig, attached, initial_adapter
from .backbone import Backbone
from .cores import tensor_name
from .dp_sgd import Canaries, Factors, PrivateTraining, learning_factors
from .exclusive import GAVE_WAY, gives_way
from .families import Conditioning
from .latents import LatentSet
from .optimisers import moments_of, optimiser_of, restore
from .orthogonality import Apart
from .stepping import agreed_privacy, stepper

__all__ = [
    "PERSONAL",
    "Draws",
    "TrainConfig",
    "TrainState",
    "denoising_loss",
    "draws_of",
    "picture_losses",
    "train",
]

#: Fixed noise of validation: the same numbers for every adapter, so that differences are the adapters'.
_VALIDATION_SEED = 20_240_229
_VALIDATION_DRAWS = 4
_MAX_VALIDATION_PICTURES = 32
#: Up to so many latent positions plain attention trains faster than the fused one, and its square is still small.
_FEW_POSITIONS = 1024
#: Embeddings are of order one, and LoRA's factors far smaller.
_TOKEN_RATE = 3.0
_MOST_TOKENS = 64
#: Latents and noise are of order one: who draws nothing at all has a loss of about two.
_EXPLODED = 100.0
_FEW = 4

_WHOLE = (
    ("steps", 1, 100_000),
    ("batch", 1, 1024),
    ("warmup", 0, 100_000),
    ("validate_every", 0, 100_000),
    ("style_tokens", 0, _MOST_TOKENS),
)
_NUMBERS = (
    ("learning_rate", 1e-8, 1.0),
    ("caption_dropout", 0.0, 1.0),
    ("timestep_shift", 0.1, 20.0),
    ("emphasis", 0.1, 3.0),
    ("apart", 0.0, 1000.0),
)


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `seed=None` takes noise, timesteps and order from the operating system's entropy.

    `learning_rate` suits small UNets (about ten times what Stable Diffusion wants); `validate_every` counts steps, 0
    never. `max_grad_norm` is the longest that a step's gradient may be, None clips nothing. `caption_dropout` keeps
    classifier-free guidance alive. `timestep_shift` above 1 draws more of the timesteps
    near pure noise, where ground and palette are decided (Esser et al. 2403.03206, section 5.3.2). `eight_bit` keeps
    the optimiser's moments in 8 bits (an extra: `pip install "fedart-nb[8bit]"`). `emphasis` makes the finished
    adapter so many times as strong as it was trained (its alpha grows): a few hundred steps end on the way to a hand,
    and going on in the same direction gets nearer to it. Losses are those of the adapter as trained.
    `apart` above 0 keeps what the adapter's B writes out of what the frozen adapters' B write (in spirit HiLoRA's
    orthogonal levels): `apart` * sum over modules of |Q^T B|^2 joins the loss, Q a basis of theirs. It is not reported.
    `style_tokens`: so many places of the captions' embeddings learn too (`Adapter.token`), from zeros, which change
    nothing, at three times the learning rate. 0 leaves an adapter's token as it is.
    """

    steps: int = 100
    batch: int = 8
    learning_rate: float = 3e-3
    warmup: int = 5
    caption_dropout: float = 0.1
    max_grad_norm: float | None = 1.0
    validate_every: int = 20
    seed: int | None = None
    eight_bit: bool = False
    timestep_shift: float = 1.0
    emphasis: float = 1.0
    apart: float = 0.0
    style_tokens: int = 0

    def __post_init__(self) -> None:
        for name, low, high in _WHOLE:
            object.__setattr__(self, name, whole(name, getattr(self, name), low, high, TrainingError))
        for name, lowest, highest in _NUMBERS:
            object.__setattr__(self, name, number(name, getattr(self, name), lowest, highest, TrainingError))
        if self.caption_dropout >= 1:
            raise TrainingError(f"caption_dropout is {self.caption_dropout!r}; expected 0 or more and less than 1.")
        if self.seed is not None:
            object.__setattr__(self, "seed", whole("seed", self.seed, -(2**63), 2**64 - 1, TrainingError))
        longest = plain(self.max_grad_norm)
        if longest is not None and not (type(longest) in (int, float) and longest > 0):
            raise TrainingError(
                f"max_grad_norm is {self.max_grad_norm!r}; expected the longest that a step's gradient may be, above 0 "
                "(1 suits most), or None to clip nothing."
            )
        object.__setattr__(self, "max_grad_norm", longest)
        if type(plain(self.eight_bit)) is not bool:
            raise TrainingError(f"eight_bit is {self.eight_bit!r}; expected True or False.")
        object.__setattr__(self, "eight_bit", plain(self.eight_bit))

    @classmethod
    def of_round(cls, *, steps: int, batch: int, learning_rate: float, seed: int | None = None) -> TrainConfig:
        """How a round's local steps are trained: a short warm-up, no validation; a seed in simulations alone."""
        warmup = min(5, steps // 10)
        return cls(steps, batch, learning_rate, warmup=warmup, validate_every=0, seed=seed)


#: What a personal adapter is trained with unless told otherwise; chosen by `recipes/personal/sweep.py`.
PERSONAL = TrainConfig(steps=200, batch=16, timestep_shift=3.0, emphasis=1.2)


@dataclass(frozen=True)
class TrainState:
    """Everything needed to go on after a step: adapter, optimiser moments, generator, losses so far."""

    adapter: Adapter
    config: TrainConfig
    step: int
    moments: dict[str, Any] = field(repr=False)
    generator: torch.Tensor = field(repr=False)
    loss_before: float | None
    seconds: float
    private: PrivateTraining | None = None

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file that only its owner may read, atomically."""
        path = user_path(path)
        if not path.parent.exists():
            private_folder(path.parent)
        tensors = {
            "adapter": torch.frombuffer(bytearray(self.adapter.to_bytes()), dtype=torch.uint8),
            "generator": self.generator,
        }
        for index, slots in self.moments["state"].items():
            tensors |= {f"moments.{index}.{name}": value.contiguous() for name, value in slots.items()}
        numbers = {
            "config": asdict(self.config),
            "groups": self.moments["param_groups"],
            "step": self.step,
            "loss_before": self.loss_before,
            "seconds": self.seconds,
            "private": asdict(self.private) if self.private else None,
        }
        write_private(path, save_tensors(tensors, metadata={"fedart": json.dumps(numbers)}))

    @classmethod
    def load(cls, path: str | Path) -> TrainState:
        """Read what `save` wrote; raises TrainingError when the file is missing or damaged."""
        try:
            with safe_open(user_path(path), "pt") as file:
                numbers = bounded_json(file.metadata()["fedart"].encode())
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            state: dict[int, dict[str, torch.Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("moments."):
                    _, index, slot = name.split(".")
                    state.setdefault(int(index), {})[slot] = value
            return cls(
                adapter=Adapter.from_bytes(bytes(tensors["adapter"].numpy())),
                config=TrainConfig(**numbers["config"]),
                step=int(numbers["step"]),
                moments={"state": state, "param_groups": numbers["groups"]},
                generator=_state_of(tensors["generator"]),
                loss_before=numbers["loss_before"],
                seconds=float(numbers["seconds"]),
                private=PrivateTraining(**numbers["private"]) if numbers.get("private") else None,
            )
        except (
            OSError,
            SafetensorError,
            FedArtError,
            LookupError,
            TypeError,
            ValueError,
            RuntimeError,
            AttributeError,
            OverflowError,
        ) as error:
            raise TrainingError(f"Cannot resume from {str(path)!r} ({type(error).__name__}); start anew.") from error


@gives_way
def train(
    backbone: Backbone,
    data: LatentSet,
    *,
    config: TrainConfig | None = None,
    start: Adapter | None = None,
    frozen: Sequence[tuple[Adapter, float]] = (),
    held_out: LatentSet | None = None,
    resume: TrainState | None = None,
    private: PrivateTraining | None = None,
    ledger: Ledger | None = None,
    purpose: str = "training",
    leaves: str = "nothing",
    canaries: Canaries | None = None,
    factors: Factors = "both",
) -> Iterator[Step | Trained]:
    """Train one adapter and yield a `Step` after every optimiser step, then one `Trained`.

    The loss is the backbone's own denoising objective. `frozen` adapters act but do not learn. On a processor that
    multiplies bfloat16 itself (`settings.fast_bfloat16`) the steps' products are taken in that type; adapter, loss,
    optimiser and validation stay in float32. Closing the generator
    between two steps leaves the backbone clean; the last `Step.state` resumes exactly where it stopped. While nobody
    resumes the generator other work may use the backbone; the next step then goes on from the last one.

    Args:
        data: cached pictures to learn from.
        start: adapter to continue from; a fresh one (B = 0) by default.
        held_out: cached pictures for validation on fixed noise; never learnt from.
        resume: a state from an earlier `Step`; its own configuration wins, except for `steps`.
        private: clip every picture's gradient and add noise (`diffusion/private.py`); samples are Poisson then, and
            `config.batch` is what to expect of them.
        ledger: pays for private training before its first step, under the name `purpose`; `leaves` says in its
            statement what leaves the kernel. What is resumed pays anew for the steps that are left: nobody could tell
            whether they are trained for the first time.
        canaries: gradients of an audit that are mixed in (`audit_training`); they spoil what is learnt.
        factors: "A" or "B" trains that factor alone and leaves the other as it is, bit for bit. `private` has its own.

    Raises:
        TrainingError: no pictures, or the loss is no longer a number.
        BudgetExceeded: the ledger does not reach; nothing was trained.
        PrivacyError: what was asked for cannot be private: a seed, a ledger without `private`, a network that mixes
            pictures.

    Example:
        >>> for event in train(backbone, cache_latents(backbone, art), config=TrainConfig(steps=20)):
        ...     print(event)
    """
    if len(data) == 0:
        raise TrainingError("There is no picture to train on. Include at least one.")
    config = config or TrainConfig()
    if resume is not None:
        config = replace(resume.config, steps=config.steps)
    begun = resume.private if resume else None
    private = agreed_privacy(
        private,
        begun=begun,
        resumed=resume is not None,
        seed=config.seed,
        paid=ledger is not None,
        apart=config.apart,
        style_tokens=config.style_tokens,
    )
    adapter = resume.adapter if resume else start or initial_adapter(backbone, AdapterConfig())
    _emphasised(adapter, config.emphasis)  # an alpha that is too large is found now, not when all is trained
    if config.style_tokens:
        adapter = _with_token(adapter, config.style_tokens, data)
    if ledger is not None and private is not None:
        steps = max(1, config.steps - (resume.step if resume else 0))
        _pay(ledger, private, adapter, pictures=len(data), batch=config.batch, steps=steps, purpose=(purpose, leaves))
    part = _Part(
        backbone,
        data,
        config,
        frozen,
        held_out,
        private,
        canaries,
        factors,
        adapter,
        _generator_of(resume, config.seed),
    )
    state, after = resume, resume.loss_before if resume else None
    while state is None or state.step < config.steps:
        taken = _steps(part, state)
        try:
            for event in taken:
                state, after = event.state, event.held_out_loss if event.held_out_loss is not None else after
                yield event
        except BackboneTaken:  # paused, and other work came: go on from the last step when somebody asks for the next
            taken.close()
            yield GAVE_WAY
        finally:
            taken.close()
    step, before, spent = state.step, state.loss_before, state.seconds
    after = _loss_handed_out(state.adapter, backbone, held_out, frozen, config, before if after is None else after)
    if after is not None:
        _refuse_explosion(after, step, config)
    yield Trained(_emphasised(state.adapter, config.emphasis), step, before, after, spent)


@dataclass(frozen=True)
class _Part:
    """What the steps of one training have in common, however often it is paused for other work."""

    backbone: Backbone
    data: LatentSet
    config: TrainConfig
    frozen: Sequence[tuple[Adapter, float]]
    held_out: LatentSet | None
    private: PrivateTraining | None
    canaries: Canaries | None
    factors: Factors
    adapter: Adapter
    generator: torch.Generator


def _steps(part: _Part, resume: TrainState | None) -> Generator[Step, None, None]:
    """Steps from where training stands, with the adapter attached meanwhile."""
    backbone, data, config, generator = part.backbone, part.data, part.config, part.generator
    adapter = resume.adapter if resume else part.adapter
    if resume:
        generator.set_state(resume.generator)
    with ExitStack() as undo:
        names = undo.enter_context(attached(backbone, [*part.frozen, (adapter, 1.0)], trainable=len(part.frozen)))
        half = undo.enter_context(_quick(backbone))
        denoiser = backbone.denoiser
        whole = {n: p for n, p in denoiser.named_parameters() if p.requires_grad}
        private = part.private
        learning = private.learning(whole) if private is not None else learning_factors(whole, part.factors)
        token = backbone.tokens[names[-1]][0] if config.style_tokens else None
        spoken = {} if token is None else {STYLE_TOKEN: token}
        groups = [list(group.values()) for group in (learning, spoken) if group]
        optimiser = optimiser_of(groups, learning_rate=config.learning_rate, eight_bit=config.eight_bit)
        if resume:
            _restore(optimiser, resume)
        held_out = part.held_out
        spent, step = (resume.seconds, resume.step) if resume else (0.0, 0)
        before = resume.loss_before if resume else (_loss_now(backbone, held_out) if held_out else None)
        last = time.monotonic()
        denoiser.train()
        keep_apart = Apart(part.frozen, learning, name=names[-1], strength=config.apart)

        def losses(index: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
                return keep_apart(picture_losses(backbone, data, config, generator, index))

        take_step = undo.enter_context(
            stepper(
                backbone,
                {**learning, **spoken},
                optimiser,
                pictures=len(data),
                batch=config.batch,
                draw=lambda: torch.randperm(len(data), generator=generator)[: config.batch],
                max_grad_norm=config.max_grad_norm,
                private=private,
                canaries=part.canaries,
            )
        )
        checked: float | None = None
        while step < config.steps:
            for group, times in zip(optimiser.param_groups, (1.0, _TOKEN_RATE), strict=False):
                group["lr"] = config.learning_rate * times * _schedule(step, config)
            value, norms = take_step(losses)
            step += 1
            if norms is None or norms.values:  # an empty sample has no loss
                _refuse_explosion(value, step, config)
            due = config.validate_every and (step % config.validate_every == 0 or step == config.steps)
            checked = _loss_now(backbone, held_out) if held_out and due else None
            if checked is not None:
                _refuse_explosion(checked, step, config)
            adapter = _snapshot(adapter, whole, names[-1], token)
            kept = moments_of(optimiser), generator.get_state()
            spent += time.monotonic() - last
            state = TrainState(adapter, config, step, *kept, before, spent, private)
            yield Step(step, config.steps, value - keep_apart.last, checked, spent, state, norms)
            last = time.monotonic()  # what others do with the step is no training
        if checked is None:  # what the last step did, no later loss shows
            _refuse_explosion(_glance(backbone, data), step, config)


def _refuse_explosion(loss: float, step: int, config: TrainConfig) -> None:
    """Raise TrainingError for a loss that is no number, or far beyond what drawing nothing at all would have."""
    if not (math.isfinite(loss) and loss < _EXPLODED):
        raise TrainingError(
            f"The loss became {loss:.3g} at step {step}: training went out of control. What you had before is kept. "
            f"Lower the learning rate ({config.learning_rate:g}), and start again."
        )


def _state_of(tensor: torch.Tensor) -> torch.Tensor:
    """A generator's state that a generator takes; anything else is a RuntimeError or TypeError."""
    torch.Generator().set_state(tensor)
    return tensor


def _generator_of(resume: TrainState | None, seed: int | None) -> torch.Generator:
    """Where it was left, or from a seed, or from the operating system's entropy."""
    generator = torch.Generator()
    if resume:
        generator.set_state(resume.generator)
    else:
        generator.manual_seed(secrets.randbits(63) if seed is None else seed)
    return generator


def _restore(optimiser: torch.optim.Optimizer, state: TrainState) -> None:
    try:
        restore(optimiser, state.moments)
        fits = all(
            value.shape in (parameter.shape, torch.Size([]))
            for group in optimiser.param_groups
            for parameter in group["params"]
            for name, value in optimiser.state.get(parameter, {}).items()
            if torch.is_tensor(value) and name in ("exp_avg", "exp_avg_sq", "step")
        )
        if not fits:
            raise ValueError("moments of other shapes")
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise TrainingError(
            f"The saved state does not fit its own adapter ({error}): its file is damaged. Start anew."
        ) from error


def _loss_handed_out(
    adapter: Adapter,
    backbone: Backbone,
    held_out: LatentSet | None,
    frozen: Sequence[tuple[Adapter, float]],
    config: TrainConfig,
    trained: float | None,
) -> float | None:
    """Held-out loss of the adapter that is handed out: `trained` unless it is stronger than it was trained."""
    if held_out is None or trained is None or config.emphasis == 1:
        return trained
    return denoising_loss(backbone, held_out, [*frozen, (_emphasised(adapter, config.emphasis), 1.0)])


def _emphasised(adapter: Adapter, times: float) -> Adapter:
    """The same adapter, so many times as strong."""
    token = None if adapter.token is None else np.float32(times) * adapter.token
    return replace(adapter, config=replace(adapter.config, alpha=adapter.config.alpha * times), token=token)


def _pay(
    ledger: Ledger,
    private: PrivateTraining,
    adapter: Adapter,
    *,
    pictures: int,
    batch: int,
    steps: int,
    purpose: tuple[str, str],
) -> None:
    record = {
        "pictures": pictures,
        "parameters": private.size(adapter.tensors),
        "clip_norm": private.clip_norm,
        "draws": private.draws,
        "left": purpose[1],
    }
    mechanism = private.mechanism(pictures=pictures, batch=batch, steps=steps)
    ledger.spend(mechanism, purpose=purpose[0], record=record)


@torch.no_grad()
def _glance(backbone: Backbone, data: LatentSet) -> float:
    """The loss on a few pictures at one noise each: enough to see whether an adapter is still sane."""
    few = LatentSet(data.latents[:_FEW], data.embeddings[:_FEW], data.empty, data.ids[:_FEW])
    return _loss_now(backbone, few, 1)


@contextmanager
def _quick(backbone: Backbone) -> Iterator[bool]:
    """Ready the denoiser for fast steps, and put it back as it was; yields whether they may compute in bfloat16.

    In bfloat16 the backward pass of torch's fused attention takes five to ten times that of plain attention at the few
    positions of small latents (torch 2.13), so the processors are exchanged.
    """
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
    from peft.helpers import disable_input_dtype_casting

    denoiser = backbone.denoiser
    half = backbone.device.type == "cpu" and backbone.dtype == torch.float32 and settings.fast_bfloat16()
    with ExitStack() as undo:
        undo.callback(denoiser.eval)
        if half:
            undo.enter_context(disable_input_dtype_casting(denoiser))  # autocast casts already
            before = dict(getattr(denoiser, "attn_processors", {}))
            small = math.prod(backbone.latent_shape[1:]) <= _FEW_POSITIONS
            if small and before and all(type(p) is AttnProcessor2_0 for p in before.values()):
                undo.enter_context(backbone.lock.undoing(partial(_put_processors, denoiser, before)))
                denoiser.set_attn_processor(AttnProcessor())
        yield half


def _put_processors(denoiser: Any, before: Mapping[str, Any]) -> None:
    if getattr(denoiser, "attn_processors", None) != before:
        denoiser.set_attn_processor(dict(before))


def _snapshot(
    adapter: Adapter, whole: Mapping[str, torch.nn.Parameter], name: str, token: torch.Tensor | None
) -> Adapter:
    """The adapter as it is in the network now, copied; far cheaper than a whole state dict."""
    tensors = {tensor_name(key, name): _copy(value) for key, value in sorted(whole.items())}
    return replace(adapter, tensors=tensors, token=adapter.token if token is None else _copy(token))


def _copy(value: torch.Tensor) -> NDArray[np.float32]:
    copied: NDArray[np.float32] = value.detach().float().cpu().numpy().copy()
    return copied


def _with_token(adapter: Adapter, places: int, data: LatentSet) -> Adapter:
    """The adapter with a token of so many places, of zeros where it has none yet.

    Raises:
        TrainingError: it has one of another length.
    """
    if adapter.token is None:
        return replace(adapter, token=np.zeros((places, data.empty.embeddings.shape[-1]), np.float32))
    if len(adapter.token) != places:
        raise TrainingError(
            f"style_tokens is {places}, and the adapter to go on from has {len(adapter.token)}. Take as many, or 0 to "
            "leave them as they are."
        )
    return adapter


def denoising_loss(
    backbone: Backbone,
    data: LatentSet,
    adapters: Sequence[tuple[Adapter, float]] = (),
    *,
    draws: int = _VALIDATION_DRAWS,
) -> float:
    """Mean squared denoising error per latent value, on fixed noise and evenly spread timesteps. Lower is better.

    At most 32 pictures, each with `draws` noises; the same numbers for every adapter, so only differences matter.
    """
    with attached(backbone, adapters):
        return _loss_now(backbone, data, draws)


@torch.no_grad()
def _loss_now(backbone: Backbone, data: LatentSet, draws: int = _VALIDATION_DRAWS) -> float:
    learning = backbone.denoiser.training
    backbone.denoiser.eval()  # only to validate, not around every step: it walks through all modules
    generator = torch.Generator().manual_seed(_VALIDATION_SEED)
    x = data.latents[:_MAX_VALIDATION_PICTURES]
    embeddings = data.embeddings[:_MAX_VALIDATION_PICTURES]
    order = torch.randperm(len(x), generator=generator)
    total = 0.0
    for draw in range(draws):
        t = backbone.process.stratified_t(len(x), (draw + 0.5) / draws)[order].to(x.device)
        eps = torch.randn(x.shape, generator=generator).to(x.device)
        for i in range(0, len(x), 16):
            part = slice(i, i + 16)
            total += _error(backbone, x[part], embeddings[part], t[part], eps[part]).sum().item()
    backbone.denoiser.train(learning)
    return total / (draws * len(x))


@dataclass(frozen=True)
class Draws:
    """What chance decides in one step about n pictures: which captions are dropped, timesteps, and noise."""

    dropped: torch.Tensor
    t: torch.Tensor
    eps: torch.Tensor


def draws_of(backbone: Backbone, n: int, config: TrainConfig, generator: torch.Generator) -> Draws:
    """Draw them; who knows the generator's seed draws the same."""
    dropped = torch.rand(n, generator=generator) < config.caption_dropout
    t = backbone.process.sample_t(n, generator, config.timestep_shift)
    return Draws(dropped, t, torch.randn((n, *backbone.latent_shape), generator=generator))


def picture_losses(
    backbone: Backbone, data: LatentSet, config: TrainConfig, generator: torch.Generator, index: torch.Tensor
) -> torch.Tensor:
    """Losses of the pictures at `index`, (n,), each with a noise, a timestep and a chance to lose its caption."""
    n, index = len(index), index.to(data.latents.device)
    x0, told = data.latents[index], data.embeddings[index]
    drawn = draws_of(backbone, n, config, generator)
    told = told.where(~drawn.dropped.to(x0.device), data.empty)
    return _error(backbone, x0, told, drawn.t.to(x0.device), drawn.eps.to(x0.device))


def _error(
    backbone: Backbone, x0: torch.Tensor, conditioning: Conditioning, t: torch.Tensor, eps: torch.Tensor
) -> torch.Tensor:
    """Squared error of the denoiser per picture, shape (n,)."""
    noisy = backbone.process.add_noise(x0, eps, t)
    predicted = backbone.predict(noisy, t, conditioning)
    target = backbone.process.target(x0, eps, t)
    return F.mse_loss(predicted.float(), target, reduction="none").mean(dim=(1, 2, 3))


def _schedule(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then cosine to a tenth."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / config.steps)))
