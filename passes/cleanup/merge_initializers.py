"""Store equal initializers once; tied weights stay tied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.adapters import IrPass


@dataclass(frozen=True)
class MergeInitializers(IrPass):
    """Store equal initializers once; tied weights stay tied.

    Source: ``onnx_ir.passes.common.DeduplicateHashedInitializersPass``.
    """

    name: ClassVar[str] = "merge-initializers"
    size_limit: int = 4 * 1024 * 1024  # bytes; larger tensors are not hashed

    def implementation(self) -> ir.passes.PassBase:
        """Return onnx_ir's pass."""
        return common.DeduplicateHashedInitializersPass(size_limit=self.size_limit)
