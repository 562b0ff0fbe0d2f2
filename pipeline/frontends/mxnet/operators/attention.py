"""Attention in pieces that interleave queries, keys and values, as GluonNLP's BERT has them.

Source: MXNet ``src/operator/contrib/transformer.cc``, whose documentation gives each as a program.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.graph import dims_of


def self_scores(call: Call) -> ir.Value:
    """Scores of (time, batch, 3 heads width) against itself: (batch heads, time, time)."""
    query, key, _ = _parts(call, call[0], 3)
    return call.graph.add("MatMul", [_scaled(call, query), _flipped(call, key)])


def self_values(call: Call) -> ir.Value:
    """The values that the scores choose: (time, batch, heads width)."""
    return _gathered(call, _parts(call, call[0], 3)[2])


def other_scores(call: Call) -> ir.Value:
    """Scores of queries (time, batch, heads width) against keys and values interleaved."""
    query = _parts(call, call[0], 1)[0]
    key = _parts(call, call[1], 2)[0]
    return call.graph.add("MatMul", [_scaled(call, query), _flipped(call, key)])


def other_values(call: Call) -> ir.Value:
    """The values that the scores choose, of keys and values interleaved."""
    return _gathered(call, _parts(call, call[0], 2)[1])


def _parts(call: Call, x: ir.Value, count: int) -> list[ir.Value]:
    """Cut (time, batch, heads count width) into ``count`` arrays (batch heads, time, width)."""
    graph = call.graph
    heads = call.attrs.bounded("heads", 0, 1, 2**16)
    dims = dims_of(x)
    if len(dims) != 3 or not isinstance(dims[2], int) or dims[2] % (heads * count):
        raise call.error(f"its input {dims} does not divide into {heads} heads")
    width = dims[2] // (heads * count)
    cut = graph.reshape(x, [0, 0, heads, count, width] if count > 1 else [0, 0, heads, width])
    pieces = [cut]
    if count > 1:
        split = graph.split(cut, 3, [1] * count)
        pieces = [graph.squeeze(piece, [3]) for piece in split]
    return [
        graph.reshape_to(
            graph.transpose(piece, [1, 2, 0, 3]),
            [-1, (x, 0), width],
        )
        for piece in pieces
    ]


def _scaled(call: Call, query: ir.Value) -> ir.Value:
    width = dims_of(query)[2]
    if not isinstance(width, int):
        raise call.error("the width of its heads is unknown")
    root = call.graph.scalar(math.sqrt(width), query, "root")
    return call.graph.add("Div", [query, root])


def _flipped(call: Call, key: ir.Value) -> ir.Value:
    return call.graph.transpose(key, [0, 2, 1])


def _gathered(call: Call, value: ir.Value) -> ir.Value:
    """Return scores times values as (time, batch, heads width)."""
    graph = call.graph
    heads = call.attrs.bounded("heads", 0, 1, 2**16)
    width = dims_of(value)[2]
    if not isinstance(width, int):
        raise call.error("the width of its heads is unknown")
    product = graph.add("MatMul", [call[1], value])
    apart = graph.reshape_to(product, [-1, heads, (call[1], 1), width])
    moved = graph.transpose(apart, [2, 0, 1, 3])
    return graph.reshape(moved, [0, 0, heads * width])


OPERATORS: Family = {
    "_contrib_interleaved_matmul_selfatt_qk": Operator(self_scores),
    "_contrib_interleaved_matmul_selfatt_valatt": Operator(self_values),
    "_contrib_interleaved_matmul_encdec_qk": Operator(other_scores),
    "_contrib_interleaved_matmul_encdec_valatt": Operator(other_values),
}
