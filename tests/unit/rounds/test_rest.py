"""The rest of the world: one's own share taken out of sums, over several rounds, and when that cannot be done."""

from __future__ import annotations

import numpy as np
import pytest
from small_room import plan_for

from fedart_nb.errors import RoundError
from fedart_nb.federated import RULES, Simulation, rule_of, unpack
from fedart_nb.federated.leave_one_out import Followed, taken_out, taken_out_after, why_inseparable, without_own

NAMES = ["Ada", "Ben", "Cy", "Dee"]


def tensors(rng: np.random.Generator, size: float = 0.1) -> dict[str, np.ndarray]:
    return {f"unet.x.lora_{f}.weight": rng.normal(0, size, (3, 3)).astype(np.float32) for f in "AB"}


def flat(sent: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([sent[name].reshape(-1) for name in sorted(sent)])


@pytest.mark.parametrize("rule", ["rolora", "ffa", "fedavg"])
def test_over_three_rounds_what_is_left_is_the_others_mean(rule: str) -> None:
    rng = np.random.default_rng(0)
    shared = tensors(rng)
    room = Simulation(NAMES, shared, rule=rule)
    kept, expected = b"", dict(shared)
    for number in (1, 2, 3):
        moving = rule_of(rule).trained(number, shared)
        updates = {n: {k: v * np.float32(k in moving) for k, v in tensors(rng).items()} for n in NAMES}
        plan, before = room.plan, unpack(room.shared)
        done = room.round(updates)
        assert done.result is not None
        moved = rule_of(rule).moved(number, before, unpack(room.shared))
        own = flat(dict(rule_of(rule).sent(number, before, updates["Ada"])))
        kept = taken_out_after(kept, f"after {number - 1}", f"after {number}", Followed(plan, own, moved, len(NAMES)))
        for name in moving:
            expected[name] = expected[name] + np.mean([updates[other][name] for other in NAMES[1:]], axis=0)
    change = taken_out(kept, "after 3")
    for name, value in unpack(room.shared).items():
        np.testing.assert_allclose(value + change.get(name, 0), expected[name], atol=1e-6)


def test_a_round_that_the_artist_skipped_takes_nothing_out() -> None:
    kept = taken_out_after(b"", "", "one", None)
    assert dict(taken_out(kept, "one")) == {}


def test_a_round_that_was_not_followed_spoils_it_for_good_and_says_so() -> None:
    kept = taken_out_after(b"", "", "one", None, why_not="this kernel was restarted in round 1")
    kept = taken_out_after(kept, "one", "two", None)
    with pytest.raises(RoundError, match="restarted in round 1"):
        taken_out(kept, "two")


def test_a_shared_adapter_that_it_was_not_kept_for_is_refused() -> None:
    with pytest.raises(RoundError, match="no round has ended"):
        taken_out(taken_out_after(b"", "", "one", None), "another")


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rules_that_make_new_factors_or_cores_are_said_to_be_inseparable(rule: str) -> None:
    assert bool(why_inseparable(plan_for(b"", rule=rule))) == (rule in ("dense", "fedsvd", "fedsb"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"weighting": "pictures"}, "do not weigh the same"),
        ({"server": "momentum"}, "mixes the sums"),
        ({"protection": "artist", "noise_multiplier": 1.0, "clip_norm": 0.1, "delta": 1e-3}, "noise that you do not"),
    ],
)
def test_plans_whose_sums_cannot_be_taken_apart_say_why(change: dict[str, object], sentence: str) -> None:
    followed = Followed(plan_for(b"", **change), np.zeros(1, np.float32), {"x": np.zeros(1, np.float32)}, 3)
    with pytest.raises(RoundError, match=sentence):
        without_own(followed)


def test_alone_in_a_sum_nobody_is_left() -> None:
    with pytest.raises(RoundError, match="nobody is left"):
        without_own(Followed(plan_for(b""), np.zeros(1, np.float32), {"x": np.zeros(1, np.float32)}, 1))
