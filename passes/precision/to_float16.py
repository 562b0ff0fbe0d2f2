"""Compute in float16 where the measured error allows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.base import Effect, Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.infer_shapes import InferShapes
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.passes.precision.half import FLOAT16, HalfRewriter, Precision, eligible_nodes
from onnxsmith.passes.precision.measure import choose
from onnxsmith.passes.quantization.select import LeftFloat, Selection


@dataclass(frozen=True)
class ToFloat16(Pass):
    """Compute in float16 where the measured error allows it.

    Weights and values of the nodes that may are stored in half the bytes; casts stand at the
    borders, and the signature stays. Which nodes keep float32 is measured on the samples, or on
    made-up inputs: those that overflow, and those that add most error while the outputs' error is
    above ``max-error``.

    Options:
        keep: Patterns of operator types and node names that stay float32 in any case.
        only: Patterns of the only nodes that may leave it; empty for all.
        max_error: The allowed norm of an output's difference over its norm.

    What is left alone: nodes inside If, Loop and Scan, nodes that hold such bodies, operators
    without a float16 form, custom operators, and Resize, TopK and the like, whose numbers are
    positions.
    """

    name: ClassVar[str] = "to-float16"
    effect: ClassVar[Effect] = "approximate"

    keep: tuple[str, ...] = ()
    max_error: float = 0.01
    only: tuple[str, ...] = ()

    def precision(self) -> Precision:
        """Return the type that is used."""
        return FLOAT16

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Choose the nodes, then convert them."""
        InferShapes().apply(model, context)
        half = self.precision()
        selection, left = Selection(self.keep, self.only), LeftFloat()
        nodes = eligible_nodes(model, half, selection)
        for node in eligible_nodes(model, half):
            if reason := selection.refusal(node):
                left.add(node, reason)
        chosen, error = choose(model, nodes, half, self.max_error, context)
        if not chosen:
            return PassResult(model, False, {"converted": 0, "kept": len(nodes)})
        staying = [node for node in nodes if node not in set(chosen)]
        for node in staying:
            left.add(node, "it overflows, or adds most to the error")
        HalfRewriter(model, half).rewrite(chosen)
        sweep(model.graph)
        details = {
            "converted": len(chosen),
            "kept": len(nodes) - len(chosen),
            "kept_operators": sorted({node.op_type for node in staying}),
            "error": error,
            "left_float": left.to_json(),
        }
        return PassResult(model, True, details)
