"""What an attacker holds: the bytes that were sent, the public model's facts, and stated knowledge. No truth in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import AttackError
from ..federated.tensors import Tensors, pack, unpack

__all__ = ["Kind", "Knowledge", "ServerView"]

#: "gradient": one step's gradient, mean over its batch; "steps": what local steps of the product's trainer changed.
Kind = Literal["gradient", "steps"]

_Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Knowledge:
    """What the attacker knows besides what was sent; None or empty: not known.

    Attributes:
        seed: of the artist's training (one for each artist in a sum), from which noise, timesteps, order and dropped
            captions follow. The product never tells it.
        timesteps: of one step's batch, in the backbone's unit, one for each picture.
        captions: of the pictures trained on, one for each, in order.
        caption_list: captions that may have been used, for `captions`.
        candidates: pictures that may have been used, uint8 (N, h, w, 3), for `identify` and `membership`.
        candidate_captions: one for each candidate; empty: the empty caption is taken.
        public: pictures that anybody has, uint8 (m, h, w, 3): a mean, a nearest one, non-members to compare with.
        public_captions: one for each public picture.
        earlier: updates of an earlier round, bytes as on the wire, for `linkage`.
    """

    seed: int | tuple[int, ...] | None = None
    timesteps: tuple[float, ...] | None = None
    captions: tuple[str, ...] | None = field(default=None, repr=False)
    caption_list: tuple[str, ...] = field(default=(), repr=False)
    candidates: _Pictures | None = field(default=None, repr=False)
    candidate_captions: tuple[str, ...] = field(default=(), repr=False)
    public: _Pictures | None = field(default=None, repr=False)
    public_captions: tuple[str, ...] = field(default=(), repr=False)
    earlier: tuple[bytes, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for pictures, captions in (("candidates", "candidate_captions"), ("public", "public_captions")):
            held, told = getattr(self, pictures), getattr(self, captions)
            if told and len(told) != (0 if held is None else len(held)):
                raise AttackError(
                    f"{captions} has {len(told)} entries for {0 if held is None else len(held)} {pictures}; "
                    "give one for each, or none."
                )


@dataclass(frozen=True)
class ServerView:
    """One update as a relay, a host or another artist saw it.

    Attributes:
        update: safetensors bytes with the names of the wire (`unet.….lora_A.weight`); where `artists` is above 1, the
            sum of so many updates.
        shared: bytes of the public shared adapter that training started from (`Adapter.to_bytes`); empty: the whole
            denoiser was trained, and `update` has its parameters' names.
        backbone_sha256: of the public backbone.
        kind: what the update is.
        local_steps, batch, learning_rate, caption_dropout: of the plan and the program.
        optimiser: of local steps, "adamw" (the product's) or "sgd".
        pictures: how many pictures an artist trained on; 0: not known.
        artists: how many updates are in the sum.
        noise_multiplier, clip_norm: of private training, public facts; 0: there was none.
        masked: the update is one masked share of a secure sum.
        malicious: what a malicious host changed before ("" for an honest one).

    Example:
        >>> view = ServerView(pack({"unet.x.lora_B.weight": np.zeros((2, 2), np.float32)}), b"", "0" * 64)
        >>> view.tensors["unet.x.lora_B.weight"].shape
        (2, 2)
    """

    update: bytes = field(repr=False)
    shared: bytes = field(repr=False)
    backbone_sha256: str
    kind: Kind = "gradient"
    local_steps: int = 1
    batch: int = 1
    learning_rate: float = 3e-3
    optimiser: str = "adamw"
    caption_dropout: float = 0.1
    pictures: int = 0
    artists: int = 1
    noise_multiplier: float = 0.0
    clip_norm: float = 0.0
    masked: bool = False
    malicious: str = ""
    knows: Knowledge = Knowledge()

    def __post_init__(self) -> None:
        for name in ("local_steps", "batch", "artists"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise AttackError(f"{name} is {value!r}; expected a whole number from 1 on.")

    @property
    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The update's tensors by their names on the wire, read-only."""
        return unpack(self.update)

    @property
    def full(self) -> bool:
        """Whether the whole denoiser was trained, not an adapter."""
        return not self.shared

    @property
    def first_round(self) -> bool:
        """Whether the shared adapter's B is zero, so that A's gradient is exactly zero."""
        if self.full:
            return False
        return all(not value.any() for name, value in unpack(self.shared).items() if ".lora_B." in name)

    @property
    def digest(self) -> str:
        """SHA-256 of everything in the view: equal digests, equal attacks. Replays are kept under it."""
        told: dict[str, Any] = {}
        out = hashlib.sha256()
        for part in (self, self.knows):
            for item in fields(part):
                value = getattr(part, item.name)
                if isinstance(value, bytes):
                    out.update(hashlib.sha256(value).digest())
                elif isinstance(value, np.ndarray):
                    out.update(f"{value.shape}".encode())
                    out.update(np.ascontiguousarray(value).data)
                elif item.name == "earlier":
                    out.update(b"".join(hashlib.sha256(one).digest() for one in value))
                elif not isinstance(value, Knowledge):
                    told[item.name] = value
        out.update(json.dumps(told, sort_keys=True).encode())
        return out.hexdigest()

    def knowing(self, **knowledge: Any) -> ServerView:
        """The same view with other knowledge, by the names of `Knowledge`."""
        return replace(self, knows=replace(self.knows, **knowledge))

    @classmethod
    def of(cls, update: Tensors, shared: bytes, backbone_sha256: str, **facts: Any) -> ServerView:
        """A view of tensors that are packed as on the wire; `facts` by the names of the attributes."""
        return cls(pack(update), shared, backbone_sha256, **facts)

    @classmethod
    def of_share(
        cls,
        words: NDArray[np.uint32],
        shared: bytes,
        backbone_sha256: str,
        *,
        like: Tensors | None = None,
        clip: float = 1.0,
        **facts: Any,
    ) -> ServerView:
        """What one masked share looks like when its words are read as numbers from -clip to clip: noise.

        Args:
            words: masked words of one update (`rounds.words_of`), at least as many as there are numbers in `like`.
            like: tensors with the names and shapes of what is sent; the whole shared adapter by default.
        """
        update, start = {}, 0
        for name, value in sorted((unpack(shared) if like is None else like).items()):
            part = words[start : start + value.size]
            if part.size != value.size:
                raise AttackError(f"{words.size:,} words do not reach for {name!r}; give the whole masked vector.")
            update[name] = ((part.astype(np.float64) / 2**31 - 1) * clip).astype(np.float32).reshape(value.shape)
            start += value.size
        return cls.of(update, shared, backbone_sha256, masked=True, kind="steps", **facts)

    @classmethod
    def of_sum(cls, updates: list[Mapping[str, NDArray[np.floating]]], shared: bytes, sha: str, **facts: Any) -> Any:
        """The sum of several artists' updates, as a secure sum leaves it."""
        summed = {name: np.sum([u[name] for u in updates], axis=0).astype(np.float32) for name in updates[0]}
        return cls.of(summed, shared, sha, artists=len(updates), **facts)
