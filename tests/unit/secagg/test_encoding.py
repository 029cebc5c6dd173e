"""Fixed point: exact sums that cannot wrap, errors within the proven bound, and nothing clipped in silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedart_nb.errors import SecAggError
from fedart_nb.secagg.encoding import CHECK_WORDS, Field, FixedPoint, values_of

VALUES = arrays(np.float64, (4, 7), elements=st.floats(-0.5, 0.5))


@given(VALUES, st.integers(4, 4096))
def test_the_sum_errs_by_half_a_step_an_artist_at_most(values: np.ndarray, artists: int) -> None:
    code = FixedPoint([Field("x", 7, 0.5)], artists)
    total = np.zeros(code.size, np.uint32)
    for row in values:
        total += code.encode({"x": row}).words
    error = np.abs(code.decode(total, count=4)["x"] - values.sum(axis=0))
    assert (error <= 4 * code.step("x") / 2 * (1 + 1e-6) + 1e-15).all()


@pytest.mark.parametrize("artists", [1, 2, 3, 5, 10, 64, 1000, 4096])
@pytest.mark.parametrize("value", [-0.7, 0.7])
def test_the_largest_possible_sum_does_not_wrap(artists: int, value: float) -> None:
    code = FixedPoint([Field("x", 1, 0.7)], artists)
    assert artists * code.levels < 2**32
    words = code.encode({"x": np.array([value])}).words
    total = (words.astype(object) * artists) % 2**32
    assert total[0] == int(words[0]) * artists, "no wrap"
    decoded = code.decode(total.astype(np.uint32), count=artists)["x"]
    np.testing.assert_allclose(decoded, [artists * value], rtol=1e-6)


def test_float32_values_at_the_limit_are_within_it() -> None:
    code = FixedPoint([Field("x", 2, 0.1)], 3)
    encoded = code.encode({"x": np.array([0.1, -0.1], np.float32)})
    assert encoded.words[0] <= code.levels


def test_values_outside_the_limit_are_clipped_and_counted() -> None:
    code = FixedPoint([Field("x", 4, 1.0), Field("y", 1, 10.0)], 3)
    encoded = code.encode({"x": np.array([0.5, 3.0, -2.0, 1.0]), "y": np.array([7.0])})
    assert encoded.clipped == {"x": 2, "y": 0}
    decoded = code.decode(encoded.words, count=1)
    np.testing.assert_allclose(decoded["x"], [0.5, 1.0, -1.0, 1.0], atol=1e-8)
    np.testing.assert_allclose(decoded["y"], [7.0], atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    code = FixedPoint([Field("x", 2, 1.0)], 3)
    with pytest.raises(SecAggError, match="not finite"):
        code.encode({"x": np.array([0.0, bad])})


@pytest.mark.parametrize("values", [{}, {"y": np.zeros(2)}, {"x": np.zeros(3)}])
def test_other_fields_or_sizes_are_refused(values: dict[str, np.ndarray]) -> None:
    with pytest.raises(SecAggError):
        FixedPoint([Field("x", 2, 1.0)], 3).encode(values)


@pytest.mark.parametrize(
    ("name", "size", "limit"), [("x", 0, 1.0), ("x", -1, 1.0), ("x", 2**31, 1.0), ("x", 2, 0.0), ("x", 2, np.inf)]
)
def test_an_impossible_field_is_refused_before_anything_is_allocated(name: str, size: int, limit: float) -> None:
    with pytest.raises(SecAggError, match="expected"):
        Field(name, size, limit)


@pytest.mark.parametrize("artists", [0, -3, 4097, 2.0])
def test_an_impossible_number_of_artists_is_refused(artists: int) -> None:
    with pytest.raises(SecAggError, match="1 to 4096"):
        FixedPoint([Field("x", 2, 1.0)], artists)


def test_a_sum_whose_masks_did_not_cancel_does_not_open() -> None:
    code = FixedPoint([Field("x", 5, 1.0)], 3)
    rng = np.random.default_rng(0)
    for _ in range(100):
        with pytest.raises(SecAggError, match="does not open"):
            code.decode(rng.integers(0, 2**32, code.size, dtype=np.uint32), count=3)


def test_a_sum_opens_with_the_right_count_alone() -> None:
    code = FixedPoint([Field("x", 5, 1.0)], 4)
    words = code.encode({"x": np.zeros(5)}).words
    assert code.size == 5 + CHECK_WORDS
    code.decode(words + words, count=2)
    for count in (1, 3):
        with pytest.raises(SecAggError, match="check words"):
            code.decode(words + words, count=count)


@given(VALUES, st.integers(4, 255))
def test_two_values_in_a_word_err_by_half_a_step_an_artist_and_carry_nothing_over(
    values: np.ndarray, artists: int
) -> None:
    code = FixedPoint([Field("x", 7, 0.5, bits=16), Field("y", 2, 1.0)], artists)
    assert code.size == 4 + 2 + CHECK_WORDS
    total = np.zeros(code.size, np.uint32)
    for row in values:
        total += code.encode({"x": row, "y": np.array([0.25, -1.0])}).words
    sums = code.decode(total, count=4)
    assert (np.abs(sums["x"] - values.sum(axis=0)) <= 4 * code.step("x") / 2 * (1 + 1e-6) + 1e-15).all()
    np.testing.assert_allclose(sums["y"], [1.0, -4.0], atol=1e-5)


@pytest.mark.parametrize("artists", [1, 3, 10, 64, 255])
def test_the_largest_sum_of_low_halves_does_not_reach_the_high_ones(artists: int) -> None:
    code = FixedPoint([Field("x", 2, 1.0, bits=16)], artists)
    words = code.encode({"x": np.array([1.0, -1.0])}).words
    total = words * np.uint32(artists)
    np.testing.assert_allclose(code.decode(total, count=artists)["x"], [artists, -artists], rtol=1e-9)


def test_masked_halves_are_read_as_values_and_an_empty_last_half_is_left_out() -> None:
    code = FixedPoint([Field("x", 3, 1.0, bits=16)], 1)
    encoded = code.encode({"x": np.array([-1.0, 1.0, -1.0])}).words
    assert values_of(encoded[:2], 3, 16).tolist() == [0, 65535, 0]
    assert encoded[1] == 0


def test_so_many_artists_that_half_words_would_round_everything_away_are_refused() -> None:
    with pytest.raises(SecAggError, match="Take 32 bits"):
        FixedPoint([Field("x", 2, 1.0, bits=16)], 300)


@pytest.mark.parametrize("field", [{"bits": 8}, {"bits": 16, "whole": True}])
def test_other_widths_and_counts_of_half_words_are_refused(field: dict[str, object]) -> None:
    with pytest.raises(SecAggError, match="bits"):
        Field("x", 2, 1.0, **field)  # type: ignore[arg-type]
