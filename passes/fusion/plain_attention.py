"""Attention in terms of plainer operators."""

from __future__ import annotations

import math

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute, rank
from onnxsmith.passes.fusion.plain import Plain, Values, is_left_out, is_read, typed
from onnxsmith.passes.match import input_of, int_attribute, ints_attribute

_HEADS_INNER = [0, 2, 1, 3]
_KEYS_TURNED = [0, 1, 3, 2]


def packed(plain: Plain, node: ir.Node) -> Values | None:
    """Write the runtime's Attention: one product for queries, keys and values, then split."""
    x, weight, bias, added = (input_of(node, index) for index in (0, 1, 2, 5))
    heads = int_attribute(node, "num_heads")
    if x is None or x.dtype is None or weight is None or not heads or _is_special(node):
        return None
    if not is_left_out(node, 3, 5) or not is_left_out(node, 6):
        return None
    width = None if rank(weight) != 2 or weight.shape is None else weight.shape[1]
    sizes = ints_attribute(node, "qkv_hidden_sizes")
    if not sizes and isinstance(width, int):
        sizes = [width // 3] * 3
    scale = _scale(node, sizes[0] // heads) if sizes else None
    if not sizes or scale is None or (added is not None and rank(added) != 4):
        return None
    product = plain.make("MatMul", [x, weight])
    product = product if bias is None else plain.make("Add", [product, bias])
    query, key, value = (_split(plain, v, heads) for v in plain.split(product, sizes))
    return [_core(plain, query, key, value, added, scale, sizes[2])]


def separate(plain: Plain, node: ir.Node) -> Values | None:
    """Write the runtime's MultiHeadAttention of queries, keys and values."""
    query, key, value = typed(node), input_of(node, 1), input_of(node, 2)
    added, heads = input_of(node, 5), int_attribute(node, "num_heads")
    if query is None or key is None or value is None or not heads or _is_special(node):
        return None
    if not is_left_out(node, 3, 5) or not is_left_out(node, 6) or rank(query) != 3:
        return None
    if rank(key) not in (3, 4) or rank(value) != rank(key):
        return None
    width = query.shape[2] if query.shape is not None else None
    depth = value.shape[-1] if value.shape is not None else None
    scale = _scale(node, width // heads if isinstance(width, int) else 0)
    if not isinstance(depth, int) or scale is None or (added is not None and rank(added) != 4):
        return None
    keys, values = (_split(plain, v, heads) if rank(v) == 3 else v for v in (key, value))
    total = depth if rank(value) == 3 else depth * heads
    return [_core(plain, _split(plain, query, heads), keys, values, added, scale, total)]


def _is_special(node: ir.Node) -> bool:
    """Tell whether a node is causal, rotates its operands, or has results to be read later."""
    causal, rotary = int_attribute(node, "unidirectional", 0), int_attribute(node, "do_rotary", 0)
    return causal != 0 or rotary != 0 or is_read(node, 1)


def _scale(node: ir.Node, size: int) -> float | None:
    """Return what the scores are multiplied by: one through the root of a head's size."""
    found = float_attribute(node, "scale", 0.0)
    if found is None or (not found and size < 1):
        return None
    return found or 1 / math.sqrt(size)


def _split(plain: Plain, value: ir.Value, heads: int) -> ir.Value:
    """Return a value of shape (batch, length, width) with its heads before its lengths."""
    apart = plain.make("Reshape", [value, plain.ints([0, 0, heads, -1])])
    return plain.make("Transpose", [apart], {"perm": _HEADS_INNER})


def _core(
    plain: Plain,
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    added: ir.Value | None,
    scale: float,
    width: int,
) -> ir.Value:
    """Write ``Softmax(scale * query key' + added) value``, its heads side by side."""
    turned = plain.make("Transpose", [key], {"perm": _KEYS_TURNED})
    scaled = plain.make("Mul", [query, plain.number(scale, query)])
    scores = plain.make("MatMul", [scaled, turned])
    scores = scores if added is None else plain.make("Add", [scores, added])
    weights = plain.make("Softmax", [scores], {"axis": 3})
    merged = plain.make(
        "Transpose", [plain.make("MatMul", [weights, value])], {"perm": _HEADS_INNER}
    )
    return plain.make("Reshape", [merged, plain.ints([0, 0, width])])
