"""Cross-entropy of class scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.autodiff.writer import Writer
from onnxsmith.pipeline.training.losses.base import Loss, Target, class_axis, mean


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """``-sum_c t_c log softmax(x)_c``, the mean over samples.

    Attributes:
        labels: ``classes``: int64 without the class axis; ``soft``: probabilities.
        smoothing: ``s``: the label gets ``1 - s + s / C``, every other class ``s / C``.
        weights: A weight for each class; the mean is weighted by them.
        ignore: A class that does not count, -1 for none.

    Source: Szegedy et al., "Rethinking the Inception Architecture" (2016), for smoothing.
    """

    reads: ClassVar[str | None] = "Softmax"

    labels: Literal["classes", "soft"] = "classes"
    smoothing: float = 0.0
    weights: tuple[float, ...] = ()
    ignore: int = -1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"smoothing={self.smoothing} is not in [0, 1)", "write smoothing=0.1")
        if self.labels == "soft" and (self.weights or self.ignore != -1):
            raise UsageError("soft labels take no class weights", "weigh the labels themselves")

    def target(self, output: ir.Value) -> Target:
        """Return int64 classes, or probabilities shaped as the output."""
        if self.labels == "soft":
            return super().target(output)
        axis = class_axis(output)
        sizes = list(output.shape or [])
        return Target(ir.DataType.INT64, ir.Shape(sizes[:axis] + sizes[axis + 1 :]))

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over samples and places."""
        axis = class_axis(output)
        count = output.shape[axis] if output.shape is not None else None
        if self.labels == "soft":
            return self._soft(w, output, target, axis)
        scores = _classes_second(w, output, axis)
        attributes: dict[str, object] = {"reduction": "mean"}
        if self.ignore != -1:
            attributes["ignore_index"] = self.ignore
        weights = None
        if self.weights:
            if isinstance(count, int) and count != len(self.weights):
                raise SmithError(
                    f"{len(self.weights)} weights for {count} classes", "give one for each class"
                )
            assert output.dtype is not None  # attach_loss() checked
            weights = w.constant(np.array(self.weights, output.dtype.numpy()))
        loss = w.op("SoftmaxCrossEntropyLoss", scores, target, weights, attributes=attributes)
        if not self.smoothing:
            return loss
        if weights is not None or self.ignore != -1:
            raise UsageError("smoothing takes no class weights", "give one of the two")
        uniform = mean(w, w.op("LogSoftmax", scores, attributes={"axis": 1}))
        kept = w.op("Mul", loss, w.number(1 - self.smoothing, loss))
        return w.op("Sub", kept, w.op("Mul", uniform, w.number(self.smoothing, loss)))

    def _soft(self, w: Writer, output: ir.Value, target: ir.Value, axis: int) -> ir.Value:
        logarithms = w.op("LogSoftmax", output, attributes={"axis": axis})
        if self.smoothing:
            logarithms = w.op(
                "Add",
                w.op("Mul", logarithms, w.number(1 - self.smoothing, output)),
                w.op(
                    "Mul",
                    w.reduce("ReduceMean", logarithms, [axis]),
                    w.number(self.smoothing, output),
                ),
            )
        each = w.reduce("ReduceSum", w.op("Mul", target, logarithms), [axis], keep=False)
        return w.op("Neg", mean(w, each))


def _classes_second(w: Writer, scores: ir.Value, axis: int) -> ir.Value:
    """Return ``[N, C, ...]``, as ONNX has it."""
    if axis == 1:
        return scores
    order = [0, axis, *(i for i in range(1, len(scores.shape or [])) if i != axis)]
    return w.op("Transpose", scores, attributes={"perm": order})
