"""Rounding to blocks: to nearest, with sparse errors, and by curvature."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnxsmith.passes.quantization.blockwise.blocks import Grid
from onnxsmith.passes.quantization.blockwise.gptq import inverse_factor, round_by_curvature
from onnxsmith.passes.quantization.blockwise.hqq import round_half_quadratic
from onnxsmith.passes.quantization.blockwise.rtn import round_to_nearest

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(11)
WEIGHTS = (RNG.standard_normal((24, 72)) * np.geomspace(0.1, 3, 72)).astype(np.float32)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("size", [16, 32])  # 32 does not divide 72
def test_nearest_symmetric(bits: int, size: int) -> None:
    found = round_to_nearest(WEIGHTS, Grid(bits, size, symmetric=True))
    assert found.integers.dtype == np.uint8
    middle = 2 ** (bits - 1)
    for row in range(24):
        for block, start in enumerate(range(0, 72, size)):
            part = WEIGHTS[row, start : start + size]
            peak = part[np.abs(part).argmax()]
            scale = np.float32(peak / -middle)  # the peak is the lowest integer
            assert found.scale[row, block] == scale
            wanted = np.clip(np.rint(part / scale) + middle, 0, 2 * middle - 1)
            np.testing.assert_array_equal(found.integers[row, start : start + size], wanted)
    assert (found.zero == middle).all()


@pytest.mark.parametrize("bits", [4, 8])
def test_nearest_asymmetric(bits: int) -> None:
    shifted = WEIGHTS + 0.7
    found = round_to_nearest(shifted, Grid(bits, 16, symmetric=False))
    top = 2**bits - 1
    for row in range(24):
        for block, start in enumerate(range(0, 72, 16)):
            part = shifted[row, start : start + 16]
            low, high = min(0, part.min()), max(0, part.max())
            scale = np.float32((np.float32(high) - np.float32(low)) / np.float32(top))
            zero = np.rint(-low / scale)
            assert found.scale[row, block] == scale
            assert found.zero[row, block] == zero
            wanted = np.clip(np.rint(part / scale + zero), 0, top)
            np.testing.assert_array_equal(found.integers[row, start : start + 16], wanted)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_error_is_within_half_a_step(bits: int, symmetric: bool) -> None:
    found = round_to_nearest(WEIGHTS, Grid(bits, 16, symmetric))
    step = np.repeat(np.abs(found.scale), 16, axis=1)[:, :72]
    # The number opposite to the peak of a symmetric block may be a step beyond the last integer.
    assert (np.abs(found.numbers() - WEIGHTS) <= step * (1 if symmetric else 0.5) * 1.0001).all()
    error = np.linalg.norm(found.numbers() - WEIGHTS) / np.linalg.norm(WEIGHTS)
    assert found.error(WEIGHTS) == pytest.approx(error)


def test_zeros_stay_zero() -> None:
    for symmetric in (True, False):
        found = round_to_nearest(np.zeros((2, 32), np.float32), Grid(4, 16, symmetric))
        np.testing.assert_array_equal(found.numbers(), np.zeros((2, 32)))
    found = round_half_quadratic(np.full((2, 32), 0.3, np.float32), Grid(4, 16, symmetric=False))
    np.testing.assert_allclose(found.numbers(), 0.3, rtol=1e-6)


def test_sparse_errors_are_smaller_on_average() -> None:
    heavy = (RNG.standard_t(3, (64, 256)) * 0.1).astype(np.float32)
    grid = Grid(4, 64, symmetric=False)
    nearest, fitted = round_to_nearest(heavy, grid), round_half_quadratic(heavy, grid)
    errors = [np.abs(found.numbers() - heavy).mean() for found in (nearest, fitted)]
    assert errors[1] < 0.99 * errors[0]
    assert fitted.between
    assert np.abs(fitted.zero - np.rint(fitted.zero)).max() > 0.01


def test_zero_points_are_those_of_the_paper() -> None:
    weights = RNG.standard_t(2, (3, 32)).astype(np.float32)
    found = round_half_quadratic(weights, Grid(4, 16, symmetric=False))
    blocks = weights.reshape(6, 16).astype(np.float64)
    low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
    scale = 15 / (high - low)
    zero, best, least, penalty = -low * scale, -low * scale, np.inf, 10.0
    for _ in range(20):
        rounded = np.clip(np.round(blocks * scale + zero), 0, 15)
        difference = blocks - (rounded - zero) / scale
        if np.abs(difference).mean() >= least:
            break
        best, least = zero, np.abs(difference).mean()
        size = np.abs(difference) + 1e-12
        sparse = np.sign(difference) * np.maximum(size - size**-0.3 / penalty, 0)
        zero = (rounded - (blocks - sparse) * scale).mean(axis=1, keepdims=True)
        penalty *= 1.01
    np.testing.assert_allclose(found.zero.reshape(6, 1), best, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.scale.reshape(6, 1), 1 / scale, rtol=1e-5)
    assert np.abs(best + low * scale).max() > 0.01  # the range alone does not say so


@pytest.mark.parametrize("symmetric", [True, False])
def test_curvature_makes_the_product_better(symmetric: bool) -> None:
    mix = RNG.standard_normal((72, 72)) * np.geomspace(1, 0.05, 72)
    inputs = (RNG.standard_normal((300, 72)) @ mix).astype(np.float32)
    grid = Grid(4, 16, symmetric)
    nearest = round_to_nearest(WEIGHTS, grid)
    found = round_by_curvature(WEIGHTS, inverse_factor(inputs.T @ inputs), grid)
    exact = inputs @ WEIGHTS.T
    noise = [np.linalg.norm(inputs @ b.numbers().T - exact) for b in (nearest, found)]
    assert noise[1] < 0.8 * noise[0]


def test_without_correlation_curvature_rounds_to_nearest() -> None:
    grid = Grid(4, 16, symmetric=False)
    found = round_by_curvature(WEIGHTS, inverse_factor(np.eye(72, dtype=np.float32)), grid)
    nearest = round_to_nearest(WEIGHTS, grid)
    np.testing.assert_array_equal(found.integers, nearest.integers)
    np.testing.assert_array_equal(found.scale, nearest.scale)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    hessian = np.diag(np.r_[np.zeros(8), np.ones(64)]).astype(np.float32)
    found = round_by_curvature(WEIGHTS, inverse_factor(hessian), Grid(4, 16, symmetric=True))
    assert np.isfinite(found.numbers()).all()
