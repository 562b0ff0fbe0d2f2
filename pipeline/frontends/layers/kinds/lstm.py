"""Recurrent layers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.initializers import Initializer
from onnxsmith.pipeline.frontends.layers.kinds.base import Layer, features
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped, sizes_of


class Lstm(Layer):
    """A long short-term memory over ``[N, L, D]``.

    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997).
    """

    type: Literal["lstm"]
    units: int = Field(ge=1, description="Features of a state.")
    bidirectional: bool = Field(False, description="Run both ways; gives twice the features.")
    returns: Literal["last", "sequence"] = Field(
        "last", description="The last state, [N, units], or all of them, [N, L, units]."
    )
    forget_bias: float = Field(1.0, description="What the forget gate's bias begins with.")
    initializer: Initializer = "glorot"

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write an LSTM; the runtime takes the length first."""
        (x,), w = inputs, scope.w
        size = features(scope, x, (3,), "sequences [N, length, features]")
        ways, units = 1 + self.bidirectional, self.units
        # The gates are input, output, forget, cell: four matrices, each with fans of its own.
        weight = scope.weight("weight", (ways, 4 * units, size), self.initializer, (size, units))
        recurrence = scope.weight(
            "recurrence", (ways, 4 * units, units), self.initializer, (units, units)
        )
        bias = np.zeros((ways, 8 * units), np.float32)
        bias[:, 2 * units : 3 * units] = self.forget_bias
        attributes = {"hidden_size": units}
        more = {"direction": "bidirectional"} if self.bidirectional else {}
        batch, length = sizes_of(x)[:2]
        turned = w.op("Transpose", x, attributes={"perm": [1, 0, 2]})
        every, last, _ = w.ops(
            "LSTM",
            turned,
            weight,
            recurrence,
            scope.constant_weight("bias", bias),
            outputs=3,
            attributes=attributes | more,
        )
        if self.returns == "last":
            turned = w.op("Transpose", last, attributes={"perm": [1, 0, 2]})
            sizes = w.ints([0, ways * units])
            return shaped(w.op("Reshape", turned, sizes), (batch, ways * units))
        turned = w.op("Transpose", every, attributes={"perm": [2, 0, 1, 3]})
        sizes = w.ints([0, 0, ways * units])
        return shaped(w.op("Reshape", turned, sizes), (batch, length, ways * units))
