"""Remove opset imports of domains that no node uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class RemoveUnusedOpsets(IrPass):
    """Remove opset imports of domains that no node uses.

    Source: ``onnx_ir.passes.common.RemoveUnusedOpsetsPass``.
    """

    name: ClassVar[str] = "remove-unused-opsets"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.RemoveUnusedOpsetsPass()
