"""Give each rounded value its scale and zero point."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.match import array_of, input_of, is_op
from onnxsmith.passes.quantization.affine import LIMITS, Affine, fit_range
from onnxsmith.passes.quantization.static.plan import Plan

Range = tuple[float, float]

_WIDE = {
    ir.DataType.UINT8: ir.DataType.UINT16,
    ir.DataType.INT8: ir.DataType.INT16,
}


@dataclass(frozen=True)
class Style:
    """How numbers become integers.

    Attributes:
        activations: The type of activations.
        symmetric: Whether the zero point of activations is in the middle.
        weights: The type of weights, which are always symmetric.
        per_channel: One scale an output channel of a weight, or one a weight.
        reduce_range: Weights use one bit less.
        round_bias: Whether biases become int32; else they stay in float.
    """

    activations: ir.DataType = ir.DataType.UINT8
    symmetric: bool = False
    weights: ir.DataType = ir.DataType.INT8
    per_channel: bool = True
    reduce_range: bool = False
    round_bias: bool = True


def fit_values(
    plan: Plan,
    ranges: Mapping[ir.Value, Range],
    style: Style,
    wide: Collection[ir.Value] = frozenset(),
) -> dict[ir.Value, Affine]:
    """Return the scale and zero point of each rounded value.

    What a node only moves has one scale before and behind it, which covers both ranges.

    Args:
        plan: What is rounded.
        ranges: The least and greatest number that each value takes.
        style: How numbers become integers.
        wide: Values that become integers of 16 bits, with what is moved to or from them.
    """
    groups = _tied(plan)
    members: dict[ir.Value, list[ir.Value]] = {}
    for value in ranges:
        members.setdefault(groups.get(value, value), []).append(value)
    fitted: dict[ir.Value, Affine] = {}
    for values in members.values():
        low = min(ranges[value][0] for value in values)
        high = max(ranges[value][1] for value in values)
        dtype = style.activations
        if any(value in wide for value in values):
            dtype = widened(dtype)
        affine = fit_range(low, high, dtype, style.symmetric)
        limit = min((_limit(value) for value in values), default=np.inf)
        affine = _within(affine, limit)
        fitted |= dict.fromkeys(values, affine)
    return fitted


def widened(dtype: ir.DataType) -> ir.DataType:
    """Return the type of activations with twice the bits; one of 16 bits stays as it is."""
    return _WIDE.get(dtype, dtype)


def _tied(plan: Plan) -> dict[ir.Value, ir.Value]:
    """Return for each value that is moved the one that its group goes by."""
    leader: dict[ir.Value, ir.Value] = {}
    for node, operator in plan.nodes.items():
        if operator.kind == "move":
            ((_, moved),) = plan.inputs(node)
            leader |= dict.fromkeys(plan.results(node), leader.get(moved, moved))
    return leader


def _limit(value: ir.Value) -> float:
    """Return what a Clip holds a value below."""
    node = value.producer()
    if node is None or not is_op(node, "Clip"):
        return float("inf")
    most = array_of(input_of(node, 2))
    return float(most.reshape(())) if most is not None and most.size == 1 else float("inf")


def _within(affine: Affine, limit: float) -> Affine:
    """Make the scale a hair smaller where rounding it up passes a Clip's limit.

    Only a Clip that the integers cannot pass is superfluous.
    """
    scale = affine.scale
    most = LIMITS[affine.dtype][1] - int(affine.zero.max())
    while scale * np.float32(most) > limit:
        scale = np.nextafter(scale, np.float32(0))
    return Affine(affine.dtype, scale, affine.zero, affine.axis)
