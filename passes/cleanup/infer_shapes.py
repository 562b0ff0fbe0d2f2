"""Infer element types and shapes of all values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class InferShapes(IrPass):
    """Infer element types and shapes of all values.

    Source: ``onnx_ir.passes.common.ShapeInferencePass``.
    """

    name: ClassVar[str] = "infer-shapes"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.ShapeInferencePass()
