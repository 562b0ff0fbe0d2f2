"""Losses of values: squared, absolute and Huber's."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.autodiff.writer import BOOL, Writer
from onnxsmith.pipeline.training.losses.base import Loss, mean


@dataclass(frozen=True)
class MeanSquared(Loss):
    """``(x - t)^2``, the mean over elements."""

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over all elements."""
        away = w.op("Sub", output, target)
        return mean(w, w.op("Mul", away, away))


@dataclass(frozen=True)
class MeanAbsolute(Loss):
    """``|x - t|``, the mean over elements."""

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over all elements."""
        return mean(w, w.op("Abs", w.op("Sub", output, target)))


@dataclass(frozen=True)
class Huber(Loss):
    """``e^2 / 2`` where ``|e| <= d``, else ``d (|e| - d / 2)``; the mean over elements.

    Attributes:
        delta: ``d``.

    Source: Huber, "Robust Estimation of a Location Parameter" (1964).
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if self.delta <= 0:
            raise UsageError(f"delta={self.delta} is not positive", "write huber:delta=1")

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over all elements."""
        size = w.op("Abs", w.op("Sub", output, target))
        delta, half = w.number(self.delta, output), w.number(0.5, output)
        near = w.op("Mul", w.op("Mul", size, size), half)
        far = w.op("Mul", w.op("Sub", size, w.number(self.delta / 2, output)), delta)
        inside = w.op("LessOrEqual", size, delta, dtype=BOOL)
        return mean(w, w.op("Where", inside, near, far, dtype=output.dtype))
