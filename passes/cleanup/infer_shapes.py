"""Infer element types and shapes of all values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass
from onnxsmith.passes.base import PassContext, PassResult
from onnxsmith.storage.maps import map_types


@dataclass(frozen=True)
class InferShapes(IrPass):
    """Infer element types and shapes of all values.

    Models that return maps are left alone: onnx_ir cannot take their inferred types.

    Source: ``onnx_ir.passes.common.ShapeInferencePass``.
    """

    name: ClassVar[str] = "infer-shapes"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.ShapeInferencePass()

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Infer, unless the model returns maps."""
        if map_types(model):
            return PassResult(model, False, {"refused": "the model returns maps"})
        return super().apply(model, context)
