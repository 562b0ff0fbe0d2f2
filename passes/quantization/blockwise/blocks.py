"""Weights as small integers, with a scale and a zero point for each block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from onnxsmith.passes.match import Array

_LEAST_SCALE = float(np.finfo(np.float32).tiny)

Fit = Callable[[Array], tuple[Array, Array]]
"""Returns scale and zero point, of shape (outputs, count, 1), of (outputs, count, size) blocks."""


@dataclass(frozen=True)
class Grid:
    """How weights are rounded.

    Attributes:
        bits: Of an integer: 4 or 8.
        size: Of a block, along the dimension that a product sums over.
        symmetric: Whether the integer in the middle stands for 0 in all blocks.
    """

    bits: int
    size: int
    symmetric: bool

    @property
    def top(self) -> int:
        """The largest integer; the smallest is 0."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """The integer that stands for 0 where all blocks are symmetric."""
        return 1 << (self.bits - 1)

    def fit(self, weights: Array) -> tuple[Array, Array]:
        """Return scale and zero point of blocks, which are the last dimension of the weights.

        A symmetric scale takes its sign from the weight of the largest magnitude, which the lowest
        integer stands for then: one more integer is of use than with a positive scale.
        """
        if self.symmetric:
            high, low = weights.max(axis=-1), weights.min(axis=-1)
            peak = np.where(high > -low, high, low)
            scale = usable(peak / np.float32(-self.middle))
            return scale, np.full(scale.shape, self.middle, np.float32)
        high = np.maximum(weights.max(axis=-1), 0)
        low = np.minimum(weights.min(axis=-1), 0)
        scale = usable((high - low) / np.float32(self.top))
        return scale, np.clip(np.rint(-low / scale), 0, self.top).astype(np.float32)

    def round(self, weights: Array, scale: Array, zero: Array) -> Array:
        """Return the nearest integers, as float32; all arguments broadcast."""
        rounded: Array = np.clip(np.rint(weights / scale + zero), 0, self.top)
        return rounded


@dataclass(frozen=True)
class Blocks:
    """Rounded weights of a product: ``w = scale * (q - zero)``.

    Attributes:
        grid: How they were rounded.
        integers: uint8, of shape (outputs, inputs).
        scale: float32, of shape (outputs, blocks).
        zero: float32, like ``scale``; integers, unless :attr:`between` says otherwise.
        between: Whether zero points lie between the integers.
    """

    grid: Grid
    integers: Array
    scale: Array
    zero: Array
    between: bool = False

    def numbers(self) -> Array:
        """Return the weights that these stand for, float32, of shape (outputs, inputs)."""
        inputs = self.integers.shape[1]
        scale = np.repeat(self.scale, self.grid.size, axis=1)[:, :inputs]
        zero = np.repeat(self.zero, self.grid.size, axis=1)[:, :inputs]
        numbers: Array = (self.integers - zero) * scale
        return numbers

    def error(self, weights: Array) -> float:
        """Return the norm of the difference from the weights, over their norm."""
        norm = float(np.linalg.norm(weights))
        return float(np.linalg.norm(self.numbers() - weights)) / norm if norm else 0.0


def round_blocks(
    weights: Array, grid: Grid, fit: Fit, *, at_once: int, between: bool = False
) -> Blocks:
    """Return weights rounded to the nearest integers of their blocks, some rows at a time.

    Args:
        weights: float32, of shape (outputs, inputs).
        grid: Bits and size of blocks.
        fit: Chooses scales and zero points.
        at_once: About how many weights to work on at a time.
        between: Whether zero points lie between the integers.
    """
    outputs, inputs = weights.shape
    integers = np.empty(weights.shape, np.uint8)
    count = -(-inputs // grid.size)
    scale, zero = np.empty((outputs, count), np.float32), np.empty((outputs, count), np.float32)
    step = max(1, at_once // inputs)
    for start in range(0, outputs, step):
        rows = slice(start, start + step)
        blocks = in_blocks(weights[rows], grid.size)
        s, z = fit(blocks)
        scale[rows], zero[rows] = s[..., 0], z[..., 0]
        integers[rows] = grid.round(blocks, s, z).reshape(len(blocks), -1)[:, :inputs]
    return Blocks(grid, integers, scale, zero, between)


def in_blocks(weights: Array, size: int) -> Array:
    """Return weights of shape (outputs, inputs) as (outputs, blocks, size).

    A last block that is not full is filled with its last weight, which changes neither range nor
    rounding of the others.
    """
    outputs, inputs = weights.shape
    missing = -inputs % size
    padded = np.pad(weights, ((0, 0), (0, missing)), mode="edge") if missing else weights
    return padded.reshape(outputs, -1, size)


def usable(scale: Array) -> Array:
    """Return scales as float32, with 1 where everything is 0."""
    return np.where(np.abs(scale) < _LEAST_SCALE, 1, scale).astype(np.float32)
