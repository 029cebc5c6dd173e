"""A tiny trainable core: of an adapter only r x r numbers a layer learn, between two factors that a public seed gives.

    W + (alpha / r) B R A,    A (r, in) and B (out, r) fixed, R (r, r) learns and is sent

LoRA-XS (Bałazy et al. 2405.17604) takes A and B from W's singular vectors, Fed-SB (Singhal et al. 2502.15436) from a
first gradient. Here they are signs, 1 and -1, from AES in counter mode: the same bits on every machine, so nobody has
to send them, and their SHA-256 travels with the core. (Singular vectors, tried on two sample artists, learnt about as
well, but differ in their last bits from machine to machine.) The mean of several artists' cores is exactly the mean of
what they do to W. Afterwards `Adapter.expanded` folds R into B: an ordinary LoRA adapter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from .._system.arguments import whole
from ..errors import AdapterError

__all__ = ["CORE_NAME", "Between", "Core", "seed_of", "tensor_name"]

#: What a core's tensors are called, behind the module's name.
CORE_NAME = ".lora_core.weight"

_Array = NDArray[np.float32]
_MOST = 2**63
_MAX_RANK = 128
_MAX_SIDE = 2**20
_MAX_NUMBERS = 2**27


@dataclass(frozen=True)
class Core:
    """The two fixed factors of every layer of a core adapter.

    Attributes:
        seed: public; another seed gives other factors.
        rank: r; shapes: (out, in) of every module that the core acts on, by name.

    >>> core = Core(seed=7, rank=2, shapes={"to_q": (6, 4)})
    >>> A, B = core.factors("to_q")
    >>> A.shape, B.shape, sorted(set(A.ravel().tolist()))
    ((2, 4), (6, 2), [-1.0, 1.0])
    """

    seed: int
    rank: int
    shapes: Mapping[str, tuple[int, int]] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", seed_of(self.seed))
        object.__setattr__(self, "rank", whole("A core's rank", self.rank, 1, _MAX_RANK, AdapterError))
        total = 0
        for module, shape in self.shapes.items():
            if len(shape) != 2 or not all(type(side) is int and 1 <= side <= _MAX_SIDE for side in shape):
                raise AdapterError(
                    f"A core's shape for {module[:100]!r} is {shape!r}; expected (out, in), from 1 to {_MAX_SIDE:,}."
                )
            total += self.rank * sum(shape)
        if total > _MAX_NUMBERS:  # before a single factor is made
            raise AdapterError(f"A core's factors have {total:,} numbers; at most {_MAX_NUMBERS:,} are made here.")

    def factors(self, module: str) -> tuple[_Array, _Array]:
        """A (r, in) and B (out, r) of one module, of 1 and -1, so that R learns at an ordinary adapter's rates."""
        out, into = self.shapes[module]
        bits = _bits(self.seed, f"{module} {out} {into} {self.rank}", self.rank * (out + into))
        signs = np.where(bits, -1.0, 1.0).astype(np.float32)
        return signs[: self.rank * into].reshape(self.rank, into), signs[self.rank * into :].reshape(out, self.rank)

    @property
    def sha256(self) -> str:
        """Over all factors, in name order: what a core is pinned by."""
        return _digest(self.seed, self.rank, tuple(sorted(self.shapes.items())))

    def lora(self, tensors: Mapping[str, _Array] | None = None) -> dict[str, _Array]:
        """Tensors of the ordinary LoRA adapter: A, and B R (B alone without `tensors`)."""
        named: dict[str, _Array] = {}
        for module in sorted(self.shapes):
            A, B = self.factors(module)
            if tensors is not None:
                B = (B.astype(np.float64) @ tensors[module + CORE_NAME]).astype(np.float32)
            named[f"{module}.lora_A.weight"], named[f"{module}.lora_B.weight"] = A, B
        return named

    def initial(self) -> dict[str, _Array]:
        """R of zeros for every module: it changes nothing until it is trained."""
        return {module + CORE_NAME: np.zeros((self.rank, self.rank), np.float32) for module in sorted(self.shapes)}

    def check(self, tensors: Mapping[str, _Array]) -> None:
        """Raises AdapterError for other modules or shapes than this core's."""
        expected = {module + CORE_NAME for module in self.shapes}
        if tensors.keys() != expected:
            strange = min(tensors.keys() ^ expected)
            raise AdapterError(f"{strange!r} does not fit this core of {len(expected)} modules.")
        for name, array in tensors.items():
            if array.shape != (self.rank, self.rank):
                raise AdapterError(
                    f"{name!r} is {array.shape}; a core of rank {self.rank} has ({self.rank}, {self.rank})."
                )

    def to_body(self) -> dict[str, Any]:
        """As JSON values, with the factors' hash."""
        shapes = {module: list(shape) for module, shape in sorted(self.shapes.items())}
        return {"seed": self.seed, "rank": self.rank, "shapes": shapes, "factors_sha256": self.sha256}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Core:
        """Read `to_body`; raises AdapterError where the seed gives other factors here than it gave its sender."""
        shapes = {str(module): (out, into) for module, (out, into) in body["shapes"].items()}
        core = cls(body["seed"], body["rank"], shapes)
        if core.sha256 != body["factors_sha256"]:
            raise AdapterError(
                f"The seed {core.seed} gives factors {core.sha256[:12]}… here, the core was made for "
                f"{str(body['factors_sha256'])[:12]}…. Update both sides to the same version."
            )
        return core


def seed_of(value: Any) -> int:
    """A core's public seed; raises AdapterError for what is none."""
    return whole("A core's seed", value, 0, _MOST - 1, AdapterError)


class Between(torch.nn.Module):
    """B R in the place of a LoRA layer's B: `core` is R and learns, `outer` is B and does not."""

    def __init__(self, outer: torch.nn.Linear, value: _Array) -> None:
        super().__init__()
        self.core = torch.nn.Linear(outer.in_features, outer.in_features, bias=False, device=outer.weight.device)
        self.core.weight.data.copy_(torch.from_numpy(np.array(value)))
        self.outer = outer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """B (R x), of the last axis."""
        out: torch.Tensor = self.outer(self.core(x))
        return out


def tensor_name(parameter: str, adapter: str) -> str:
    """The name in `Adapter.tensors` of a parameter of the adapter that is attached as `adapter`."""
    return parameter.replace(f".{adapter}.", ".").replace(".lora_B.core.weight", CORE_NAME)


def _bits(seed: int, what: str, count: int) -> NDArray[np.uint8]:
    key = hashlib.sha256(f"fedart core {seed} {what}".encode()).digest()
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return np.unpackbits(np.frombuffer(stream.update(bytes(-(-count // 8))), np.uint8))[:count]


@lru_cache(maxsize=16)
def _digest(seed: int, rank: int, shapes: tuple[tuple[str, tuple[int, int]], ...]) -> str:
    digest, core = hashlib.sha256(), Core(seed, rank, dict(shapes))
    for module, _ in shapes:
        for array in core.factors(module):
            digest.update(f"{module}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()
