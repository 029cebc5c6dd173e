"""Do the numbers of private training hold? Epsilon beside Opacus and dp-accounting, the planner's time, the audit.

- `privacy.epsilon_max_difference`: largest difference of our epsilon to Opacus' RDP accountant over a grid of rates,
  noise and steps, and (baseline) to dp-accounting's at whole Rényi orders, where its series converges.
- `privacy.planner_ms`: CPU time of one plan for numbers that were not solved for before.
- `privacy.audit_honest_ok`: of so many honest runs of the real private step over a cheap network, how many the one-run
  audit (Steinke et al. 2305.08846, 160,000 canaries, 95 %) leaves below the promised epsilon.
- `privacy.audit_broken_caught`: the share of runs it catches of the variant that is hardest to catch, of: no clipping,
  half the noise, everybody in every sample, a ledger that is begun anew before each of five trainings.

    python benchmarks/privacy_checks.py --json
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from _report import measure, options, report

from fedart_nb.diffusion import PrivateTraining
from fedart_nb.diffusion.dp_sgd import Canaries, PrivateStep
from fedart_nb.diffusion.per_picture import PerPicture
from fedart_nb.privacy import Audit, Gaussian, audit, epsilon, plan
from fedart_nb.privacy.accounting import ORDERS, rdp_to_epsilon

CANARIES, DELTA = 160_000, 1e-6
PRIVATE = PrivateTraining(2.0, clip_norm=0.3)
WHOLE = np.array([a == round(a) for a in ORDERS])


def differences(*, quick: bool) -> tuple[float, float | None, int]:
    """Largest differences to Opacus and, where it is installed, to dp-accounting; and how many points the grid has."""
    from opacus.accountants import RDPAccountant

    try:
        import dp_accounting
    except ImportError:
        dp_accounting = None
    rates, noises = (
        ((0.04, 0.4), (0.6, 2.7)) if quick else ((0.01, 0.04, 0.16, 0.4, 1.0), (0.6, 0.8, 1.24, 2.7, 6.1, 20))
    )
    to_opacus, to_dp, points = 0.0, 0.0, 0
    for q, sigma, steps, delta in itertools.product(rates, noises, (1, 50, 500), (1e-3, 1e-5)):
        part = Gaussian(sigma, q, steps)
        theirs = RDPAccountant()
        theirs.history = [(sigma, q, steps)]
        to_opacus = max(to_opacus, abs(epsilon([part], delta=delta) - max(0.0, theirs.get_epsilon(delta))))
        if dp_accounting is not None:
            other = dp_accounting.rdp.RdpAccountant([a for a in ORDERS if a == round(a)])
            other.compose(dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma)), steps)
            ours = rdp_to_epsilon(np.where(WHOLE, part.rdp(), math.inf), delta)
            if (said := other.get_epsilon(delta)) > 0:  # of next to nothing it says 0, by a bound that Opacus lacks
                to_dp = max(to_dp, abs(ours - said))
        points += 1
    return to_opacus, to_dp if dp_accounting is not None else None, points


def planner_ms(repetitions: int) -> list[float]:
    known: dict[str, Any] = {"batch": 8, "steps": 20, "rounds": 5, "artists": 10, "parameters": 75_264, "epsilon": 8.0}
    times = []
    for pictures in range(30, 30 + repetitions):
        began = time.process_time()
        plan(pictures=pictures, **known)
        times.append(1000 * (time.process_time() - began))
    return times


def audited(*, pictures: int = 2, batch: int = 2, steps: int = 1, trainings: int = 1) -> Audit:
    layer = torch.nn.Linear(CANARIES, 1, bias=False)
    gradients = PerPicture(layer, dict(layer.named_parameters()))
    canaries = Canaries(np.arange(CANARIES), length=10 * PRIVATE.clip_norm)
    step = PrivateStep(gradients, PRIVATE, pictures=pictures, batch=batch, canaries=canaries)
    x = torch.zeros(pictures, CANARIES)
    with gradients.watching():
        for _ in range(steps * trainings):
            layer.weight.grad = None
            step(lambda index: layer(x[index])[:, 0])
    promised = epsilon([PRIVATE.mechanism(pictures=pictures, batch=batch, steps=steps)], delta=DELTA)
    return audit(canaries.scores, canaries.included, promised=promised, delta=DELTA)


@contextmanager
def broken(name: str) -> Iterator[dict[str, int]]:
    """Break the private step; yields how to run it."""
    ways: dict[str, tuple[str, Any, dict[str, int]]] = {
        "no clip": ("fedart_nb.diffusion.dp_sgd.clip_factors", lambda norms, _: np.ones(len(norms)), {}),
        "half noise": (
            "fedart_nb.crypto.random_streams.SecureRandom.gaussian",
            lambda _, n: np.random.default_rng().normal(size=n) / 2,
            {},
        ),
        "everybody sampled": (
            "fedart_nb.crypto.random_streams.SecureRandom.chosen",
            lambda _, n, _rate: np.ones(n, bool),
            {"pictures": 8, "batch": 2, "steps": 4},
        ),
    }
    if name == "ledger reset":  # nothing is patched: a ledger that knows of none before lets five trainings happen
        yield {"trainings": 5}
        return
    place, instead, how = ways[name]
    with mock.patch(place, instead):
        yield how


def main() -> None:
    chosen = options(__doc__)
    warnings.filterwarnings("ignore", module="opacus")
    to_opacus, to_dp, points = differences(quick=chosen.quick)
    times = planner_ms(5 if chosen.quick else 30)
    runs = 4 if chosen.quick else 20
    honest = [audited() for _ in range(runs // 2)] + [audited(batch=1, steps=4) for _ in range(runs - runs // 2)]
    caught = {}
    for name in ("no clip", "half noise", "everybody sampled", "ledger reset"):
        with broken(name) as how:
            caught[name] = sum(not audited(**how).passed for _ in range(runs)) / runs
    how_audit = (
        f"{CANARIES:,} canaries, delta {DELTA:g}, 95 %, noise multiplier {PRIVATE.noise_multiplier:g}, {runs} runs"
    )
    lines = [
        measure(
            "privacy.epsilon_max_difference",
            to_opacus,
            "epsilon",
            baseline={"dp_accounting": to_dp},
            how=f"RDP, {points} points: rates x noise multipliers x steps 1, 50, 500 x delta 1e-3, 1e-5",
        ),
        measure(
            "privacy.planner_ms",
            round(statistics.median(times), 2),
            "ms",
            spread=(round(min(times), 2), round(max(times), 2)),
            seeds=len(times),
            how="CPU time of plan(epsilon=8) for numbers of pictures that were not solved for before; RDP",
        ),
        measure(
            "privacy.audit_honest_ok",
            sum(one.passed for one in honest),
            f"of {runs}",
            seeds=runs,
            baseline={
                "promised": round(statistics.mean(one.promised for one in honest), 3),
                "lower_bound": round(statistics.mean(one.lower_bound for one in honest), 3),
            },
            how=how_audit,
        ),
        measure(
            "privacy.audit_broken_caught", min(caught.values()), "share", seeds=runs, baseline=caught, how=how_audit
        ),
    ]
    report(__file__, lines, chosen)


if __name__ == "__main__":
    main()
