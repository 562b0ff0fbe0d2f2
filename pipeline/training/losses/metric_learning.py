"""Losses of embeddings ``[N, D]`` whose labels are classes: pairs and triplets of one batch."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.passes.autodiff.writer import BOOL, INT64, Writer
from onnxsmith.pipeline.training.losses.base import Loss, Target

_TINY = 1e-12


@dataclass(frozen=True)
class _OfEmbeddings(Loss):
    margin: float = 1.0

    @property
    def separable(self) -> bool:
        """A sample's loss depends on the others."""
        return False

    def target(self, output: ir.Value) -> Target:
        """Return one int64 class for each embedding."""
        return Target(INT64, ir.Shape(list(output.shape or [])[:1]))


@dataclass(frozen=True)
class Contrastive(_OfEmbeddings):
    """``d^2`` for pairs of one class, ``max(m - d, 0)^2`` for others; the mean over pairs.

    Attributes:
        margin: ``m``: as far apart as classes have to be.

    Source: Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant
    Mapping" (2006).
    """

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over all pairs of two."""
        squares = _squared_distances(w, output)
        same, other = _pairs(w, output, target)
        distance = w.op("Sqrt", w.op("Add", squares, w.number(_TINY, output)))
        short = w.op("Relu", w.op("Sub", w.number(self.margin, output), distance))
        near, far = w.op("Mul", same, squares), w.op("Mul", other, w.op("Mul", short, short))
        return _share(w, w.op("Add", near, far), w.op("Add", same, other))


@dataclass(frozen=True)
class Triplet(_OfEmbeddings):
    """``max(d(a, p) - d(a, n) + m, 0)``, the mean over all triplets of a batch that it holds for.

    Attributes:
        margin: ``m``.

    Source: Schroff et al., "FaceNet" (2015).
    """

    margin: float = 0.2

    def write(self, w: Writer, output: ir.Value, target: ir.Value) -> ir.Value:
        """Return the mean over triplets of an anchor, its like and another."""
        squares = _squared_distances(w, output)
        distance = w.op("Sqrt", w.op("Add", squares, w.number(_TINY, output)))
        same, other = _pairs(w, output, target)
        like = w.op("Unsqueeze", distance, w.ints([2]))
        unlike = w.op("Unsqueeze", distance, w.ints([1]))
        gap = w.op("Add", w.op("Sub", like, unlike), w.number(self.margin, output))
        valid = w.op(
            "Mul", w.op("Unsqueeze", same, w.ints([2])), w.op("Unsqueeze", other, w.ints([1]))
        )
        return _share(w, w.op("Mul", w.op("Relu", gap), valid), valid)


def _squared_distances(w: Writer, x: ir.Value) -> ir.Value:
    """Return ``[N, N]``; from differences, which lose less than products do."""
    away = w.op("Sub", w.op("Unsqueeze", x, w.ints([1])), w.op("Unsqueeze", x, w.ints([0])))
    return w.reduce("ReduceSum", w.op("Mul", away, away), [2], keep=False)


def _pairs(w: Writer, x: ir.Value, classes: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return which pairs of two samples are of one class and which of two, as ones."""
    row, column = w.op("Unsqueeze", classes, w.ints([0])), w.op("Unsqueeze", classes, w.ints([1]))
    equal = w.cast(w.op("Equal", row, column, dtype=BOOL), x.dtype)
    other = w.op("Sub", w.number(1, x), equal)
    itself = w.op("EyeLike", equal)
    return w.op("Sub", equal, itself), other


def _share(w: Writer, losses: ir.Value, counts: ir.Value) -> ir.Value:
    """Return the mean over what counts; zero where nothing does."""
    attributes = {"keepdims": 0}
    count = w.op("ReduceSum", counts, attributes=attributes)
    count = w.op("Max", count, w.number(1, count))
    return w.op("Div", w.op("ReduceSum", losses, attributes=attributes), count)
