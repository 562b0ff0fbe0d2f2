"""Sparse initializers, which onnx_ir would drop, become dense ones.

Source: ONNX IR specification, SparseTensorProto; the runtime makes them dense as well.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from onnxsmith.errors import SmithError

# A sparse tensor of a few bytes may claim any shape.
_MAX_BYTES = 1 << 30


def densify(proto: onnx.ModelProto) -> None:
    """Replace the main graph's sparse initializers by dense ones.

    Raises:
        SmithError: Indices and shape contradict each other, the dense form is larger than 1 GiB,
            or a subgraph has sparse initializers.
    """
    for sparse in proto.graph.sparse_initializer:
        proto.graph.initializer.append(_dense(sparse))
    proto.graph.ClearField("sparse_initializer")


def _dense(sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    name = sparse.values.name
    shape = tuple(sparse.dims)
    try:
        values = numpy_helper.to_array(sparse.values)
        indices = numpy_helper.to_array(sparse.indices)
    except (ValueError, TypeError, KeyError) as error:
        raise _wrong(name, str(error)) from error
    size = math.prod(shape)
    if any(d < 0 for d in shape) or size * values.itemsize > _MAX_BYTES:
        raise _wrong(name, f"its shape is {list(shape)}")
    if values.ndim != 1 or indices.dtype != np.int64 or indices.shape[:1] != values.shape:
        raise _wrong(name, "values and indices do not belong together")
    if indices.ndim == 2 and indices.shape[1] == len(shape):
        if (indices < 0).any() or (indices >= np.array(shape)).any():
            raise _wrong(name, "an index lies outside the shape")
        indices = np.asarray(np.ravel_multi_index(tuple(indices.T), shape))
    if indices.ndim != 1 or (indices < 0).any() or (indices >= size).any():
        raise _wrong(name, "an index lies outside the shape")
    dense = np.zeros(size, values.dtype)
    dense[indices] = values
    return numpy_helper.from_array(dense.reshape(shape), name)


def _wrong(name: str, reason: str) -> SmithError:
    return SmithError(f"the sparse initializer {name!r} is not valid: {reason}", "export it dense")
