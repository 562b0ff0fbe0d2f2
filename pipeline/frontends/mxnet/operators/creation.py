"""Arrays from nothing.

Source: MXNet ``src/operator/tensor/init_op.h``.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call, Family, Operator
from onnxsmith.pipeline.frontends.mxnet.operators.common import positions

# Larger arrays are made by the runtime.
_MAX_STORED = 2**16


def _filled(value: float | None) -> Operator:
    """Return the operator of an array with one value; None takes it from ``value``."""

    def convert(call: Call) -> ir.Value:
        number = call.attrs.number("value", 0.0) if value is None else value
        shape = call.attrs.integers("shape")
        if any(not -1 <= dim < 2**31 for dim in shape):
            raise call.error(f"shape={list(shape)} is out of bounds")
        dtype = call.attrs.dtype("dtype", ir.DataType.FLOAT)
        # 0 stands for a size that MXNet works out, in initial states the batch.
        loose = any(dim <= 0 for dim in shape)
        result = _constant(call, number, [dim if dim > 0 else 1 for dim in shape], dtype)
        if loose:
            call.graph.loose.add(result)
        if number == 0:
            call.graph.zeros.add(result)
        return result

    return Operator(convert)


def _constant(call: Call, number: float, shape: list[int], dtype: ir.DataType) -> ir.Value:
    if math.prod(shape) <= _MAX_STORED:
        return call.graph.constant(np.full(shape, number).astype(dtype.numpy()), "value")
    value = ir.tensor(np.array([number]).astype(dtype.numpy()))
    return call.graph.add(
        "ConstantOfShape", [call.graph.integers(shape, "shape")], {"value": value}
    )


def _like(value: float | None) -> Operator:
    """Return the operator of an array of another's shape."""

    def convert(call: Call) -> ir.Value:
        graph, x = call.graph, call[0]
        number = call.attrs.number("fill_value", 0.0) if value is None else value
        dims = call.dims()
        known = [dim for dim in dims if isinstance(dim, int)]
        dtype = x.dtype or ir.DataType.FLOAT
        if len(known) == len(dims):
            return _constant(call, number, known, dtype)
        fill = ir.tensor(np.array([number]).astype(dtype.numpy()))
        return graph.add("ConstantOfShape", [graph.add("Shape", [x])], {"value": fill})

    return Operator(convert)


def arange(call: Call) -> ir.Value:
    """``start, start + step, ...`` below ``stop``, each ``repeat`` times."""
    start, step = call.attrs.number("start", 0.0), call.attrs.number("step", 1.0)
    times = call.attrs.bounded("repeat", 1, 1, _MAX_STORED)
    if not call.attrs.has("stop") and not call.attrs.flag("infer_range", False):
        start, stop = 0.0, start
    elif call.attrs.has("stop"):
        stop = call.attrs.number("stop", 0.0)
    else:
        raise call.refuse("a range without an end")
    steps = (stop - start) / step if step else math.nan
    count = math.ceil(steps) if math.isfinite(steps) else -1
    if not 0 <= count * times <= 2**20:
        raise call.error("its range is out of bounds")
    dtype = call.attrs.dtype("dtype", ir.DataType.FLOAT).numpy()
    numbers = np.repeat(start + step * np.arange(count), times)
    return call.graph.constant(numbers.astype(dtype), "range")


def arange_like(call: Call) -> ir.Value:
    """``start, start + step, ...`` as many as an array has elements, or along one axis."""
    graph, x = call.graph, call[0]
    axis = call.attrs.optional_integer("axis")
    times = call.attrs.bounded("repeat", 1, 1, _MAX_STORED)
    dtype = x.dtype or ir.DataType.FLOAT
    flat = x if axis is not None else graph.reshape(x, [-1])
    numbers = positions(call, flat, 0 if axis is None else call.normal(axis, call.rank()))
    if times != 1:
        numbers = graph.add("Div", [numbers, graph.integers([times], "repeat")])
    result = graph.cast(numbers, dtype)
    step, start = call.attrs.number("step", 1.0), call.attrs.number("start", 0.0)
    if step != 1.0:
        result = graph.add("Mul", [result, graph.scalar(step, result, "step")])
    if start != 0.0:
        result = graph.add("Add", [result, graph.scalar(start, result, "start")])
    if axis is None:
        result = graph.reshape_to(result, [(x, a) for a in range(call.rank())])
    return result


def linspace(call: Call) -> ir.Value:
    """``num`` numbers from ``start`` to ``stop``."""
    count = call.attrs.bounded("num", 50, 0, 2**20)
    end = call.attrs.flag("endpoint", True)
    dtype = call.attrs.dtype("dtype", ir.DataType.FLOAT).numpy()
    start, stop = call.attrs.number("start", 0.0), call.attrs.number("stop", 0.0)
    numbers = np.linspace(start, stop, count, endpoint=end)
    return call.graph.constant(numbers.astype(dtype), "range")


def eye(call: Call) -> ir.Value:
    """Ones on a diagonal."""
    rows = call.attrs.bounded("N", 0, 0, 1024)
    columns = call.attrs.bounded("M", 0, 0, 1024) or rows
    dtype = call.attrs.dtype("dtype", ir.DataType.FLOAT).numpy()
    k = call.attrs.bounded("k", 0, -(2**20), 2**20)
    return call.graph.constant(np.eye(rows, columns, k).astype(dtype), "eye")


OPERATORS: Family = {
    "_zeros": _filled(0.0),
    "_zeros_without_dtype": _filled(0.0),
    "_ones": _filled(1.0),
    "_full": _filled(None),
    "zeros_like": _like(0.0),
    "ones_like": _like(1.0),
    "_npi_full_like": _like(None),
    "_arange": Operator(arange),
    "_contrib_arange_like": Operator(arange_like),
    "_npx_arange_like": Operator(arange_like),
    "_linspace": Operator(linspace),
    "_eye": Operator(eye),
}
