"""Cross-entropy of single decisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.pipeline.training.losses.base import Loss, mean


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """``max(x, 0) - x t + log(1 + exp(-|x|))``, the mean over elements; ``x`` before the sigmoid.

    Attributes:
        positive: The weight of the elements whose target is one.
    """

    reads: ClassVar[str | None] = "Sigmoid"

    positive: float = 1.0

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over all elements."""
        return mean(w, binary_losses(w, output, target, self.positive))


def binary_losses(w: Writer, scores: ir.Value, target: ir.Value, positive: float = 1.0) -> ir.Value:
    """Return the loss of each element: ``(1 - t) x + (1 + (p - 1) t) log(1 + exp(-x))``."""
    small = w.op("Exp", w.op("Neg", w.op("Abs", scores)))
    one = w.number(1, scores)
    tail = w.op("Add", w.op("Log", w.op("Add", one, small)), w.op("Relu", w.op("Neg", scores)))
    if positive != 1:
        weight = w.op("Add", one, w.op("Mul", target, w.number(positive - 1, scores)))
        tail = w.op("Mul", weight, tail)
    return w.op("Add", w.op("Mul", w.op("Sub", one, target), scores), tail)
