"""Weights in another form than they are stored in: other dimensions, or transposed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from onnxsmith.pipeline.frontends.mxnet.call import Call
from onnxsmith.pipeline.frontends.mxnet.graph import Graph


def reshaped(call: Call, number: int, shape: tuple[int, ...], suffix: str) -> ir.Value:
    """Return input ``number`` in another shape; a weight stays where it is stored.

    Raises:
        SmithError: The weight has another number of elements.
    """
    value = call[number]
    array = call.graph.arrays.get(value)
    if array is None:
        return call.graph.reshape(value, shape)
    if math.prod(shape) != array.size:
        raise call.error(
            f"its weight {value.name!r} of shape {list(array.shape)} has the wrong size",
            "give the .params file that belongs to this graph with --weights",
        )
    if tuple(shape) == array.shape:
        return value
    name = f"{value.name}_{suffix}"
    return call.graph.weight(array.tensor(name, tuple(shape)), name)


def transposed(call: Call, number: int) -> ir.Value:
    """Return the matrix at input ``number`` transposed; a weight is turned when it is written."""
    value = call[number]
    array = call.graph.arrays.get(value)
    if array is None:
        return call.graph.transpose(value, (1, 0))
    shape = (array.shape[1], array.shape[0])
    return lazy(call.graph, lambda: array.numpy().T, array.dtype, shape, f"{value.name}_transposed")


def lazy(
    graph: Graph,
    make: Callable[[], np.ndarray],
    dtype: ir.DataType,
    shape: tuple[int, ...],
    name: str,
) -> ir.Value:
    """Return a weight that is computed only when it is written."""

    def compute() -> ir.TensorProtocol:
        return ir.Tensor(np.ascontiguousarray(make()).reshape(shape), dtype=dtype)

    tensor = ir.LazyTensor(compute, dtype, ir.Shape(list(shape)), cache=False, name=name)
    return graph.weight(tensor, name)
