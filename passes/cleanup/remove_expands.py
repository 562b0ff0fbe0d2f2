"""Remove Expand before an operator that broadcasts by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.shape_rules import Element
from onnxsmith.passes.cleanup.shape_values import ShapeValues
from onnxsmith.passes.match import is_op, made_by, remove_if_dead

_BROADCASTING = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub",
    "Sum", "Where", "Xor",
)  # fmt: skip


@dataclass(frozen=True)
class RemoveExpands(Pass):
    """Remove Expand before an operator that broadcasts by itself.

    ``Expand(x, s) + y = x + y`` where, dimension by dimension, ``Expand`` changes nothing or ``y``
    alone gives the same size. The same holds for every operator that broadcasts its inputs.

    What is left alone: dimensions that are not known to be equal.
    """

    name: ClassVar[str] = "remove-expands"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove in the graph and its subgraphs; shapes should be inferred."""
        count, values = 0, ShapeValues()
        opset = model.opset_imports.get("", 1)
        for graph in model.graphs():
            for node in list(graph):
                if is_op(node, *_BROADCASTING) and opset >= 8:
                    count += _remove(node, values)
        return PassResult(model, bool(count), {"removed": count})


def _remove(node: ir.Node, values: ShapeValues) -> bool:
    count = 0
    for place, value in enumerate(node.inputs):
        expand = made_by(value, "Expand")
        source = None if expand is None else expand.inputs[0]
        if expand is None or source is None or value is None:
            continue
        given, wanted = values.dimensions(source), _expanded(expand, values)
        others = [
            values.dimensions(v) for i, v in enumerate(node.inputs) if i != place and v is not None
        ]
        if given is None or wanted is None:
            continue
        if _is_needless(given, wanted, [other for other in others if other is not None]):
            node.replace_input_with(place, source)
            remove_if_dead(expand)
            count += 1
    return bool(count)


def _expanded(expand: ir.Node, values: ShapeValues) -> list[Element] | None:
    """Return the dimensions that Expand gives: its target's, or the input's where that says 1."""
    source, target = expand.inputs
    given = None if source is None else values.dimensions(source)
    elements = values.elements(target)
    if given is None or elements is None or 0 in elements:
        return None
    size = max(len(given), len(elements))
    pairs = zip(_padded(given, size), _padded(elements, size), strict=True)
    return [b if a == 1 else a if b in (1, a) or isinstance(a, int) else None for a, b in pairs]


def _is_needless(
    given: Sequence[Element], wanted: Sequence[Element], others: Sequence[Sequence[Element]]
) -> bool:
    """Tell whether the other inputs broadcast ``given`` to every dimension of ``wanted``."""
    size = len(wanted)
    columns = [_padded(other, size)[-size:] if size else [] for other in others]
    for axis, (have, want) in enumerate(zip(_padded(given, size), wanted, strict=True)):
        inside = axis >= size - len(given)
        if want is None:
            return False
        if inside and have == want:
            continue
        if want == 1 and any(len(other) >= size - axis for other in others):
            continue
        if want != 1 and any(column[axis] == want for column in columns):
            continue
        return False
    return True


def _padded(dims: Sequence[Element], size: int) -> list[Element]:
    return [1] * (size - len(dims)) + list(dims)
