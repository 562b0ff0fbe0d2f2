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
    ``SequenceAt(SplitToSequence(x), i)`` is an output of a Split, or a Gather.

    What is left alone: positions that are not constant, and splits into parts of unknown number.
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
    return False


def _fold_split(split: ir.Node) -> bool:
    """Replace a SplitToSequence, and the SequenceAt behind it, by a Split or by Gathers."""
    source, graph, axis = split.inputs[0], split.graph, int_attribute(split, "axis", 0)
    readers = [use.node for use in split.outputs[0].uses()]
    if source is None or axis is None or graph is None or split.outputs[0].is_graph_output():
        return False
    sizes = _sizes(split, source, axis)
    places = [_place(reader, 0 if sizes is None else len(sizes)) for reader in readers]
    if not readers or sizes is None or any(place is None for place in places):
        return False
    if any(reader.graph is not graph for reader in readers):
        return False
    if input_of(split, 1) is None and int_attribute(split, "keepdims", 1) == 0:
        for reader, place in zip(readers, places, strict=True):
            index = add_constant(graph, np.array(place, np.int64), f"{source.name}/index")
            replace(reader, ir.node("Gather", [source, index], {"axis": axis}))
        return True
    lengths = add_constant(graph, np.array(sizes, np.int64), f"{split.outputs[0].name}/sizes")
    parts = ir.node("Split", [source, lengths], {"axis": axis}, num_outputs=len(sizes))
    graph.insert_before(split, parts)
    for reader, place in zip(readers, places, strict=True):
        assert place is not None  # all() was asked before
        part, old = parts.outputs[place], reader.outputs[0]
        part.type, part.shape = old.type, old.shape
        if not bypass(reader, part):  # an output under two names
            replace(reader, ir.node("Identity", [part]))
    return True


def _sizes(split: ir.Node, source: ir.Value, axis: int) -> list[int] | None:
    """Return the lengths of the parts."""
    rank = 0 if source.shape is None else len(source.shape)
    whole = source.shape[axis] if source.shape is not None and -rank <= axis < rank else None
    given = input_of(split, 1)
    lengths = array_of(given)
    if given is None:
        lengths = np.array(1)
    if lengths is None:
        return None
    if lengths.ndim:
        sizes = [int(length) for length in lengths]
    elif isinstance(whole, int) and whole and lengths > 0:
        step = int(lengths)
        sizes = [min(step, whole - at) for at in range(0, whole, step)]
    else:
        return None
    return sizes if len(sizes) <= _MAX_PARTS else None


def _place(reader: ir.Node, count: int) -> int | None:
    """Return which part a SequenceAt takes."""
    position = array_of(input_of(reader, 1)) if is_op(reader, "SequenceAt") else None
    if position is None or position.size != 1 or not -count <= int(position.item()) < count:
        return None
    return int(position.item()) % count


_RULES: dict[str, Callable[[ir.Node], bool]] = {
    "ConcatFromSequence": _fold_concat,
    "SequenceAt": _fold_at,
    "SequenceLength": _fold_length,
    "SplitToSequence": _fold_split,
}
