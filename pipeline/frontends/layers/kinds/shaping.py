"""Layers without weights that change shapes, or join what several layers give."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import onnx_ir as ir
from pydantic import Field

from onnxsmith.pipeline.frontends.layers.kinds.base import Layer, known
from onnxsmith.pipeline.frontends.layers.scope import Scope, in_words, shaped, sizes_of


class Flatten(Layer):
    """``[N, ...]`` becomes ``[N, features]``."""

    type: Literal["flatten"]

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a Flatten."""
        batch, *rest = sizes_of(inputs[0])
        count = math.prod(known(scope, size, "all sizes") for size in rest)
        return shaped(scope.w.op("Flatten", inputs[0]), (batch, count))


class Dropout(Layer):
    """Zeros a share of the numbers while training; inference passes all."""

    type: Literal["dropout"]
    rate: float = Field(0.5, ge=0, lt=1, description="The share.")

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a Dropout."""
        (x,) = inputs
        return shaped(scope.w.op("Dropout", x, scope.w.number(self.rate, x)), sizes_of(x))


class Mean(Layer):
    """The mean over one dimension: the places of a sequence by default."""

    type: Literal["mean"]
    axis: int = Field(1, ge=1)

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a ReduceMean."""
        (x,) = inputs
        sizes = sizes_of(x)
        if self.axis >= len(sizes):
            raise scope.refuse(f"has the axis {self.axis} of {in_words(x)}", "give a smaller axis")
        result = scope.w.reduce("ReduceMean", x, [self.axis], keep=False)
        return shaped(result, sizes[: self.axis] + sizes[self.axis + 1 :])


class Add(Layer):
    """The sum of two layers of one shape, as around residual blocks."""

    least: ClassVar[int] = 2
    most: ClassVar[int] = 2

    type: Literal["add"]

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write an Add."""
        first, second = inputs
        if sizes_of(first) != sizes_of(second):
            raise scope.refuse(
                f"adds {in_words(first)} and {in_words(second)}", "give it two of one shape"
            )
        return shaped(scope.w.op("Add", first, second), sizes_of(first))


class Concatenate(Layer):
    """Several layers behind each other along one dimension."""

    least: ClassVar[int] = 2
    most: ClassVar[int] = 64

    type: Literal["concatenate"]
    axis: int = Field(1, ge=1)

    def build(self, scope: Scope, inputs: list[ir.Value]) -> ir.Value:
        """Write a Concat."""
        all_sizes, axis = [sizes_of(value) for value in inputs], self.axis
        rest = {sizes[:axis] + sizes[axis + 1 :] for sizes in all_sizes}
        if len(rest) > 1 or any(axis >= len(sizes) for sizes in all_sizes):
            shown = ", ".join(in_words(value) for value in inputs)
            raise scope.refuse(
                f"joins {shown} along axis {axis}", "their other sizes have to be the same"
            )
        total = sum(known(scope, sizes[axis], "the sizes it joins") for sizes in all_sizes)
        first = all_sizes[0]
        result = scope.w.op("Concat", *inputs, attributes={"axis": axis})
        return shaped(result, (*first[:axis], total, *first[axis + 1 :]))
