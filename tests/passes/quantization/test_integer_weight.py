"""Weights are rounded to int8 by blocks, as they would be at once."""

import numpy as np
import pytest

from onnxsmith.passes.quantization.integer_weight import (
    FULL_RANGE,
    REDUCED_RANGE,
    round_to_int8,
)

RNG = np.random.default_rng(6)


@pytest.mark.parametrize("largest", [FULL_RANGE, REDUCED_RANGE])
@pytest.mark.parametrize("over", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(5, 3, 4), (700, 30, 40)])
def test_each_number_is_the_nearest(
    shape: tuple[int, ...], over: tuple[int, ...], largest: int
) -> None:
    weight = (RNG.standard_normal(shape) * np.geomspace(0.01, 10, shape[2])).astype(np.float32)
    rounded, scale = round_to_int8(weight, over, largest)
    peak = np.abs(weight).max(axis=over, keepdims=True)
    np.testing.assert_array_equal(scale, peak / np.float32(largest))
    np.testing.assert_array_equal(rounded, np.rint(weight / scale).astype(np.int8))
    assert rounded.dtype == np.int8
    assert np.abs(rounded.astype(int)).max() == largest


def test_zeros_and_subnormal_numbers_have_a_usable_scale() -> None:
    weight = np.array([[0, 1e-44], [0, -1e-44]], np.float32)
    rounded, scale = round_to_int8(weight, (0,), FULL_RANGE)
    np.testing.assert_array_equal(scale, [[1, 1]])
    np.testing.assert_array_equal(rounded, np.zeros((2, 2)))
