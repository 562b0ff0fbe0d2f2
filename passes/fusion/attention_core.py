"""Find the two products and the softmax of an attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.fusion.attention_mask import (
    Sizes,
    Term,
    fits,
    is_causal,
    is_low,
    without_infinity,
)
from onnxsmith.passes.fusion.attention_operand import Operand, find_operand
from onnxsmith.passes.fusion.contrib import is_float, rank
from onnxsmith.passes.match import array_of, int_attribute, is_op, made_by, only_user, same_dim


@dataclass(frozen=True)
class Core:
    """``Softmax(scale * query key' + masks) value``.

    Attributes:
        query: The queries.
        key: The keys.
        value: The values.
        masks: What is added to the scores, each of the scores' rank or less.
        scale: What the scores are multiplied by.
        causal: Whether each query sees the keys up to its own only.
        empty: The mask that may hide all keys of a query, whose result is zero then.
        product: The node of the second product.
        nodes: All nodes from the first product to the second.
    """

    query: Operand
    key: Operand
    value: Operand
    masks: tuple[Term, ...]
    scale: float
    causal: bool
    empty: Term | None
    product: ir.Node
    nodes: frozenset[ir.Node]

    @property
    def heads(self) -> int:
        """How many heads there are."""
        return self.query.heads

    @property
    def graph(self) -> ir.Graph:
        """The graph of the nodes."""
        graph = self.product.graph
        assert isinstance(graph, ir.Graph)  # matchers only see nodes of graphs
        return graph


@dataclass(frozen=True)
class _Scores:
    """``factor * value + masks``; ``value`` is still to be looked at."""

    value: ir.Value
    factor: float = 1.0
    masks: tuple[Term, ...] = ()
    nodes: tuple[ir.Node, ...] = ()


def find_core(softmax: ir.Node, sizes: Sizes) -> Core | None:
    """Return the attention around a softmax, or None where it is none that the operators can do.

    Args:
        softmax: A node.
        sizes: Where the model tells named sizes, for masks that have to be expanded.
    """
    scores, weights = softmax.inputs[0], softmax.outputs[0]
    places = rank(scores)
    if scores is None or places not in (3, 4) or not is_float(scores):
        return None
    if int_attribute(softmax, "axis", -1) not in (-1, places - 1):
        return None
    guarded, guard = unguarded(weights)
    product = only_user(guarded or weights, "MatMul")
    if product is None or product.inputs[0] is not (guarded or weights):
        return None
    found = _peel(scores)
    if found is None or product.graph is not softmax.graph:
        return None
    empty: Term | None = None
    if guarded is not None:
        softened = _softened(found)
        if softened is None:
            return None
        found, empty = softened
    nodes = frozenset((*found.nodes, *guard, softmax, product))
    if any(node.graph is not softmax.graph for node in nodes):
        return None
    core = _core(found, empty, product, nodes)
    fit = core is not None and fits(core.masks, core.query, core.key, sizes)
    return core if fit else None


def _softened(found: _Scores) -> tuple[_Scores, Term | None] | None:
    """Make masks finite; one of them may hide all keys of a query, in all heads alike."""
    masks, empty = list[Term](), list[Term]()
    for term in found.masks:
        finite = without_infinity(term)
        if finite is None:
            return None
        masks.append(finite[0])
        if finite[1]:
            empty.append(finite[0])
    heads = [term.value.shape for term in empty]
    if len(empty) > 1 or any(
        shape is None or term.rank != 4 for shape, term in zip(heads, empty, strict=True)
    ):
        return None
    if empty and (empty[0].dims()[1] != 1 or len(empty) != len(masks)):
        return None
    return replace(found, masks=tuple(masks)), empty[0] if empty else None


def _core(
    found: _Scores, empty: Term | None, product: ir.Node, nodes: frozenset[ir.Node]
) -> Core | None:
    first = made_by(found.value, "MatMul")
    if first is None or any(v is None for v in (*first.inputs, product.inputs[1])):
        return None
    left, left_factor, left_nodes = _scaled(first.inputs[0])
    right, right_factor, right_nodes = _scaled(first.inputs[1])
    places, last = rank(found.value), product.inputs[1]
    if left is None or right is None or last is None:
        return None
    if any(rank(v) != places for v in (left, right, last, product.outputs[0])):
        return None
    query, key = find_operand(left, turned=False), find_operand(right, turned=True)
    value = find_operand(last, turned=False)
    if query is None or key is None or value is None or query.repeats != 1:
        return None
    if not _agree(query, key, value):
        return None
    scale = float(found.factor * left_factor * right_factor)
    nodes = nodes | {*left_nodes, *right_nodes}
    causal = is_causal(found.masks, query, key)
    masks = () if causal else found.masks
    empty = None if causal else empty  # the first query sees the first key
    return Core(query, key, value, masks, scale, causal, empty, product, nodes)


def _agree(query: Operand, key: Operand, value: Operand) -> bool:
    """Tell whether batches, heads, lengths and sizes fit each other."""
    if {key.heads, value.heads} != {query.heads} or key.repeats != value.repeats:
        return False
    if key.size != query.size or not same_dim(key.length, value.length):
        return False
    ranks = {len(operand.value.shape or ()) for operand in (query, key, value)}
    return len(ranks) == 1 and all(same_dim(query.batch, o.batch) for o in (key, value))


def unguarded(weights: ir.Value) -> tuple[ir.Value | None, list[ir.Node]]:
    """Return Where(IsNaN(p), 0, p), and its nodes, where it is all that reads p."""
    readers = [use.node for use in weights.uses()]
    if len(readers) != 2 or weights.is_graph_output():
        return None, []
    test = next((node for node in readers if is_op(node, "IsNaN")), None)
    choice = None if test is None else only_user(test.outputs[0], "Where")
    if test is None or choice is None or choice not in readers or choice.inputs[2] is not weights:
        return None, []
    zero = array_of(choice.inputs[1], 1)
    if zero is None or not zero.size or zero.any():
        return None, []
    return choice.outputs[0], [test, choice]


def _peel(scores: ir.Value) -> _Scores | None:
    """Take scales and masks from the scores until the product of queries and keys is left."""
    found = _Scores(scores)
    while made_by(found.value, "MatMul") is None:
        if len(found.value.uses()) != 1 or found.value.is_graph_output():
            return None
        step = _scaling(found) or _summand(found) or _choice(found) or _windows(found)
        if step is None:
            return None
        found = step
    alone = len(found.value.uses()) == 1 and not found.value.is_graph_output()
    first = made_by(found.value, "MatMul")
    return replace(found, nodes=(*found.nodes, first)) if alone and first is not None else None


def _scaling(found: _Scores) -> _Scores | None:
    """Take a constant factor; masks that are taken later would have to be scaled as well."""
    value, factor, nodes = _scaled(found.value)
    if value is None or not nodes:
        return None
    return replace(found, value=value, factor=found.factor * factor, nodes=(*found.nodes, *nodes))


def _summand(found: _Scores) -> _Scores | None:
    """Take a mask that is added."""
    add = made_by(found.value, "Add")
    if add is None or found.factor != 1:
        return None
    for value, other in (add.inputs, reversed(add.inputs)):
        if value is None or other is None or not _leads_to_product(value):
            continue
        term = Term(other, rank(found.value) or 0)
        return replace(found, value=value, masks=(term, *found.masks), nodes=(*found.nodes, add))
    return None


def _choice(found: _Scores) -> _Scores | None:
    """Take a mask that replaces scores by a number so low that any score is lost in it."""
    where = made_by(found.value, "Where")
    if where is None or found.factor != 1:
        return None
    condition, yes, no = where.inputs
    for value, low, masked in ((no, yes, True), (yes, no, False)):
        if value is None or condition is None or not is_low(low) or not _leads_to_product(value):
            continue
        term = Term(condition, rank(found.value) or 0, chooses=True, low=low, masked=masked)
        return replace(found, value=value, masks=(term, *found.masks), nodes=(*found.nodes, where))
    return None


def _windows(found: _Scores) -> _Scores | None:
    """Take a mask that is added to scores of rank 5: (batch, windows, heads, queries, keys)."""
    outer = made_by(found.value, "Reshape")
    add = None if outer is None else made_by(outer.inputs[0], "Add")
    if outer is None or add is None or rank(found.value) != 4 or rank(add.outputs[0]) != 5:
        return None
    if found.factor != 1:
        return None
    if len(add.outputs[0].uses()) != 1 or add.outputs[0].is_graph_output():
        return None
    for wide, other in (add.inputs, reversed(add.inputs)):
        inner = made_by(wide, "Reshape")
        value = None if inner is None else inner.inputs[0]
        if inner is None or value is None or other is None or wide is None:
            continue
        if len(wide.uses()) != 1 or not _is_split(value, found.value, wide):
            continue
        outer_size = None if wide.shape is None else wide.shape[0]
        term = Term(other, 5, outer_size)
        nodes = (*found.nodes, outer, add, inner)
        return replace(found, value=value, masks=(term, *found.masks), nodes=nodes)
    return None


def _is_split(value: ir.Value, result: ir.Value, wide: ir.Value) -> bool:
    """Tell whether ``wide`` only splits the first dimension, and the result joins it again."""
    if value.shape is None or result.shape is None or wide.shape is None:
        return False
    inner = list(wide.shape)[2:]
    return all(
        len(shape) == 4 and all(map(same_dim, list(shape)[1:], inner))
        for shape in (value.shape, result.shape)
    )


def _leads_to_product(value: ir.Value | None, depth: int = 8) -> bool:
    """Tell whether a value is a product, scaled and masked."""
    node = made_by(value, "MatMul", "Mul", "Div", "Add", "Where", "Reshape")
    if node is None or not depth:
        return False
    return node.op_type == "MatMul" or any(_leads_to_product(v, depth - 1) for v in node.inputs)


def _scaled(value: ir.Value | None) -> tuple[ir.Value | None, float, list[ir.Node]]:
    """Return y, f and the node where a value is f * y with a constant number f."""
    node = made_by(value, "Mul", "Div")
    if node is None or value is None:
        return value, 1.0, []
    places = ((0, 1), (1, 0)) if node.op_type == "Mul" else ((0, 1),)
    for place, other in places:
        array = array_of(node.inputs[other], 1)
        if array is None or array.size != 1 or rank(node.inputs[place]) != rank(value):
            continue
        number = float(array.item())
        if np.isfinite(number) and number:
            factor = number if node.op_type == "Mul" else 1 / number
            inner, more, nodes = _scaled(node.inputs[place])
            return inner, factor * more, [node, *nodes]
    return value, 1.0, []
