"""Give every node and value a unique name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class FixNames(IrPass):
    """Give every node and value a unique name.

    Source: ``onnx_ir.passes.common.NameFixPass``.
    """

    name: ClassVar[str] = "fix-names"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.NameFixPass()
