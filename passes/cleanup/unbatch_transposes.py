"""Replace a transpose between two reshapes that only merge and split the leading dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.shape_rules import Element
from onnxsmith.passes.cleanup.shape_values import ShapeValues
from onnxsmith.passes.match import ints_attribute, is_op, made_by, remove_if_dead, replace


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
        count, values = 0, ShapeValues()
        for graph in model.graphs():
            for node in list(graph):
                count += is_op(node, "Reshape") and _replace(node, values)
        return PassResult(model, bool(count), {"replaced": count})


def _replace(last: ir.Node, values: ShapeValues) -> bool:
    transpose = made_by(last.inputs[0], "Transpose")
    first = None if transpose is None else made_by(transpose.inputs[0], "Reshape")
    if transpose is None or first is None or len(last.inputs) < 2 or len(first.inputs) < 2:
        return False
    if transpose.graph is not last.graph or first.graph is not last.graph:
        return False
    data, inner, outer = first.inputs[0], first.inputs[1], last.inputs[1]
    if ints_attribute(transpose, "perm") != [0, 2, 1]:
        return False
    dims = None if data is None else values.dimensions(data)
    if data is None or dims is None or len(dims) != 4:
        return False
    batch, heads, rows, columns = dims
    if not _fits(values.elements(inner), dims, [None, rows, columns]):
        return False
    given = values.dimensions(transpose.outputs[0]) or []
    if not _fits(values.elements(outer), given, [batch, heads, columns, rows]):
        return False
    replace(last, ir.node("Transpose", [data], {"perm": [0, 1, 3, 2]}))
    remove_if_dead(transpose)
    remove_if_dead(first)
    return True


def _fits(found: list[Element] | None, given: list[Element], wanted: list[Element]) -> bool:
    """Tell whether a reshape's target says these sizes; one of them may be any."""
    if found is None or len(found) != len(wanted):
        return False
    found = [
        given[axis] if element == 0 and axis < len(given) else element
        for axis, element in enumerate(found)
    ]
    matches = [a is not None and a == b for a, b in zip(found, wanted, strict=True)]
    # Another number than -1 in the one place that differs would not fit the elements.
    return matches.count(False) <= 1
