"""Gradients of pooling, but for that by maxima.

Windows may overlap, be dilated, and reach beyond the padding (``ceil_mode``).

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients
from onnxsmith.passes.autodiff.rules.conv import (
    Window,
    spread_windows,
    static_shape_tail,
    window_of,
)
from onnxsmith.passes.autodiff.writer import BOOL, INT64, Array, rank_of


def unpool(b: Backward) -> Gradients:
    """Each element's gradient stands where the element was put."""
    w, flat = b.write, b.write.ints([-1])
    grad, places = w.op("Reshape", b.grad, flat), w.op("Reshape", b.x(1), flat)
    return [w.reshape_like(w.op("GatherElements", grad, places), b.x(0))]


def average(b: Backward) -> Gradients:
    """Each window's gradient, divided by the elements it counts, is spread over them."""
    window = window_of(b, b.ints("kernel_shape") or [])
    counted = _counts(b, window)
    return [spread_each(b, b.write.op("Div", b.grad, counted), window)]


def norm(b: Backward) -> Gradients:
    """``dx = sign(x) |x|^(p-1) sum(g y^(1-p))`` over the windows that an element is in."""
    window, p = window_of(b, b.ints("kernel_shape") or []), b.int("p", 2)
    spread = spread_each(b, _over_power(b, p), window)
    return [b.write.op("Mul", _powered(b, p), spread)]


def global_norm(b: Backward) -> Gradients:
    """As :func:`norm`, with one window."""
    p = b.int("p", 2)
    return [b.write.op("Mul", _powered(b, p), _over_power(b, p))]


def global_average(b: Backward) -> Gradients:
    """``dx = g / n`` everywhere."""
    w, x = b.write, b.x()
    sizes = static_shape_tail(x)
    if sizes is not None:
        grad = w.op("Mul", b.grad, w.number(1 / math.prod(sizes), b.grad))
    else:
        tail = w.op("Shape", x, attributes={"start": 2}, dtype=INT64)
        count = w.op("ReduceProd", tail, attributes={"keepdims": 0})
        grad = w.op("Div", b.grad, w.cast(count, b.grad.dtype))
    return [w.op("Expand", grad, w.shape_of(x))]


def global_maximum(b: Backward) -> Gradients:
    """The gradient, in equal shares, to where the maximum is."""
    w, x = b.write, b.x()
    axes = list(range(2, rank_of(x)))
    mask = w.cast(w.op("Equal", x, b.y, dtype=BOOL), x.dtype)
    shares = w.op("Div", b.grad, w.reduce("ReduceSum", mask, axes))
    return [w.op("Mul", mask, shares)]


def spread_each(b: Backward, grad: ir.Value, window: Window) -> ir.Value:
    """Return, for each element of the input, the sum over the windows that it is in."""
    w = b.write
    assert grad.dtype is not None  # differentiated values have types
    # Channels are so many batches of one: their number need not be known.
    tail = w.op("Shape", b.y, attributes={"start": 2}, dtype=INT64)
    shape = w.op("Concat", w.ints([-1, 1]), tail, attributes={"axis": 0})
    single = w.op("Reshape", grad, shape)
    kernel = w.constant(np.ones([1, 1, *window.kernel], grad.dtype.numpy()))
    return w.reshape_like(spread_windows(b, single, kernel, window, 1), b.x())


def _counts(b: Backward, window: Window) -> ir.Value:
    """Return how many elements each window counts.

    Padding counts with ``count_include_pad``; what lies beyond it, with ``ceil_mode``, never does.
    """
    w, include, ceil = b.write, b.int("count_include_pad", 0), b.int("ceil_mode", 0)
    if not ceil and (include or not any(window.pads)):
        return w.number(math.prod(window.kernel), b.grad)
    assert b.grad.dtype is not None  # differentiated values have types
    dtype = b.grad.dtype.numpy()
    sizes, after = static_shape_tail(b.x()), static_shape_tail(b.y)
    if sizes is not None and after is not None:
        counts = np.ones([1, 1], dtype)
        for axis, (size, places) in enumerate(zip(sizes, after, strict=True)):
            along = _counts_along(window, axis, size, places, include=bool(include))
            counts = counts[..., None] * along.astype(dtype)
        return w.constant(counts)
    rank = window.rank
    tail = w.op("Shape", b.x(), attributes={"start": 2}, dtype=INT64)
    field = w.fill(w.op("Concat", w.ints([1, 1]), tail, attributes={"axis": 0}), b.grad, 1)
    pads = window.pads
    if include:
        field = w.op("Pad", field, w.ints([0, 0, *pads[:rank], 0, 0, *pads[rank:]]), _one(b))
        pads = [0] * (2 * rank)
    beyond = [s - 1 if ceil else 0 for s in window.strides]
    behind = [pad + more for pad, more in zip(pads[rank:], beyond, strict=True)]
    kernel = w.constant(np.ones([1, 1, *window.kernel], dtype))
    attributes = dict(window.attributes) | {"pads": [*pads[:rank], *behind]}
    counts_now = w.op("Conv", field, kernel, attributes=attributes)
    axes = list(range(2, 2 + rank))
    end = w.op("Shape", b.y, attributes={"start": 2}, dtype=INT64)
    return w.op("Slice", counts_now, w.ints([0] * rank), end, w.ints(axes))


def _one(b: Backward) -> ir.Value:
    """Return the number one."""
    return b.write.number(1, b.grad)


def _counts_along(window: Window, axis: int, size: int, places: int, *, include: bool) -> Array:
    """Return how many elements each window counts in one dimension."""
    first = np.arange(places) * window.strides[axis] - window.pads[axis]
    taps = first[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
    low = -window.pads[axis] if include else 0
    high = size + (window.pads[axis + window.rank] if include else 0)
    counts: Array = ((taps >= low) & (taps < high)).sum(axis=1)
    return counts


def _powered(b: Backward, p: int) -> ir.Value:
    """Return ``sign(x) |x|^(p-1)``."""
    w, x = b.write, b.x()
    if p == 1:
        return w.op("Sign", x)
    if p == 2:
        return x
    size = w.op("Pow", w.op("Abs", x), w.number(p - 1, x))
    return w.op("Mul", w.op("Sign", x), size)


def _over_power(b: Backward, p: int) -> ir.Value:
    """Return ``g y^(1-p)``, zero where ``y`` is."""
    w, y = b.write, b.y
    if p == 1:
        return b.grad
    none = w.op("Equal", y, w.number(0, y), dtype=BOOL)
    safe = w.op("Where", none, _one(b), y, dtype=y.dtype)
    share = w.op("Div", b.grad, w.op("Pow", safe, w.number(p - 1, y)) if p != 2 else safe)
    return w.op("Where", none, w.number(0, y), share, dtype=y.dtype)
