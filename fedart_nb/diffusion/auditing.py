"""An audit of private training as it really runs: the trainer of rounds, with canaries among the gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import PrivacyError
from ..events import Step
from ..privacy.accounting import epsilon
from ..privacy.audit import Audit, audit
from .adapters import Adapter, initial_adapter
from .backbone import Backbone
from .dp_sgd import Canaries, PrivateTraining
from .latents import LatentSet
from .training import TrainConfig, train

__all__ = ["audit_training"]

_LONGER = 10.0


def audit_training(
    backbone: Backbone,
    data: LatentSet,
    *,
    private: PrivateTraining,
    config: TrainConfig,
    start: Adapter | None = None,
    delta: float = 1e-6,
    confidence: float = 0.95,
) -> Iterator[Step | Audit]:
    """Train once with a canary for every parameter that learns, and bound epsilon from below by what came out.

    The attacker sees every step's noised sum, as the proof of DP-SGD allows. Nothing of the training is kept, and no
    ledger pays: what is learnt is spoilt, and should not leave the kernel either. Yields each `Step`, then the `Audit`.

    Args:
        delta: for promise and bound; small against one over the number of parameters. It need not be the ledger's: a
            mechanism keeps an epsilon at every delta, and both sides take the same one.

    Raises:
        PrivacyError: there is no noise to audit.

    Example:
        >>> *_, found = audit_training(backbone, data, private=PrivateTraining(2.0), config=TrainConfig(steps=1))
        >>> print(found)
    """
    if not private.noise_multiplier:
        raise PrivacyError("Training without noise promises nothing, so there is nothing to audit. Give a multiplier.")
    start = start or initial_adapter(backbone)
    canaries = Canaries(np.arange(private.size(start.tensors)), length=_LONGER * private.clip_norm)
    for event in train(backbone, data, config=config, start=start, private=private, canaries=canaries):
        if isinstance(event, Step):
            yield event
    mechanism = private.mechanism(pictures=len(data), batch=config.batch, steps=config.steps)
    yield audit(
        canaries.scores,
        canaries.included,
        promised=epsilon([mechanism], delta=delta),
        delta=delta,
        confidence=confidence,
    )
