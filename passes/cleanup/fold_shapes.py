"""Evaluate shape arithmetic, also where only part of a shape is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer

from onnxsmith.passes.base import Pass, PassContext, PassResult


@dataclass(frozen=True)
class FoldShapes(Pass):
    """Evaluate shape arithmetic, also where only part of a shape is known.

    ``Gather<axis=0>(Shape(x), [i])`` is constant where dimension ``i`` of ``x`` is, whatever the
    others are.
    Tensors above ``limit`` elements are left to ``fold-constants``, which evaluates them in the
    runtime instead of in Python.

    Source: ``onnxscript.optimizer.fold_constants``.
    """

    name: ClassVar[str] = "fold-shapes"

    limit: int = 1024

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Run onnxscript's partial evaluator on small tensors."""
        signature = [(v, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]
        with np.errstate(all="ignore"):  # the model's business, as in the runtime
            result = onnxscript.optimizer.fold_constants(
                model,
                onnx_shape_inference=False,
                input_size_limit=self.limit,
                output_size_limit=self.limit,
            )
        for value, shape in signature:
            # The evaluator names unknown dimensions for itself; users' signatures stay theirs.
            value.shape = shape
        return PassResult(model, result.modified)
