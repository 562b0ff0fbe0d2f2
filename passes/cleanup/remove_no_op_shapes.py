"""Remove and merge reshapes, transposes and expands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.shape_values import ShapeValues
from onnxsmith.passes.match import (
    add_constant,
    bypass,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    is_op,
    made_by,
    only_user,
    replace,
    same_dim,
    same_shape,
)

_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class RemoveNoOpShapes(Pass):
    """Remove and merge reshapes, transposes and expands.

    ``Transpose(x, identity) = x``, ``Transpose(Transpose(x, p), q) = Transpose(x, p[q])``,
    ``Reshape(Reshape(x, a), b) = Reshape(x, b)``, also with Squeeze, Unsqueeze and Flatten,
    ``Expand(x, shape(x)) = x``, and a Transpose that only moves dimensions of size 1 in front of a
    Reshape is none.

    Shapes should be inferred. What is left alone: a merged Reshape with two sizes that are not
    known, and Transpose, Reshape or Expand of unknown rank.
    """

    name: ClassVar[str] = "remove-no-op-shapes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove and merge in the graph and its subgraphs."""
        count, values = 0, ShapeValues()
        opset = model.opset_imports.get("", 1)
        for graph in model.graphs():
            for node in list(graph):
                if is_op(node, "Transpose"):
                    count += _simplify_transpose(node)
                elif is_op(node, "Expand"):
                    count += _remove_expand(node, values)
                elif is_op(node, *_RESHAPING) and opset >= 5:
                    count += _simplify_reshape(node)
        return PassResult(model, bool(count), {"removed": count})


def permutation(node: ir.Node) -> list[int] | None:
    """Return where a Transpose takes each axis from; reversed where it does not say."""
    perm, source = ints_attribute(node, "perm"), node.inputs[0]
    if perm is None and source is not None and source.shape is not None:
        if "perm" in node.attributes:
            return None
        return list(reversed(range(len(source.shape))))
    return perm


def _simplify_transpose(node: ir.Node) -> bool:
    source, perm = node.inputs[0], permutation(node)
    if source is None or perm is None:
        return False
    if perm == sorted(perm):
        return bypass(node, source)
    before = made_by(source, "Transpose")
    first = None if before is None else permutation(before)
    origin = None if before is None else before.inputs[0]
    if first is None or origin is None:
        return False
    merged = [first[axis] for axis in perm]
    if merged == sorted(merged):
        return bypass(node, origin)
    replace(node, ir.node("Transpose", [origin], {"perm": merged}))
    return True


def _remove_expand(node: ir.Node, values: ShapeValues) -> bool:
    source, target = node.inputs
    given = None if source is None else values.dimensions(source)
    wanted = values.elements(target)
    if source is None or given is None or wanted is None or len(wanted) > len(given):
        return False
    tail = given[len(given) - len(wanted) :]
    same = all(b == 1 or (b is not None and a == b) for a, b in zip(tail, wanted, strict=True))
    return same and bypass(node, source)


def _simplify_reshape(node: ir.Node) -> bool:
    source = node.inputs[0]
    if source is None:
        return False
    if keeps_shape(node, source):
        return bypass(node, source)
    before = made_by(source, *_RESHAPING)
    first = None if before is None else before.inputs[0]
    if first is not None:
        if same_shape(first, node.outputs[0]) and bypass(node, first):
            return True
        return _merge(node, first, source)
    moved = made_by(source, "Transpose")
    origin = None if moved is None else moved.inputs[0]
    if moved is None or origin is None or only_user(source, *_RESHAPING) is None:
        return False
    return _only_moves_ones(moved, origin) and _merge(node, origin, source)


def keeps_shape(node: ir.Node, source: ir.Value) -> bool:
    """Tell whether a reshaping node would give ``source`` the shape it has."""
    if same_shape(source, node.outputs[0]):
        return True
    if node.op_type != "Reshape" or source.shape is None:
        return False
    target = ints_of(input_of(node, 1))
    if target is None or len(target) != len(source.shape):
        return False
    zero_keeps = int_attribute(node, "allowzero", 0) == 0
    differs = [
        size
        for size, have in zip(target, source.shape, strict=True)
        if not (size == have or (size == 0 and zero_keeps))
    ]
    return not differs or differs == [-1]


def _only_moves_ones(node: ir.Node, source: ir.Value) -> bool:
    perm = permutation(node)
    if perm is None or source.shape is None or len(perm) != len(source.shape):
        return False
    order = [axis for axis in perm if source.shape[axis] != 1]
    return order == sorted(order)


def _merge(node: ir.Node, origin: ir.Value, middle: ir.Value) -> bool:
    """Reshape ``origin`` at once instead of by ``middle``; both have the elements in one order."""
    target = _target_from_result(node, origin)
    if target is None and node.op_type == "Reshape":
        target = _target_from_constant(node, origin, middle)
    graph = node.graph
    if target is None or graph is None:
        return False
    shape = add_constant(graph, np.array(target, np.int64), f"{node.outputs[0].name}/shape")
    replace(node, ir.node("Reshape", [origin, shape]))
    return True


def _target_from_result(node: ir.Node, origin: ir.Value) -> list[int] | None:
    shape = node.outputs[0].shape
    if shape is None or 0 in shape.dims:
        return None
    target = []
    for axis, size in enumerate(shape):
        if isinstance(size, int):
            target.append(size)
        elif origin.shape is not None and axis < len(origin.shape):
            target.append(0 if same_dim(size, origin.shape[axis]) else -1)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None


def _target_from_constant(node: ir.Node, origin: ir.Value, middle: ir.Value) -> list[int] | None:
    target = ints_of(input_of(node, 1))
    if target is None or int_attribute(node, "allowzero", 0) != 0:
        return None
    merged = []
    for axis, size in enumerate(target):
        if size != 0:
            merged.append(size)
            continue
        if middle.shape is None or axis >= len(middle.shape):
            return None
        kept = middle.shape[axis]
        if isinstance(kept, int) and kept > 0:
            merged.append(kept)
        elif (
            origin.shape is not None
            and axis < len(origin.shape)
            and same_dim(kept, origin.shape[axis])
        ):
            merged.append(0)
        else:
            merged.append(-1)
    return merged if merged.count(-1) <= 1 else None
