"""Round weights to the nearest integers."""

from __future__ import annotations

import numpy as np

from onnxsmith.passes.match import Array
from onnxsmith.passes.quantization.blockwise.blocks import Blocks, Grid, in_blocks

_ROWS_AT_ONCE = 1 << 21  # weights


def round_to_nearest(weights: Array, grid: Grid) -> Blocks:
    """Return each weight rounded to the nearest integer of its block.

    Args:
        weights: float32, of shape (outputs, inputs).
        grid: Bits, size of blocks, and whether they are symmetric.
    """
    outputs, inputs = weights.shape
    integers = np.empty(weights.shape, np.uint8)
    count = -(-inputs // grid.size)
    scale, zero = np.empty((outputs, count), np.float32), np.empty((outputs, count), np.float32)
    step = max(1, _ROWS_AT_ONCE // inputs)
    for start in range(0, outputs, step):
        rows = slice(start, start + step)
        blocks = in_blocks(weights[rows], grid.size)
        scale[rows], zero[rows] = grid.fit(blocks)
        rounded = grid.round(blocks, scale[rows][..., None], zero[rows][..., None])
        integers[rows] = rounded.reshape(len(blocks), -1)[:, :inputs]
    return Blocks(grid, integers, scale, zero)
