"""Replace calls of model-local functions by their bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class InlineFunctions(IrPass):
    """Replace calls of model-local functions by their bodies.

    Source: ``onnx_ir.passes.common.InlinePass``.
    """

    name: ClassVar[str] = "inline-functions"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.InlinePass()
