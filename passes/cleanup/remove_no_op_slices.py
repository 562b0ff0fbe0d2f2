"""Remove slices that keep everything and scatters that replace everything, and merge slices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import (
    add_constant,
    all_nodes,
    array_of,
    bypass,
    input_of,
    ints_attribute,
    ints_of,
    is_op,
    made_by,
    only_user,
    replace,
    same_shape,
)

_END = 2**31 - 1  # exporters write "to the end" as this or as the largest int64


@dataclass(frozen=True)
class RemoveNoOpSlices(Pass):
    """Remove slices that keep everything and scatters that replace everything, and merge slices.

    ``Slice(x, 0, size) = x``, ``Slice(Slice(x, axis=0), axis=1) = Slice(x, axes=[0, 1])`` and
    ``ScatterND(x, all rows in order, y) = y``.

    What is left alone: bounds that are not constant, unless the shape shows that nothing is cut;
    two slices of one axis; scatters that add.
    """

    name: ClassVar[str] = "remove-no-op-slices"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove and merge in the graph and its subgraphs."""
        count = 0
        for node in all_nodes(model):
            if is_op(node, "Slice"):
                count += _simplify_slice(node)
            elif is_op(node, "ScatterND"):
                count += _remove_scatter(node)
        return PassResult(model, bool(count), {"removed": count})


@dataclass(frozen=True)
class _Bounds:
    """The constant bounds of a Slice, one of each for an axis."""

    starts: list[int]
    ends: list[int]
    axes: list[int]
    steps: list[int]


def _bounds(node: ir.Node) -> _Bounds | None:
    if len(node.inputs) < 3:  # before opset 10 they are attributes
        starts, ends = ints_attribute(node, "starts"), ints_attribute(node, "ends")
        axes, steps = ints_attribute(node, "axes"), None
    else:
        starts, ends, axes, steps = (ints_of(input_of(node, place)) for place in (1, 2, 3, 4))
        if any(
            found is None and input_of(node, place) is not None
            for place, found in ((3, axes), (4, steps))
        ):
            return None
    if starts is None or ends is None:
        return None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        return None
    return _Bounds(starts, ends, axes, steps)


def _simplify_slice(node: ir.Node) -> bool:
    source, bounds = node.inputs[0], _bounds(node)
    if source is None or bounds is None:
        return False
    if all(step == 1 for step in bounds.steps) and (
        same_shape(source, node.outputs[0]) or _keeps_all(source, bounds)
    ):
        return bypass(node, source)
    before = made_by(source, "Slice")
    if before is None or len(node.inputs) < 3 or only_user(source, "Slice") is None:
        return False
    return _merge(before, node, bounds)


def _keeps_all(source: ir.Value, bounds: _Bounds) -> bool:
    for start, end, axis in zip(bounds.starts, bounds.ends, bounds.axes, strict=True):
        rank = None if source.shape is None else len(source.shape)
        size = source.shape[axis] if source.shape is not None and axis < (rank or 0) else None
        whole = end >= _END or (isinstance(size, int) and end >= size)
        if start != 0 or not whole:
            return False
    return True


def _merge(first: ir.Node, second: ir.Node, bounds: _Bounds) -> bool:
    """Slice the axes of two Slices at once."""
    origin, graph, earlier = first.inputs[0], second.graph, _bounds(first)
    if origin is None or graph is None or earlier is None or len(first.inputs) < 3:
        return False
    axes = [*earlier.axes, *bounds.axes]
    rank = None if origin.shape is None else len(origin.shape)
    if any(axis < 0 for axis in axes):
        if rank is None:
            return False
        axes = [axis % rank for axis in axes]
    if len(set(axes)) < len(axes):
        return False
    columns = {
        "starts": [*earlier.starts, *bounds.starts],
        "ends": [*earlier.ends, *bounds.ends],
        "axes": axes,
        "steps": [*earlier.steps, *bounds.steps],
    }
    name = second.outputs[0].name
    inputs = [
        add_constant(graph, np.array(column, np.int64), f"{name}/{key}")
        for key, column in columns.items()
    ]
    replace(second, ir.node("Slice", [origin, *inputs]))
    return True


def _remove_scatter(node: ir.Node) -> bool:
    data, indices, updates = node.inputs
    reduction = node.attributes.get("reduction")
    if data is None or updates is None or not same_shape(data, updates):
        return False
    if reduction is not None and (reduction.is_ref() or reduction.as_string() != "none"):
        return False
    rows = None if data.shape is None or not len(data.shape) else data.shape[0]
    array = array_of(indices, 1 << 20)
    if array is None or not isinstance(rows, int) or array.shape != (rows, 1):
        return False
    if not np.array_equal(array[:, 0], np.arange(rows)):
        return False
    return bypass(node, updates)
