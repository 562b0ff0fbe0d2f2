import numpy as np
import onnx_ir as ir
import pytest

from onnxsmith.passes.quantization.affine import Affine, fit_range, fit_weight

UINT8, INT8 = ir.DataType.UINT8, ir.DataType.INT8
RNG = np.random.default_rng(0)


def test_an_asymmetric_range_uses_all_integers() -> None:
    affine = fit_range(-1.0, 3.0, UINT8, symmetric=False)
    assert affine.scale == np.float32(4 / 255)
    assert affine.zero == 64, "1 / (4 / 255) = 63.75"
    assert affine.quantize(np.float32([-9, 0, 9])).tolist() == [0, 64, 255]
    assert affine.dequantize(np.uint8([64])).tolist() == [0.0]


def test_a_range_is_stretched_to_zero_which_is_always_exact() -> None:
    above = fit_range(2.0, 5.1, UINT8, symmetric=False)
    assert (float(above.zero), float(above.scale)) == (0, pytest.approx(5.1 / 255))
    below = fit_range(-5.1, -2.0, INT8, symmetric=False)
    assert (float(below.zero), float(below.scale)) == (127, pytest.approx(5.1 / 255))


@pytest.mark.parametrize(("dtype", "middle", "most"), [(UINT8, 128, 127), (INT8, 0, 127)])
def test_a_symmetric_range_has_its_zero_in_the_middle(
    dtype: ir.DataType, middle: int, most: int
) -> None:
    affine = fit_range(-1.0, 3.0, dtype, symmetric=True)
    assert affine.zero == middle
    assert float(affine.scale) == pytest.approx(3 / most)
    assert affine.quantize(np.float32([3, -3])).tolist() == [middle + most, middle - most]


def test_ties_go_to_the_even_integer_as_in_quantize_linear() -> None:
    affine = Affine(INT8, np.float32(1), np.int64(0))
    assert affine.quantize(np.float32([0.5, 1.5, 2.5, -0.5])).tolist() == [0, 2, 2, 0]


@pytest.mark.parametrize("axis", [0, 1, None])
def test_a_weight_comes_back_within_half_a_step_of_each_channel(axis: int | None) -> None:
    weight = (RNG.standard_normal((6, 5)) * np.geomspace(0.01, 100, 5)).astype(np.float32)
    affine = fit_weight(weight, INT8, axis)
    error = np.abs(affine.dequantize(affine.quantize(weight)) - weight)
    step = affine.scale if axis is None else affine.scale.reshape((-1, 1) if axis == 0 else -1)
    assert (error <= step / 2 * 1.0001).all()
    assert affine.quantize(weight).min() >= -127


def test_a_reduced_range_keeps_to_seven_bits() -> None:
    weight = RNG.standard_normal((64, 64)).astype(np.float32)
    stored = fit_weight(weight, INT8, 0, reduce_range=True).quantize(weight)
    assert np.abs(stored.astype(int)).max() == 64


def test_four_bits_hold_what_they_can() -> None:
    affine = fit_weight(np.float32([[-7, 0, 7]]), ir.DataType.INT4, None)
    assert affine.scale == 1
    assert affine.quantize(np.float32([-7, 3.2, 9])).astype(int).tolist() == [-7, 3, 7]


def test_nothing_but_zeros_has_a_usable_scale() -> None:
    affine = fit_weight(np.zeros((3, 2), np.float32), INT8, 0)
    assert affine.scale.tolist() == [1, 1, 1]
    assert fit_range(0, 1e-45, UINT8, symmetric=False).scale == 1
