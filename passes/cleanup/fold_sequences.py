"""Replace sequences that are built and taken apart at once by what is in them."""

from __future__ import annotations

from collections.abc import Callable
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
    int_attribute,
    is_op,
    made_by,
    replace,
)

_MAX_PARTS = 256


@dataclass(frozen=True)
class FoldSequences(Pass):
    """Replace sequences that are built and taken apart at once by what is in them.

    ``ConcatFromSequence(SequenceConstruct(a, b)) = Concat(a, b)``,
    ``SequenceAt(SequenceConstruct(a, b), 1) = b``, ``SequenceLength`` of it is 2, and
    ``SequenceAt(SplitToSequence(x), i)`` is a Gather or a Slice of ``x``.

    What is left alone: positions that are not constant, splits into parts of given sizes.
    """

    name: ClassVar[str] = "fold-sequences"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Fold in the graph and its subgraphs."""
        opset = model.opset_imports.get("", 1)
        count = 0
        for node in all_nodes(model):
            if opset >= 13 and is_op(node, *_RULES) and node.inputs[0] is not None:
                count += _RULES[node.op_type](node)
        return PassResult(model, bool(count), {"folded": count})


def _fold_concat(node: ir.Node) -> bool:
    built = made_by(node.inputs[0], "SequenceConstruct")
    axis, graph = int_attribute(node, "axis"), node.graph
    if built is None or axis is None or graph is None or None in built.inputs:
        return False
    parts = list(built.inputs)
    if int_attribute(node, "new_axis", 0) == 1:
        axes = add_constant(graph, np.array([axis], np.int64), f"{node.outputs[0].name}/axes")
        rows = [ir.node("Unsqueeze", [part, axes]) for part in parts]
        graph.insert_before(node, rows)
        parts = [row.outputs[0] for row in rows]
    replace(node, ir.node("Concat", parts, {"axis": axis}))
    return True


def _fold_length(node: ir.Node) -> bool:
    built, graph = made_by(node.inputs[0], "SequenceConstruct"), node.graph
    if built is None or graph is None or node.outputs[0].is_graph_output():
        return False
    size = np.array(len(built.inputs), np.int64)
    value = add_constant(graph, size, f"{node.outputs[0].name}/value")
    node.outputs[0].replace_all_uses_with(value)
    return True


def _fold_at(node: ir.Node) -> bool:
    position = array_of(input_of(node, 1))
    if position is None or position.size != 1:
        return False
    index = int(position.item())
    built = made_by(node.inputs[0], "SequenceConstruct")
    if built is not None:
        size = len(built.inputs)
        value = built.inputs[index] if -size <= index < size else None
        return value is not None and bypass(node, value)
    split = made_by(node.inputs[0], "SplitToSequence")
    return split is not None and _fold_split(node, split, index)


def _fold_split(node: ir.Node, split: ir.Node, index: int) -> bool:
    """Take one part of length 1 of a split."""
    source, graph, axis = split.inputs[0], node.graph, int_attribute(split, "axis", 0)
    if source is None or source.shape is None or axis is None or graph is None:
        return False
    sizes = input_of(split, 1)
    length = array_of(sizes)
    if sizes is not None and (length is None or length.ndim or length.item() != 1):
        return False
    count = source.shape[axis] if -len(source.shape) <= axis < len(source.shape) else None
    if not isinstance(count, int) or count > _MAX_PARTS or not -count <= index < count:
        return False
    kept = sizes is not None or int_attribute(split, "keepdims", 1) == 1
    array = np.array([index] if kept else index, np.int64)
    place = add_constant(graph, array, f"{node.outputs[0].name}/index")
    replace(node, ir.node("Gather", [source, place], {"axis": axis}))
    return True


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "ConcatFromSequence": _fold_concat,
    "SequenceAt": _fold_at,
    "SequenceLength": _fold_length,
}
