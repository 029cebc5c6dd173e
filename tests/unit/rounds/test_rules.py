"""Aggregation rules against the dense mean that each of them claims, and the pairs that are refused with a sentence."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from small_room import plan_for

from fedart_nb.errors import RoundError
from fedart_nb.federated import (
    DEFAULT_RULE,
    NOT_FROM_SUMS,
    RULES,
    SERVERS,
    RoundPlan,
    Simulation,
    aggregate,
    aggregation_error,
    pack,
    refusal,
    rule_of,
    unpack,
)
from fedart_nb.federated.strategies import server_step
from fedart_nb.federated.strategies.strategy import matrices, pairs
from fedart_nb.relay import Envelope
from fedart_nb.secagg import Identity

NAMES = ["Ada", "Ben", "Cy", "Dee"]
#: A linear layer, and a convolution, whose window counts as more inputs.
SHAPES = {"unet.to_q": ((3, 12), (9, 3)), "unet.conv": ((2, 4, 3, 3), (6, 2, 1, 1))}
EXACT_FOR_LORA = ("rolora", "fedsvd", "ffa")


def adapter(rng: np.random.Generator) -> dict[str, np.ndarray]:
    made = {}
    for module, (a, b) in SHAPES.items():
        made[f"{module}.lora_A.weight"] = rng.normal(0, 0.5, a).astype(np.float32)
        made[f"{module}.lora_B.weight"] = rng.normal(0, 0.5, b).astype(np.float32)
    return made


def trained(rule: str, number: int, shared: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """An update as a kernel makes it: what the rule leaves as it is has not changed."""
    moving = rule_of(rule).trained(number, shared)
    return {
        name: rng.normal(0, 0.1, array.shape).astype(np.float32) * np.float32(name in moving)
        for name, array in shared.items()
    }


def product_of(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {module: np.matmul(*reversed(matrices(tensors, module))) for module in pairs(tensors)}


def mean_product(shared: dict[str, np.ndarray], updates: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The dense mean: every artist's own B A, averaged."""
    products = [product_of({name: shared[name] + update[name] for name in shared}) for update in updates]
    return {module: np.mean([one[module] for one in products], axis=0) for module in products[0]}


def aggregated(
    rule: str, number: int, shared: dict[str, np.ndarray], updates: list[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    sent = [rule_of(rule).sent(number, shared, update) for update in updates]
    total = {name: np.sum([one[name] for one in sent], axis=0, dtype=np.float64) for name in sent[0]}
    return dict(aggregate(rule, shared, total, len(sent)))


@pytest.mark.parametrize(("rule", "number", "seed"), list(product(EXACT_FOR_LORA, (1, 2), range(5))))
def test_an_exact_rule_moves_the_product_to_the_dense_mean(rule: str, number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared = adapter(rng)
    updates = [trained(rule, number, shared, rng) for _ in NAMES]
    got, expected = product_of(aggregated(rule, number, shared, updates)), mean_product(shared, updates)
    for module, value in expected.items():
        np.testing.assert_allclose(got[module], value, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_plain_averaging_misses_the_dense_mean_by_the_covariance_of_the_factors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared = adapter(rng)
    updates = [trained("fedavg", 1, shared, rng) for _ in NAMES]
    got, ideal = product_of(aggregated("fedavg", 1, shared, updates)), mean_product(shared, updates)
    mean = {name: np.mean([u[name] for u in updates], axis=0) for name in shared}
    missed = moved = 0.0
    for module in ideal:
        apart = [matrices({name: u[name] - mean[name] for name in shared}, module) for u in updates]
        covariance = np.mean([b @ a for a, b in apart], axis=0)
        np.testing.assert_allclose(got[module] - ideal[module], -covariance, atol=2e-6)
        missed += np.square(covariance).sum()
        moved += np.square(ideal[module] - product_of(shared)[module]).sum()
    assert aggregation_error(shared, updates) == pytest.approx(np.sqrt(missed / moved), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_weights_count_as_the_dense_mean_counts_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared, weights = adapter(rng), rng.uniform(0.2, 1, len(NAMES))
    updates = [trained("rolora", 1, shared, rng) for _ in NAMES]
    sent = [rule_of("rolora").sent(1, shared, update) for update in updates]
    total = {
        name: sum(w * one[name].astype(np.float64) for w, one in zip(weights, sent, strict=True)) for name in sent[0]
    }
    got = product_of(dict(aggregate("rolora", shared, total, float(weights.sum()))))
    each = [product_of({name: shared[name] + update[name] for name in shared}) for update in updates]
    for module, value in got.items():
        expected = sum(w * one[module] for w, one in zip(weights / weights.sum(), each, strict=True))
        np.testing.assert_allclose(value, expected, atol=2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_dense_rule_gives_the_nearest_matrix_of_the_adapters_rank_to_the_dense_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared = adapter(rng)
    updates = [trained("dense", 1, shared, rng) for _ in NAMES]
    got, ideal = product_of(aggregated("dense", 1, shared, updates)), mean_product(shared, updates)
    for module, (a, _) in SHAPES.items():
        singular = np.linalg.svd(ideal[module], compute_uv=False)
        assert np.linalg.matrix_rank(got[module], tol=1e-4) <= a[0]
        nearest = np.sqrt(np.square(singular[a[0] :]).sum())  # Eckart and Young
        assert np.linalg.norm(got[module] - ideal[module]) == pytest.approx(nearest, abs=5e-6)


def test_the_dense_rule_is_exact_where_the_mean_has_the_adapters_rank() -> None:
    rng = np.random.default_rng(0)
    shared = adapter(rng)
    updates = [trained("ffa", 1, shared, rng) for _ in NAMES]
    got, ideal = product_of(aggregated("dense", 1, shared, updates)), mean_product(shared, updates)
    for module, value in ideal.items():
        np.testing.assert_allclose(got[module], value, atol=2e-6)


def test_fed_sb_averages_what_the_cores_do_to_the_weights_exactly() -> None:
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(3, 8)), rng.normal(size=(6, 3))
    shared = {"unet.x.lora_core.weight": rng.normal(size=(3, 3)).astype(np.float32)}
    updates = [{name: rng.normal(0, 0.1, (3, 3)).astype(np.float32) for name in shared} for _ in NAMES]
    (after,) = aggregated("fedsb", 1, shared, updates).values()
    (core,) = shared.values()
    ideal = np.mean([B @ (core + u["unet.x.lora_core.weight"]) @ A for u in updates], axis=0)
    np.testing.assert_allclose(B @ after @ A, ideal, atol=1e-5)


def test_fed_sb_refuses_an_adapter_without_a_core() -> None:
    with pytest.raises(RoundError, match="core_seed"):
        rule_of("fedsb").trained(1, adapter(np.random.default_rng(0)))


@pytest.mark.parametrize("rule", ["rolora", "ffa", "fedsvd", "dense"])
def test_a_rule_of_factors_refuses_a_core_and_names_the_rule_for_it(rule: str) -> None:
    with pytest.raises(RoundError, match="fedsb"):
        rule_of(rule).sent_like(1, {"unet.x.lora_core.weight": np.zeros((2, 2), np.float32)})


def test_fedsvd_leaves_a_with_orthonormal_rows_and_the_same_bits_each_time() -> None:
    rng = np.random.default_rng(3)
    shared = adapter(rng)
    updates = [trained("fedsvd", 1, shared, rng) for _ in NAMES]
    once, again = (aggregated("fedsvd", 1, shared, updates) for _ in range(2))
    for module in SHAPES:
        A, _ = matrices(once, module)
        np.testing.assert_allclose(A @ A.T, np.eye(len(A)), atol=1e-5)
    assert all(once[name].tobytes() == again[name].tobytes() for name in once)


@pytest.mark.parametrize(("number", "frozen"), [(1, "A"), (2, "B"), (3, "A")])
def test_rolora_leaves_one_factor_bit_for_bit(number: int, frozen: str) -> None:
    rng = np.random.default_rng(0)
    shared = adapter(rng)
    after = aggregated("rolora", number, shared, [trained("rolora", number, shared, rng) for _ in NAMES])
    unchanged = {name for name in shared if np.array_equal(shared[name], after[name])}
    assert unchanged == {name for name in shared if f".lora_{frozen}." in name}


def test_an_update_that_changes_a_frozen_factor_is_not_sent() -> None:
    shared = adapter(np.random.default_rng(0))
    with pytest.raises(RoundError, match="factors='B'"):
        rule_of("rolora").sent(1, shared, {name: np.ones_like(array) for name, array in shared.items()})


@pytest.mark.parametrize("rule", [name for name in RULES if name != "fedsb"])
def test_two_rounds_through_the_secure_sum_equal_the_rule_on_the_plain_sum(rule: str) -> None:
    rng = np.random.default_rng(1)
    shared = adapter(rng)
    room = Simulation(NAMES, shared, rule=rule, clip=4.0)
    for number in (1, 2):
        updates = {name: trained(rule, number, shared, rng) for name in NAMES}
        done = room.round(updates)
        assert done.result is not None
        plain = aggregated(rule, number, shared, list(updates.values()))
        shared = unpack(done.result.shared)
        for name, value in product_of(plain).items():
            np.testing.assert_allclose(product_of(shared)[name], value, atol=2e-6)


@pytest.mark.parametrize("rule", [name for name in RULES if name != "fedsb"])
def test_an_upload_is_as_long_as_the_rule_says(rule: str) -> None:
    rng = np.random.default_rng(1)
    shared = adapter(rng)
    room = Simulation(NAMES, shared, rule=rule)
    done = room.round({name: trained(rule, 1, shared, rng) for name in NAMES})
    words = {len(e.attachments["update"]) // 4 for e in done.log if e.kind == "update"}
    size = rule_of(rule).size(1, shared)
    assert len(words) == 1
    assert size < min(words) < size + 40  # weight, pictures, clipped, check words, signature


def test_the_default_rule_sends_b_alone_in_round_1_and_both_factors_in_every_later_one() -> None:
    shared = adapter(np.random.default_rng(0))
    sizes = {rule: [rule_of(rule).size(n, shared) for n in (1, 2, 3)] for rule in (DEFAULT_RULE, "ffa", "fedavg")}
    assert sizes[DEFAULT_RULE] == [sizes["ffa"][0], *sizes["fedavg"][1:]]


@pytest.mark.parametrize("rule", sorted(NOT_FROM_SUMS))
def test_a_rule_that_needs_single_updates_is_refused_by_the_plan_with_the_reason(rule: str) -> None:
    with pytest.raises(RoundError, match="impossible under secure aggregation: it"):
        plan_for(b"", rule=rule)


IMPOSSIBLE = [
    ({"server": "lion"}, "Unknown optimiser of the host 'lion'"),
    ({"rule": "fedsvd", "server": "momentum"}, "different factors. Take the server 'average'"),
    ({"rule": "dense", "server": "adam"}, "different factors"),
    ({"weighting": "loss"}, "expected q above 0 exactly"),
    ({"q": 1.0}, "expected q above 0 exactly"),
    ({"q": 6.0, "weighting": "loss"}, "q is 6.0; expected a number from 0 to 5"),
    ({"server_rate": 0}, "server_rate is 0"),
    ({"bits": 8}, "expected 32 or 16"),
    ({"schedule": "linear"}, "known are constant, cosine"),
]
NOISE = {"protection": "artist", "noise_multiplier": 1.0, "clip_norm": 0.1, "delta": 1e-3}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *IMPOSSIBLE,
        ({"rule": "rolora", **NOISE}, "does not go with noise on whole artists: its rounds send"),
        ({"rule": "bfirst", **NOISE}, "does not go with noise on whole artists: its rounds send"),
        ({"rule": "dense", **NOISE}, "does not go with noise on whole artists: it sends"),
        ({"weighting": "loss", "q": 1.0, **NOISE}, "no noise covers"),
        ({"bits": 16, **NOISE}, "32 with noise on whole artists"),
        ({"weighting": "pictures", **NOISE}, "no noise covers"),
    ],
)
def test_an_impossible_pair_is_refused_by_the_plan_with_a_sentence(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(RoundError, match=sentence):
        plan_for(b"", **change)


def test_every_other_pair_of_rule_and_optimiser_makes_a_plan() -> None:
    for rule, server in product(RULES, SERVERS):
        if not refusal(rule, server=server):
            assert plan_for(b"", rule=rule, server=server).rule == rule
        else:
            assert server != "average"


def test_weights_by_loss_are_refused_beside_noise_on_pictures() -> None:
    assert "no noise covers" in refusal("rolora", weighting="loss", noise="picture")
    assert refusal("rolora", noise="picture") == ""


def test_weights_by_loss_lean_towards_whom_the_shared_adapter_serves_worst() -> None:
    shared = {"x": np.zeros(4, np.float32)}
    losses = dict(zip(NAMES, (0.2, 0.4, 0.8, 1.6), strict=True))
    updates = {name: {"x": np.full(4, i / 10, np.float32)} for i, name in enumerate(NAMES)}
    told = {name: {"loss_before": loss} for name, loss in losses.items()}
    means = []
    for q in (0.0, 1.0, 5.0):
        room = Simulation(NAMES, shared, rule="fedavg", **({"weighting": "loss", "q": q} if q else {}))
        done = room.round(updates, metrics=told)
        assert done.result is not None
        means.append(float(unpack(done.result.shared)["x"][0]))
        weights = np.array(list(losses.values())) ** q
        assert means[-1] == pytest.approx(float(weights @ (np.arange(4) / 10) / weights.sum()), abs=1e-4)
    assert means == sorted(means)


def test_an_artist_whose_plan_weighs_by_loss_must_say_its_loss() -> None:
    room = Simulation(NAMES, {"x": np.zeros(4, np.float32)}, rule="fedavg", weighting="loss", q=1.0)
    done = room.round({name: {"x": np.ones(4, np.float32)} for name in NAMES})
    assert done.result is None
    assert "loss_before" in done.noticed[0][1]


def test_momentum_goes_on_in_the_direction_of_the_rounds_before() -> None:
    room = Simulation(NAMES, {"x": np.zeros(3, np.float32)}, rule="fedavg", server="momentum")
    update = {name: {"x": np.full(3, 0.1, np.float32)} for name in NAMES}
    steps, last = [], 0.0
    for _ in range(3):
        done = room.round(update)
        assert done.result is not None
        now = float(unpack(done.result.shared)["x"][0])
        steps, last = [*steps, now - last], now
    assert steps == pytest.approx([0.1, 0.19, 0.271], abs=1e-4)


def test_adam_takes_steps_of_one_size_for_updates_of_any() -> None:
    mean = {"x": np.array([0.1, 1.0, -1.0])}
    steps, state = server_step("adam", mean, b"", rate=0.01)
    first = steps["x"]
    np.testing.assert_allclose(np.abs(first), 0.01, rtol=0.1)
    assert np.sign(first).tolist() == [1, 1, -1]
    again, _ = server_step("adam", {"x": -mean["x"]}, state, rate=0.01)
    assert (np.abs(again["x"]) < np.abs(first)).all(), "what turns around is slowed down"


@pytest.mark.parametrize("server", ["momentum", "adam"])
def test_moments_that_were_stored_go_on_bit_for_bit(server: str) -> None:
    rng = np.random.default_rng(0)
    rounds = [{"x": rng.normal(size=5)} for _ in range(4)]
    state, steps = b"", []
    for mean in rounds:
        step, state = server_step(server, mean, bytes(bytearray(state)), rate=0.5)
        steps.append(step["x"])
    other, kept = b"", []
    for mean in rounds:
        step, other = server_step(server, mean, other, rate=0.5)
        kept.append(step["x"])
    assert [a.tobytes() for a in steps] == [b.tobytes() for b in kept]
    assert state == other


def test_a_host_that_changes_what_its_rule_leaves_as_it_is_is_not_followed() -> None:
    def swapped(envelope: Envelope, _name: str, _host: Identity) -> Envelope:
        if envelope.kind != "result":
            return envelope
        data = envelope.attachments["shared"]
        tensors = {name: array + 1 if ".lora_A." in name else array for name, array in unpack(data).items()}
        return replace(envelope, attachments={"shared": pack(tensors)}, attachment_refs=())

    shared = adapter(np.random.default_rng(0))
    room = Simulation(NAMES, shared, rule="rolora")
    rng = np.random.default_rng(1)
    updates = {name: trained("rolora", 1, shared, rng) for name in NAMES}

    done = room.round(updates, tamper=swapped)
    assert len(done.noticed) == len(NAMES)
    assert "which the rule 'rolora' leaves as it is in round 1" in done.noticed[0][1]


def test_a_plan_of_the_first_version_is_read_and_keeps_its_digest() -> None:
    plan = plan_for(b"x")
    body = plan.to_body()
    assert not {"q", "server", "server_rate", "bits", "schedule"} & body.keys()
    assert RoundPlan.from_body(body) == plan
    other = plan_for(b"x", server="momentum", weighting="loss", q=2.0)
    assert RoundPlan.from_body(other.to_body()) == other
    assert other.digest != plan.digest


def test_updates_of_half_words_take_half_the_bytes_and_give_the_mean_to_their_rounding() -> None:
    rng = np.random.default_rng(1)
    shared = {"x": np.zeros(3001, np.float32)}
    updates = {name: {"x": rng.normal(0, 0.02, 3001).astype(np.float32)} for name in NAMES}
    sizes, results = [], []
    for bits in (32, 16):
        room = Simulation(NAMES, shared, rule="fedavg", bits=bits, clip=0.1)
        done = room.round(updates)
        assert done.result is not None
        sizes.append(max(len(e.attachments["update"]) for e in done.log if e.kind == "update"))
        results.append(unpack(done.result.shared)["x"])
    assert sizes[1] < 0.52 * sizes[0]
    step = 2 * 0.1 / (65535 // len(NAMES))
    assert 0 < np.abs(results[0] - results[1]).max() <= step / 2 * 1.001


def test_the_learning_rate_falls_over_the_rounds_to_a_tenth_where_the_plan_says_so() -> None:
    rates = [plan_for(b"", number=n, total=10, learning_rate=0.02, schedule="cosine").round_rate for n in range(1, 11)]
    assert rates[0] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)
    assert 0.002 < rates[-1] < 0.003
    assert plan_for(b"", number=9, total=10, learning_rate=0.02).round_rate == 0.02
