"""Normalization."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.kinds.base import Layer, check_rank, known
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped


class Norm(Layer):
    """``(x - mean) / sqrt(variance + epsilon) scale + bias``.

    ``batch``: for each channel, over the batch, with statistics that are remembered for
    inference. ``layer``: for each sample, over the last dimension.
    """

    type: Literal["norm"]
    mode: Literal["batch", "layer"] = "batch"
    epsilon: float = Field(1e-5, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="How much of what is remembered stays.")

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write the normalization, in inference form."""
        (x,) = inputs
        sizes = check_rank(scope, x, (2, 3, 4, 5), "[N, features] or more")
        axis = 1 if self.mode == "batch" else -1
        size = known(scope, sizes[axis], "the number of features")
        scale, bias = scope.weight("scale", (size,), "ones"), scope.weight("bias", (size,), "zeros")
        if self.mode == "layer":
            attributes = {"axis": -1, "epsilon": self.epsilon}
            return shaped(
                scope.w.op("LayerNormalization", x, scale, bias, attributes=attributes), sizes
            )
        mean = scope.weight("mean", (size,), "zeros")
        variance = scope.weight("variance", (size,), "ones")
        attributes = {"epsilon": self.epsilon, "momentum": self.momentum}
        result = scope.w.op(
            "BatchNormalization", x, scale, bias, mean, variance, attributes=attributes
        )
        return shaped(result, sizes)
