"""Move a Reshape or Transpose in front of products with weights, to the views that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import float_attribute, rank
from onnxsmith.passes.match import (
    add_constant,
    add_tensor,
    bypass,
    input_of,
    int_attribute,
    ints_attribute,
    is_op,
    made_by,
    tensor_of,
)

_VIEWS = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
_POINTWISE = ("Erf", "Gelu", "HardSwish", "Relu", "Sigmoid", "Swish", "Tanh")
_FIRST_OPSET = 7  # from which on operators broadcast, and a Reshape's target is an input


@dataclass(frozen=True)
class RaiseViews(Pass):
    """Move a Reshape or Transpose in front of products with weights, to the views that are there.

    ``Reshape(Gemm(Reshape(x, [-1, K]), W, b), [..., N]) = MatMul(Reshape(x, [..., K]), W) + b``,
    and the same for a Transpose that leaves the last dimension in its place, with sums and
    pointwise operators on the way. The views meet and cancel: torch flattens its tokens for every
    product.

    What is left alone: products whose weights or biases are not constant, with factors of their own
    or with turned left operands; values that anything else reads; ways without a product, or
    without a view at their start. The runtime makes Gemms of MatMul and Add again.
    """

    name: ClassVar[str] = "raise-views"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Raise in the graph and its subgraphs; shapes should be inferred."""
        count = 0
        for graph in model.graphs() if (model.opset_imports.get("") or 0) >= _FIRST_OPSET else ():
            for node in list(graph):
                count += is_op(node, "Reshape", "Transpose") and _raise(node)
        return PassResult(model, bool(count), {"raised": count})


def _raise(last: ir.Node) -> bool:
    way = _way(last)
    first = way[-1].inputs[0] if way else None
    if first is None or made_by(first, *_VIEWS) is None:
        return False
    if not any(is_op(node, "Gemm", "MatMul") for node in way) or not _keeps_last(last):
        return False
    shape = last.outputs[0].shape
    if shape is None or first.shape is None:
        return False
    outer = list(shape)[:-1]
    value = _moved(last, first, outer)
    if value is None:
        return False
    for node in reversed(way):
        value = _again(last, node, value, outer)
    return bypass(last, value)


def _keeps_last(last: ir.Node) -> bool:
    """Tell whether the last dimension stays as it is, and those before it are split or moved."""
    before, after = last.inputs[0], last.outputs[0]
    if before is None or before.shape is None or after.shape is None or len(after.shape) < 2:
        return False
    if last.op_type == "Transpose":
        perm = ints_attribute(last, "perm")
        return perm is not None and perm[-1] == len(perm) - 1
    size = after.shape[-1]
    return isinstance(size, int) and size == before.shape[-1] and len(before.shape) >= 2


def _way(last: ir.Node) -> list[ir.Node]:
    """Return the nodes that treat each vector of the last dimension alike, last to first."""
    found: list[ir.Node] = []
    value = last.inputs[0]
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        node = value.producer()
        if node is None or node.graph is not last.graph or not _is_even(node):
            break
        found.append(node)
        value = node.inputs[0]
    return found


def _is_even(node: ir.Node) -> bool:
    """Tell whether a node treats each vector along the last dimension of its first input alike."""
    if is_op(node, *_POINTWISE):
        return True
    if is_op(node, "Add"):
        return _is_vector(input_of(node, 1)) and (rank(node.inputs[0]) or 0) >= 2
    if is_op(node, "MatMul"):
        return _is_matrix(node.inputs[1]) and (rank(node.inputs[0]) or 0) >= 2
    if not is_op(node, "Gemm") or int_attribute(node, "transA", 0) != 0:
        return False
    factors = [float_attribute(node, name, 1.0) for name in ("alpha", "beta")]
    bias = input_of(node, 2)
    return factors == [1, 1] and _is_matrix(node.inputs[1]) and (bias is None or _is_vector(bias))


def _is_matrix(value: ir.Value | None) -> bool:
    tensor = tensor_of(value)
    return tensor is not None and len(tensor.shape) == 2


def _is_vector(value: ir.Value | None) -> bool:
    tensor = tensor_of(value)
    return tensor is not None and len(tensor.shape) == 1


def _moved(last: ir.Node, first: ir.Value, outer: list[int | ir.SymbolicDim]) -> ir.Value | None:
    """Write the view anew in front of the first product."""
    graph = last.graph
    assert graph is not None  # the caller asked for them
    assert first.shape is not None
    if last.op_type == "Transpose":
        if len(first.shape) != len(outer) + 1:
            return None
        node = ir.node("Transpose", [first], {"perm": ints_attribute(last, "perm")})
    else:
        target = tensor_of(last.inputs[1])
        if target is None or int_attribute(last, "allowzero", 0) != 0:
            return None
        size = first.shape[-1]
        if not isinstance(size, int):
            return None
        numbers = [int(number) for number in target.numpy()]
        if 0 in numbers[:-1] and len(first.shape) != rank(last.inputs[0]):
            return None
        array = np.array([*numbers[:-1], size], np.int64)
        shape = add_constant(graph, array, f"{last.outputs[0].name}/rows")
        node = ir.node("Reshape", [first, shape])
    return _insert(last, node, first, outer)


def _insert(
    last: ir.Node, node: ir.Node, like: ir.Value, outer: list[int | ir.SymbolicDim]
) -> ir.Value:
    graph, result = last.graph, node.outputs[0]
    assert graph is not None  # the caller asked for them
    assert like.shape is not None
    result.type, result.shape = like.type, ir.Shape([*outer, like.shape[-1]])
    graph.insert_before(last, node)
    return result


def _again(
    last: ir.Node, node: ir.Node, value: ir.Value, outer: list[int | ir.SymbolicDim]
) -> ir.Value:
    """Write a node anew for a value of another shape."""
    like, inputs = node.outputs[0], list(node.inputs)
    if node.op_type != "Gemm":
        attributes = list(node.attributes.values())
        new = ir.node(node.op_type, [value, *inputs[1:]])
        new.attributes.update({attribute.name: attribute for attribute in attributes})
        return _insert(last, new, like, outer)
    weights, bias = inputs[1], input_of(node, 2)
    matrix = tensor_of(weights)
    if int_attribute(node, "transB", 0) and matrix is not None and last.graph is not None:
        weights = add_tensor(last.graph, _turned(matrix), f"{like.name}/weights")
    product = _insert(last, ir.node("MatMul", [value, weights]), like, outer)
    return product if bias is None else _insert(last, ir.node("Add", [product, bias]), like, outer)


def _turned(matrix: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return a matrix transposed, when it is asked for."""
    rows, columns = matrix.shape.numpy()
    shape = ir.Shape([columns, rows])
    return ir.LazyTensor(
        lambda: ir.Tensor(np.ascontiguousarray(matrix.numpy().T)), dtype=matrix.dtype, shape=shape
    )
