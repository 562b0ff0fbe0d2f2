"""Embeddings in terms of plainer operators."""

from __future__ import annotations

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute
from onnxsmith.passes.fusion.plain import Plain, Values, is_left_out
from onnxsmith.passes.fusion.plain_norms import layer
from onnxsmith.passes.match import input_of

_BOUNDED_SHAPE = 15  # Shape gives some of the sizes only since this version


def embed_layer_norm(plain: Plain, node: ir.Node) -> Values | None:
    """Write a layer normalization of the sum of rows of two or three tables, and the sum."""
    ids, segments, words, positions, tables, scale, shift = (input_of(node, i) for i in range(7))
    places, epsilon = input_of(node, 8), float_attribute(node, "epsilon", 1e-12)
    if ids is None or words is None or positions is None or scale is None or epsilon is None:
        return None
    if (
        plain.version < _BOUNDED_SHAPE
        or words.dtype is None
        or scale.dtype != words.dtype
        or not is_left_out(node, 7, 8)
    ):
        return None
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return None
    total = plain.make("Gather", [words, ids])
    if places is not None:
        where = plain.make("Gather", [positions, places])
    else:
        sizes = plain.make("Shape", [ids], {"start": 1, "end": 2})
        sizes.type = ir.TensorType(ir.DataType.INT64)
        where = plain.make("Slice", [positions, plain.ints([0]), sizes, plain.ints([0])])
    total = plain.make("Add", [total, where])
    if segments is not None and tables is not None:
        total = plain.make("Add", [total, plain.make("Gather", [tables, segments])])
    return [layer(plain, total, scale, shift, [-1], epsilon)[0], None, total]
