"""Make the file one that the target's runtime loads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.passes.base import Pass, PassContext, PassResult
from onnxsmith.passes.layout.convert_opset import ConvertOpset


@dataclass(frozen=True)
class FitTarget(Pass):
    """Lower the opset and the IR version to what the target's runtime loads.

    The model is written in the target's opset as ``convert-opset`` does; one that has no form there
    is refused.
    """

    name: ClassVar[str] = "fit-target"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Lower what is too new.

        Raises:
            SmithError: The model cannot be written in an opset that the target's runtime knows.
        """
        target = context.target
        opset = model.opset_imports.get("", 0)
        if opset > target.max_opset:
            try:
                return ConvertOpset(target.max_opset).apply(model, context)
            except SmithError as error:
                raise SmithError(
                    f"opset {opset} is too new for the target {target.name!r}, "
                    f"which loads up to {target.max_opset}: {error.message}",
                    f"export the model with opset {target.max_opset}",
                ) from error
        lowered = (model.ir_version or 0) > target.max_ir_version
        if lowered:
            model.ir_version = target.max_ir_version
        return PassResult(model, lowered)
