"""Remove operators that return what they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.match import (
    all_nodes,
    array_of,
    bypass,
    input_of,
    int_attribute,
    ints_attribute,
    ints_of,
    is_op,
    made_by,
    replace,
    same_shape,
)


@dataclass(frozen=True)
class RemoveNoOps(Pass):
    """Remove operators that return what they are given.

    Dropout in inference, Concat, Sum, Max, Min and Mean of one value, Split into one part, Pad by
    nothing, Tile once, Resize by one, a choice of two equal values, Not and Neg twice, and a Concat
    of the parts of a Split. Of a Concat, parts without elements are left out.

    What is left alone: a Dropout that may train, or whose mask is read in an opset without a
    shape to build it from.
    """

    name: ClassVar[str] = "remove-no-ops"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove in the graph, its subgraphs and the functions."""
        opset = model.opset_imports.get("", 1)
        count = 0
        for node in all_nodes(model, functions=True):
            if is_op(node, "Dropout"):
                count += _remove_dropout(node, opset)
            elif is_op(node, *_RULES):
                count += _RULES[node.op_type](node)
        return PassResult(model, bool(count), {"removed": count})


def _remove_dropout(node: ir.Node, opset: int) -> bool:
    source = node.inputs[0]
    if source is None:
        return False
    if opset < 7:
        training = int_attribute(node, "is_test", 0) != 1
    else:
        ratio, mode = array_of(input_of(node, 1)), input_of(node, 2)
        flag = array_of(mode)
        off = mode is None or (flag is not None and not flag.any())
        training = not off and not (ratio is not None and not ratio.any())
    if training or not _fill_mask(node, source, opset):
        return False
    return bypass(node, source) or _put(node, ir.node("Identity", [source]))


def _fill_mask(node: ir.Node, source: ir.Value, opset: int) -> bool:
    """Build a mask that is read; return whether that was possible."""
    if len(node.outputs) < 2:
        return True
    mask, graph = node.outputs[1], node.graph
    if not mask.uses() and not mask.is_graph_output():
        return True
    if opset < 12 or graph is None:  # before, it has the type of the data or no meaning
        return False
    shape = ir.node("Shape", [source])
    ones = ir.node("ConstantOfShape", shape.outputs, {"value": ir.tensor(np.array([True]))})
    new = ones.outputs[0]
    new.name, new.type, new.shape = mask.name, mask.type, mask.shape
    mask.name = None
    graph.insert_before(node, [shape, ones])
    mask.replace_all_uses_with(new, replace_graph_outputs=True)
    return True


def _remove_concat(node: ir.Node) -> bool:
    axis = int_attribute(node, "axis", 1)
    parts = [value for value in node.inputs if value is not None]
    if axis is None or len(parts) != len(node.inputs):
        return False
    whole = _split_whole(parts, axis)
    if whole is not None:
        return bypass(node, whole)
    kept = [value for value in parts if not _is_empty(value, axis)] or parts[:1]
    if len(kept) == 1:
        return bypass(node, kept[0]) or (len(parts) > 1 and _put(node, ir.node("Identity", kept)))
    if len(kept) == len(parts):
        return False
    return _put(node, ir.node("Concat", kept, {"axis": axis}))


def _split_whole(parts: list[ir.Value], axis: int) -> ir.Value | None:
    """Return the value whose parts, all of them and in order, are joined again."""
    split = made_by(parts[0], "Split")
    if split is None or list(split.outputs) != parts or len(parts) < 2:
        return None
    return split.inputs[0] if int_attribute(split, "axis", 0) == axis else None


def _put(node: ir.Node, new: ir.Node) -> bool:
    replace(node, new)
    return True


def _is_empty(value: ir.Value, axis: int) -> bool:
    rank = None if value.shape is None else len(value.shape)
    if value.shape is None or rank is None or not -rank <= axis < rank:
        return False
    return value.shape[axis] == 0


def _remove_single(node: ir.Node) -> bool:
    source = node.inputs[0]
    return len(node.inputs) == 1 and source is not None and bypass(node, source)


def _remove_split(node: ir.Node) -> bool:
    source = node.inputs[0]
    return len(node.outputs) == 1 and source is not None and bypass(node, source)


def _remove_pad(node: ir.Node) -> bool:
    source = node.inputs[0]
    pads = ints_of(input_of(node, 1)) or ints_attribute(node, "pads")
    return bool(pads) and not any(pads or ()) and source is not None and bypass(node, source)


def _remove_tile(node: ir.Node) -> bool:
    source, repeats = node.inputs[0], ints_of(input_of(node, 1))
    if source is None or len(node.inputs) != 2 or repeats is None:
        return False
    return all(times == 1 for times in repeats) and bypass(node, source)


def _remove_pair(node: ir.Node) -> bool:
    before = made_by(node.inputs[0], node.op_type)
    source = None if before is None else before.inputs[0]
    return source is not None and bypass(node, source)


def _remove_where(node: ir.Node) -> bool:
    _, first, second = node.inputs
    if first is None or first is not second or not same_shape(first, node.outputs[0]):
        return False  # the condition may be larger
    return bypass(node, first)


def _remove_resize(node: ir.Node) -> bool:
    source, scales = node.inputs[0], array_of(input_of(node, 2))
    mode = node.attributes.get("coordinate_transformation_mode")
    if mode is not None and (mode.is_ref() or mode.as_string() == "tf_crop_and_resize"):
        return False
    if source is None or scales is None or not scales.size or not (scales == 1).all():
        return False
    return input_of(node, 3) is None and bypass(node, source)


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "Concat": _remove_concat,
    "Max": _remove_single,
    "Mean": _remove_single,
    "Min": _remove_single,
    "Neg": _remove_pair,
    "Not": _remove_pair,
    "Pad": _remove_pad,
    "Resize": _remove_resize,
    "Split": _remove_split,
    "Sum": _remove_single,
    "Tile": _remove_tile,
    "Where": _remove_where,
}
