"""Numbers out of numpy and torch are taken, single texts are one text, and what is no number is refused by name."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedart_nb._system.arguments import number, plain, texts, whole, whole_numbers
from fedart_nb.diffusion import AdapterConfig, PicturePrivacy, PrivateTraining, TrainConfig
from fedart_nb.errors import AdapterError, FedArtError, PrivacyError, RoundError, TrainingError
from fedart_nb.federated import RoundPlan
from fedart_nb.privacy import Budget, Gaussian, plan
from fedart_nb.privacy.client_level import ArtistPrivacy

NUMPY: dict[type, dict[str, Any]] = {
    TrainConfig: {
        "steps": np.int64(3),
        "batch": np.int32(2),
        "learning_rate": np.float32(0.5),
        "warmup": np.int8(1),
        "caption_dropout": np.float32(0.1),
        "max_grad_norm": np.float64(2),
        "seed": np.random.default_rng(0).integers(99),
        "eight_bit": np.bool_(False),
        "timestep_shift": torch.tensor(3.0),
        "style_tokens": np.array(2),
    },
    AdapterConfig: {"rank": np.int64(4), "alpha": np.float32(4), "core_seed": np.int64(7)},
    PicturePrivacy: {"epsilon": np.float32(8), "delta": np.float64(1e-3), "draws": np.int64(2)},
    PrivateTraining: {"noise_multiplier": np.float32(1), "clip_norm": np.float32(0.5), "draws": np.int64(2)},
    ArtistPrivacy: {"epsilon": np.float64(3), "colluders": np.int64(2), "noise_multiplier": np.float32(0)},
    Budget: {"epsilon": np.float32(8), "delta": np.float32(1e-3)},
    Gaussian: {"noise_multiplier": np.float32(1), "sample_rate": np.float32(0.5), "steps": np.int64(5)},
}
PLAN: dict[str, Any] = {
    "room": "studio",
    "number": np.int64(1),
    "total": np.int32(3),
    "backbone_sha256": "b" * 64,
    "shared_sha256": "c" * 64,
    "host_key": "d" * 64,
    "learning_rate": np.float32(0.5),
    "clip": np.float64(1),
    "bits": np.int64(32),
}


@pytest.mark.parametrize("kind", NUMPY)
def test_numpy_numbers_in_settings_are_plain_numbers_that_json_can_hold(kind: type) -> None:
    made = kind(**NUMPY[kind])
    for field in fields(made):
        assert type(getattr(made, field.name)) in (int, float, bool, str, tuple, type(None)), field.name
    assert json.loads(json.dumps(asdict(made)))


def test_numpy_numbers_in_a_plan_give_the_same_digest() -> None:
    plain_ones = {name: value if isinstance(value, str) else value.item() for name, value in PLAN.items()}
    assert RoundPlan(**PLAN).digest == RoundPlan(**plain_ones).digest


def test_numpy_numbers_solve_for_noise() -> None:
    known: dict[str, Any] = {"pictures": np.int64(50), "batch": np.int64(8), "steps": np.int64(15)}
    assert plan(**known, parameters=np.int64(70_000), epsilon=np.float32(8)).noise_multiplier > 0  # type: ignore[arg-type]


BAD = [True, "3", None, float("nan"), float("inf"), -1, [1], np.nan, np.array([1, 2]), 10**12]


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("name", ["steps", "batch", "learning_rate", "timestep_shift", "emphasis", "warmup"])
def test_what_is_no_number_is_refused_by_name_before_training(name: str, value: Any) -> None:
    with pytest.raises(TrainingError, match=name):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", True])
def test_a_longest_gradient_that_is_none_is_refused_with_the_way_out(value: Any) -> None:
    with pytest.raises(TrainingError, match=r"max_grad_norm .* None to clip nothing"):
        TrainConfig(max_grad_norm=value)
    assert TrainConfig(max_grad_norm=None).max_grad_norm is None
    assert TrainConfig(max_grad_norm=float("inf")).max_grad_norm == float("inf")


@pytest.mark.parametrize("value", [True, float("nan"), "8", -1, 0, float("inf")])
def test_budgets_and_noise_that_are_none_are_refused(value: Any) -> None:
    for make in (PicturePrivacy, ArtistPrivacy):
        with pytest.raises(PrivacyError, match="epsilon"):
            make(epsilon=value)
    with pytest.raises(PrivacyError, match="clip_norm"):
        PrivateTraining(1.0, clip_norm=value)
    with pytest.raises(PrivacyError, match="delta"):
        PicturePrivacy(delta=value)


@pytest.mark.parametrize("name", ["number", "total", "learning_rate", "clip", "patience_s", "rank", "alpha"])
@pytest.mark.parametrize("value", [True, float("nan"), "1", None, -1, float("inf")])
def test_a_plan_s_numbers_are_numbers(name: str, value: Any) -> None:
    with pytest.raises(RoundError, match=name):
        RoundPlan(**{**PLAN, name: value})


def test_a_delta_that_allows_giving_a_picture_away_is_refused_with_one_that_suits() -> None:
    for delta, pictures in ((0.5, 6), (1 / 6, 6), (0.9, 2)):
        with pytest.raises(PrivacyError, match=r"delta .* too large .* giving one of them away"):
            PicturePrivacy(delta=delta).budget(pictures)
    assert PicturePrivacy(delta=0.1).budget(6).delta == 0.1
    assert PicturePrivacy().budget(2).delta < 1 / 2


def test_a_delta_that_allows_giving_an_artist_away_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="giving one of them away"):
        ArtistPrivacy(delta=0.4).open_ledger(tmp_path, tmp_path / "home", artist="a" * 32, room="studio", delta=1e-3)
    noised = {**PLAN, "protection": "artist", "noise_multiplier": 1.0, "clip_norm": 0.1, "min_artists": 20}
    with pytest.raises(RoundError, match="giving one of them away"):
        RoundPlan(**noised, delta=0.05)
    assert RoundPlan(**noised, delta=0.01).delta == 0.01


def test_whole_numbers_and_numbers_say_what_was_expected() -> None:
    assert whole("rank", 16 / 4, 1, 128, AdapterError) == 4
    with pytest.raises(AdapterError, match=r"rank is 4\.5; expected a whole number from 1 to 128\. Four\."):
        whole("rank", 4.5, 1, 128, AdapterError, hint="Four.")
    with pytest.raises(FedArtError, match="above 0 and up to 1"):
        number("rate", 0, 0, 1, FedArtError, above=True)
    with pytest.raises(FedArtError, match="expected a number") as caught:
        number("rate", "x" * 1000, 0, 1, FedArtError)
    assert len(str(caught.value)) < 200
    assert plain([1]) == [1]


def test_one_text_is_one_text_and_others_are_refused() -> None:
    assert texts("prompts", "a red fox", FedArtError) == ("a red fox",)
    assert texts("prompts", (word for word in ("a", "b")), FedArtError) == ("a", "b")
    assert texts("prompts", np.array(["a", "b"]), FedArtError) == ("a", "b")
    for wrong in (7, None, b"cat", [1], {"a": 1}, [b"cat"]):
        with pytest.raises(FedArtError, match="prompts"):
            texts("prompts", wrong, FedArtError)


def test_one_seed_is_one_seed_and_others_are_refused() -> None:
    assert whole_numbers("seeds", np.int64(7), 0, 100, FedArtError) == (7,)
    assert whole_numbers("seeds", range(3), 0, 100, FedArtError) == (0, 1, 2)
    for wrong in ("12", [True], [1.5], [10**30], None):
        with pytest.raises(FedArtError, match="seeds"):
            whole_numbers("seeds", wrong, 0, 100, FedArtError)
