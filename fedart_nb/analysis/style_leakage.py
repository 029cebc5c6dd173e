"""How much of your hand an update gives away: shadow federations of your art and sample artists, in this kernel.

Nothing is sent. You take the part of the artist looked for; your test pictures stand for works that you have published
and that an attacker therefore has, the sample artists for the room. `attacks/participation.py` is the attack.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..art import ArtSet
from ..attacks.participation import Flat, Shadows, Suspects, flat
from ..diffusion import Adapter, LatentSet, PrivateTraining, TrainConfig, cache_latents, initial_adapter, train
from ..errors import AttackError
from ..events import Note
from ..privacy.planning import default_delta, solve_noise
from ..session import Session

__all__ = ["COMPANY", "StyleLeak", "style_leak"]

#: Sample artists who fill the room unless told otherwise: unlike each other, as artists are.
COMPANY = ("lorelei", "gameicons", "fluent3d", "freehand", "rollandin")
_YOU = "you"
_LIMIT = 48
_FEWEST = 6
_PRIVATE_RATE = 2e-2  # what learnt best under noise, see `PicturePrivacy.learning_rate`


@dataclass(frozen=True)
class StyleLeak:
    """How surely an attacker who has works of yours can tell that you took part.

    Attributes:
        curves: area under the ROC curve by (whether with noise, artists in the sum); 0.5 is guessing, 1 certain.
        epsilon: of the noise, per picture, over all rounds; delta: the smallest of the artists'.
        company: who filled the room.
        pictures: how many of yours trained; published: how many the attacker had.
        steps, cohorts: local steps of an update, and shadow federations on each side.
    """

    curves: Mapping[tuple[bool, int], float]
    epsilon: float
    delta: float
    company: tuple[str, ...]
    pictures: int
    published: int
    steps: int
    cohorts: int

    def __str__(self) -> str:
        plain = [(n, value) for (noised, n), value in sorted(self.curves.items()) if not noised]
        noised = [(n, value) for (with_noise, n), value in sorted(self.curves.items()) if with_noise]
        clear, (most, summed) = plain[0][1], plain[-1]
        text = f"Told from your published works that you took part: {clear:.2f} from your update in the clear, "
        text += f"{summed:.2f} from a sum of {most} (0.5 is guessing, 1 is certain)"
        if noised:
            text += f", and {noised[-1][1]:.2f} from a sum of {noised[-1][0]} with noise at epsilon {self.epsilon:g}"
        return text + "."


def style_leak(
    session: Session,
    *,
    company: Sequence[str] = COMPANY,
    epsilon: float = 8.0,
    steps: int = 10,
    rounds: int = 3,
    repeats: int = 2,
    cohorts: int = 100,
    sizes: Sequence[int] = (1, 3, 5),
    seed: int = 0,
) -> Iterator[Note | StyleLeak]:
    """Train updates of your two halves and of the company, and see how well sums with you are told from others.

    Args:
        company: names of `ArtSet.samples()`, two or more.
        epsilon: of picture-level noise for the other half of the comparison; infinity leaves it out.
        steps, rounds: local steps in a round, and rounds that the budget has to last for.
        repeats: how often every member trains.
        cohorts: shadow federations with you, and as many without.
        sizes: artists in a sum.
        seed: of the training without noise and of the cohorts.

    Raises:
        AttackError: fewer than two in the company, or too few pictures of your own.

    Example:
        >>> *_, leak = style_leak(session)  # doctest: +SKIP
        >>> print(leak)  # doctest: +SKIP
        Told from your published works that you took part: 1.00 from your update in the clear, 0.98 ...
    """
    unknown = sorted(set(company) - set(ArtSet.samples()))
    if unknown or len(set(company)) < 2:
        raise AttackError(
            f"company is {tuple(company)}; expected two or more of {', '.join(sorted(ArtSet.samples()))}."
        )
    backbone = session.backbone
    own, works = _split(session)
    start = session.shared or initial_adapter(backbone, seed=seed)
    rooms: dict[str, tuple[LatentSet, LatentSet]] = {_YOU: (own, works)}
    for name in company:
        yield Note(f"Reading the sample artist {name}")
        art = ArtSet.sample(name, limit=_LIMIT, size_px=backbone.size_px)
        rooms[name] = (cache_latents(backbone, art, "train"), cache_latents(backbone, art, "test"))
    curves: dict[tuple[bool, int], float] = {}
    for noised in (False, True)[: 1 + math.isfinite(epsilon)]:
        members: dict[str, list[list[Flat]]] = {}
        references: dict[str, list[dict[str, np.ndarray]]] = {}
        for index, (name, (mine, published)) in enumerate(rooms.items()):
            yield Note(f"Training the updates of {name}{f' with noise at epsilon {epsilon:g}' if noised else ''}")
            halves = [_part(mine, range(half, len(mine), 2)) for half in range(2)]
            noises = [_noise(epsilon, len(half), steps * rounds) if noised else None for half in halves]
            members[name] = []
            for half, (data, noise) in enumerate(zip(halves, noises, strict=True)):
                seeds = [None if noised else _seed(seed, index, half, r) for r in range(repeats)]
                members[name].append([flat(_update(session, data, start, steps, s, noise)) for s in seeds])
            clipped = PrivateTraining(0.0) if noised else None
            last = None if noised else _seed(seed, index, 9)
            references[name] = [_update(session, published, start, steps, last, clipped)]
        shadows = Shadows(Suspects.of(references), members)
        for size in sizes:
            if size <= shadows.largest(_YOU):
                rng = np.random.default_rng((seed, size))
                curves[noised, size] = shadows.auc(_YOU, size, cohorts=cohorts, rng=rng)
    yield StyleLeak(
        curves=curves,
        epsilon=epsilon,
        delta=default_delta(len(own) // 2),
        company=tuple(company),
        pictures=len(own),
        published=len(works),
        steps=steps,
        cohorts=cohorts,
    )


def _split(session: Session) -> tuple[LatentSet, LatentSet]:
    """What trains, and what stands for published works; a third of the former where no test pictures are included."""
    own = session.latents("train")
    works = session.latents("test") if session.art is not None and session.art.included("test") else None
    if works is None or len(works) < 2:
        published = range(0, len(own), 3)
        works = _part(own, published)
        own = _part(own, sorted(set(range(len(own))) - set(published)))
    if len(own) < _FEWEST:
        raise AttackError(f"{len(own)} pictures of your own to train on; include {_FEWEST} or more for this.")
    return own, works


def _part(data: LatentSet, index: Sequence[int]) -> LatentSet:
    chosen = torch.as_tensor(list(index))
    return LatentSet(data.latents[chosen], data.embeddings[chosen], data.empty, tuple(data.ids[i] for i in index))


def _noise(epsilon: float, pictures: int, steps: int) -> PrivateTraining:
    rate = min(1.0, TrainConfig().batch / pictures)
    return PrivateTraining(solve_noise(epsilon, delta=default_delta(pictures), sample_rate=rate, steps=steps))


def _update(
    session: Session,
    data: LatentSet,
    start: Adapter,
    steps: int,
    seed: int | None,
    private: PrivateTraining | None,
) -> dict[str, np.ndarray]:
    """What one round changes; only what learns (with noise, B alone)."""
    config = TrainConfig(steps=steps, seed=seed, validate_every=0)
    if private is not None:
        config = TrainConfig(steps=steps, seed=seed, validate_every=0, learning_rate=_PRIVATE_RATE)
    *_, last = train(session.backbone, data, config=config, start=start, private=private)
    changed = last.adapter.minus(start)  # type: ignore[union-attr]
    return {name: delta for name, delta in changed.items() if private is None or ".lora_B." in name}


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
