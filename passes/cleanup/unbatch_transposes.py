"""Replace a transpose between two reshapes that only merge and split the leading dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.settle_reshapes import Element, dimension, shape_elements


@dataclass(frozen=True)
class UnbatchTransposes(Pass):
    """Replace a transpose between two reshapes that only merge and split the leading dimensions.

    ``Reshape(Transpose(Reshape(x, [BH, S, D]), [0, 2, 1]), [B, H, D, S])`` is
    ``Transpose(x, [0, 1, 3, 2])`` for ``x`` of shape ``[B, H, S, D]``. torch.onnx writes the keys
    of attention so.

    Shapes should be inferred. Of the last reshape's four sizes, one may be unknown: the others
    decide it.
    """

    name: ClassVar[str] = "unbatch-transposes"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Replace in the graph and its subgraphs."""
        count = 0
        for graph in model.graphs():
            for node in list(graph):
                count += _replace(node)
        return PassResult(model, bool(count), {"replaced": count})


def _replace(last: ir.Node) -> bool:
    transpose = _before(last, "Reshape", "Transpose")
    first = None if transpose is None else _before(transpose, "Transpose", "Reshape")
    graph = last.graph
    if transpose is None or first is None or graph is None:
        return False
    if transpose.graph is not graph or first.graph is not graph:
        return False
    perm = transpose.attributes.get("perm")
    data, inner, outer = first.inputs[0], first.inputs[1], last.inputs[1]
    if perm is None or tuple(perm.as_ints()) != (0, 2, 1):
        return False
    if data is None or inner is None or outer is None or data.shape is None:
        return False
    if len(data.shape) != 4:
        return False
    batch, heads, rows, columns = (dimension(data, axis, symbols=True) for axis in range(4))
    if not _fits(inner, data, [None, rows, columns]):
        return False
    if not _fits(outer, transpose.outputs[0], [batch, heads, columns, rows]):
        return False
    node = ir.node("Transpose", [data], {"perm": [0, 1, 3, 2]})
    result, old = node.outputs[0], last.outputs[0]
    result.name, result.type, result.shape = old.name, old.type, old.shape
    old.name = None
    graph.insert_before(last, node)
    old.replace_all_uses_with(result, replace_graph_outputs=True)
    for done in (last, transpose, first):
        if not done.outputs[0].uses() and not done.outputs[0].is_graph_output():
            graph.remove(done, safe=True)
    return True


def _before(node: ir.Node, kind: str, producer: str) -> ir.Node | None:
    """Return the node of type ``producer`` that gives what this one of type ``kind`` takes."""
    if node.domain not in ("", "ai.onnx") or node.op_type != kind or node.inputs[0] is None:
        return None
    before = node.inputs[0].producer()
    if before is None or before.domain not in ("", "ai.onnx") or before.op_type != producer:
        return None
    return before


def _fits(target: ir.Value, data: ir.Value, wanted: list[Element]) -> bool:
    """Tell whether a reshape's target says these sizes; one of them may be any."""
    found = shape_elements(target, symbols=True)
    if found is None or len(found) != len(wanted):
        return False
    found = [
        dimension(data, axis, symbols=True)
        if element == 0 and data.shape is not None and axis < len(data.shape)
        else element
        for axis, element in enumerate(found)
    ]
    matches = [a is not None and a == b for a, b in zip(found, wanted, strict=True)]
    # Another number than -1 in the one place that differs would not fit the elements.
    return matches.count(False) <= 1
