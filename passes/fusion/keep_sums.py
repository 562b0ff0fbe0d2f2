"""Keep the runtime from fusing sums into the normalizations behind them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.fusion.contrib import version_of
from onnxsmith.passes.match import all_nodes, is_op, made_by, replace, same_shape

# Sum broadcasts, and takes what Add takes, since then.
_OPSET = 8
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class KeepSums(Pass):
    """Write the sum before a LayerNormalization so that the runtime does not fuse the two.

    ``LayerNormalization(Add(x, y))`` becomes ``LayerNormalization(Sum(x, y))``, the same numbers.
    On CPUs the runtime's SkipLayerNormalization takes longer than its parts, four times as long
    on 2 cores at the sizes of BERT-base. ``set-session`` switches the fusion off for sessions
    that read the setting; this keeps any program from it.

    What is left alone: sums that broadcast or whose shapes are unknown, which the runtime does not
    fuse either, and element types other than floats.
    """

    name: ClassVar[str] = "keep-sums"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Write anew in the graph, its subgraphs and functions."""
        if version_of(model) < _OPSET:
            return PassResult(model, False, {"refused": f"it needs opset {_OPSET}"})
        count = 0
        for node in all_nodes(model, functions=True):
            add = made_by(node.inputs[0], "Add") if is_op(node, "LayerNormalization") else None
            if add is None or add.outputs[0].dtype not in _FLOATS:
                continue
            x, y = add.inputs
            if x is not None and y is not None and same_shape(x, y):
                replace(add, ir.node("Sum", [x, y]))
                count += 1
        return PassResult(model, bool(count), {"kept": count})
