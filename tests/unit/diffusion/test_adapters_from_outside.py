"""Adapters out of files and messages: no pattern is taken from them, and what does not fit is refused in words."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedart_nb.diffusion import Adapter, AdapterConfig, Backbone, attached, check_fits, initial_adapter
from fedart_nb.errors import AdapterError
from fedart_nb.federated import metadata_of, pack, unpack

#: Matching it against a module's name takes longer than anybody lives.
ENDLESS = r"((\w|\.)+)+!"


def changed(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The same adapter with something else in what it says of itself."""
    about = metadata_of(data)
    ours = json.loads(about["fedart"])
    change(ours)
    return pack(unpack(data), {**about, "fedart": json.dumps(ours)})


def within(seconds: float, action: Callable[[], Any]) -> bool:
    """Whether something ends in time; what holds the interpreter's lock for ever would hang the test as well."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()


def test_a_pattern_in_a_file_is_never_used(backbone: Backbone) -> None:
    start = initial_adapter(backbone, AdapterConfig(targets=r".*attn2\.to_q"))
    data = changed(start.to_bytes(), lambda ours: ours["config"].update(targets=ENDLESS))
    read = Adapter.from_bytes(data)
    assert ENDLESS not in read.config.targets

    def use() -> None:
        with attached(backbone, [(read, 1.0)]):
            pass
        initial_adapter(backbone, read.config)

    assert within(60, use)
    assert initial_adapter(backbone, read.config).tensors.keys() == start.tensors.keys()


@pytest.mark.parametrize("targets", ["(", "[" * 5000, 7, None, ["a"], "x" * 10**6])
def test_what_a_file_says_of_targets_changes_nothing(backbone: Backbone, targets: Any) -> None:
    start = initial_adapter(backbone)
    data = changed(start.to_bytes(), lambda ours: ours["config"].update(targets=targets))
    with attached(backbone, [(Adapter.from_bytes(data), 1.0)]) as names:
        assert len(names) == 1


def test_an_adapter_acts_on_the_modules_that_its_tensors_name(backbone: Backbone) -> None:
    whole = initial_adapter(backbone)
    kept = {name: value for name, value in whole.tensors.items() if ".attn1.to_q." in name}
    with attached(backbone, [(replace(whole, tensors=kept), 1.0)]) as (name,):
        put = {key.split(".lora_")[0] for key, _ in backbone.denoiser.named_parameters() if f".{name}." in key}
    assert put == {key.split(".lora_")[0] for key in kept}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda ours: ours["config"].update(rank=4.5), "rank is 4.5"),
        (lambda ours: ours["config"].update(rank=True), "rank is True"),
        (lambda ours: ours["config"].update(rank=10**30), "rank is 1000"),
        (lambda ours: ours["config"].update(alpha="4"), "alpha is '4'"),
        (lambda ours: ours["config"].update(alpha=-1), "alpha is -1"),
        (lambda ours: ours["config"].update(strange=1), "damaged"),
        (lambda ours: ours.update(config=[1]), "damaged"),
        (lambda ours: ours.update(config=7), "damaged"),
        (lambda ours: ours.pop("config"), "damaged"),
        (lambda ours: ours.update(backbone_sha256=["x"]), "damaged"),
        (lambda ours: ours.update(core=7), "damaged"),
        (
            lambda ours: ours.update(core={"seed": 1, "rank": 4, "shapes": {"x": [2**62, 2]}, "factors_sha256": ""}),
            "out",
        ),
        (lambda ours: ours.update(core={"seed": 1, "rank": 4, "shapes": {"x": [-2, 2]}, "factors_sha256": ""}), "out"),
        (
            lambda ours: ours.update(
                core={"seed": 1, "rank": 128, "shapes": {f"x{i}": [2**20, 9] for i in range(9)}, "factors_sha256": ""}
            ),
            "at most",
        ),
    ],
)
def test_what_an_adapter_says_of_itself_is_checked(
    backbone: Backbone, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    data = changed(initial_adapter(backbone).to_bytes(), change)
    with pytest.raises(AdapterError, match=sentence):
        Adapter.from_bytes(data)


def test_words_about_itself_that_are_nested_without_end_are_refused(backbone: Backbone) -> None:
    data = initial_adapter(backbone).to_bytes()
    with pytest.raises(AdapterError, match="nested deeper"):
        Adapter.from_bytes(pack(unpack(data), {"fedart": "[" * 100_000}))


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("{module}.lora_A.weight", (), "two to five dimensions"),
        ("{module}.lora_A.weight", (4,), "two to five dimensions"),
        ("{module}.lora_A.weight", (3, 8), "of rank 3"),
        ("{module}.lora_C.weight", (4, 8), "expected lora_A and lora_B"),
        ("{module}\x1b[2J.lora_A.weight", (4, 8), "Unexpected tensor"),
        ("{module}.alien.lora_A.weight", (4, 8), "lora_B.weight"),
    ],
)
def test_tensors_that_are_no_factors_are_refused(
    backbone: Backbone, name: str, shape: tuple[int, ...], sentence: str
) -> None:
    whole = initial_adapter(backbone)
    data = whole.to_bytes()
    module = "unet." + next(iter(whole.tensors)).split(".lora_")[0]
    tensors = {**unpack(data), name.format(module=module): np.zeros(shape, np.float32)}
    with pytest.raises(AdapterError, match=sentence):
        Adapter.from_bytes(pack(tensors, metadata_of(data)))


def test_an_adapter_whose_shapes_do_not_fit_is_refused_before_it_is_attached(backbone: Backbone) -> None:
    whole = initial_adapter(backbone)
    name = next(name for name in whole.tensors if name.endswith("to_q.lora_A.weight"))
    wide = replace(whole, tensors={**whole.tensors, name: np.zeros((4, 999), np.float32)})
    for check in (lambda: check_fits(backbone, wide), lambda: attached(backbone, [(wide, 1.0)]).__enter__()):
        with pytest.raises(AdapterError, match="this backbone needs"):
            check()
    gone = {key.replace("to_q", "to_nowhere"): value for key, value in whole.tensors.items()}
    with pytest.raises(AdapterError, match="has no such module"):
        check_fits(backbone, replace(whole, tensors=gone))
    with pytest.raises(AdapterError, match="'transformer'"):
        check_fits(backbone, replace(whole, part="transformer"))


OTHERS = {
    "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": "kohya's spelling",
    "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": "text encoder",
    "unet.mid_block.attentions.0.proj_in.lora_A.weight": "of diffusers",
    "unet.mid_block.attentions.0.proj_in.lora.down.weight": "early diffusers",
    "base_model.model.mid_block.proj_in.lora_A.weight": "of PEFT",
    "unet.mid_block.proj_in.lora_magnitude_vector": "DoRA",
    "lora_unet_mid_block_proj_in.hada_w1_a": "LoHa",
    "lora_unet_mid_block_proj_in.lokr_w1": "LoKr",
    "emb_params": "textual inversion",
    "model.diffusion_model.input_blocks.0.0.weight": "another kind",
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_file_of_another_tool_is_named_with_what_is_in_it(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({name: torch.zeros(4, 8, dtype=dtype)}, tmp_path / "other.safetensors")
    with pytest.raises(AdapterError) as caught:
        Adapter.load(tmp_path / "other.safetensors")
    told = str(caught.value)
    assert OTHERS[name] in told
    assert name in told
    assert "Error" not in told


def test_an_adapter_in_half_numbers_is_read(backbone: Backbone, tmp_path: Path) -> None:
    whole = initial_adapter(backbone)
    named = {f"unet.{name}": torch.from_numpy(value).bfloat16() for name, value in whole.tensors.items()}
    about = json.dumps({"config": asdict(whole.config), "backbone_sha256": whole.backbone_sha256})
    save_file(named, tmp_path / "half.safetensors", metadata={"fedart": about})
    read = Adapter.load(tmp_path / "half.safetensors")
    for name, value in whole.tensors.items():
        np.testing.assert_allclose(read.tensors[name], value, rtol=2**-7)


def test_numpy_numbers_shape_an_adapter_and_others_are_refused(backbone: Backbone) -> None:
    config = AdapterConfig(rank=np.int64(2), alpha=np.float32(4))
    assert (type(config.rank), type(config.alpha)) == (int, float)
    assert AdapterConfig(rank=16 / 4).rank == 4  # type: ignore[arg-type]
    assert Adapter.from_bytes(initial_adapter(backbone, config).to_bytes()).config.rank == 2
    for wrong in (
        {"rank": True},
        {"rank": 2.5},
        {"rank": "4"},
        {"alpha": float("nan")},
        {"alpha": np.inf},
        {"alpha": 0},
    ):
        with pytest.raises(AdapterError, match=next(iter(wrong))):
            AdapterConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(AdapterError, match="seed"):
        AdapterConfig(core_seed=True)
