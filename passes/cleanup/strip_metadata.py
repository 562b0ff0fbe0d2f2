"""Remove doc strings and metadata of nodes and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class StripMetadata(IrPass):
    """Remove doc strings and metadata of nodes and values.

    Source: ``onnx_ir.passes.common.ClearMetadataAndDocStringPass``.
    """

    name: ClassVar[str] = "strip-metadata"

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.ClearMetadataAndDocStringPass()
