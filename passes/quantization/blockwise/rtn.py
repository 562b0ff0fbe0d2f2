"""Round weights to the nearest integers."""

from __future__ import annotations

from onnxsmith.passes.match import Array
from onnxsmith.passes.quantization.blockwise.blocks import Blocks, Grid, round_blocks

_AT_ONCE = 1 << 21


def round_to_nearest(weights: Array, grid: Grid) -> Blocks:
    """Return each weight rounded to the nearest integer of its block.

    Args:
        weights: float32, of shape (outputs, inputs).
        grid: Bits, size of blocks, and whether they are symmetric.
    """

    def fit(blocks: Array) -> tuple[Array, Array]:
        scale, zero = grid.fit(blocks)
        return scale[..., None], zero[..., None]

    return round_blocks(weights, grid, fit, at_once=_AT_ONCE)
