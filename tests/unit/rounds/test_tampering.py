"""Adapters and backbones that were built to single out or to read are noticed; honest ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from fedart_nb.diffusion import Backbone, initial_adapter
from fedart_nb.federated.simulation import Simulation
from fedart_nb.federated.tampering import parallel_rows, suspicions

RNG = np.random.default_rng(0)
A, B = "unet.x.lora_A.weight", "unet.x.lora_B.weight"


def adapter(a: np.ndarray) -> dict[str, np.ndarray]:
    return {A: a.astype(np.float32), B: np.zeros((6, len(a)), np.float32)}


def test_zeros_and_parallel_rows_are_named():
    assert "is zero" in suspicions(adapter(np.zeros((4, 9))))[0]
    assert "same way" in suspicions(adapter(np.outer([1, -2, 3, 4], RNG.normal(size=9))))[0]
    assert suspicions(adapter(RNG.normal(size=(4, 9)))) == ()
    assert suspicions(adapter(RNG.normal(size=(1, 9)))) == ()  # rank 1 has one row, and nothing to be parallel to


def test_a_style_token_in_a_rooms_adapter_is_named():
    told = adapter(RNG.normal(size=(4, 9))) | {"style.lora_token": RNG.normal(size=(2, 8)).astype(np.float32)}
    assert "style token" in suspicions(told)[0]


def test_a_planted_layer_is_found_among_honest_rows():
    rows = RNG.normal(size=(64, 30))
    assert suspicions({"unet.conv.weight": rows}) == ()
    rows[10:60] = np.outer(RNG.uniform(0.5, 2, 50), rows[0])
    assert parallel_rows(rows) == pytest.approx(51 / 64)
    assert "51 of 64 rows" in suspicions({"unet.conv.weight": rows})[0]


def test_the_packages_own_backbone_and_adapter_are_above_suspicion():
    backbone = Backbone.embedded(device="cpu")
    state = {f"unet.{name}": value.numpy() for name, value in backbone.denoiser.state_dict().items()}
    assert suspicions(state) == ()
    assert suspicions({f"unet.{n}": v for n, v in initial_adapter(backbone, seed=1).tensors.items()}) == ()


@pytest.mark.parametrize("rows", [np.zeros((4, 9)), np.ones((4, 9))], ids=["zeros", "parallel"])
def test_artists_refuse_such_an_adapter_in_the_first_round(rows: np.ndarray):
    room = Simulation(["Ada", "Ben", "Cy"], adapter(rows))
    done = room.round({name: adapter(rows) for name in room.names})
    assert done.result is None
    assert {name for name, _ in done.noticed} == {"Ada", "Ben", "Cy"}
    assert all("nothing was trained" in sentence for _, sentence in done.noticed)


@pytest.mark.parametrize(("rank", "same"), [(4, 3), (4, 2), (8, 3), (16, 2)])
def test_some_parallel_rows_among_honest_ones_are_found_too(rank: int, same: int):
    rows = RNG.normal(size=(rank, 36))
    assert suspicions(adapter(rows)) == ()
    rows[1 : 1 + same] = np.outer(RNG.uniform(0.5, 2, same) * (-1) ** np.arange(same), RNG.normal(size=36))
    assert f"{same} of them point the same way" in suspicions(adapter(rows))[0]


def test_two_short_rows_or_two_trained_ones_may_be_parallel():
    short = adapter(np.outer([1, 2], RNG.normal(size=4)))
    assert suspicions(short) == ()
    trained = adapter(np.vstack([np.outer([1, 2], RNG.normal(size=36)), RNG.normal(size=(2, 36))]))
    assert suspicions(trained | {B: RNG.normal(size=(6, 4)).astype(np.float32)}) == ()
