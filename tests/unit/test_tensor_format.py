"""Hostile safetensors are refused by their header alone: dimensions, sides, depth, names, places, number types."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from fedart_nb._system.tensor_format import DamagedTensors, TensorFile, bounded_json
from fedart_nb.errors import RoundError
from fedart_nb.federated import metadata_of, unpack
from fedart_nb.federated.tensors import unpack_adapter


def file_of(header: bytes | dict[str, Any], body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(shape: list[Any], size: int = 0, dtype: Any = "F32", begin: int = 0) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + size]}


NESTED = b"[" * 100_000 + b"]" * 100_000
HOSTILE: dict[str, tuple[bytes, str]] = {
    "70 dimensions": (file_of({"x": entry([1] * 70, 4)}, bytes(4)), "70 dimensions"),
    "empty with endless sides": (file_of({"x": entry([0, 2**47, 2**47])}), "is empty and has a side"),
    "more numbers than bytes": (file_of({"x": entry([2**47, 2**47], 4)}, bytes(4)), "has 4 bytes"),
    "negative side": (file_of({"x": entry([-1, -4], 16)}, bytes(16)), "no shape"),
    "fraction of a side": (file_of({"x": entry([1.0], 4)}, bytes(4)), "no shape"),
    "true as a side": (file_of({"x": entry([True], 4)}, bytes(4)), "no shape"),
    "endless header": ((2**63 - 1).to_bytes(8, "little") + bytes(64), "header is cut short"),
    "nested header": (file_of(b'{"a":' + NESTED + b"}"), "nested deeper"),
    "nested metadata": (file_of(b'{"__metadata__":{"a":' + b'{"b":' * 99 + b"1" + b"}" * 99 + b"}}"), "nested deeper"),
    "a name twice": (file_of(b'{"x":%b,"x":%b}' % ((json.dumps(entry([1], 4)).encode(),) * 2), bytes(4)), "twice"),
    "overlap": (file_of({"x": entry([2], 8), "y": entry([1], 4, begin=4)}, bytes(8)), "overlap"),
    "backwards": (file_of({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)), "has -4 bytes"),
    "unknown number type": (file_of({"x": entry([1], 4, "F33")}, bytes(4)), "unknown number type"),
    "number type that is a list": (file_of({"x": entry([1], 4, ["F32"])}, bytes(4)), "travel as"),
    "70,000 tensors": (file_of({str(i): entry([0]) for i in range(70_000)}), "70,000 tensors"),
    "not a number": (file_of(b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', bytes(4)), "holds NaN"),
    "4,400 digits": (file_of(b'{"x":{"dtype":"F32","shape":[%b],"data_offsets":[0,4]}}' % (b"9" * 4400)), "digits"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_before_anything_is_allocated(name: str) -> None:
    data, sentence = HOSTILE[name]
    tracemalloc.start()
    try:
        with pytest.raises(DamagedTensors, match=sentence):
            TensorFile(data)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(data) + 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(RoundError, match="no safetensors"):
        unpack(data)
    with pytest.raises(RoundError, match="no safetensors"):
        metadata_of(data)


def test_half_numbers_are_read_as_they_were_meant() -> None:
    halves = np.array([1.5, -2.0], np.float16)
    brain = (np.array([1.5, -2.0], "<f4").view("<u4") >> 16).astype("<u2")
    data = file_of({"b": entry([2], 4, "BF16"), "h": entry([2], 4, "F16", 4)}, brain.tobytes() + halves.tobytes())
    file = TensorFile(data)
    assert file.numbers("b").tolist() == file.numbers("h").tolist() == [1.5, -2.0]


def test_brackets_inside_texts_are_no_depth() -> None:
    assert bounded_json(json.dumps({"a": '[[["\\' * 50}).encode()) == {"a": '[[["\\' * 50}


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({"unet.x.lora_A.weight": ([], 1)}, "two to five dimensions"),
        ({"unet.x.lora_A.weight": ([4], 4)}, "two to five dimensions"),
        ({"unet.x.lora_A.weight": ([2, 0], 0)}, "two to five dimensions"),
        ({"unet.x.lora_A.weight": ([2, 3], 6)}, "no lora_B beside it"),
        ({"unet.x.lora_A.weight": ([2, 3], 6), "unet.x.lora_B.weight": ([3, 4], 12)}, "has the rank 2"),
        ({"unet.x\n.lora_A.weight": ([2, 3], 6)}, "has a name that no module"),
        ({"unet.x" * 60 + ".lora_A.weight": ([2, 3], 6)}, "has a name that no module"),
    ],
)
def test_a_shared_adapter_with_factors_that_are_none_is_refused(
    tensors: dict[str, tuple[list[int], int]], sentence: str
) -> None:
    header, end = {}, 0
    for name, (shape, count) in tensors.items():
        header[name] = entry(shape, 4 * count, begin=end)
        end += 4 * count
    with pytest.raises(RoundError, match=sentence):
        unpack_adapter(file_of(header, bytes(end)))


def test_a_shared_adapter_with_a_number_that_is_none_is_refused() -> None:
    body = np.full(6, np.nan, "<f4").tobytes()
    with pytest.raises(RoundError, match="not finite"):
        unpack_adapter(file_of({"unet.x.lora_A.weight": entry([2, 3], 24)}, body))
