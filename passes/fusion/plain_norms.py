"""Normalizations in terms of plainer operators."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnxsmith.passes.fusion.contrib import float_attribute, rank
from onnxsmith.passes.fusion.plain import Plain, Values, typed
from onnxsmith.passes.match import input_of, int_attribute

_SCALE_OF_CHANNELS = 21


def layer_norm(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``(x - mean) / deviation * g + b``, with the mean and one through the deviation."""
    x, scale, bias = typed(node), input_of(node, 1), input_of(node, 2)
    axes, epsilon = _axes(node), float_attribute(node, "epsilon", 1e-5)
    if x is None or scale is None or scale.dtype != x.dtype or axes is None or epsilon is None:
        return None
    return layer(plain, x, scale, bias, axes, epsilon)


def rms_norm(plain: Plain, node: ir.Node) -> Values | None:
    """Write ``x / sqrt(mean(x^2) + e) * g``."""
    x, scale = typed(node), input_of(node, 1)
    axes, epsilon = _axes(node), float_attribute(node, "epsilon", 1e-5)
    if x is None or scale is None or scale.dtype != x.dtype or axes is None or epsilon is None:
        return None
    return _simple(plain, x, scale, axes, epsilon)


def skip_layer_norm(plain: Plain, node: ir.Node) -> Values | None:
    """Write a layer normalization of a sum, and the sum."""
    skip, scale, beta, bias = (input_of(node, index) for index in range(1, 5))
    x = typed(node)
    epsilon = float_attribute(node, "epsilon", 1e-12)
    if x is None or skip is None or scale is None or scale.dtype != x.dtype or epsilon is None:
        return None
    total = _sum(plain, x, skip, bias)
    return [*layer(plain, total, scale, beta, [-1], epsilon), total]


def skip_rms_norm(plain: Plain, node: ir.Node) -> Values | None:
    """Write a root mean square normalization of a sum, and the sum."""
    skip, scale, bias = (input_of(node, index) for index in range(1, 4))
    x = typed(node)
    epsilon = float_attribute(node, "epsilon", 1e-12)
    if x is None or skip is None or scale is None or scale.dtype != x.dtype or epsilon is None:
        return None
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:3]):
        return None
    total = _sum(plain, x, skip, bias)
    result, _ = _simple(plain, total, scale, [-1], epsilon)
    return [result, None, None, total]


def group_norm(plain: Plain, node: ir.Node) -> Values | None:
    """Write a layer normalization of each group of channels, then scale and shift."""
    x, scale, bias = typed(node), input_of(node, 1), input_of(node, 2)
    groups = int_attribute(node, "num_groups")
    epsilon = float_attribute(node, "epsilon", 1e-5)
    places = rank(x)
    if x is None or scale is None or bias is None or groups is None or epsilon is None:
        return None
    if places is None or places < 2:
        return None
    wide = plain.make("Reshape", [plain.widen(x), plain.ints([0, groups, -1])])
    normal = plain.cast(_normalized(plain, wide, [-1], epsilon)[0], _dtype(x))
    whole = plain.make("Shape", [x])
    whole.type = ir.TensorType(ir.DataType.INT64)
    if plain.version >= _SCALE_OF_CHANNELS:
        normal = plain.make("Reshape", [normal, whole])
        target = plain.ints([-1] + [1] * (places - 2))
    else:
        target = plain.ints([-1, 1])
    scale, bias = (plain.make("Reshape", [v, target]) for v in (scale, bias))
    result = plain.make("Add", [plain.make("Mul", [normal, scale]), bias])
    if plain.version < _SCALE_OF_CHANNELS:
        result = plain.make("Reshape", [result, whole])
    return [result]


def layer(
    plain: Plain,
    x: ir.Value,
    scale: ir.Value,
    bias: ir.Value | None,
    axes: Sequence[int],
    epsilon: float,
) -> list[ir.Value]:
    """Write a layer normalization; return its result, the mean and one through the deviation."""
    normal, mean, inverse = _normalized(plain, plain.widen(x), axes, epsilon)
    result = plain.make("Mul", [plain.cast(normal, _dtype(x)), scale])
    result = result if bias is None else plain.make("Add", [result, bias])
    return [result, mean, inverse]


def _normalized(
    plain: Plain, x: ir.Value, axes: Sequence[int], epsilon: float
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the normalized value, the mean, and one through the deviation."""
    mean = plain.mean(x, axes)
    centered = plain.make("Sub", [x, mean])
    inverse = _inverse_root(plain, centered, axes, epsilon)
    return plain.make("Mul", [centered, inverse]), mean, inverse


def _simple(
    plain: Plain, x: ir.Value, scale: ir.Value, axes: Sequence[int], epsilon: float
) -> list[ir.Value]:
    wide = plain.widen(x)
    inverse = _inverse_root(plain, wide, axes, epsilon)
    normal = plain.cast(plain.make("Mul", [wide, inverse]), _dtype(x))
    return [plain.make("Mul", [normal, scale]), inverse]


def _inverse_root(plain: Plain, x: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    """Return ``1 / sqrt(mean(x^2) + e)``."""
    square = plain.mean(plain.make("Mul", [x, x]), axes)
    total = plain.make("Add", [square, plain.number(epsilon, x)])
    return plain.make("Reciprocal", [plain.make("Sqrt", [total])])


def _sum(plain: Plain, x: ir.Value, skip: ir.Value, bias: ir.Value | None) -> ir.Value:
    total = plain.make("Add", [x, skip])
    return total if bias is None else plain.make("Add", [total, bias])


def _axes(node: ir.Node) -> list[int] | None:
    """Return the dimensions from the one that the attribute names to the last."""
    axis, places = int_attribute(node, "axis", -1), rank(node.inputs[0])
    if axis is None or (axis >= 0 and places is None):
        return None
    return list(range(axis if places is None or axis < 0 else axis - places, 0))


def _dtype(value: ir.Value) -> ir.DataType:
    assert value.dtype is not None  # only values of known types are written anew
    return value.dtype
