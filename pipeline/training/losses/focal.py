"""Focal loss of class scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import INT64, Writer
from onnxsmith.pipeline.training.losses.base import Loss, Target, class_axis, mean


@dataclass(frozen=True)
class Focal(Loss):
    """``-a (1 - p)^g log p`` with ``p`` the probability of the label, the mean over samples.

    Attributes:
        gamma: ``g``: how little easy samples count.
        alpha: ``a``.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017).
    """

    reads: ClassVar[str | None] = "Softmax"

    gamma: float = 2.0
    alpha: float = 1.0

    def target(self, output: ir.Value) -> Target:
        """Return int64 classes."""
        axis, sizes = class_axis(output), list(output.shape or [])
        return Target(INT64, ir.Shape(sizes[:axis] + sizes[axis + 1 :]))

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over samples and places."""
        axis = class_axis(output)
        assert output.dtype is not None  # attach_loss() checked
        logarithms = w.op("LogSoftmax", output, attributes={"axis": axis})
        on_off = w.constant(np.array([0, 1], output.dtype.numpy()))
        depth = w.op("Squeeze", w.size_of(output, axis), w.ints([0]))
        choice = w.op(
            "OneHot", target, depth, on_off, attributes={"axis": axis}, dtype=output.dtype
        )
        own = w.reduce("ReduceSum", w.op("Mul", choice, logarithms), [axis], keep=False)
        rest = w.op("Sub", w.number(1, own), w.op("Exp", own))
        rest = w.op("Relu", rest)  # rounding may leave less than nothing
        weight = w.op("Pow", rest, w.number(self.gamma, own))
        each = w.op("Mul", w.op("Mul", weight, own), w.number(-self.alpha, own))
        return mean(w, each)
