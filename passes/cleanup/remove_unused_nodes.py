"""Remove nodes and initializers that no output depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class RemoveUnusedNodes(IrPass):
    """Remove nodes and initializers that no output depends on.

    Source: ``onnx_ir.passes.common.RemoveUnusedNodesPass``.
    """

    name: ClassVar[str] = "remove-unused-nodes"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.RemoveUnusedNodesPass()
