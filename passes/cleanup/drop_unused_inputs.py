"""Remove inputs that no output depends on from the signature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.base import Conversion, Pass, PassContext, PassResult
from onnxsmith.passes.cleanup.remove_unused_nodes import sweep
from onnxsmith.spec import ModelSpec


@dataclass(frozen=True)
class DropUnusedInputs(Pass):
    """Remove inputs that no output depends on from the signature.

    No preset does so: a caller that gives such an input gets an error from the new model. The check
    allows fewer inputs behind this pass, and compares all outputs.

    Options:
        keep: Inputs that stay in any case, joined by ``+``.
    """

    name: ClassVar[str] = "drop-unused-inputs"

    keep: tuple[str, ...] = ()

    def conversion(self, spec: ModelSpec) -> Conversion:
        """Return that there may be fewer inputs.

        Raises:
            UsageError: There is no input of a name that is to be kept.
        """
        names = {value.name for value in spec.inputs}
        for name in self.keep:
            if name not in names:
                known = ", ".join(sorted(names))
                raise UsageError(f"the model has no input {name!r}", f"its inputs: {known}")
        return Conversion(drops_inputs=True)

    def apply(self, model: ir.Model, context: PassContext) -> PassResult:
        """Remove what nothing needs first, then the inputs that nothing reads."""
        swept = sweep(model.graph)
        dropped = [
            value
            for value in model.graph.inputs
            if not value.uses() and not value.is_graph_output() and value.name not in self.keep
        ]
        for value in dropped:
            model.graph.inputs.remove(value)
            model.graph.initializers.pop(value.name or "", None)
        names = [value.name for value in dropped]
        return PassResult(model, bool(swept or dropped), {"dropped": names})
