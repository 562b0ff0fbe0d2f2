"""Pooling."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from onnxsmith.pipeline.frontends.layers.kinds.base import Layer, check_rank
from onnxsmith.pipeline.frontends.layers.kinds.windows import Numbers, Padding, windows
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped


class Pool(Layer):
    """The largest or the mean number of windows, or of whole images, which gives ``[N, C]``."""

    type: Literal["pool"]
    mode: Literal["max", "average", "global-max", "global-average"] = "max"
    kernel: Numbers = 2
    stride: Numbers | None = None
    padding: Padding = "valid"

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write the pooling; windows do not overlap unless a stride is given."""
        (x,), w = inputs, scope.w
        sizes = check_rank(scope, x, (3, 4, 5), "images [N, channels, height, width]")
        if self.mode.startswith("global"):
            word = "Max" if self.mode == "global-max" else "Mean"
            return shaped(w.reduce(f"Reduce{word}", x, range(2, len(sizes)), False), sizes[:2])
        stride = self.kernel if self.stride is None else self.stride
        found = windows(scope, sizes[2:], self.kernel, stride, self.padding)
        kind = "MaxPool" if self.mode == "max" else "AveragePool"
        result = w.op(kind, x, attributes=found.attributes())
        return shaped(result, (*sizes[:2], *found.sizes))
