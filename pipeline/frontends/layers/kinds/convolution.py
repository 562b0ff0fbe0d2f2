"""Convolutions."""

from __future__ import annotations

import math
from typing import Literal

import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.initializers import Initializer
from onnxsmith.pipeline.frontends.layers.kinds.activation import Function, activate
from onnxsmith.pipeline.frontends.layers.kinds.base import Layer, check_rank, known
from onnxsmith.pipeline.frontends.layers.kinds.windows import Numbers, Padding, windows
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped


class Conv(Layer):
    """A convolution of ``[N, C, length]``, ``[N, C, H, W]`` or ``[N, C, D, H, W]``."""

    type: Literal["conv"]
    filters: int = Field(ge=1, description="Channels that come out.")
    kernel: Numbers = 3
    stride: Numbers = 1
    padding: Padding = "valid"
    dilation: Numbers = 1
    groups: int = Field(1, ge=1, description="Parts of the channels that do not see each other.")
    bias: bool = True
    activation: Function = "none"
    initializer: Initializer = "glorot"
    bias_initializer: Initializer = "zeros"

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a Conv; its weight is ``[filters, C / groups, *kernel]``."""
        (x,) = inputs
        sizes = check_rank(scope, x, (3, 4, 5), "images [N, channels, height, width]")
        channels = known(scope, sizes[1], "the number of channels")
        if channels % self.groups or self.filters % self.groups:
            raise scope.refuse(
                f"has {self.groups} groups for {channels} channels and {self.filters} filters",
                "choose groups that divide both",
            )
        found = windows(scope, sizes[2:], self.kernel, self.stride, self.padding, self.dilation)
        field = math.prod(found.kernel)
        shape = (self.filters, channels // self.groups, *found.kernel)
        fans = (channels // self.groups * field, self.filters // self.groups * field)
        weight = scope.weight("weight", shape, self.initializer, fans)
        bias = scope.weight("bias", (self.filters,), self.bias_initializer) if self.bias else None
        attributes = found.attributes() | ({"group": self.groups} if self.groups > 1 else {})
        result = scope.w.op("Conv", x, weight, *([bias] if bias else []), attributes=attributes)
        return activate(
            scope, shaped(result, (sizes[0], self.filters, *found.sizes)), self.activation
        )
