"""Replace loops of a known, small number of turns by what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import (
    all_nodes,
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    is_op,
    made_by,
)
from onnxsmith.passes.splice import Splicer, can_hand_on, hand_on

_MAX_TURNS = 1024
_FIRST_OPSET = 11  # what came before has other rules, and is not written any more
_AXES_AS_INPUT = 13


@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Replace loops of a known, small number of turns by what they compute.

    ``Loop(0, c, s) = s`` and ``Loop(n, false, s) = s``, with empty scan outputs;
    ``Loop(1, true, s) = body(0, true, s)``; ``Loop(n, true, s)`` is the body ``n`` times where it
    hands its condition on, and where that leaves no more nodes than there were: what depends on the
    turn's number and on constants alone is folded then. ``Scan`` over one element is its body.

    What is left alone: conditions that the body computes; empty scan outputs of unknown shape;
    loops inside functions.

    Options:
        limit: How many nodes more there may be.
    """

    name: ClassVar[str] = "unroll-loops"

    limit: int = 0

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Unroll in the graph and its subgraphs; what is inside a loop is unrolled first."""
        opset, count = model.opset_imports.get("", 1), 0
        nodes = [node for node in all_nodes(model) if is_op(node, "Loop", "Scan")]
        if not nodes or opset < _FIRST_OPSET:
            return PassResult(model, False)
        splicer = Splicer(model)
        for node in reversed(nodes):
            if node.graph is not None and can_hand_on(node.outputs, opset):
                if node.op_type == "Loop":
                    count += _unroll_loop(splicer, node, self.limit, opset)
                else:
                    count += _unroll_scan(splicer, node, opset)
        return PassResult(model, bool(count), {"unrolled": count})


def _unroll_loop(splicer: Splicer, node: ir.Node, limit: int, opset: int) -> bool:
    body = node.attributes["body"].as_graph()
    states = [value for value in node.inputs[2:] if value is not None]
    fits = len(states) == len(node.inputs) - 2 and len(node.outputs) == len(body.outputs) - 1
    turns = _turns(node, body) if fits else None
    if turns is None or node.graph is None:
        return False
    if turns == 0:
        return _skip(splicer, node, body, states)
    if turns > 1 and _left(body, turns) > 1 + _count(body) + limit:
        return False
    collected: list[list[ir.Value]] = []
    for turn in range(turns):
        copy = body if turn == turns - 1 else body.clone(allow_outer_scope_values=True)
        number, condition = copy.inputs[:2]
        given = [
            _constant(splicer, node, "turn", _of_rank(number, np.array(turn, np.int64))),
            _constant(splicer, node, "condition", _of_rank(condition, np.array(True))),
            *states,
        ]
        results = _run(splicer, node, copy, given)
        states = results[1 : 1 + len(states)]
        collected.append(results[1 + len(states) :])
    columns = [list(column) for column in zip(*collected, strict=True)]
    scanned = [_stack(splicer, node, column, opset) for column in columns]
    hand_on(node, [*states, *scanned])
    return True


def _turns(node: ir.Node, body: ir.Graph) -> int | None:
    """Return how often a Loop runs; None where that is not known."""
    limit, condition = input_of(node, 0), input_of(node, 1)
    bound, begins = array_of(limit), array_of(condition)
    number = None if bound is None or bound.size != 1 else max(0, int(bound.item()))
    if number == 0 or (begins is not None and not begins.any()):
        return 0
    if (limit is not None and number is None) or (condition is not None and begins is None):
        return None
    if number == 1:
        return 1
    goes_on = _unwrapped(body.outputs[0])
    constant = array_of(goes_on)
    if goes_on is body.inputs[1] or (constant is not None and constant.all()):
        return number if number is not None and number <= _MAX_TURNS else None
    # Without a first condition, ONNX ignores those of the body and the runtime does not.
    return 1 if constant is not None and condition is not None else None


def _unwrapped(value: ir.Value) -> ir.Value:
    while (node := made_by(value, "Identity")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def _count(body: ir.Graph) -> int:
    return sum(not is_op(node, "Constant") for node in ir.traversal.RecursiveGraphIterator(body))


def _left(body: ir.Graph, turns: int) -> int:
    """Return how many nodes are left of the body's turns when what is constant is folded."""
    moving = set(body.inputs[2:])
    count = 0
    for node in body:
        inner = [n for graph in _bodies(node) for n in ir.traversal.RecursiveGraphIterator(graph)]
        read = [value for each in (node, *inner) for value in each.inputs if value is not None]
        if any(value in moving or _is_outer(value, body) for value in read):
            moving.update(node.outputs)
            count += not is_op(node, "Identity")
            count += sum(not is_op(each, "Constant") for each in inner)
    scanned = len(body.outputs) - len(body.inputs) + 1
    return turns * (count + scanned) + scanned


def _bodies(node: ir.Node) -> list[ir.Graph]:
    kind = ir.AttributeType.GRAPH
    return [a.as_graph() for a in node.attributes.values() if a.type == kind and not a.is_ref()]


def _is_outer(value: ir.Value, body: ir.Graph) -> bool:
    """Tell whether a value comes from outside and is no constant."""
    if value.is_initializer() and not value.is_graph_input():
        return False
    producer = value.producer()
    return value not in body.inputs if producer is None else producer.graph is not body


def _skip(splicer: Splicer, node: ir.Node, body: ir.Graph, states: list[ir.Value]) -> bool:
    """Replace a Loop that never runs by its first states and empty results."""
    empty = []
    for element in body.outputs[1 + len(states) :]:
        if element.shape is None or not element.shape.is_static() or element.dtype is None:
            return False
        if element.dtype == ir.DataType.STRING:
            return False
        empty.append(np.zeros((0, *element.shape.numpy()), element.dtype.numpy()))
    hand_on(node, [*states, *(_constant(splicer, node, "empty", array) for array in empty)])
    return True


def _unroll_scan(splicer: Splicer, node: ir.Node, opset: int) -> bool:
    body, count = node.attributes["body"].as_graph(), int_attribute(node, "num_scan_inputs")
    if count is None or None in node.inputs or len(node.outputs) != len(body.outputs):
        return False
    values = [value for value in node.inputs if value is not None]
    first = len(values) - count
    states, sequences = values[:first], values[first:]
    axes = ints_attribute(node, "scan_input_axes") or [0] * count
    if not any(_size(value, axis) == 1 for value, axis in zip(sequences, axes, strict=True)):
        return False
    elements = [
        _view(splicer, node, "Squeeze", value, axis, opset)
        for value, axis in zip(sequences, axes, strict=True)
    ]
    results = _run(splicer, node, body, [*states, *elements])
    scanned = results[first:]
    places = ints_attribute(node, "scan_output_axes") or [0] * len(scanned)
    stacked = [
        _view(splicer, node, "Unsqueeze", value, axis, opset)
        for value, axis in zip(scanned, places, strict=True)
    ]
    hand_on(node, [*results[:first], *stacked])
    return True


def _size(value: ir.Value, axis: int) -> int | None:
    rank = 0 if value.shape is None else len(value.shape)
    if value.shape is None or not -rank <= axis < rank:
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def _run(
    splicer: Splicer, node: ir.Node, body: ir.Graph, given: Sequence[ir.Value]
) -> list[ir.Value]:
    """Put a body in front of a node, with values for its inputs; return its outputs."""
    places = dict(zip(body.inputs, given, strict=True))
    results = [places.get(result, result) for result in body.outputs]
    body.outputs.clear()
    for inner, value in places.items():
        inner.replace_all_uses_with(value)
    splicer.splice(body, node)
    return results


def _stack(splicer: Splicer, node: ir.Node, turns: list[ir.Value], opset: int) -> ir.Value:
    """Return the results of all turns as one tensor with a new first axis."""
    rows = [_view(splicer, node, "Unsqueeze", value, 0, opset) for value in turns]
    if len(rows) == 1:
        return rows[0]
    return _insert(splicer, node, ir.node("Concat", rows, {"axis": 0}), turns[0])


def _view(
    splicer: Splicer, node: ir.Node, kind: str, value: ir.Value, axis: int, opset: int
) -> ir.Value:
    if opset >= _AXES_AS_INPUT:
        axes = _constant(splicer, node, "axis", np.array([axis], np.int64))
        return _insert(splicer, node, ir.node(kind, [value, axes]), value)
    return _insert(splicer, node, ir.node(kind, [value], {"axes": [axis]}), value)


def _insert(splicer: Splicer, node: ir.Node, new: ir.Node, like: ir.Value) -> ir.Value:
    result = new.outputs[0]
    result.name, result.type = splicer.free(f"{like.name}/{new.op_type.lower()}"), like.type
    assert node.graph is not None  # apply() found it there
    node.graph.insert_before(node, new)
    return result


def _of_rank(value: ir.Value, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a number of the rank that a body declares: 0, or 1 as some exporters write."""
    return array.reshape(1) if value.shape is not None and len(value.shape) == 1 else array


def _constant(splicer: Splicer, node: ir.Node, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    """Add an initializer under a name that is free also in bodies."""
    assert isinstance(node.graph, ir.Graph)  # functions are left alone
    name = splicer.free(name)
    tensor = ir.Tensor(array, name=name)
    kind = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
    node.graph.register_initializer(value)
    return value
