"""Make the file one that the target's runtime loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass, PassContext, PassResult


@dataclass(frozen=True)
class FitTarget(Pass):
    """Lower the IR version to what the target's runtime loads.

    A newer opset is refused: its operators may mean something else in an older one.
    """

    name: ClassVar[str] = "fit-target"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Lower the IR version where it is too new.

        Raises:
            SmithError: The opset is newer than the target's runtime knows.
        """
        target = context.target
        opset = model.opset_imports.get("", 0)
        if opset > target.max_opset:
            raise SmithError(
                f"opset {opset} is too new for the target {target.name!r}, "
                f"which loads up to {target.max_opset}",
                f"export the model with opset {target.max_opset}",
            )
        lowered = (model.ir_version or 0) > target.max_ir_version
        if lowered:
            model.ir_version = target.max_ir_version
        return PassResult(model, lowered)
