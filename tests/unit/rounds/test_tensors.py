"""Named float32 arrays as safetensors bytes: what the library writes and reads, without its copies."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedart_nb.errors import RoundError
from fedart_nb.federated import metadata_of, pack, unpack

TENSORS = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.zeros(0, np.float32),
    "ü": np.ones(1, "f4"),
}


@pytest.mark.parametrize("metadata", [None, {"fedart": '{"rank": 4}'}])
def test_what_is_packed_is_what_the_library_packs(metadata: dict[str, str] | None) -> None:
    data = pack(TENSORS, metadata)
    assert data == save({name: TENSORS[name] for name in sorted(TENSORS)}, metadata)
    assert metadata_of(data) == (metadata or {})
    for name, array in load(data).items():
        np.testing.assert_array_equal(unpack(data)[name], array)


def test_unpacking_copies_nothing() -> None:
    data = pack(TENSORS)
    for array in unpack(data).values():
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_arrays_that_are_not_contiguous_are_packed_as_they_read() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    np.testing.assert_array_equal(unpack(pack({"x": array}))["x"], array)
    assert unpack(pack({"x": np.float32(3).reshape(())}))["x"].shape == ()


@given(st.integers(0, 400), st.integers(0, 255))
def test_bytes_that_differ_are_read_as_the_library_reads_them_or_refused(place: int, value: int) -> None:
    data = bytearray(pack(TENSORS, {"k": "v"}))
    data[place % len(data)] = value
    try:
        ours = unpack(bytes(data))
    except RoundError:
        return
    theirs = load(bytes(data))
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array.view(np.uint32), theirs[name].view(np.uint32))


@given(st.binary(max_size=200))
def test_bytes_from_nowhere_are_refused(data: bytes) -> None:
    with pytest.raises(RoundError, match="no safetensors"):
        unpack(data)


def made(header: dict[str, object], size: int) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


def entry(begin: int, end: int, shape: list[object], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "size", "sentence"),
    [
        ({"x": entry(0, 8, [2])}, 4, "cut short"),
        ({"x": entry(0, 8, [2])}, 12, "belong to no tensor"),
        ({"x": entry(0, 8, [2]), "y": entry(4, 12, [2])}, 12, "overlap"),
        ({"x": entry(0, 4, [1]), "y": entry(8, 12, [1])}, 12, "gaps"),
        ({"x": entry(0, 8, [3])}, 8, r"of shape \[3\] has 8 bytes"),
        ({"x": entry(0, 8, [-2])}, 8, "no shape"),
        ({"x": entry(0, 8, [2**40, 2**40])}, 8, "has 8 bytes"),
        ({"x": [1, 2]}, 0, "travel as float32"),
        ({"x": entry(0, 8, [2], "I32")}, 8, "travel as float32"),
        ({"x": entry(0, 4, [2], "F16")}, 4, "travel as float32"),
    ],
)
def test_what_does_not_fit_is_refused_as_the_library_refuses_it(
    header: dict[str, object], size: int, sentence: str
) -> None:
    data = made(header, size)
    with pytest.raises(RoundError, match=sentence):
        unpack(data)
    if "travel" not in sentence:
        with pytest.raises(SafetensorError):
            load(data)
