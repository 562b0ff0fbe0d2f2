"""Files whose weights are integers and whose values are floats ("dynamic range").

TensorFlow Lite rounds the values before each such operator to 8 bits, by their range at that
moment. The ONNX model computes in floats what these roundings approximate, so it is compared with
the same file with its weights written out as floats, in which nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flatbuffers  # type: ignore[import-untyped]  # it has no stubs
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from onnxsmith.pipeline.frontends.tflite.schema import IDENTIFIER, GraphInfo

_DEQUANTIZE = 6


def hybrid_operators(graph: GraphInfo) -> tuple[int, ...]:
    """Return the operators that take integer weights and give floats, by number."""
    return tuple(
        number
        for number, operator in enumerate(graph.operators)
        if operator.code != _DEQUANTIZE
        and any(_is_weight(graph, index) for index in operator.inputs)
        and any(graph.tensors[index].dtype == "float32" for index in operator.outputs)
    )


def exact_copy(data: bytes, graphs: tuple[GraphInfo, ...]) -> bytes:
    """Return the file with the weights of its hybrid operators as float32."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for tables, number, index in _weights(model, graphs):
        _write_out(model, tables.tensors[index])
        _clear_flag(tables.operators[number])
    return _pack(model)


def plain_copy(data: bytes, graphs: tuple[GraphInfo, ...]) -> bytes:
    """Return the file with the wish for rounding at run time taken back; its weights stay."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for tables, number, _ in _weights(model, graphs):
        _clear_flag(tables.operators[number])
    return _pack(model)


def _is_weight(graph: GraphInfo, index: int) -> bool:
    tensor = graph.tensors[index]
    return index >= 0 and tensor.constant and bool(tensor.scale) and tensor.dtype == "int8"


def _weights(model: Any, graphs: tuple[GraphInfo, ...]) -> Iterator[tuple[Any, int, int]]:
    for tables, graph in zip(model.subgraphs, graphs, strict=True):
        for number in hybrid_operators(graph):
            for index in graph.operators[number].inputs:
                if _is_weight(graph, index):
                    yield tables, number, index


def _write_out(model: Any, tensor: Any) -> None:
    if tensor.type == schema.TensorType.FLOAT32:  # a weight of two operators
        return
    stored = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.int8)
    values = stored.reshape(tensor.shape).astype(np.float32)
    quantization = tensor.quantization
    scale = np.asarray(quantization.scale, np.float32)
    zero = np.asarray(quantization.zeroPoint, np.float32)
    if scale.size > 1:
        across = [1] * values.ndim
        across[quantization.quantizedDimension] = scale.size
        scale, zero = scale.reshape(across), zero.reshape(across)
    floats = (values - zero) * scale
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(floats).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)  # two tensors may share the old one
    model.buffers.append(buffer)
    tensor.type = schema.TensorType.FLOAT32
    tensor.quantization = None


def _clear_flag(operator: Any) -> None:
    options = operator.builtinOptions
    if getattr(options, "asymmetricQuantizeInputs", False):
        options.asymmetricQuantizeInputs = False


def _pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
