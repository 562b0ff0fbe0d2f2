"""Cross-entropy of class scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from onnxsmith.errors import SmithError, UsageError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, Writer
from onnxsmith.pipeline.training.losses.base import Loss, Target, class_axis, mean


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """``-sum_c t_c log softmax(x)_c``, the mean over samples.

    Attributes:
        labels: ``classes``: int64 without the class axis; ``soft``: probabilities.
        smoothing: ``s``: the label gets ``1 - s + s / C``, every other class ``s / C``.
        weights: A weight for each class; the mean is weighted by them.
        ignore: A label that does not count, such as 255 or -100.

    Source: Szegedy et al., "Rethinking the Inception Architecture" (2016), for smoothing.
    """

    reads: ClassVar[str | None] = "Softmax"

    labels: Literal["classes", "soft"] = "classes"
    smoothing: float = 0.0
    weights: tuple[float, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UsageError(f"smoothing={self.smoothing} is not in [0, 1)", "write smoothing=0.1")
        if self.labels == "soft" and (self.weights or self.ignore is not None):
            raise UsageError("soft labels take no class weights", "weigh the labels themselves")

    @property
    def separable(self) -> bool:
        """Whether all samples weigh the same."""
        return not self.weights and self.ignore is None

    @property
    def ignored(self) -> int | None:
        """The label that does not count."""
        return self.ignore

    def target(self, output: ir.Value) -> Target:
        """Return int64 classes, or probabilities shaped as the output."""
        if self.labels == "soft":
            return super().target(output)
        axis = class_axis(output)
        sizes = list(output.shape or [])
        return Target(INT64, ir.Shape(sizes[:axis] + sizes[axis + 1 :]))

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over samples and places."""
        axis = class_axis(output)
        count = output.shape[axis] if output.shape is not None else None
        if self.labels == "soft":
            return self._soft(w, output, target, axis)
        scores = _classes_second(w, output, axis)
        attributes: dict[str, object] = {"reduction": "mean"}
        if self.ignore is not None:
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
        uniform = self._uniform(w, scores, target, weights)
        kept = w.op("Mul", loss, w.number(1 - self.smoothing, loss))
        return w.op("Add", kept, w.op("Mul", uniform, w.number(self.smoothing, loss)))

    def _uniform(
        self, w: Writer, scores: ir.Value, target: ir.Value, weights: ir.Value | None
    ) -> ir.Value:
        """Return the loss of labels that name every class alike, ``[N, C, ...]`` to a scalar.

        As the loss of single labels, it is weighted by the classes and divided by the sum of the
        labels' weights.
        """
        logarithms = w.op("LogSoftmax", scores, attributes={"axis": 1})
        if weights is None and self.ignore is None:
            return w.op("Neg", mean(w, logarithms))
        if weights is not None:
            trailing = list(range(1, len(scores.shape or []) - 1))
            spread = w.op("Unsqueeze", weights, w.ints(trailing)) if trailing else weights
            logarithms = w.op("Mul", logarithms, spread)
        each = w.reduce("ReduceMean", logarithms, [1], keep=False)
        share = self._label_weights(w, target, weights, each)
        counted = w.op("Mul", each, w.cast(w.op("Greater", share, w.number(0, share), dtype=BOOL),
                                           each.dtype))  # fmt: skip
        total = w.op("ReduceSum", share, attributes={"keepdims": 0})
        return w.op(
            "Neg", w.op("Div", w.op("ReduceSum", counted, attributes={"keepdims": 0}), total)
        )

    def _label_weights(
        self, w: Writer, target: ir.Value, weights: ir.Value | None, like: ir.Value
    ) -> ir.Value:
        """Return the weight of each label, zero for those that do not count."""
        there: ir.Value | None = None
        if self.ignore is not None:
            there = w.op("Not", w.op("Equal", target, w.integer(self.ignore), dtype=BOOL))
            target = w.op("Where", there, target, w.integer(0), dtype=INT64)
        if weights is None:
            assert there is not None  # the caller needs one of the two
            return w.cast(there, like.dtype)
        found = w.op("Gather", weights, target)
        return found if there is None else w.op("Mul", found, w.cast(there, like.dtype))

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
