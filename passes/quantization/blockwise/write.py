"""Write products whose weights are blocks of integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import contrib
from onnxsmith.passes.match import Array, add_tensor
from onnxsmith.passes.quantization.blockwise.blocks import Blocks, in_blocks

_TYPES = {
    (4, True): ir.DataType.INT4,
    (4, False): ir.DataType.UINT4,
    (8, True): ir.DataType.INT8,
    (8, False): ir.DataType.UINT8,
}


def write_nbits(
    graph: ir.Graph, x: ir.Value, blocks: Blocks, name: str, accuracy_level: int
) -> ir.Node:
    """Return ``com.microsoft.MatMulNBits`` of a value; its constants go into the graph.

    Args:
        graph: Where constants go.
        x: The value.
        blocks: The weights.
        name: What to call the constants.
        accuracy_level: What the kernel may compute in: 0 as it likes, 1 float32, 4 int8.
    """
    grid, (outputs, inputs) = blocks.grid, blocks.integers.shape
    packed = _packed(in_blocks(blocks.integers, grid.size), grid.bits)
    values: list[ir.Value | None] = [x]
    for array, word in ((packed, "quantized"), (blocks.scale, "scale")):
        values.append(add_tensor(graph, ir.Tensor(array), f"{name}_{word}"))
    if not grid.symmetric:
        zero = blocks.zero if blocks.between else _packed(blocks.zero.astype(np.uint8), grid.bits)
        values.append(add_tensor(graph, ir.Tensor(zero), f"{name}_zero"))
    attributes: dict[str, object] = {
        "K": inputs, "N": outputs, "bits": grid.bits, "block_size": grid.size,
    }  # fmt: skip
    if accuracy_level:
        attributes["accuracy_level"] = accuracy_level
    return contrib("MatMulNBits", values, attributes)


def write_dequantize(graph: ir.Graph, blocks: Blocks, name: str) -> ir.Node:
    """Return DequantizeLinear of weights of shape (inputs, outputs); its constants go into a graph.

    Args:
        graph: Where constants go.
        blocks: The weights; their zero points are integers.
        name: What to call the constants.
    """
    grid = blocks.grid
    kind = _TYPES[grid.bits, grid.symmetric]
    shift = grid.middle if grid.symmetric else 0
    arrays = [blocks.integers.astype(np.int16) - shift, blocks.scale]
    if not grid.symmetric:
        arrays.append(blocks.zero)
    values = []
    for array, word in zip(arrays, ("quantized", "scale", "zero"), strict=False):
        dtype = ir.DataType.FLOAT if word == "scale" else kind
        turned = np.ascontiguousarray(array.T).astype(dtype.numpy())
        values.append(add_tensor(graph, ir.Tensor(turned, dtype), f"{name}_{word}"))
    return ir.node("DequantizeLinear", values, {"axis": 0, "block_size": grid.size})


def _packed(integers: Array, bits: int) -> Array:
    """Return integers as bytes along the last dimension; of 4 bits, the first one is the lower."""
    if bits == 8:
        return integers
    if integers.shape[-1] % 2:
        integers = np.concatenate([integers, np.zeros_like(integers[..., :1])], axis=-1)
    packed: Array = integers[..., 0::2] | (integers[..., 1::2] << 4)
    return packed
