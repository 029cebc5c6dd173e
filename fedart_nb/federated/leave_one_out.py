"""The rest of the world: what a sum would be without one's own update, which its owner alone can work out.

    mean = (own + others) / N,    others / (N - 1) = (N mean - own) / (N - 1) = mean + (mean - own) / (N - 1)

FedALT (Bian et al. 2503.11880) mixes an artist's own adapter with this one. It takes the room's mean and the update
that this kernel sent, so it is computed in the kernel and nothing is sent for it. It is exact for the updates
themselves; what the others learnt in later rounds still started from a shared adapter with one's own update in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import RoundError
from .plan import RoundPlan
from .strategies import rule_of
from .tensors import Tensors, metadata_of, pack, unpack

__all__ = ["Followed", "taken_out", "taken_out_after", "why_inseparable", "without_own"]


@dataclass(frozen=True)
class Followed:
    """A round that ended with this artist in its sum.

    `own` is what was sent, flat, by the names' order; `moved` what the round added to the shared adapter, of the same
    tensors; `contributors` how many were in the sum, with oneself.
    """

    plan: RoundPlan
    own: NDArray[np.float32] = field(repr=False)
    moved: Tensors = field(repr=False)
    contributors: int


def without_own(followed: Followed) -> dict[str, NDArray[np.float32]]:
    """What to add to a round's new shared adapter so that one's own update is out of it, by tensor.

    Raises:
        RoundError: nobody else was in the sum, or the plan's sum cannot be taken apart so.

    >>> plan = RoundPlan(room="r", number=1, total=1, backbone_sha256="", shared_sha256="", host_key="0" * 64, clip=9)
    >>> mean = {"x": np.float32([1.0])}
    >>> float(mean["x"] + without_own(Followed(plan, np.float32([3.0]), mean, 3))["x"])  # the others sent 0 and 0
    0.0
    """
    plan, moved, others = followed.plan, followed.moved, followed.contributors - 1
    if reason := why_inseparable(plan):
        raise RoundError(f"Your own share cannot be taken out: {reason}.")
    if others < 1:
        raise RoundError(f"{followed.contributors} artists were in the sum; without you nobody is left.")
    ends = np.cumsum([moved[name].size for name in sorted(moved)])[:-1]
    own = np.clip(followed.own, -plan.clip, plan.clip) * np.float32(plan.server_rate)
    parts = zip(sorted(moved), np.split(own, ends), strict=True)
    return {name: (moved[name] - part.reshape(moved[name].shape)) / np.float32(others) for name, part in parts}


def why_inseparable(plan: RoundPlan) -> str:
    """Why one's own share cannot be taken out of a plan's sum, or ""."""
    if rule_of(plan.rule).refactors or rule_of(plan.rule).cores:
        return f"the rule {plan.rule!r} does not add your step to the factors that you hold"
    if plan.weighting != "equal":
        return "artists do not weigh the same in this room, and nobody knows the others' weights"
    if plan.server != "average":
        return f"the host's optimiser {plan.server!r} mixes the sums of several rounds"
    if plan.protection == "artist":
        return "the sum holds noise that you do not know"
    return ""


def taken_out_after(kept: bytes, before: str, after: str, followed: Followed | None, *, why_not: str = "") -> bytes:
    """What was kept over the rounds so far, with one more; for the session's folder, never for the wire.

    Args:
        kept: this function's result of the round before, or b"" in the first.
        before, after: digests of the shared adapters around the round.
        followed: None where this artist was not in the sum.
        why_not: why the round cannot be followed; from then on `taken_out` says so.
    """
    about = metadata_of(kept) if kept else {}
    known = about.get("shared") == before
    change = dict(unpack(kept)) if kept and known else {}
    reason = about.get("reason", "") if known else ""
    if followed is not None:
        core = any(".lora_core." in name for name in followed.moved)
        why_not = why_not or ("a core was trained" if core else why_inseparable(followed.plan))
    reason = reason or why_not
    if followed is not None and not reason:
        for name, step in without_own(followed).items():
            change[name] = change[name] + step if name in change else step
    return pack({} if reason else change, {"shared": after, **({"reason": reason} if reason else {})})


def taken_out(kept: bytes, shared: str) -> Tensors:
    """What to add to the shared adapter of digest `shared` so that all of one's own updates are out of it.

    Raises:
        RoundError: it is not known, with the reason.
    """
    about = metadata_of(kept) if kept else {}
    reason = about.get("reason") or ("" if about.get("shared") == shared else "no round has ended in this session")
    if reason:
        raise RoundError(f"The rest of the world cannot be computed: {reason}.")
    return unpack(kept)
