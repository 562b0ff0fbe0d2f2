"""Make inputs that have an initializer constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import onnx_ir.passes.common as common

from onnxsmith.passes.base import Pass, PassContext, PassResult

# IR version 3 requires every initializer to be an input as well.
_FIRST_IR_VERSION = 4


@dataclass(frozen=True)
class RemoveInitializerInputs(Pass):
    """Remove inputs that have an initializer from the signature: they become constants.

    From IR version 4 on such an input may be overridden by the caller, which keeps every rewrite
    from relying on its value. The required inputs stay as they are.

    Source: ``onnx_ir.passes.common.RemoveInitializersFromInputsPass``.
    """

    name: ClassVar[str] = "remove-initializer-inputs"

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove them, and raise the IR version to the first that allows it."""
        result = common.RemoveInitializersFromInputsPass()(model)
        raised = model.ir_version < _FIRST_IR_VERSION
        if raised:
            model.ir_version = _FIRST_IR_VERSION
        return PassResult(result.model, result.modified or raised)
