"""Move initializers of If, Loop and Scan bodies to the main graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class LiftSubgraphInitializers(IrPass):
    """Move initializers of If, Loop and Scan bodies to the main graph.

    Source: ``onnx_ir.passes.common.LiftSubgraphInitializersToMainGraphPass``.
    """

    name: ClassVar[str] = "lift-subgraph-initializers"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.LiftSubgraphInitializersToMainGraphPass()
