"""Attention in terms of plainer operators."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute, rank
from onnxsmith.passes.fusion.plain import Plain, Values, is_left_out, is_read, typed
from onnxsmith.passes.match import input_of, int_attribute, ints_attribute

_HEADS_INNER = [0, 2, 1, 3]
_KEYS_TURNED = [0, 1, 3, 2]
_TRILU = 14  # the first opset with that operator


def packed(plain: Plain, node: ir.Node) -> Values | None:
    """Write the runtime's Attention: one product for queries, keys and values, then split."""
    x, weight, bias, padding, added = (input_of(node, index) for index in (0, 1, 2, 3, 5))
    heads = int_attribute(node, "num_heads")
    if is_read(node, 1):
        return None
    if x is None or x.dtype is None or weight is None or not heads or _is_special(plain, node):
        return None
    if not is_left_out(node, 4, 5) or not is_left_out(node, 6) or not _is_row(padding):
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
    added = _padded(plain, node, padding, added, query)
    first = _first_hidden(plain, None) if _is_causal(node) else None
    weights = _weights(plain, query, key, added, scale, first)
    return [_merged(plain, plain.make("MatMul", [weights, value]), sizes[2])]


def separate(plain: Plain, node: ir.Node) -> Values | None:
    """Write the runtime's MultiHeadAttention of queries, keys and values."""
    query, key, value = typed(node), input_of(node, 1), input_of(node, 2)
    bias, padding, added = (input_of(node, place) for place in (3, 4, 5))
    heads = int_attribute(node, "num_heads")
    pasts = [input_of(node, place) for place in (6, 7)]
    if query is None or key is None or value is None or not heads or _is_special(plain, node):
        return None
    if not is_left_out(node, 8) or rank(query) != 3 or not _is_row(padding):
        return None
    if (pasts[0] is None) != (pasts[1] is None) or is_read(node, 3):
        return None
    places = rank(key)
    if places not in (3, 4) or rank(value) != places:
        return None
    width = query.shape[2] if query.shape is not None else None
    depth = value.shape[-1] if value.shape is not None else None
    scale = _scale(node, width // heads if isinstance(width, int) else 0)
    if not isinstance(depth, int) or scale is None or (added is not None and rank(added) != 4):
        return None
    if bias is not None:
        if places != 3 or not isinstance(width, int):
            return None
        biases = plain.split(bias, [width, width, depth])
        query, key, value = (
            plain.make("Add", [v, b]) for v, b in zip((query, key, value), biases, strict=True)
        )
    keys, values = (_split(plain, v, heads) if places == 3 else v for v in (key, value))
    total = depth if places == 3 else depth * heads
    if pasts[0] is not None:
        pairs = zip(pasts, (keys, values), strict=True)
        keys, values = (plain.make("Concat", list(pair), {"axis": 2}) for pair in pairs)
    queries = _split(plain, query, heads)
    added = _padded(plain, node, padding, added, queries)
    first = _first_hidden(plain, pasts[0]) if _is_causal(node) else None
    weights = _weights(plain, queries, keys, added, scale, first)
    return [_merged(plain, plain.make("MatMul", [weights, values]), total), keys, values]


def standard(plain: Plain, node: ir.Node) -> Values | None:
    """Write the standard Attention, of operands with or without their heads told apart."""
    query, key, value = typed(node), input_of(node, 1), input_of(node, 2)
    mask, causal = input_of(node, 3), int_attribute(node, "is_causal", 0)
    if query is None or key is None or value is None or causal is None or is_read(node, 1):
        return None
    if not is_left_out(node, 4) or float_attribute(node, "softcap", 0.0) != 0:
        return None
    places = rank(query)
    if places not in (3, 4) or rank(key) != places or rank(value) != places:
        return None
    many, few = _heads(node, query, "q"), _heads(node, key, "kv")
    size, depth = _last(query), _last(value)
    if not isinstance(many, int) or not isinstance(few, int):
        return None
    if not isinstance(size, int) or not isinstance(depth, int):
        return None
    size, depth = (size, depth) if places == 4 else (size // many, depth // few)
    scale = float_attribute(node, "scale", 1 / math.sqrt(size))
    if scale is None or (mask is not None and mask.dtype is None):
        return None
    if places == 3:
        query = _split(plain, query, many)
        key, value = (_split(plain, v, few) for v in (key, value))
    if many != few:
        order = plain.ints([head // (many // few) for head in range(many)])
        key, value = (plain.make("Gather", [v, order], {"axis": 1}) for v in (key, value))
    first = _first_hidden(plain, None) if causal else None
    weights = _weights(plain, query, key, mask, scale, first)
    result = plain.make("MatMul", [weights, value])
    return [result if places == 4 else _merged(plain, result, many * depth)]


def _heads(node: ir.Node, value: ir.Value, name: str) -> int | ir.SymbolicDim | None:
    """Return how many heads queries, or keys and values, have."""
    given = int_attribute(node, f"{name}_num_heads")
    if given is not None or value.shape is None:
        return given
    return value.shape[1] if len(value.shape) == 4 else None


def _last(value: ir.Value) -> int | ir.SymbolicDim | None:
    return None if value.shape is None else value.shape[-1]


def _is_special(plain: Plain, node: ir.Node) -> bool:
    """Tell whether a node rotates its operands, or hides keys in a way that is not known."""
    causal, rotary = int_attribute(node, "unidirectional", 0), int_attribute(node, "do_rotary", 0)
    unknown = causal not in (0, 1) or (causal == 1 and plain.version < _TRILU)
    return unknown or rotary != 0


def _is_causal(node: ir.Node) -> bool:
    return int_attribute(node, "unidirectional", 0) == 1


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


def _weights(
    plain: Plain,
    query: ir.Value,
    key: ir.Value,
    mask: ir.Value | None,
    scale: float,
    first: ir.Value | None,
) -> ir.Value:
    """Write ``Softmax(scale * query key' + mask)``; truth values say what is seen.

    Args:
        plain: Writes it.
        query: ``[batch, heads, length, size]``.
        key: Likewise.
        mask: Added to the scores, or truth values; None without any.
        scale: A factor of the scores.
        first: The first key that is hidden from the first query, of causal attention.
    """
    turned = plain.make("Transpose", [key], {"perm": _KEYS_TURNED})
    scaled = plain.make("Mul", [query, plain.number(scale, query)])
    scores = plain.make("MatMul", [scaled, turned])
    if first is not None:
        scores = plain.make("Add", [scores, _behind(plain, scores, first)])
    if mask is None:
        return plain.make("Softmax", [scores], {"axis": 3})
    hides = mask.dtype == ir.DataType.BOOL
    zero = plain.number(0, query)
    if hides:
        node = plain.make("Where", [mask, zero, plain.number(-math.inf, query)])
        node.type = query.type
        mask = node
    scores = plain.make("Add", [scores, mask])
    weights = plain.make("Softmax", [scores], {"axis": 3})
    if not hides:
        return weights
    empty = plain.make("IsNaN", [weights])
    empty.type = ir.TensorType(ir.DataType.BOOL)
    result = plain.make("Where", [empty, zero, weights])
    result.type = query.type
    return result


def _is_row(padding: ir.Value | None) -> bool:
    """Tell whether a mask of padding, if there is one, has a number for each key."""
    return padding is None or (rank(padding) == 2 and padding.dtype is not None)


def _padded(
    plain: Plain,
    node: ir.Node,
    padding: ir.Value | None,
    added: ir.Value | None,
    like: ir.Value,
) -> ir.Value | None:
    """Return what is added to the scores: a low number where a key is padding."""
    low = float_attribute(node, "mask_filter_value", -10000.0)
    if padding is None or low is None:
        return added
    seen = plain.make("Greater", [padding, plain.number(0, padding)])
    seen.type = ir.TensorType(ir.DataType.BOOL)
    row = plain.make("Where", [seen, plain.number(0, like), plain.number(low, like)])
    row.type = like.type
    mask = plain.make("Unsqueeze", [row, plain.ints([1, 2])])
    return mask if added is None else plain.make("Add", [mask, added])


def _first_hidden(plain: Plain, past: ir.Value | None) -> ir.Value:
    """Return the first key that the first query does not see: the one behind its own."""
    if past is None:
        return plain.whole(1)
    length = past.shape[2] if past.shape is not None else None
    if isinstance(length, int):
        return plain.whole(length + 1)
    shape = plain.make("Shape", [past])
    size = plain.make("Gather", [shape, plain.whole(2)])
    found = plain.make("Add", [size, plain.whole(1)])
    shape.type = size.type = found.type = ir.TensorType(ir.DataType.INT64)
    return found


def _behind(plain: Plain, scores: ir.Value, first: ir.Value) -> ir.Value:
    """Write the mask that hides from each query the keys behind its own."""
    shape = plain.make("Shape", [scores])
    shape.type = ir.TensorType(ir.DataType.INT64)
    sizes = plain.make("Slice", [shape, plain.ints([2]), plain.ints([4])])
    assert scores.dtype is not None  # only values of known types are written anew
    lowest = np.array([scores.dtype.min], scores.dtype.numpy())
    full = plain.make("ConstantOfShape", [sizes], {"value": ir.Tensor(lowest)})
    full.type = scores.type
    return plain.make("Trilu", [full, first], {"upper": 1})


def _merged(plain: Plain, value: ir.Value, width: int) -> ir.Value:
    """Return a value (batch, heads, length, size) with its heads side by side."""
    turned = plain.make("Transpose", [value], {"perm": _HEADS_INNER})
    return plain.make("Reshape", [turned, plain.ints([0, 0, width])])
