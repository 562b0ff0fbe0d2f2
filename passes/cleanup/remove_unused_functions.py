"""Remove model-local functions that are never called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class RemoveUnusedFunctions(IrPass):
    """Remove model-local functions that are never called.

    Source: ``onnx_ir.passes.common.RemoveUnusedFunctionsPass``.
    """

    name: ClassVar[str] = "remove-unused-functions"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.RemoveUnusedFunctionsPass()  # type: ignore[no-untyped-call]  # onnx_ir's
