"""Gradients of ONNX's own losses.

Source: SoftmaxCrossEntropyLoss and NegativeLogLikelihoodLoss of ONNX.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.writer import BOOL, INT64, rank_of


def cross_entropy(b: Backward) -> Gradients:
    """``dx = (softmax(x) - onehot(label)) w / n``: ``w`` the label's weight, ``n`` their sum."""
    w, scores = b.write, b.x(0)
    if b.grads[0] is None or (len(b.grads) > 1 and b.grads[1] is not None):
        raise NotDifferentiableError("its log probabilities are read; use LogSoftmax")
    if len(b.node.outputs) < 2:
        b.node.resize_outputs(2)
    logarithms = b.node.outputs[1]
    if not logarithms.name:
        logarithms.name, logarithms.type = w.name("log_prob"), scores.type
        logarithms.shape = scores.shape
    choice, share, there = _picked(b)
    difference = w.op("Sub", w.op("Exp", logarithms), choice)
    return [w.op("Mul", difference, share), None, _of_weights(b, logarithms, choice, there)]


def likelihood(b: Backward) -> Gradients:
    """``dx = -onehot(label) w / n``."""
    choice, share, there = _picked(b)
    slope = b.write.op("Neg", b.write.op("Mul", choice, share))
    return [slope, None, _of_weights(b, b.x(0), choice, there)]


def _picked(b: Backward) -> tuple[ir.Value, ir.Value, ir.Value | None]:
    """Return the one-hot labels, the gradient of each label's loss, and which labels count.

    Classes are along axis 1. The latter are ones and zeros, None where all count.
    """
    w, scores, labels = b.write, b.x(0), b.x(1)
    labels = w.cast(labels, INT64)
    ignored = b.node.attributes.get_int("ignore_index")
    counts: ir.Value | None = None
    if ignored is not None:
        counts = w.op("Not", w.op("Equal", labels, w.integer(ignored), dtype=BOOL))
        labels = w.op("Where", counts, labels, w.integer(0), dtype=INT64)
    depth = w.op("Squeeze", w.size_of(scores, 1), w.ints([0]))
    assert scores.dtype is not None  # differentiated values have types
    on_off = w.constant(np.array([0, 1], scores.dtype.numpy()))
    choice = w.op("OneHot", labels, depth, on_off, attributes={"axis": 1}, dtype=scores.dtype)
    weights = b.optional(2)
    each: ir.Value | None = None
    if weights is not None:
        each = w.op("Gather", weights, labels)
    there: ir.Value | None = None
    if counts is not None:
        there = w.cast(counts, scores.dtype)
        each = there if each is None else w.op("Mul", each, there)
    return choice, _share(b, labels, each), there


def _of_weights(
    b: Backward, logarithms: ir.Value, choice: ir.Value, there: ir.Value | None
) -> ir.Value | None:
    """Return the gradient of the classes' weights: the sum of their losses.

    A mean divides by the sum ``n`` of the weights as well: ``(loss - mean) / n``.
    """
    weights = b.optional(2)
    if weights is None or not b.needs[2]:
        return None
    w, mean = b.write, b.string("reduction", "mean") == "mean"
    axes = [axis for axis in range(rank_of(b.x(0))) if axis != 1]
    if there is not None:
        choice = w.op("Mul", choice, w.op("Unsqueeze", there, w.ints([1])))
    losses, grad = w.op("Neg", w.op("Mul", choice, logarithms)), b.grad
    if b.string("reduction", "mean") == "none":
        grad = w.op("Unsqueeze", grad, w.ints([1]))
    found = w.reduce("ReduceSum", w.op("Mul", losses, grad), axes, keep=False)
    if not mean:
        return found
    counts = w.reduce("ReduceSum", choice, axes, keep=False)
    total = w.op("ReduceSum", w.op("Mul", counts, weights), attributes={"keepdims": 0})
    away = w.op("Sub", found, w.op("Mul", counts, w.op("Mul", b.y, grad)))
    return w.op("Div", away, total)


def _share(b: Backward, labels: ir.Value, each: ir.Value | None) -> ir.Value:
    w = b.write
    reduction = b.string("reduction", "mean")
    grad = b.grad
    if reduction == "none":
        share = grad if each is None else w.op("Mul", grad, each)
        return w.op("Unsqueeze", share, w.ints([1]))
    if reduction == "mean":
        if each is None:
            count = w.cast(w.op("Size", labels, dtype=INT64), grad.dtype)
            return w.op("Div", grad, count)
        total = w.op("ReduceSum", each, attributes={"keepdims": 0})
        grad = w.op("Div", grad, total)
    if each is None:
        return grad
    return w.op("Mul", grad, w.op("Unsqueeze", each, w.ints([1])))
