"""Training of one round's update, and why a round cannot be trained here, told before anybody says yes to it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..art import ArtSet
from ..diffusion import Adapter, Backbone, LatentSet, TrainConfig, train
from ..diffusion.adapters import check_fits
from ..diffusion.example_level import Payment
from ..errors import AdapterError
from ..events import Note, Step, Trained
from ..federated import RoundPlan, rule_of, unpack
from ..federated.gains import asked

__all__ = ["TrainedUpdate", "train_round", "why_not_trainable"]


class TrainedUpdate(NamedTuple):
    """What training gave: update, what `RoundPlan.metrics` may ask for, pictures' ids, whether there is noise in it."""

    update: dict[str, NDArray[np.float32]]
    metrics: dict[str, float]
    ids: tuple[str, ...]
    noised: bool = False


def train_round(
    backbone: Backbone,
    data: LatentSet,
    plan: RoundPlan,
    shared: bytes,
    *,
    payment: Payment | None = None,
    learning_rate: float | None = None,
    measured: Callable[[Adapter], Mapping[str, float]] = lambda _start: {},
) -> Generator[Step | Note, None, TrainedUpdate]:
    """Train as a plan says, from the shared adapter's bytes. Nothing is sent.

    The metrics are mean losses of the first and the last quarter of steps, and what is `measured` on the start.

    Args:
        payment: noise for every picture and the ledger that pays for it; None trains without.
        learning_rate: in place of the plan's.
    """
    start = Adapter.from_bytes(shared)
    config = TrainConfig.of_round(
        steps=plan.local_steps, batch=plan.batch, learning_rate=learning_rate or plan.round_rate
    )
    rule = rule_of(plan.rule)
    size = rule.size(plan.number, unpack(shared))
    if payment is not None:
        yield Note(str(payment))
    trained, losses = start, list[float]()
    for event in train(
        backbone,
        data,
        config=config,
        start=start,
        private=payment.private if payment else None,
        ledger=payment.ledger if payment else None,
        purpose=f"round {plan.number}",
        leaves=f"a masked update of {size:,} numbers, known to others in a sum",
        factors=rule.factors(plan.number),
    ):
        if isinstance(event, Trained):
            trained = event.adapter
            continue
        losses.append(event.loss)
        yield event
    quarter = max(1, len(losses) // 4)
    means = {"loss_before": float(np.mean(losses[:quarter])), "loss_after": float(np.mean(losses[-quarter:]))}
    return TrainedUpdate(trained.minus(start), means | dict(measured(start)), data.ids, payment is not None)


def why_not_trainable(plan: RoundPlan, shared: bytes, art: ArtSet | None, backbone: Backbone) -> str:
    """Why this kernel cannot train a round of this plan now, in a sentence or two; "" where it can.

    Looked at before the artist says yes, so that nobody waits for an update that cannot come.
    """
    if art is None:
        return "You have no pictures yet. Set session.art = ArtSet.from_folder(...) to take part in the next round."
    if not art.included("train"):
        return (
            f"None of your {len(art)} pictures is included in training, so there is nothing to train on. Include at "
            "least one to take part in the next round."
        )
    if art.size_px != backbone.size_px:
        return (
            f"Your pictures have {art.size_px} px; this backbone works at {backbone.size_px} px. Load them with "
            f"size_px={backbone.size_px}."
        )
    if asked(plan.metrics) and not art.included("test"):
        return (
            "The plan asks for sums of what artists gain, measured on held-out pictures, and you hold none out. Give "
            "session.art a test split to take part in the next round."
        )
    return _misfit(shared, backbone)


def _misfit(shared: bytes, backbone: Backbone) -> str:
    """Why the room's shared adapter does not fit this backbone, or ""."""
    try:
        check_fits(backbone, Adapter.from_bytes(shared))
    except AdapterError as error:
        return f"The room's shared adapter cannot be trained here: {error}"
    return ""
