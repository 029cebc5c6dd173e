"""Before an update leaves: what would it give away to somebody who got it in the clear? Tried, within a time budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..attacks import Frame
from ..attacks.scoring import Truth
from ..attacks.threat import ThreatModel
from ..attacks.view import ServerView
from ..diffusion.backbone import Backbone
from ..errors import AttackError
from .runs import Pausing, Shot, shots_of

__all__ = ["Finding", "preflight"]

_OWN = 8  # pictures that are looked for; more would take longer and say little more
_TRIED = ("captions", "identify")
_REBUILDS = ("pixels",)


@dataclass(frozen=True)
class Finding:
    """What came out of an update before it left.

    Attributes:
        captions, captions_of: how many of the artist's captions were read, and of how many.
        listed: how long the list was that they were chosen from.
        first, own, candidates: place of the first picture of the artist's own in the ranking (0: no ranking), how many
            of the artist's own there were, among how many candidates.
        on_top: how many of them came in the first `own` places.
        not_tried: attack to the reason.
        epsilon, delta: what the noise in it bounds for each picture; infinite without noise.
        seconds: all of it.
        lineup, places: the candidates, uint8 (N, h, w, 3), and which of them are the artist's own.
    """

    captions: int = 0
    captions_of: int = 0
    listed: int = 0
    first: int = 0
    own: int = 0
    candidates: int = 0
    on_top: int = 0
    not_tried: dict[str, str] = field(default_factory=dict, repr=False)
    epsilon: float = math.inf
    delta: float = 0.0
    seconds: float = 0.0
    lineup: NDArray[np.uint8] | None = field(default=None, repr=False, compare=False)
    places: tuple[int, ...] = field(default=(), repr=False)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same for a person, one sentence for each attack."""
        told = []
        if self.captions_of:
            chance = self.captions_of / self.listed
            told.append(
                f"Captions: {self.captions} of your {self.captions_of} were read from a list of {self.listed} "
                f"(by chance {chance * self.captions_of:.1f})."
            )
        if self.candidates and self.first:
            chance = self.own * self.own / self.candidates
            told.append(
                f"Pictures: among {self.candidates} candidates the first of your own stands in place {self.first}; "
                f"{self.on_top} of your {self.own} stand in the first {self.own} places (by chance {chance:.1f})."
            )
        elif self.candidates:
            told.append("Pictures: not picked out by this attack within this budget. That is not evidence of safety.")
        if math.isfinite(self.epsilon):
            told.append(f"Noise bounds it: epsilon {self.epsilon:.2f} at delta {self.delta:g} for each picture.")
        else:
            told.append("There is no noise in it: nothing bounds what a better attack would find.")
        return tuple(told)

    @property
    def record(self) -> dict[str, Any]:
        """Numbers for the ledger; no caption and no picture."""
        names = ("captions", "captions_of", "listed", "first", "own", "candidates", "on_top")
        told: dict[str, Any] = {name: getattr(self, name) for name in names}
        return told | {"seconds": round(self.seconds, 1), "not_tried": sorted(self.not_tried)}

    def __str__(self) -> str:
        return " ".join(self.sentences)


def preflight(
    view: ServerView,
    backbone: Backbone,
    *,
    own: NDArray[np.uint8],
    own_captions: Sequence[str],
    decoys: NDArray[np.uint8],
    decoy_captions: Sequence[str],
    budget_s: float = 30.0,
    draws: int = 6,
    epsilon: float = math.inf,
    delta: float = 0.0,
    pausing: Pausing | None = None,
) -> Iterator[Shot | Finding]:
    """Attack one's own update before it leaves, and yield the `Finding` at last.

    The attacker is given more than a round gives anybody: the update without masks, the artist's captions in a list,
    and the pictures among decoys; never the seed, which nobody has.

    Args:
        own, own_captions: what was trained on, uint8 (n, h, w, 3); the first eight are looked for.
        decoys, decoy_captions: pictures that were not, best of the same hand.
        draws: noises over which a candidate's gradient is averaged.
        epsilon, delta: what the ledger says of this update.

    Raises:
        AttackError: no decoys.
    """
    if not len(decoys):
        raise AttackError("There are no decoys. Keep some pictures out of training, or add sample art.")
    mine = own[:_OWN]
    captions = tuple(dict.fromkeys(c for c in own_captions if c))
    listed = tuple(sorted({*captions, *(c for c in decoy_captions if c)}))
    order = np.random.default_rng(len(decoys)).permutation(len(mine) + len(decoys))
    candidates = np.concatenate([mine, decoys])[order]
    told = [*own_captions[: len(mine)], *decoy_captions]
    places = tuple(int(i) for i in np.flatnonzero(order < len(mine)))
    view = view.knowing(caption_list=listed, candidates=candidates, candidate_captions=tuple(told[i] for i in order))
    threat = ThreatModel("relay", "steps", frozenset({"caption_list", "candidates"}), first_round=view.first_round)
    skipped = {name: threat.why_not(name) for name in (*_TRIED, *_REBUILDS) if threat.why_not(name)}
    truth = Truth(captions=captions, members=places)
    seconds, ends = 0.0, dict[str, Frame]()
    for attack in _TRIED:
        if attack in skipped:
            continue
        options: dict[str, Any] = {"count": len(captions)} if attack == "captions" else {"draws": draws}
        if attack == "captions" and not 0 < len(captions) < len(listed):
            skipped[attack] = "Every caption on the list is one of yours, or there is none: nothing to tell apart."
            continue
        left = max(1.0, budget_s - seconds)
        spent = 0.0
        try:
            for shot in shots_of(view, backbone, attack, truth, budget_s=left, pausing=pausing, **options):
                ends[attack], spent = shot.frame, shot.frame.seconds
                yield shot
        except AttackError as error:  # an adapter without such layers
            skipped[attack] = str(error)
        seconds += spent
    read = len({*ends["captions"].captions} & {*captions}) if "captions" in ends else 0
    ranking = [place for place, _ in ends["identify"].ranking] if "identify" in ends else []
    ranks = [i for i, place in enumerate(ranking, start=1) if place in places]
    yield Finding(
        captions=read,
        captions_of=len(captions) if "captions" in ends else 0,
        listed=len(listed) if "captions" in ends else 0,
        first=ranks[0] if ranks else 0,
        own=len(mine),
        candidates=len(candidates) if "identify" in ends else 0,
        on_top=sum(rank <= len(mine) for rank in ranks),
        not_tried=skipped,
        epsilon=epsilon,
        delta=delta,
        seconds=seconds,
        lineup=candidates,
        places=places,
    )
