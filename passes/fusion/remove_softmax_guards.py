"""Remove what guards a softmax against rows that are minus infinity throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.attention_core import unguarded
from onnxsmith.passes.fusion.attention_mask import is_finite
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.fusion.hidden_rows import HiddenRows
from onnxsmith.passes.match import all_nodes, array_of, bypass, is_op, made_by, tensor_of

_OPSET = 13  # ReduceSum takes its axes as an input
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


@dataclass(frozen=True)
class RemoveSoftmaxGuards(Pass):
    """Remove the guard ``Where(IsNaN(p), 0, p)`` of probabilities that cannot be NaN.

    PyTorch's exporter writes it behind each softmax of an attention, for rows of the mask that are
    minus infinity throughout. It takes as long as the softmax. It goes where the scores are a
    product, scaled by numbers or not, to which a mask may be added whose rows are known to hold a
    finite number; other numbers that are not finite before the softmax are not kept apart.

    Where the mask is ``Where(c, -inf, 0)``, whose rows may be hidden throughout, the mask becomes
    finite and the guard one factor behind the product with the values, 0 for these rows: it is
    computed once for all attentions that share the mask.

    What is left alone: other computed masks that may hold infinities, scores of another form, and
    probabilities that anything else reads.
    """

    name: ClassVar[str] = "remove-softmax-guards"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove in the graph, its subgraphs and functions."""
        count, moved = 0, 0
        rows = HiddenRows() if version_of(model) >= _OPSET else None
        for node in all_nodes(model, functions=True):
            if not is_op(node, "Softmax"):
                continue
            guarded, guard = unguarded(node.outputs[0])
            if guarded is None:
                continue
            if _is_bounded(node.inputs[0]):
                count += bypass(guard[-1], node.outputs[0])
            elif _is_masked(node.inputs[0]) and rows is not None and rows.move(node, guarded):
                moved += bypass(guard[-1], node.outputs[0])
        details = {"removed": count, **({"moved": moved} if moved else {})}
        return PassResult(model, bool(count or moved), details)


def _is_masked(scores: ir.Value | None) -> bool:
    """Tell whether scores are the sum of a scaled product and something else."""
    add = made_by(scores, "Add")
    return add is not None and any(_is_product(value) for value in add.inputs)


def _is_bounded(scores: ir.Value | None) -> bool:
    """Tell whether scores are a scaled product, or the sum of one and a mask that leaves some."""
    add = made_by(scores, "Add")
    if add is None:
        return _is_product(scores)
    first, second = add.inputs
    return any(
        _is_product(product) and mask is not None and (is_finite(mask) or _leaves_some(mask))
        for product, mask in ((first, second), (second, first))
    )


def _leaves_some(mask: ir.Value) -> bool:
    """Tell whether a constant mask is minus infinity in parts of its rows at most."""
    view = made_by(mask, "Expand", "Unsqueeze")
    tensor = tensor_of(mask if view is None else view.inputs[0])
    if tensor is None or tensor.dtype not in _FLOATS or not tensor.shape:
        return False
    numbers = tensor.numpy()
    highest = numbers.max(axis=-1, initial=-np.inf)  # NaN where one is
    return bool(np.isfinite(highest).all())


def _is_product(value: ir.Value | None) -> bool:
    scale = made_by(value, "Mul", "Div")
    while scale is not None:
        first, second = scale.inputs
        if array_of(second, 1) is not None:
            value = first
        elif array_of(first, 1) is not None and scale.op_type == "Mul":
            value = second
        else:
            return False
        scale = made_by(value, "Mul", "Div")
    return made_by(value, "MatMul") is not None
