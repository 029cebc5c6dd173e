"""Mixes of the shared and the personal adapter: drawn exactly, remembered by their recipes, found again at once."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ..art.provenance import Recipe
from ..errors import AdapterError, FedArtError
from ..events import Sampled, SampleStep
from ..figures import png_bytes

if TYPE_CHECKING:
    from ..diffusion import Adapter
    from ..session import Session

__all__ = ["GRID_STEP", "MAX_WEIGHT", "Mixer", "Sample", "neighbours", "wiped"]

#: Weights run from 0 (off) over 1 (as trained) to this.
MAX_WEIGHT = 1.5
#: Mixes are drawn ahead on multiples of this weight.
GRID_STEP = 0.25
_THUMBNAIL_PX = 160


@dataclass(frozen=True)
class Sample:
    """One finished picture, uint8 (height, width, 3), its recipe, and its PNG files (whole, and at most 160 px)."""

    recipe: Recipe
    picture: NDArray[np.uint8] = field(repr=False, compare=False)
    png: bytes = field(repr=False, compare=False)
    thumbnail_png: bytes = field(repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        """Memory that it holds."""
        thumbnail = 0 if self.thumbnail_png is self.png else len(self.thumbnail_png)
        return int(self.picture.nbytes) + len(self.png) + thumbnail


class Mixer:
    """Draws one session's mixes, one picture at a time, and keeps them in a memory of limited size.

    Every picture is drawn on its own, so that its recipe alone gives its pixels again: equal to
    `session.pictures([prompt], seeds=[seed], ...)` with the same numbers. The memory is keyed by the recipe, that is by
    content: a trained-on adapter has another digest, so its pictures are never mistaken for the old one's. What was not
    used for longest is dropped first, before room for the next picture is taken.

    Safe to use from several threads; drawing holds the backbone's lock.

    Args:
        session: whose adapters are mixed.
        steps, guidance: as in `session.pictures`.
        anchored: as in `session.pictures`: with True where the backbone has an anchor, with False never.
        limit_bytes: memory for pictures.

    Example:
        >>> mixer = Mixer(session)
        >>> recipe = mixer.recipe("a red fox", 7, shared=1.0, personal=0.5)
        >>> for step in mixer.draw(recipe):
        ...     print(step)
        >>> mixer.find(recipe).picture.shape
        (128, 128, 3)
    """

    def __init__(
        self,
        session: Session,
        *,
        steps: int | None = None,
        guidance: float | None = None,
        anchored: bool = True,
        limit_bytes: int = 64 * 2**20,
    ) -> None:
        self.session = session
        self.anchored = anchored
        self.steps, self.guidance, self.limit_bytes = steps, guidance, limit_bytes
        self.used_bytes = 0
        self._samples: OrderedDict[Recipe, Sample] = OrderedDict()
        self._digests: dict[str, tuple[Adapter, str]] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._samples)

    def __contains__(self, recipe: Recipe) -> bool:
        return recipe in self._samples

    def recipe(self, prompt: str, seed: int, *, shared: float, personal: float) -> Recipe:
        """The recipe of one picture with the adapters that the session holds now; loads the backbone if need be.

        The weight of an adapter that the session does not have counts as 0; without adapters nothing is anchored.
        """
        from ..diffusion import anchor_of

        shared, shared_sha256 = self._part("shared", shared)
        personal, personal_sha256 = self._part("personal", personal)
        backbone = self.session.backbone
        steps, guidance = backbone.steps_and_guidance
        return Recipe(
            prompt=prompt,
            seed=seed,
            steps=steps if self.steps is None else self.steps,
            guidance=float(guidance if self.guidance is None else self.guidance),
            size_px=backbone.size_px,
            backbone_sha256=backbone.sha256,
            shared=shared,
            personal=personal,
            shared_sha256=shared_sha256,
            personal_sha256=personal_sha256,
            anchored=self.anchored and anchor_of(backbone) is not None and bool(shared or personal),
        )

    def find(self, recipe: Recipe) -> Sample | None:
        """The picture of exactly this recipe, if it is remembered."""
        with self._lock:
            if recipe in self._samples:
                self._samples.move_to_end(recipe)
            return self._samples.get(recipe)

    def nearest(self, recipe: Recipe) -> Sample | None:
        """The remembered picture with the nearest weights: same prompt, seed and settings, same adapters.

        Of two with the same weights, the one that is anchored as the recipe says.
        """
        with self._lock:
            scene, held = _scene(recipe), self._held()
            alike = [k for k in self._samples if _scene(k) == scene and {k.shared_sha256, k.personal_sha256} <= held]
            if not alike:
                return None
            at = (recipe.shared, recipe.personal)

            def away(known: Recipe) -> tuple[float, bool]:
                return math.dist(at, (known.shared, known.personal)), known.anchored != recipe.anchored

            return self.find(min(alike, key=away))

    def draw(self, recipe: Recipe) -> Generator[SampleStep, None, Sample]:
        """Yield the steps of drawing a recipe and return its picture; a remembered one is returned at once.

        Works for a recipe that was read from a file too, where the session still has its backbone and adapters.

        Raises:
            AdapterError: the session's backbone or adapters are not the recipe's.
            FedArtError: one picture is larger than the memory; nothing was drawn.
        """
        from ..diffusion import ANCHOR, sample

        if (found := self.find(recipe)) is not None:
            return found
        adapters = self._adapters(recipe)
        self._make_room(self.picture_bytes)
        for event in sample(
            self.session.backbone,
            [recipe.prompt],
            seeds=[recipe.seed],
            adapters=adapters,
            steps=recipe.steps,
            guidance=recipe.guidance,
            anchor=ANCHOR if recipe.anchored else None,
        ):
            if isinstance(event, SampleStep):
                yield event
            elif isinstance(event, Sampled):
                found = _sample(recipe, event.pictures[0])
        assert found is not None  # noqa: S101 - `sample` ends with a Sampled, or raises
        self._keep(found)
        return found

    @property
    def picture_bytes(self) -> int:
        """The most memory that one picture takes: its pixels, a PNG no larger than they are, and the thumbnail."""
        _, height, width = self.session.backbone.latent_shape
        size_px = self.session.backbone.size_px
        pixels = 3 * size_px * size_px * height // width
        return 2 * pixels + 3 * _THUMBNAIL_PX**2 + 8192

    @property
    def capacity(self) -> int:
        """How many pictures the memory is sure to hold."""
        return self.limit_bytes // self.picture_bytes

    def _part(self, role: Literal["shared", "personal"], weight: float) -> tuple[float, str]:
        adapter: Adapter | None = getattr(self.session, role)
        weight = round(float(weight), 4)
        if adapter is None or not weight:
            return 0.0, ""
        return weight, self._digest(role, adapter)

    def _digest(self, role: str, adapter: Adapter) -> str:
        known = self._digests.get(role)
        if known is None or known[0] is not adapter:
            known = self._digests[role] = (adapter, adapter.digest)
        return known[1]

    def _adapters(self, recipe: Recipe) -> list[tuple[Adapter, float]]:
        if recipe.backbone_sha256 != self.session.backbone.sha256:
            raise AdapterError(
                f"This picture was drawn with the backbone {recipe.backbone_sha256[:12]}…; this session has "
                f"{self.session.backbone.sha256[:12]}…. Open a session with that backbone."
            )
        if recipe.size_px != self.session.backbone.size_px:
            raise AdapterError(
                f"This picture is {recipe.size_px} px wide; this session draws {self.session.backbone.size_px} px. "
                "Load the backbone with that size_px."
            )
        found = []
        for role, weight, sha256 in (
            ("shared", recipe.shared, recipe.shared_sha256),
            ("personal", recipe.personal, recipe.personal_sha256),
        ):
            adapter: Adapter | None = getattr(self.session, role)
            if not weight:
                continue
            if adapter is None or self._digest(role, adapter) != sha256:
                raise AdapterError(
                    f"This picture was drawn with the {role} adapter {sha256[:12]}…, which this session does not have "
                    "(any more). Adapter.load() reads a saved one."
                )
            found.append((adapter, weight))
        return found

    def _held(self) -> set[str]:
        """Digests of the adapters that the session has now, and the empty one of an adapter that takes no part."""
        roles: tuple[Literal["shared", "personal"], ...] = ("shared", "personal")
        return {"", *(self._part(role, 1.0)[1] for role in roles)}

    def _make_room(self, size_bytes: int) -> None:
        if size_bytes > self.limit_bytes:
            raise FedArtError(
                f"One picture takes up to {size_bytes:,} bytes, and the memory for pictures is limited to "
                f"{self.limit_bytes:,}. Raise the limit (limit_bytes)."
            )
        with self._lock:
            while self._samples and self.used_bytes + size_bytes > self.limit_bytes:
                _, dropped = self._samples.popitem(last=False)
                self.used_bytes -= dropped.size_bytes

    def _keep(self, found: Sample) -> None:
        with self._lock:
            if found.recipe not in self._samples:
                self._make_room(found.size_bytes)
                self._samples[found.recipe] = found
                self.used_bytes += found.size_bytes


def neighbours(shared: float, personal: float) -> list[tuple[float, float]]:
    """Points of the grid that the next move of a slider is likely to reach, nearest first.

    They lie on the two lines through the nearest grid point (a drag moves one slider), and on its four diagonals.

    >>> neighbours(1.0, 0.5)[:3]
    [(1.0, 0.5), (0.75, 0.5), (1.0, 0.25)]
    """
    last = round(MAX_WEIGHT / GRID_STEP)
    i0, j0 = (min(last, max(0, round(weight / GRID_STEP))) for weight in (shared, personal))
    points = [
        (i * GRID_STEP, j * GRID_STEP)
        for i in range(last + 1)
        for j in range(last + 1)
        if i == i0 or j == j0 or (abs(i - i0) == 1 and abs(j - j0) == 1)
    ]
    return sorted(points, key=lambda point: math.dist(point, (shared, personal)))


def wiped(left: NDArray[np.uint8], right: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """`left` up to `share` (0 to 1) of the width, a dark line, then `right`; all uint8 (height, width, 3)."""
    at = round(min(1.0, max(0.0, share)) * left.shape[1])
    out = right.copy()
    out[:, :at] = left[:, :at]
    if 0 < at < left.shape[1]:
        out[:, max(0, at - 1) : at] = 32
    return out


def _scene(recipe: Recipe) -> tuple[object, ...]:
    """What two pictures have in common when they differ in nothing but the mix."""
    return (recipe.prompt, recipe.seed, recipe.backbone_sha256, recipe.steps, recipe.guidance, recipe.size_px)


def _sample(recipe: Recipe, picture: NDArray[np.uint8]) -> Sample:
    png = png_bytes(picture)
    small = max(picture.shape[:2]) <= _THUMBNAIL_PX
    return Sample(recipe, picture, png, png if small else png_bytes(picture, size_px=_THUMBNAIL_PX))
