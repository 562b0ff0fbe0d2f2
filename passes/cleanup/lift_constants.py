"""Turn Constant nodes into initializers, so that they can be shared and folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class LiftConstants(IrPass):
    """Turn Constant nodes into initializers, so that they can be shared and folded.

    Source: ``onnx_ir.passes.common.LiftConstantsToInitializersPass``.
    """

    name: ClassVar[str] = "lift-constants"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
