"""Move a Reshape or Transpose behind pointwise operators, where the next one cancels it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.remove_no_op_shapes import keeps_shape, permutation
from onnxsmith.passes.match import (
    add_constant,
    bypass,
    ints_of,
    is_op,
    made_by,
    remove_if_dead,
    same_dim,
    tensor_of,
)

_UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu",
    "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish",
    "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_BINARY = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")


@dataclass(frozen=True)
class SinkShapes(Pass):
    """Move a Reshape or Transpose behind pointwise operators, where the next one cancels it.

    ``Reshape(f(Reshape(x, a)), b) = f(x)`` where that has the shape of ``x``, else
    ``Reshape(f(x), b)``; ``Transpose(f(Transpose(x, p)), q) = f(x)`` where ``q`` undoes ``p``.
    ``f`` is a chain of pointwise operators, of one value or with a constant of one element.

    Shapes should be inferred. What is left alone: chains whose values anything else reads, and
    Transposes that do not cancel: the first one may serve the layout of its neighbors.
    """

    name: ClassVar[str] = "sink-shapes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Sink in the graph and its subgraphs."""
        count, opset = 0, model.opset_imports.get("", 1)
        for graph in model.graphs():
            for node in list(graph):
                if is_op(node, "Reshape", "Transpose") and opset >= 5:
                    count += _sink(node)
        return PassResult(model, bool(count), {"sunk": count})


def _sink(last: ir.Node) -> bool:
    chain = _chain(last)
    if not chain:
        return False
    first = made_by(chain[0].inputs[_place(chain[0])], last.op_type)
    source = None if first is None else first.inputs[0]
    if first is None or source is None or source.shape is None:
        return False
    if not _read_once(first, chain[0]):
        return False
    if last.op_type == "Transpose":
        done = _undoes(first, last) and bypass(last, chain[-1].outputs[0])
    else:
        done = keeps_shape(last, source) and bypass(last, chain[-1].outputs[0])
        done = done or _retarget(last, source)
    if done:
        chain[0].replace_input_with(_place(chain[0]), source)
        for node in chain:
            node.outputs[0].shape = source.shape
        remove_if_dead(first)
    return done


def _chain(last: ir.Node) -> list[ir.Node]:
    """Return the pointwise nodes in front of a node, first to last."""
    found: list[ir.Node] = []
    user = last
    while True:
        node = made_by(user.inputs[_place(user) if found else 0], *_UNARY, *_BINARY)
        if node is None or not _is_pointwise(node) or not _read_once(node, user):
            return found[::-1]
        found.append(node)
        user = node


def _read_once(node: ir.Node, user: ir.Node) -> bool:
    value = node.outputs[0]
    uses = value.uses()
    return len(uses) == 1 and not value.is_graph_output() and node.graph is user.graph


def _is_pointwise(node: ir.Node) -> bool:
    if node.op_type in _UNARY:
        return True
    other = node.inputs[1 - _place(node)] if len(node.inputs) == 2 else None
    tensor = tensor_of(other)
    value = node.inputs[_place(node)]
    if tensor is None or tensor.size != 1 or value is None or value.shape is None:
        return False
    return len(tensor.shape) <= 1 <= len(value.shape)


def _place(node: ir.Node) -> int:
    """Return which input of a pointwise node is the value."""
    return 1 if node.op_type in _BINARY and tensor_of(node.inputs[0]) is not None else 0


def _undoes(first: ir.Node, second: ir.Node) -> bool:
    before, after = permutation(first), permutation(second)
    if before is None or after is None or len(before) != len(after):
        return False
    return [before[axis] for axis in after] == list(range(len(after)))


def _retarget(last: ir.Node, source: ir.Value) -> bool:
    """Give a Reshape a target that does not depend on the shape of its input."""
    result, graph = last.outputs[0], last.graph
    given = ints_of(last.inputs[1])
    if given is not None and 0 not in given:
        return True
    if result.shape is None or source.shape is None or graph is None or 0 in result.shape.dims:
        return False
    target = [
        size
        if isinstance(size, int)
        else 0
        if axis < len(source.shape) and same_dim(size, source.shape[axis])
        else -1
        for axis, size in enumerate(result.shape)
    ]
    if target.count(-1) > 1:
        return False
    last.attributes.pop("allowzero", None)
    array = np.array(target, np.int64)
    last.replace_input_with(1, add_constant(graph, array, f"{result.name}/shape"))
    return True
