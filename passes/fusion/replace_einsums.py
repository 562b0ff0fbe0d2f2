"""Write contractions of two values as matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import rank, take_over
from onnxsmith.passes.match import (
    add_constant,
    add_tensor,
    all_nodes,
    is_op,
    made_by,
    only_user,
    remove_if_dead,
    tensor_of,
)
from onnxsmith.passes.views import Size

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class ReplaceEinsums(Pass):
    """Write contractions of two values as matrix products.

    ``Einsum(x, y) = Transpose(MatMul(Transpose(x), Transpose(y)))`` where besides the dimensions
    that both have and keep, each has one of its own and they share one that is summed; where y is
    constant, ``Einsum(x, y) = Reshape(MatMul(Reshape(x), W))`` with any number of them, and a bias
    that follows is added in front of the reshape. Keras writes attention so.

    Applied only to models in which an Einsum reads a Softmax: there the attention can be fused
    afterwards; elsewhere one node would become several.

    What is left alone: other numbers of operands, ellipses, dimensions that are repeated or that
    are summed in one operand alone, and operands of unknown rank.

    Source: the operator's definition in ONNX.
    """

    name: ClassVar[str] = "replace-einsums"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Replace in the graph and its subgraphs."""
        einsums = [node for node in all_nodes(model) if is_op(node, "Einsum")]
        if not any(made_by(v, "Softmax") for node in einsums for v in node.inputs):
            return PassResult(model, False)
        count = sum(_replace(node) for node in einsums)
        return PassResult(model, bool(count), {"replaced": count})


@dataclass(frozen=True)
class _Equation:
    """The dimensions of an Einsum of two operands, by letter.

    Attributes:
        left: Of the first operand.
        right: Of the second operand.
        result: Of the result.
    """

    left: str
    right: str
    result: str

    @property
    def both(self) -> str:
        """What both operands have and the result keeps, in its order."""
        return "".join(x for x in self.result if x in self.left and x in self.right)

    @property
    def summed(self) -> str:
        """What both operands have and the result does not."""
        return "".join(x for x in self.left if x in self.right and x not in self.result)

    def own(self, operand: str, other: str) -> str:
        """Return what an operand has and the other does not."""
        return "".join(x for x in self.result if x in operand and x not in other)

    def swapped(self) -> _Equation:
        """Return the equation with its operands in the other order."""
        return _Equation(self.right, self.left, self.result)


def _replace(node: ir.Node) -> bool:
    found = _equation(node)
    first, second = node.inputs if len(node.inputs) == 2 else (None, None)
    if found is None or first is None or second is None or not isinstance(node.graph, ir.Graph):
        return False
    if tensor_of(first) is not None:
        found, first, second = found.swapped(), second, first
    weights = tensor_of(second)
    if weights is not None and not found.both:
        _project(node, found, first, weights)
        return True
    own = [found.own(found.left, found.right), found.own(found.right, found.left)]
    if [len(own[0]), len(own[1]), len(found.summed)] != [1, 1, 1]:
        return False
    if found.result == found.both + own[1] + own[0]:
        found, first, second, own = found.swapped(), second, first, own[::-1]
    sizes = _sizes(found, first, second)
    one = _turn(node, first, found.left, found.both + own[0] + found.summed)
    two = _turn(node, second, found.right, found.both + found.summed + own[1])
    shape = [sizes[x] for x in found.both + own[0] + own[1]]
    product = _add(node, "MatMul", [one, two], shape)
    _finish(node, _turn(node, product, found.both + own[0] + own[1], found.result))
    return True


def _equation(node: ir.Node) -> _Equation | None:
    attribute = node.attributes.get("equation")
    if attribute is None or attribute.is_ref() or len(node.inputs) != 2:
        return None
    text = attribute.as_string().replace(" ", "")
    given, arrow, result = text.partition("->")
    operands = given.split(",")
    if not arrow or len(operands) != 2 or "." in text:
        return None
    found = _Equation(operands[0], operands[1], result)
    for letters, value in zip(operands, node.inputs, strict=True):
        if rank(value) != len(letters) or len(set(letters)) != len(letters):
            return None
    known = set(found.both) | set(found.summed)
    apart = all(x in known or x in result for x in found.left + found.right)
    return found if apart and set(result) <= set(found.left + found.right) else None


def _project(node: ir.Node, found: _Equation, value: ir.Value, weights: ir.TensorProtocol) -> None:
    """Write a product with constant weights."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    kept, made = found.own(found.left, found.right), found.own(found.right, found.left)
    sizes = dict(zip(found.right, weights.shape.numpy(), strict=True))
    given = dict(zip(found.left, value.shape or (), strict=True))
    outer = [given[x] for x in kept]
    value = _turn(node, value, found.left, kept + found.summed)
    if len(found.summed) != 1:
        value = _reshape(node, value, outer, [math.prod(sizes[x] for x in found.summed)])
    order = [found.right.index(x) for x in found.summed + made]
    shape = [math.prod(sizes[x] for x in letters) for letters in (found.summed, made)]
    matrix = ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(weights.numpy().transpose(order)).reshape(shape)),
        dtype=weights.dtype,
        shape=ir.Shape(shape),
    )
    name = node.outputs[0].name
    columns = add_tensor(graph, matrix, f"{name}/weights")
    product = _add(node, "MatMul", [value, columns], [*outer, shape[1]])
    last = node
    add = only_user(node.outputs[0], "Add")
    bias = None if add is None else _bias(add, node.outputs[0], [sizes[x] for x in made])
    if add is not None and bias is not None and found.result == kept + made:
        vector = add_constant(graph, bias.reshape(-1), f"{name}/bias")
        product, last = _add(node, "Add", [product, vector], [*outer, shape[1]]), add
    if len(made) != 1:
        product = _reshape(node, product, outer, [sizes[x] for x in made])
    _finish(last, _turn(node, product, kept + made, found.result))


def _bias(add: ir.Node, value: ir.Value, sizes: list[int]) -> Array | None:
    """Return the constant of just these sizes that is added to a value."""
    other = next((v for v in add.inputs if v is not value), None)
    tensor = tensor_of(other)
    return tensor.numpy() if tensor is not None and list(tensor.shape) == sizes else None


def _turn(node: ir.Node, value: ir.Value, given: str, wanted: str) -> ir.Value:
    """Put a value's dimensions into another order."""
    if given == wanted:
        return value
    perm = [given.index(x) for x in wanted]
    assert value.shape is not None  # _equation() asked for its rank
    shape = [value.shape[axis] for axis in perm]
    return _add(node, "Transpose", [value], shape, {"perm": perm})


def _sizes(found: _Equation, first: ir.Value, second: ir.Value) -> dict[str, Size]:
    """Return the size of each dimension; one of two that meet may be known to be a number."""
    pairs = [
        *zip(found.left, first.shape or (), strict=True),
        *zip(found.right, second.shape or (), strict=True),
    ]
    sizes = dict(pairs)
    return sizes | {letter: size for letter, size in pairs if isinstance(size, int)}


def _reshape(node: ir.Node, value: ir.Value, outer: list[Size], inner: list[int]) -> ir.Value:
    """Split or merge what is behind the outer dimensions."""
    graph = node.graph
    assert graph is not None  # is_op() says so
    target = np.array([*[0] * len(outer), *inner], np.int64)
    shape = add_constant(graph, target, f"{node.outputs[0].name}/shape")
    return _add(node, "Reshape", [value, shape], [*outer, *inner])


def _add(
    node: ir.Node,
    kind: str,
    inputs: Sequence[ir.Value],
    shape: Sequence[Size],
    attributes: dict[str, list[int]] | None = None,
) -> ir.Value:
    """Write a node in front of the Einsum."""
    new = ir.node(kind, inputs, attributes)
    assert node.graph is not None  # is_op() says so
    node.graph.insert_before(node, new)
    new.outputs[0].type, new.outputs[0].shape = inputs[0].type, ir.Shape(shape)
    return new.outputs[0]


def _finish(node: ir.Node, value: ir.Value) -> None:
    take_over(node.outputs[0], value)
    remove_if_dead(node)
