"""Compute equal nodes with equal inputs once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class MergeCommonSubexpressions(IrPass):
    """Compute equal nodes with equal inputs once.

    Source: ``onnx_ir.passes.common.CommonSubexpressionEliminationPass``.
    """

    name: ClassVar[str] = "merge-common-subexpressions"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.CommonSubexpressionEliminationPass()
