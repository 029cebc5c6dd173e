"""A scene: one picture, the step that was trained on it, and what an attacker sees of that under a defence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..art import ArtSet
from ..attacks.scoring import Truth, ceiling
from ..attacks.threat import ThreatModel
from ..attacks.victim import full_gradient_view, gradient_view, update_view
from ..attacks.view import ServerView
from ..diffusion.adapters import Adapter, AdapterConfig, initial_adapter
from ..diffusion.backbone import Backbone
from ..diffusion.latents import latents_of
from ..diffusion.training import TrainConfig, draws_of, train
from ..errors import AttackError
from ..events import Trained

__all__ = ["SEED", "Defence", "Scene", "scene_of"]

#: Of the lesson's step. Its noise level is high (t = 847), where pictures come out of an update; seed 0's is not (552).
SEED = 51
_EARLIER_STEPS = 8  # that the shared adapter has behind it, where it is not the first round
_OTHERS_SEED = 1000


@dataclass(frozen=True)
class Defence:
    """What stands between an update and an attacker.

    Attributes:
        secret_seed: the attacker does not know noise and order; timesteps are still told.
        artists: secure aggregation leaves the sum of so many updates; 1: none.
        noise_multiplier: Gaussian noise on what leaves, in lengths of the update (the clip norm is taken to be just
            that: the attacker's best case).

    >>> str(Defence()), str(Defence(artists=3, noise_multiplier=0.1))
    ('no defence', 'a sum of 3 artists, noise 0.1')
    """

    secret_seed: bool = False
    artists: int = 1
    noise_multiplier: float = 0.0

    def __str__(self) -> str:
        said = ["the seed secret"] if self.secret_seed else []
        said += [f"a sum of {self.artists} artists"] if self.artists > 1 else []
        said += [f"noise {self.noise_multiplier:g}"] if self.noise_multiplier else []
        return ", ".join(said) or "no defence"


@dataclass(frozen=True, eq=False)
class Scene:
    """The truth about a step of training, and the views of it. Only a scorer may look at the truth.

    Attributes:
        picture: the one trained on, uint8 (1, h, w, 3); caption: its own.
        others: pictures of the same kind, uint8 (m, h, w, 3): other artists' in a sum, decoys, what anybody has.
        seed: of training; local_steps: of an update ("steps", "sum"); candidates: how many an attacker chooses from.
    """

    backbone: Backbone = field(repr=False)
    picture: NDArray[np.uint8] = field(repr=False)
    caption: str = field(repr=False)
    others: NDArray[np.uint8] = field(repr=False)
    other_captions: tuple[str, ...] = field(repr=False)
    seed: int = SEED
    local_steps: int = 1
    candidates: int = 12
    rank: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.candidates <= len(self.others) + 1:
            raise AttackError(
                f"{self.candidates} candidates; expected 2 to {len(self.others) + 1}, one more than others."
            )

    @property
    def key(self) -> str:
        """SHA-256 of all that the scene is made of: equal keys, equal scenes, on any machine."""
        told = (self.caption, self.other_captions, self.seed, self.local_steps, self.candidates, self.rank)
        out = hashlib.sha256(repr((self.backbone.sha256, *told)).encode())
        out.update(np.ascontiguousarray(self.picture).data)
        out.update(np.ascontiguousarray(self.others).data)
        return out.hexdigest()

    @property
    def place(self) -> int:
        """Where the picture stands among the candidates."""
        return self.seed % self.candidates

    @property
    def lineup(self) -> NDArray[np.uint8]:
        """The candidates, uint8 (N, h, w, 3)."""
        decoys = self.others[: self.candidates - 1]
        return np.insert(decoys, self.place, self.picture[0], axis=0)

    @property
    def lineup_captions(self) -> tuple[str, ...]:
        """Their captions."""
        decoys = list(self.other_captions[: self.candidates - 1])
        return (*decoys[: self.place], self.caption, *decoys[self.place :])

    @cached_property
    def truth(self) -> Truth:
        """What the scorer compares with: the autoencoder's own version of the picture, as attacks work on latents."""
        return Truth(ceiling(self.backbone, self.picture), (self.caption,), self._timesteps(self.seed), (self.place,))

    def view(self, threat: ThreatModel, defence: Defence) -> ServerView:
        """What the attacker holds and knows.

        Raises:
            AttackError: this attacker cannot see that.
        """
        if threat.contradiction:
            raise AttackError(threat.contradiction)
        n = max(defence.artists, 2 if threat.sees == "sum" else 1)
        if n - 1 > len(self.others):
            raise AttackError(f"A sum of {n} artists takes {n} pictures; there are {len(self.others) + 1}.")
        seeds = [self.seed, *(_OTHERS_SEED + i for i in range(n - 1))]
        pictures = np.concatenate([self.picture, self.others[::-1][: n - 1]])
        captions = (self.caption, *self.other_captions[::-1][: n - 1])
        views = [self._plain(threat, pictures[i : i + 1], captions[i], seed) for i, seed in enumerate(seeds)]
        view = views[0] if n == 1 else _sum(views)
        if defence.noise_multiplier:
            clip = max(_norm(one) for one in views)
            view = _noised(view, defence.noise_multiplier, clip, self.seed)
        return self._told(view, threat, defence, tuple(seeds), captions)

    def _plain(self, threat: ThreatModel, picture: NDArray[np.uint8], caption: str, seed: int) -> ServerView:
        data = latents_of(self.backbone, picture, [caption], ["it"])
        steps = self.local_steps if threat.sees in ("steps", "sum", "adapter") else 1
        config = TrainConfig(steps=steps, batch=1, seed=seed, caption_dropout=0.0)
        if threat.sees == "gradient":
            return full_gradient_view(self.backbone, data, config=config)
        start = self._fresh if threat.first_round else self._used
        if threat.sees in ("steps", "adapter") or (threat.sees == "sum" and steps > 1):
            return update_view(self.backbone, data, config=config, start=start)
        view = gradient_view(self.backbone, data, config=config, start=start)
        if threat.sees == "lora_b":
            kept = {n: v if ".lora_B." in n else np.zeros_like(v) for n, v in view.tensors.items()}
            return replace(ServerView.of(kept, view.shared, view.backbone_sha256), **_facts(view))
        return view

    @cached_property
    def _fresh(self) -> Adapter:
        return initial_adapter(self.backbone, AdapterConfig(rank=self.rank, alpha=float(self.rank)), seed=1)

    @cached_property
    def _used(self) -> Adapter:
        """The shared adapter after an earlier round on the others' pictures."""
        data = latents_of(
            self.backbone, self.others, list(self.other_captions), [str(i) for i in range(len(self.others))]
        )
        config = TrainConfig(steps=_EARLIER_STEPS, batch=min(4, len(data)), seed=2, validate_every=0)
        adapter = self._fresh
        for event in train(self.backbone, data, config=config, start=adapter):
            if isinstance(event, Trained):
                adapter = event.adapter
        return adapter

    def _timesteps(self, seed: int) -> tuple[float, ...]:
        generator = torch.Generator().manual_seed(seed)
        torch.randperm(1, generator=generator)
        config = TrainConfig(steps=1, batch=1, seed=seed, caption_dropout=0.0)
        return tuple(float(t) for t in draws_of(self.backbone, 1, config, generator).t)

    def _told(
        self, view: ServerView, threat: ThreatModel, defence: Defence, seeds: tuple[int, ...], captions: tuple[str, ...]
    ) -> ServerView:
        knows, told = threat.knows, dict[str, Any]()
        if "seed" in knows and not defence.secret_seed:
            told["seed"] = seeds if len(seeds) > 1 else seeds[0]
        if ("timesteps" in knows or ("seed" in knows and defence.secret_seed)) and view.local_steps == 1:
            told["timesteps"] = tuple(t for seed in seeds for t in self._timesteps(seed))
        if "captions" in knows:
            told["captions"] = captions
        if "caption_list" in knows:
            told["caption_list"] = tuple(sorted({self.caption, *self.other_captions}))
        if "candidates" in knows:
            told |= {"candidates": self.lineup, "candidate_captions": self.lineup_captions}
            rest = slice(self.candidates - 1, None)
            told |= {"public": self.others[rest], "public_captions": self.other_captions[rest]}
        return view.knowing(**told)


def scene_of(backbone: Backbone, art: ArtSet, *, picture: int = 0, others: int = 40, **settings: Any) -> Scene:
    """A scene of one picture of an art set, the others of the set standing by.

    Args:
        picture: its place among the included pictures.
        others: how many others at most.
        settings: by the names of `Scene`.

    Raises:
        AttackError: too few pictures, or no picture at this place.
    """
    kept = art.included()
    if len(kept) < 3 or not 0 <= picture < len(kept):
        raise AttackError(
            f"Picture {picture} of {len(kept)} was asked for; expected 0 to {len(kept) - 1}, of three or more."
        )
    rest = [p for i, p in enumerate(kept) if i != picture][:others]
    settings.setdefault("candidates", min(12, len(rest) + 1))
    captions = tuple(p.caption for p in rest)
    return Scene(backbone, art.pixels([kept[picture]]), kept[picture].caption, art.pixels(rest), captions, **settings)


def _facts(view: ServerView) -> dict[str, Any]:
    names = ("kind", "local_steps", "batch", "learning_rate", "optimiser", "caption_dropout", "pictures", "artists")
    return {name: getattr(view, name) for name in names}


def _sum(views: list[ServerView]) -> ServerView:
    facts = _facts(views[0]) | {"artists": len(views)}
    summed = {name: np.sum([v.tensors[name] for v in views], axis=0).astype(np.float32) for name in views[0].tensors}
    return ServerView.of(summed, views[0].shared, views[0].backbone_sha256, **facts)


def _norm(view: ServerView) -> float:
    return float(np.sqrt(sum(np.square(v.astype(np.float64)).sum() for v in view.tensors.values())))


def _noised(view: ServerView, sigma: float, clip: float, seed: int) -> ServerView:
    """Gaussian noise of sigma times clip on every number; seeded, so that a lesson can be repeated."""
    rng = np.random.default_rng([seed, 77])
    noised = {
        name: (value + sigma * clip * rng.standard_normal(value.shape)).astype(np.float32)
        for name, value in sorted(view.tensors.items())
    }
    facts = _facts(view) | {"noise_multiplier": sigma, "clip_norm": clip}
    return ServerView.of(noised, view.shared, view.backbone_sha256, **facts)
