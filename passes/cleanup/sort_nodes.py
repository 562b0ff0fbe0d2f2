"""Sort nodes so that each comes after those it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class SortNodes(IrPass):
    """Sort nodes so that each comes after those it depends on.

    Source: ``onnx_ir.passes.common.TopologicalSortPass``.
    """

    name: ClassVar[str] = "sort-nodes"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.TopologicalSortPass()
