"""Find the two products and the softmax of an attention."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import is_float, rank
from onnxsmith.passes.match import (
    all_nodes,
    array_of,
    int_attribute,
    ints_attribute,
    is_op,
    made_by,
    only_user,
    replace,
    same_dim,
    tensor_of,
)

_KEYS_TURNED = [0, 1, 3, 2]
_HEADS_FIRST = [0, 2, 1, 3]
_KEYS_AT_ONCE = [0, 2, 3, 1]  # heads first, then turned


@dataclass(frozen=True)
class Core:
    """``Softmax(scale * query key' + mask) value``, all of rank 4 with heads before lengths.

    Attributes:
        query: Of shape (batch, heads, queries, size).
        key: Of shape (batch, heads, keys, size).
        value: Of shape (batch, heads, keys, value size).
        mask: What is added to the scores, if anything.
        scale: What the scores are multiplied by.
        heads: How many heads there are.
        width: Heads times size.
        value_width: Heads times value size.
        product: The node of the second product.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    mask: ir.Value | None
    scale: float
    heads: int
    width: int
    value_width: int
    product: ir.Node


def find_core(softmax: ir.Node) -> Core | None:
    """Return the attention around a softmax, or None where it is none that the operators can do."""
    scores, weights = softmax.inputs[0], softmax.outputs[0]
    if scores is None or rank(scores) != 4 or not is_float(scores):
        return None
    if int_attribute(softmax, "axis", -1) not in (-1, 3):
        return None
    guarded = _unguarded(weights)
    product = only_user(guarded or weights, "MatMul")
    if product is None or product.inputs[0] is not (guarded or weights):
        return None
    found = _scores(scores)
    if found is None or product.graph is not softmax.graph:
        return None
    query, key, mask, scale = found
    if guarded is not None and mask is not None and not is_finite(mask):
        return None
    return _checked(query, key, product, mask, scale)


def _checked(
    query: ir.Value, key: ir.Value, product: ir.Node, mask: ir.Value | None, scale: float
) -> Core | None:
    value, result = product.inputs[1], product.outputs[0]
    if value is None or any(rank(v) != 4 for v in (query, key, value, result)):
        return None
    if query.shape is None or key.shape is None or value.shape is None:
        return None  # only for the type checker: the ranks are known
    heads, size, depth = query.shape[1], query.shape[3], value.shape[3]
    if not isinstance(heads, int) or not isinstance(size, int) or not isinstance(depth, int):
        return None
    if key.shape[1] != heads or value.shape[1] != heads or key.shape[3] != size:
        return None
    if not all(same_dim(query.shape[0], shape[0]) for shape in (key.shape, value.shape)):
        return None
    if not same_dim(key.shape[2], value.shape[2]):
        return None
    if mask is not None and not _fits(mask, query, key):
        return None
    return Core(query, key, value, mask, scale, heads, heads * size, heads * depth, product)


def _unguarded(weights: ir.Value) -> ir.Value | None:
    """Return Where(IsNaN(p), 0, p) where it is all that reads the probabilities p."""
    readers = [use.node for use in weights.uses()]
    if len(readers) != 2 or weights.is_graph_output():
        return None
    test = next((node for node in readers if is_op(node, "IsNaN")), None)
    choice = None if test is None else only_user(test.outputs[0], "Where")
    if choice is None or choice not in readers or choice.inputs[2] is not weights:
        return None
    zero = array_of(choice.inputs[1], 1)
    return choice.outputs[0] if zero is not None and zero.size and not zero.any() else None


def _scores(scores: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value | None, float] | None:
    """Return query, key, mask and scale where the scores are scale * query key' + mask."""
    mask = None
    scaled: ir.Value | None = scores
    add = made_by(scores, "Add")
    if add is not None and len(scores.uses()) == 1:
        for first, second in (add.inputs, reversed(add.inputs)):
            if first is not None and _product(first) is not None:
                scaled, mask = first, second
                break
    found = None if scaled is None else _product(scaled)
    if found is None or any(v.is_graph_output() for v in (scores, scaled) if v is not None):
        return None
    product, factor = found
    left, right = product.inputs
    query, left_factor = _scaled(left)
    key, right_factor = _keys(right)
    if query is None or key is None:
        return None
    return query, key, mask, float(factor * left_factor * right_factor)


def _product(value: ir.Value) -> tuple[ir.Node, float] | None:
    """Return the product that a value is, and what it is scaled by."""
    inner, factor = _scaled(value)
    product = made_by(inner, "MatMul")
    if product is None or inner is None or len(inner.uses()) != 1 or inner.is_graph_output():
        return None
    return product, factor


def _keys(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """Return the keys, their lengths before their sizes, and what they are scaled by."""
    outer, first = _scaled(value)
    turn = made_by(outer, "Transpose")
    if turn is None or ints_attribute(turn, "perm") != _KEYS_TURNED:
        return None, 1.0
    inner, second = _scaled(turn.inputs[0])
    return inner, first * second


def split_keys(model: ir.Model) -> None:
    """Turn keys to (batch, heads, lengths, sizes) first where one Transpose also turns them."""
    for node in all_nodes(model):
        if is_op(node, "Transpose") and ints_attribute(node, "perm") == _KEYS_AT_ONCE:
            source = node.inputs[0]
            if source is None or source.shape is None or len(source.shape) != 4:
                continue
            heads = ir.node("Transpose", [source], {"perm": _HEADS_FIRST})
            first = heads.outputs[0]
            first.type = source.type
            first.shape = ir.Shape([source.shape[axis] for axis in _HEADS_FIRST])
            assert node.graph is not None  # is_op() says so
            node.graph.insert_before(node, heads)
            replace(node, ir.node("Transpose", [first], {"perm": _KEYS_TURNED}))


def join_keys(model: ir.Model) -> None:
    """Undo :func:`split_keys` where no attention came of it."""
    for node in all_nodes(model):
        before = made_by(node.inputs[0], "Transpose") if is_op(node, "Transpose") else None
        if before is None or ints_attribute(node, "perm") != _KEYS_TURNED:
            continue
        if ints_attribute(before, "perm") == _HEADS_FIRST:
            replace(node, ir.node("Transpose", before.inputs, {"perm": _KEYS_AT_ONCE}))


def _scaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """Return y and f where a value is f * y with a constant number f."""
    node = made_by(value, "Mul", "Div")
    if node is None:
        return value, 1.0
    places = ((0, 1), (1, 0)) if node.op_type == "Mul" else ((0, 1),)
    for place, other in places:
        array = array_of(node.inputs[other], 1)
        if array is None or array.size != 1 or rank(node.inputs[place]) != 4:
            continue
        number = float(array.item())
        if np.isfinite(number) and number:
            return node.inputs[place], number if node.op_type == "Mul" else 1 / number
    return value, 1.0


def _fits(mask: ir.Value, query: ir.Value, key: ir.Value) -> bool:
    """Tell whether a mask is (batch or 1, heads or 1, queries, keys), as the kernels ask for."""
    if mask.shape is None or len(mask.shape) != 4 or mask.dtype != query.dtype:
        return False
    if query.shape is None or key.shape is None:
        return False
    wanted = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    outer = all(mask.shape[i] == 1 or same_dim(mask.shape[i], wanted[i]) for i in (0, 1))
    # Lengths that are numbers can be expanded to; others must be known to be right.
    return outer and all(
        isinstance(wanted[i], int) or same_dim(mask.shape[i], wanted[i]) for i in (2, 3)
    )


def is_finite(mask: ir.Value) -> bool:
    """Tell whether a mask is known to hold finite numbers only."""
    tensor = tensor_of(mask)
    if tensor is not None:
        return bool(np.isfinite(tensor.numpy().astype(np.float32)).all())
    views = made_by(mask, "Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose")
    if views is not None and views.inputs[0] is not None:
        return is_finite(views.inputs[0])
    choice = made_by(mask, "Where")
    if choice is None:
        return False
    return all(v is not None and is_finite(v) for v in choice.inputs[1:])
