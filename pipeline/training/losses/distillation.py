"""Distillation: learn the scores of a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from onnxsmith.errors import UsageError
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.pipeline.training.losses.base import Loss, class_axis, mean


@dataclass(frozen=True)
class Distillation(Loss):
    """``T^2 KL(softmax(t / T) || softmax(x / T))``, the mean over samples; ``t`` the teacher's.

    Attributes:
        temperature: ``T``.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015).
    """

    reads: ClassVar[str | None] = "Softmax"

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise UsageError("the temperature is not positive", "write distillation:temperature=2")

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over samples."""
        axis = class_axis(output)
        cold = w.number(1 / self.temperature, output)
        attributes = {"axis": axis}
        own = w.op("LogSoftmax", w.op("Mul", output, cold), attributes=attributes)
        true = w.op("LogSoftmax", w.op("Mul", target, cold), attributes=attributes)
        share = w.op("Mul", w.op("Exp", true), w.op("Sub", true, own))
        each = w.reduce("ReduceSum", share, [axis], keep=False)
        return w.op("Mul", mean(w, each), w.number(self.temperature**2, output))
