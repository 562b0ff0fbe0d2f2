"""Layer normalization in the form that TensorFlow and Keras write."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import (
    add_constant,
    array_of,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    made_by,
    only_user,
    replace,
    tensor_of,
)


@dataclass(frozen=True)
class _Folded:
    """``x r + (b - mean r)`` with ``r = g / sqrt(variance + epsilon)``."""

    x: ir.Value
    scale: ir.Value | None
    bias: ir.Value | None
    epsilon: float
    last: ir.Node


def fuse_folded(sqrt: ir.Node) -> bool:
    """Make a LayerNormalization of ``x r + (b - mean(x) r)``; return whether that was possible.

    Args:
        sqrt: The node of the deviation.
    """
    found = _find(sqrt)
    graph = sqrt.graph
    if found is None or graph is None or found.x.shape is None or found.x.dtype is None:
        return False
    size = found.x.shape[-1]
    fits = all(v is None or _is_vector(v, size) for v in (found.scale, found.bias))
    if not isinstance(size, int) or not fits or found.last.graph is not graph:
        return False
    name = found.last.outputs[0].name
    ones = np.ones(size, found.x.dtype.numpy())
    scale = found.scale or add_constant(graph, ones, f"{name}/scale")
    inputs = [found.x, scale] if found.bias is None else [found.x, scale, found.bias]
    attributes = {"axis": -1, "epsilon": found.epsilon}
    replace(found.last, ir.node("LayerNormalization", inputs, attributes))
    return True


def _find(sqrt: ir.Node) -> _Folded | None:
    variance, epsilon = _summed(sqrt.inputs[0])
    inverse = only_user(sqrt.outputs[0], "Reciprocal")
    if variance is None or epsilon is None or inverse is None:
        return None
    x, mean = _spread(variance)
    if x is None or mean is None:
        return None
    ratio, scale = inverse.outputs[0], None
    product = only_user(ratio, "Mul")
    if product is not None:
        scale = next((v for v in product.inputs if v is not ratio), None)
        ratio = product.outputs[0]
    if {use.node.op_type for use in ratio.uses()} != {"Mul"} or len(ratio.uses()) != 2:
        return None
    scaled = {next(v for v in use.node.inputs if v is not ratio): use.node for use in ratio.uses()}
    left, right = scaled.get(x), scaled.get(mean)
    if left is None or right is None:
        return None
    rest = only_user(right.outputs[0], "Sub", "Neg")
    last = None if rest is None else only_user(rest.outputs[0], "Add")
    if rest is None or last is None or only_user(left.outputs[0], "Add", "Sub") is not last:
        return None
    if rest.op_type == "Sub" and rest.inputs[1] is not right.outputs[0]:
        return None
    bias = rest.inputs[0] if rest.op_type == "Sub" else None
    return _Folded(x, scale, bias, epsilon, last)


def _summed(value: ir.Value | None) -> tuple[ir.Node | None, float | None]:
    """Return the mean and the number that are added."""
    add = made_by(value, "Add")
    for first, second in (add.inputs, reversed(add.inputs)) if add is not None else ():
        mean, number = made_by(first, "ReduceMean"), array_of(second, 1)
        if mean is not None and number is not None and number.size == 1:
            return mean, float(number.item())
    return None, None


def _spread(variance: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """Return x and its mean where a node is the mean of ``(x - mean)^2``, over the last axis."""
    square = made_by(variance.inputs[0], "Mul", "Pow")
    if square is None or not _is_over_last(variance):
        return None, None
    power = array_of(square.inputs[1], 1) if square.op_type == "Pow" else None
    twice = square.op_type == "Mul" and square.inputs[0] is square.inputs[1]
    if not twice and (power is None or power.size != 1 or power.item() != 2):
        return None, None
    sub = made_by(square.inputs[0], "Sub")
    mean = None if sub is None else made_by(sub.inputs[1], "ReduceMean")
    if sub is None or mean is None or mean.inputs[0] is not sub.inputs[0]:
        return None, None
    return (sub.inputs[0], mean.outputs[0]) if _is_over_last(mean) else (None, None)


def _is_over_last(mean: ir.Node) -> bool:
    source = mean.inputs[0]
    if source is None or source.shape is None or int_attribute(mean, "keepdims", 1) != 1:
        return False
    axes = ints_of(input_of(mean, 1)) if len(mean.inputs) > 1 else ints_attribute(mean, "axes")
    return axes in ([-1], [len(source.shape) - 1])


def _is_vector(value: ir.Value, size: int | ir.SymbolicDim) -> bool:
    tensor = tensor_of(value)
    return tensor is not None and list(tensor.shape) == [size]
