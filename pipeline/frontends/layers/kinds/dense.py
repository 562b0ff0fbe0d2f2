"""Dense layers."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.initializers import Initializer
from onnxsmith.pipeline.frontends.layers.kinds.activation import Function, activate
from onnxsmith.pipeline.frontends.layers.kinds.base import Layer, features
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped, sizes_of


class Dense(Layer):
    """``x W + b`` over the last dimension of ``[N, D]`` or ``[N, L, D]``; ``W``: ``[D, units]``."""

    type: Literal["dense"]
    units: int = Field(ge=1, description="Features that come out.")
    bias: bool = True
    activation: Function = "none"
    initializer: Initializer = "glorot"
    bias_initializer: Initializer = "zeros"

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a Gemm, or a MatMul and an Add for sequences."""
        (x,), w = inputs, scope.w
        size = features(scope, x, (2, 3), "[N, features] or [N, length, features]")
        weight = scope.weight("weight", (size, self.units), self.initializer)
        bias = scope.weight("bias", (self.units,), self.bias_initializer) if self.bias else None
        if len(sizes_of(x)) == 2:
            result = (
                w.op("Gemm", x, weight, bias) if bias is not None else w.op("MatMul", x, weight)
            )
        else:
            result = w.op("MatMul", x, weight)
            result = result if bias is None else w.op("Add", result, bias)
        return activate(scope, shaped(result, (*sizes_of(x)[:-1], self.units)), self.activation)
