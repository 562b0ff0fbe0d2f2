"""Merge chains of Relu, Clip, Min and Max."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import (
    add_constant,
    array_of,
    input_of,
    is_op,
    only_user,
    replace,
    tensor_of,
)

_KINDS = ("Relu", "Clip", "Min", "Max")
_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class _Interval:
    """What an operator limits its input to."""

    value: ir.Value
    low: float
    high: float


@dataclass(frozen=True)
class FuseClips(Pass):
    """Merge chains of Relu, Clip, Min and Max.

    ``Clip(Clip(x, a, b), c, d) = Clip(x, clip(a, c, d), clip(b, c, d))``; Relu is a Clip from 0,
    Max with a number one from below, Min one from above.

    What is left alone: limits that are not constant, not of one element or crossed, values that
    anything else reads, and element types other than floating point.
    """

    name: ClassVar[str] = "fuse-clips"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Merge in the graph and its subgraphs; types should be inferred."""
        count = 0
        if model.opset_imports.get("", 1) < 11:  # the limits were attributes
            return PassResult(model, False, {"refused": "Clip takes its limits from opset 11 on"})
        for graph in model.graphs():
            for node in list(graph):
                count += is_op(node, *_KINDS) and _merge(graph, node)
        return PassResult(model, bool(count), {"merged": count})


def _merge(graph: ir.Graph, second: ir.Node) -> bool:
    outer = _interval(second)
    first = None if outer is None else outer.value.producer()
    if outer is None or first is None or not is_op(first, *_KINDS):
        return False
    inner = _interval(first)
    if inner is None or first.graph is not graph or only_user(outer.value, *_KINDS) is not second:
        return False
    low = min(max(inner.low, outer.low), outer.high)
    high = min(max(inner.high, outer.low), outer.high)
    dtype = inner.value.dtype or outer.value.dtype
    if dtype not in _TYPES or dtype is None:
        return False
    if (low, high) == (0, math.inf):
        replace(second, ir.node("Relu", [inner.value]))
        return True
    name = second.outputs[0].name
    limits: list[ir.Value | None] = [None, None]
    for place, limit in enumerate((low, high)):
        if math.isfinite(limit):
            array = np.array(limit, dtype.numpy())
            limits[place] = add_constant(graph, array, f"{name}/{('min', 'max')[place]}")
    if limits[1] is None:
        limits.pop()
    replace(second, ir.node("Clip", [inner.value, *limits]))
    return True


def _interval(node: ir.Node) -> _Interval | None:
    value = node.inputs[0]
    if node.op_type in ("Min", "Max"):
        if len(node.inputs) != 2:
            return None
        place = 1 if tensor_of(node.inputs[0]) is not None else 0
        value, limit = node.inputs[place], _number(node.inputs[1 - place])
        if value is None or limit is None or not _keeps_rank(value, node.inputs[1 - place]):
            return None
        bounds = (-math.inf, limit) if node.op_type == "Min" else (limit, math.inf)
        return _Interval(value, *bounds)
    if value is None:
        return None
    if node.op_type == "Relu":
        return _Interval(value, 0, math.inf)
    limits = [-math.inf, math.inf]
    for place in (0, 1):
        if input_of(node, place + 1) is not None:
            found = _number(node.inputs[place + 1])
            if found is None:
                return None
            limits[place] = found
    return _Interval(value, *limits) if limits[0] <= limits[1] else None


def _number(value: ir.Value | None) -> float | None:
    array = array_of(value, 1)
    if array is None or array.size != 1 or math.isnan(float(array.item())):
        return None
    return float(array.item())


def _keeps_rank(value: ir.Value, constant: ir.Value | None) -> bool:
    array = array_of(constant, 1)
    if array is None:
        return False
    return array.ndim == 0 or (value.shape is not None and array.ndim <= len(value.shape))
