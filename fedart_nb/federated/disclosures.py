"""What a round would take out of a kernel, worked out from its plan before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..consent import Leaving
from ..privacy.accounting import Mechanism
from ..privacy.ledger import Ledger
from ..secagg.graph import quorum_of
from .plan import RoundPlan
from .strategies import rule_of
from .tensors import unpack
from .vector import layout

__all__ = ["MESSAGE_BYTES", "leaving_of", "limits_of", "upload_bytes"]

MESSAGE_BYTES = 97  #: kind, context and signature around a masked vector


def upload_bytes(plan: RoundPlan, shared: bytes) -> int:
    """What one artist uploads in a round, to the byte; it does not depend on the update or the pictures."""
    return 4 * layout(plan, unpack(shared), plan.min_artists).size + MESSAGE_BYTES


def limits_of(plan: RoundPlan) -> str:
    """How often updates of one round may leave a kernel, for the artist who decides."""
    back = "The room never goes back to an earlier round."
    if plan.max_rollbacks:
        back = (
            f"The room goes back to an earlier round at most {plan.max_rollbacks} times, to the same one at most "
            f"{min(plan.max_rollbacks, plan.max_round_rollbacks)} times."
        )
    return (
        f"If the round fails, you are asked before another update of yours leaves; at most {plan.max_attempts} leave "
        f"for one round. {back}"
    )


def leaving_of(
    plan: RoundPlan,
    shared: bytes,
    *,
    room: str,
    name: str,
    pictures: int,
    goes_to: str,
    price: tuple[Ledger, Mechanism] | None = None,
    again: Sequence[str] = (),
) -> Leaving:
    """What a round takes out of a kernel.

    Args:
        shared: safetensors bytes of the shared adapter that the round starts from.
        room: as receipts and ledgers name it; name, goes_to: under which name, to which relay.
        pictures: how many pictures are trained on.
        price: the ledger that pays and what it would pay for; None without noise.
        again: what it means that an update of this round has left before, in sentences.
    """
    epsilon: dict[str, Any] = {}
    if price is not None:
        ledger, mechanism = price
        budget = ledger.budget
        epsilon = {
            "unit": budget.unit,
            "epsilon_before": ledger.spent,
            "epsilon_after": ledger.cost(mechanism),
            "delta": budget.delta,
            "budget": budget.epsilon,
        }
    return Leaving(
        room=room,
        number=plan.number,
        total=plan.total,
        attempt=plan.attempt,
        plan=plan.digest,
        terms=plan.terms,
        size_bytes=upload_bytes(plan, shared),
        values=rule_of(plan.rule).size(plan.number, unpack(shared)),
        pictures=pictures,
        steps=plan.local_steps,
        name=name,
        goes_to=goes_to,
        others=max(quorum_of(plan.min_artists, plan.degree), plan.survivors) - 1,
        turn=plan.rewound,
        again=tuple(again),
        limits=limits_of(plan),
        key=plan,
        **epsilon,
    )
