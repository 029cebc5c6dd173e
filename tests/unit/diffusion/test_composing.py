"""Several adapters as one file, and what keeps a personal one apart from the shared one below it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedart_nb.diffusion import (
    Adapter,
    AdapterConfig,
    Backbone,
    LatentSet,
    PrivateTraining,
    TrainConfig,
    attached,
    compose,
    initial_adapter,
    overlap,
    train,
)
from fedart_nb.errors import AdapterError, PrivacyError, TrainingError

QUICK = TrainConfig(steps=12, batch=3, learning_rate=1e-2, validate_every=0, seed=1)


def filled(backbone: Backbone, seed: int, **config: object) -> Adapter:
    """An adapter whose B is not zero."""
    rng = np.random.default_rng(seed)
    fresh = initial_adapter(backbone, AdapterConfig(**config), seed=seed)  # type: ignore[arg-type]
    made = {n: rng.normal(0, 0.1, a.shape).astype(np.float32) if "_B" in n else a for n, a in fresh.tensors.items()}
    return replace(fresh, tensors=made)


def predicted(backbone: Backbone, data: LatentSet, adapters: list[tuple[Adapter, float]]) -> torch.Tensor:
    with attached(backbone, adapters), torch.no_grad():
        return backbone.predict(data.latents, torch.full((len(data),), 0.4), data.embeddings)


@pytest.fixture
def two(backbone: Backbone) -> list[tuple[Adapter, float]]:
    return [(filled(backbone, 1), 0.7), (filled(backbone, 2, rank=2, alpha=3.0), 1.2)]


def test_cat_predicts_what_the_adapters_predict_together(
    backbone: Backbone, data: LatentSet, two: list[tuple[Adapter, float]]
) -> None:
    one = compose(two)
    assert one.config.rank == 6
    expected = predicted(backbone, data, two)
    torch.testing.assert_close(predicted(backbone, data, [(one, 1.0)]), expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(expected, predicted(backbone, data, two[:1]), atol=1e-3)


def test_svd_of_full_rank_is_exact_and_of_a_smaller_one_the_nearest(two: list[tuple[Adapter, float]]) -> None:
    whole, exact, cut = compose(two), compose(two, "svd", rank=6), compose(two, "svd", rank=3)
    for name in (n for n in whole.tensors if ".lora_A." in n):
        product, same, near = (_product(one, name) for one in (whole, exact, cut))
        np.testing.assert_allclose(same, product, atol=1e-5)
        lost = np.sqrt(np.square(np.linalg.svd(product, compute_uv=False)[3:]).sum())
        assert np.linalg.norm(near - product) == pytest.approx(lost, abs=1e-4)


def _product(adapter: Adapter, name: str) -> np.ndarray:
    A, B = adapter.tensors[name], adapter.tensors[name.replace("_A", "_B")]
    return B.reshape(len(B), -1) @ A.reshape(len(A), -1) * (adapter.config.alpha / adapter.config.rank)


def test_a_composed_adapter_is_read_back_from_its_file(two: list[tuple[Adapter, float]], tmp_path: object) -> None:
    one = compose(two)
    assert Adapter.from_bytes(one.to_bytes()).digest == one.digest


def test_a_core_is_composed_as_the_ordinary_adapter_that_it_is(backbone: Backbone, data: LatentSet) -> None:
    core = initial_adapter(backbone, AdapterConfig(rank=2, alpha=2.0, core_seed=3))
    core = replace(core, tensors={n: np.full_like(a, 0.05) for n, a in core.tensors.items()})
    both = [(core, 1.0), (filled(backbone, 4), 0.5)]
    torch.testing.assert_close(
        predicted(backbone, data, [(compose(both), 1.0)]), predicted(backbone, data, both), atol=1e-5, rtol=1e-4
    )


def test_adding_factors_to_factors_is_refused_with_the_reason(two: list[tuple[Adapter, float]]) -> None:
    with pytest.raises(AdapterError, match="cross terms that nobody trained"):
        compose(two, "linear")  # type: ignore[arg-type]


def test_adapters_of_two_backbones_are_not_composed(two: list[tuple[Adapter, float]]) -> None:
    strange = replace(two[1][0], backbone_sha256="f" * 64)
    with pytest.raises(AdapterError, match="ffffffffffff"):
        compose([two[0], (strange, 1.0)])


def test_nothing_to_compose_is_said() -> None:
    with pytest.raises(AdapterError, match="no adapter"):
        compose([])


def test_overlap_is_one_with_itself_and_nothing_with_what_is_orthogonal(backbone: Backbone) -> None:
    shared = filled(backbone, 1)
    assert overlap(shared, shared) == pytest.approx(1)
    apart = {}
    for name, array in shared.tensors.items():
        if ".lora_B." in name:
            flat = array.reshape(len(array), -1)
            U, *_ = np.linalg.svd(flat)
            apart[name] = U[:, flat.shape[1] : 2 * flat.shape[1]].reshape(-1, *array.shape[1:]).astype(np.float32)
    orthogonal = {n: apart[n] if n in apart and apart[n].shape == a.shape else a * 0 for n, a in shared.tensors.items()}
    assert any(array.any() for array in orthogonal.values())
    assert overlap(shared, replace(shared, tensors=orthogonal)) == pytest.approx(0, abs=1e-6)


def test_a_personal_adapter_that_is_kept_apart_overlaps_less_and_its_loss_is_told_without_the_penalty(
    backbone: Backbone, data: LatentSet
) -> None:
    shared, start = filled(backbone, 1), initial_adapter(backbone, seed=5)
    told, overlaps = [], []
    for apart in (0.0, 20.0):
        *steps, last = train(backbone, data, config=replace(QUICK, apart=apart), start=start, frozen=[(shared, 1.0)])
        told.append(steps[0].loss)
        overlaps.append(overlap(shared, last.adapter))
    assert overlaps[1] < overlaps[0] / 2
    assert told[0] == pytest.approx(told[1], rel=1e-5)


def test_keeping_apart_is_refused_beside_noise(backbone: Backbone, data: LatentSet) -> None:
    with pytest.raises(PrivacyError, match="Leave apart at 0"):
        next(train(backbone, data, config=TrainConfig(steps=1, apart=1.0), private=PrivateTraining(1.0)))


def test_a_negative_apart_is_refused() -> None:
    with pytest.raises(TrainingError, match="apart is -1"):
        TrainConfig(apart=-1)


def test_ranks_that_add_up_to_too_much_name_the_way_out(backbone: Backbone) -> None:
    two = [(initial_adapter(backbone, AdapterConfig(rank=r, alpha=float(r))), 1.0) for r in (64, 128)]
    with pytest.raises(AdapterError, match=r"add up to 192.*how='svd'"):
        compose(two)
    assert compose(two, "svd").config.rank == 128


@pytest.mark.parametrize("rank", [0, 129, 2.5, True, "4"])
def test_a_rank_that_none_may_have_is_refused(backbone: Backbone, rank: object) -> None:
    with pytest.raises(AdapterError, match="rank"):
        compose([(initial_adapter(backbone), 1.0)], "svd", rank=rank)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), True, "1", None])
def test_a_weight_that_is_no_number_is_refused(backbone: Backbone, weight: object) -> None:
    with pytest.raises(AdapterError, match="weight"):
        compose([(initial_adapter(backbone), weight)])  # type: ignore[list-item]
