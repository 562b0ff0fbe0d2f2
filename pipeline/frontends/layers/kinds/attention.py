"""Attention."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.initializers import Initializer
from onnxsmith.pipeline.frontends.layers.kinds.base import FLOAT, Layer, features
from onnxsmith.pipeline.frontends.layers.scope import Scope, shaped, sizes_of

_BLOCKED = -1e9


class Attention(Layer):
    """Self-attention of several heads over ``[N, L, D]``: ``softmax(q k^T / sqrt(d)) v``.

    Source: Vaswani et al., "Attention Is All You Need" (2017).
    """

    type: Literal["attention"]
    heads: int = Field(1, ge=1, description="Parts of the features that attend by themselves.")
    causal: bool = Field(False, description="No place sees those behind it.")
    bias: bool = True
    initializer: Initializer = "glorot"

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write four projections and the products between them."""
        (x,), w = inputs, scope.w
        size = features(scope, x, (3,), "sequences [N, length, features]")
        if size % self.heads:
            raise scope.refuse(
                f"has {self.heads} heads for {size} features", "choose heads that divide them"
            )
        width = size // self.heads
        split = w.ints([0, 0, self.heads, width])
        query, key, value = (
            w.op("Reshape", self._project(scope, x, size, word), split)
            for word in ("query", "key", "value")
        )
        query = w.op("Transpose", query, attributes={"perm": [0, 2, 1, 3]})
        key = w.op("Transpose", key, attributes={"perm": [0, 2, 3, 1]})
        value = w.op("Transpose", value, attributes={"perm": [0, 2, 1, 3]})
        query = w.op("Mul", query, w.number(width**-0.5, query))
        scores = w.op("MatMul", query, key)
        if self.causal:
            scores = w.op("Add", scores, _mask(scope, x))
        mixed = w.op("MatMul", w.op("Softmax", scores, attributes={"axis": -1}), value)
        mixed = w.op("Transpose", mixed, attributes={"perm": [0, 2, 1, 3]})
        mixed = w.op("Reshape", mixed, w.ints([0, 0, size]))
        return shaped(self._project(scope, mixed, size, "output"), sizes_of(x))

    def _project(self, scope: Scope, x: ir.Value, size: int, word: str) -> ir.Value:
        weight = scope.weight(f"{word}.weight", (size, size), self.initializer)
        result = scope.w.op("MatMul", x, weight)
        if not self.bias:
            return result
        return scope.w.op("Add", result, scope.weight(f"{word}.bias", (size,), "zeros"))


def _mask(scope: Scope, x: ir.Value) -> ir.Value:
    """Return ``[L, L]``: a large negative number right of the diagonal.

    It is computed, so that it is no initializer, which training would take for a parameter.
    """
    w = scope.w
    size = w.size_of(x, 1)
    sizes = w.op("Concat", size, size, attributes={"axis": 0})
    full = w.op("Expand", w.constant(np.array(_BLOCKED, np.float32)), sizes, dtype=FLOAT)
    return w.op("Trilu", full, w.integer(1))
