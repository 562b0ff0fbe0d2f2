"""Gradients of pooling.

Source: the operators' definitions in ONNX.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxsmith.passes.autodiff.backward import Backward, Gradients, NotDifferentiableError
from onnxsmith.passes.autodiff.rules.conv import spread_windows, static_shape_tail, window_of
from onnxsmith.passes.autodiff.rules.indexing import add_at
from onnxsmith.passes.autodiff.writer import INT64, rank_of


def maximum(b: Backward) -> Gradients:
    """The gradient goes to the place of each window's maximum, which MaxPool tells.

    Windows that do not overlap are undone by MaxUnpool; else gradients are added up.
    """
    w, x = b.write, b.x()
    if b.int("storage_order", 0):
        raise NotDifferentiableError("its indices are in column order")
    if len(b.node.outputs) < 2:
        b.node.resize_outputs(2)
    places = b.node.outputs[1]
    if not places.name:
        places.name, places.type = w.name("places"), ir.TensorType(INT64)
        places.shape = b.y.shape
    window = window_of(b, b.ints("kernel_shape") or [])
    apart = all(window.reach(i) <= window.strides[i] for i in range(window.rank))
    if apart and b.grad.dtype == ir.DataType.FLOAT and window.rank == 2:
        attributes = {name: window.attributes[name] for name in ("kernel_shape", "strides", "pads")}
        shape = w.shape_of(x)
        return [w.op("MaxUnpool", b.grad, places, shape, attributes=attributes)]
    flat = w.ints([-1])
    field = w.fill(w.op("ReduceProd", w.shape_of(x), attributes={"keepdims": 1}), b.grad, 0)
    index, values = w.op("Reshape", places, flat), w.op("Reshape", b.grad, flat)
    return [w.reshape_like(add_at(b, field, index, values, 0), x)]


def average(b: Backward) -> Gradients:
    """Each window's gradient, divided by the elements it counts, is spread over them."""
    w, x = b.write, b.x()
    if b.int("ceil_mode", 0):
        raise NotDifferentiableError("its last windows are cut (ceil_mode)")
    window = window_of(b, b.ints("kernel_shape") or [])
    counted = math.prod(window.kernel)
    dtype = b.grad.dtype
    assert dtype is not None  # differentiated values have types
    grad = w.op("Mul", b.grad, w.number(1 / counted, b.grad))
    if any(window.pads) and not b.int("count_include_pad", 0):
        one = w.op("Slice", x, w.ints([0, 0]), w.ints([1, 1]), w.ints([0, 1]))
        ones = w.fill(w.op("Shape", one, dtype=INT64), x, 1)
        attributes = dict(window.attributes) | {"count_include_pad": 1}
        grad = w.op("Div", grad, w.op("AveragePool", ones, attributes=attributes))
    # Channels are so many batches of one: their number need not be known.
    tail = w.op("Shape", grad, attributes={"start": 2}, dtype=INT64)
    shape = w.op("Concat", w.ints([-1, 1]), tail, attributes={"axis": 0})
    single = w.op("Reshape", grad, shape)
    kernel = w.constant(np.ones([1, 1, *window.kernel], dtype.numpy()))
    return [w.reshape_like(spread_windows(b, single, kernel, window, 1), x)]


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
    mask = w.cast(w.op("Equal", x, b.y, dtype=ir.DataType.BOOL), x.dtype)
    shares = w.op("Div", b.grad, w.reduce("ReduceSum", mask, axes))
    return [w.op("Mul", mask, shares)]
