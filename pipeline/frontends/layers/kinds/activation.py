"""Activations."""

from __future__ import annotations

from typing import Any, Literal

import onnx_ir as ir

from onnxsmith.pipeline.frontends.layers.kinds.base import Layer
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped, sizes_of

Function = Literal[
    "none", "relu", "leaky-relu", "elu", "selu", "gelu", "silu", "mish", "hard-swish", "sigmoid",
    "tanh", "softplus", "softmax", "log-softmax",
]  # fmt: skip

_OPERATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "relu": ("Relu", {}),
    "leaky-relu": ("LeakyRelu", {"alpha": 0.01}),
    "elu": ("Elu", {}),
    "selu": ("Selu", {}),
    "gelu": ("Gelu", {}),
    "mish": ("Mish", {}),
    "hard-swish": ("HardSwish", {}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "softplus": ("Softplus", {}),
    "softmax": ("Softmax", {"axis": -1}),
    "log-softmax": ("LogSoftmax", {"axis": -1}),
}


class Activation(Layer):
    """A function of each number; softmax and log-softmax are over the last dimension."""

    type: Literal["activation"]
    function: Function

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write the function."""
        return activate(scope, inputs[0], self.function)


def activate(scope: Scope, x: ir.Value, function: Function) -> ir.Value:
    """Return an activation of a value; ``silu`` is ``x sigmoid(x)``."""
    if function == "none":
        return x
    if function == "silu":
        return shaped(scope.w.op("Mul", x, scope.w.op("Sigmoid", x)), sizes_of(x))
    kind, attributes = _OPERATORS[function]
    if kind == "Gelu" and scope.w.version < 20:
        raise scope.refuse("has gelu, which is an operator since opset 20", "give --opset 20")
    return shaped(scope.w.op(kind, x, attributes=attributes), sizes_of(x))
