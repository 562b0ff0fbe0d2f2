"""Fuse the steps of a layer normalization into one operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.folded_layer_norm import fuse_folded
from onnxsmith.passes.match import (
    add_constant,
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    is_op,
    made_by,
    only_user,
    replace,
    tensor_of,
)

_OPSET = 17
_TYPES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclass(frozen=True)
class _Normalized:
    """``(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon)`` over the last axes."""

    source: ir.Value
    result: ir.Node
    epsilon: float
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class FuseLayerNorm(Pass):
    """Fuse the steps of a layer normalization into one operator.

    ``g (x - mean(x)) / sqrt(mean((x - mean(x))^2) + e) + b = LayerNormalization(x, g, b)`` over the
    last axes, from opset 17 on; without ``g`` it is ones. Squares are Pow or Mul, the quotient is
    Div or a product with the Reciprocal. TensorFlow's form ``x r + (b - mean(x) r)`` with
    ``r = g / sqrt(mean((x - mean(x))^2) + e)`` is the same.

    What is left alone: other axes than the last ones, sizes that are not known, steps that anything
    else reads, float64 (the operator computes in float32), and weights of another shape.

    Source: Ba et al., "Layer Normalization", 2016.
    """

    name: ClassVar[str] = "fuse-layer-norm"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fuse in the graph and its subgraphs; shapes should be inferred."""
        if model.opset_imports.get("", 1) < _OPSET:
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                found = _find(node) if is_op(node, "Sqrt") else None
                if found is not None:
                    count += _fuse(graph, found)
                elif is_op(node, "Sqrt"):
                    count += fuse_folded(node)
        return PassResult(model, bool(count), {"fused": count})


def _find(sqrt: ir.Node) -> _Normalized | None:
    add = made_by(sqrt.inputs[0], "Add")
    if add is None or not _read_once(add, sqrt):
        return None
    for place in (0, 1):
        variance = made_by(add.inputs[place], "ReduceMean")
        epsilon = array_of(add.inputs[1 - place], 1)
        if variance is not None and epsilon is not None and epsilon.size == 1:
            break
    else:
        return None
    centered = _square_root(variance.inputs[0])
    sub = made_by(centered, "Sub")
    mean = None if sub is None else made_by(sub.inputs[1], "ReduceMean")
    if centered is None or sub is None or mean is None or mean.inputs[0] is not sub.inputs[0]:
        return None
    source = sub.inputs[0]
    sizes = None if source is None else _last_sizes(source, mean, variance)
    quotient = _quotient(sqrt, centered)
    if source is None or sizes is None or quotient is None or source.dtype not in _TYPES:
        return None
    inner = {variance, sub, mean, add, sqrt}
    readers = {use.node for use in centered.uses()} - {quotient}
    squares = {node for node in readers if node.outputs[0] is variance.inputs[0]}
    if readers != squares or any(v.is_graph_output() for n in inner | squares for v in n.outputs):
        return None
    return _Normalized(source, quotient, float(epsilon.item()), sizes)


def _read_once(node: ir.Node, user: ir.Node) -> bool:
    return len(node.outputs[0].uses()) == 1 and node.graph is user.graph


def _square_root(value: ir.Value | None) -> ir.Value | None:
    """Return y where a value is y * y or y ** 2."""
    node = made_by(value, "Pow", "Mul")
    if node is None:
        return None
    if node.op_type == "Mul":
        return node.inputs[0] if node.inputs[0] is node.inputs[1] else None
    exponent = array_of(node.inputs[1], 1)
    return node.inputs[0] if exponent is not None and np.all(exponent == 2) else None


def _quotient(sqrt: ir.Node, centered: ir.Value) -> ir.Node | None:
    """Return the node that divides the centered value by the deviation."""
    div = only_user(sqrt.outputs[0], "Div")
    if div is not None:
        return div if div.inputs[0] is centered and div.inputs[1] is sqrt.outputs[0] else None
    inverse = only_user(sqrt.outputs[0], "Reciprocal")
    product = None if inverse is None else only_user(inverse.outputs[0], "Mul")
    return product if product is not None and centered in product.inputs else None


def _last_sizes(source: ir.Value, *means: ir.Node) -> tuple[int, ...] | None:
    """Return the sizes of the last axes where all means are over just these."""
    if source.shape is None:
        return None
    rank = len(source.shape)
    found = set()
    for mean in means:
        axes = ints_of(input_of(mean, 1)) if len(mean.inputs) > 1 else ints_attribute(mean, "axes")
        if not axes or int_attribute(mean, "keepdims", 1) != 1:
            return None
        found.add(tuple(sorted(axis % rank for axis in axes)))
    (axes_of_all, *others) = found
    if others or list(axes_of_all) != list(range(rank - len(axes_of_all), rank)):
        return None
    sizes = [size for axis in axes_of_all if isinstance(size := source.shape[axis], int)]
    return tuple(sizes) if len(sizes) == len(axes_of_all) else None


def _fuse(graph: ir.Graph, found: _Normalized) -> bool:
    last, weights = found.result, list[ir.Value | None]()
    for kind in ("Mul", "Add"):
        user = only_user(last.outputs[0], kind)
        value = None if user is None else _parameter(user, last.outputs[0], found)
        if user is None or value is None or user.graph is not graph:
            weights.append(None)
            continue
        last = user
        weights.append(value)
    scale, bias = weights
    if scale is None:
        assert found.source.dtype is not None  # _find() asked for the type
        ones = np.ones(found.sizes, found.source.dtype.numpy())
        scale = add_constant(graph, ones, f"{last.outputs[0].name}/scale")
    attributes = {"axis": -len(found.sizes), "epsilon": found.epsilon}
    inputs = [found.source, scale] if bias is None else [found.source, scale, bias]
    replace(last, ir.node("LayerNormalization", inputs, attributes))
    return True


def _parameter(user: ir.Node, value: ir.Value, found: _Normalized) -> ir.Value | None:
    """Return the constant of a product or sum that has the sizes of the normalized axes."""
    other = next((v for v in user.inputs if v is not value), None)
    tensor = tensor_of(other)
    if tensor is None or tensor.dtype != found.source.dtype:
        return None
    return other if tuple(tensor.shape.numpy()) == found.sizes else None
