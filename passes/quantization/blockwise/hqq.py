"""Round weights so that few of them are far off."""

from __future__ import annotations

import numpy as np

from onnxsmith.passes.match import Array
from onnxsmith.passes.quantization.blockwise.blocks import Blocks, Grid, round_blocks, usable

_AT_ONCE = 1 << 20
_POWER = 0.7
_PENALTY = 10.0
_GROWTH = 1.01
_STEPS = 20


def round_half_quadratic(weights: Array, grid: Grid) -> Blocks:
    """Return weights rounded with zero points that make their error sparse.

    Alternates between the error that a sparse prior leaves,
    ``e = shrink(w - s (q - z))``, and the zero point ``z = mean(q - (w - e) / s)`` that suits it,
    while the mean error falls. Zero points lie between the integers.

    Args:
        weights: float32, of shape (outputs, inputs).
        grid: Bits and size of blocks; not symmetric.

    Source: Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models", 2023.
    """

    def fit(blocks: Array) -> tuple[Array, Array]:
        scale, zero = _fit(blocks, grid)
        return scale, _settle(blocks, scale, zero, grid)

    return round_blocks(weights, grid, fit, at_once=_AT_ONCE, between=True)


def _fit(blocks: Array, grid: Grid) -> tuple[Array, Array]:
    """Return scale and zero point that cover the range of each block, and no more."""
    low, high = blocks.min(axis=-1, keepdims=True), blocks.max(axis=-1, keepdims=True)
    flat = high == low
    scale = usable(np.where(flat, high, (high - low) / np.float32(grid.top)))
    return scale, np.where(flat, 0, -low / scale).astype(np.float32)


def _settle(blocks: Array, scale: Array, zero: Array, grid: Grid) -> Array:
    """Return the zero points with the least mean error that the iteration comes by."""
    best, least, penalty = zero, np.inf, _PENALTY
    for _ in range(_STEPS):
        rounded = grid.round(blocks, scale, zero)
        left = blocks - scale * (rounded - zero)
        error = float(np.abs(left).mean())
        if error >= least:
            break
        best, least = zero, error
        sparse = _shrink(left, penalty)
        zero = (rounded - (blocks - sparse) / scale).mean(axis=-1, keepdims=True)
        penalty *= _GROWTH
    return best


def _shrink(x: Array, penalty: float) -> Array:
    """Return the numbers nearest to x that a norm of power below 1 favours."""
    size = np.abs(x)
    with np.errstate(divide="ignore"):
        threshold = np.power(size, _POWER - 1) / penalty
    shrunk: Array = np.sign(x) * np.maximum(size - threshold, 0)
    return shrunk
