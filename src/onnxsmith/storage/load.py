"""Read a model file without reading its weights.

The graph is parsed; large initializers are left where they are, as tensors that point into the
file. Plain parsing holds every embedded weight at least twice.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from onnxsmith.errors import SmithError
from onnxsmith.garbage import collected_rarely
from onnxsmith.storage.external import place_external_data
from onnxsmith.storage.maps import holds_map, keep_map_types, take_map_types
from onnxsmith.storage.repeats import (
    describe,
    keep_last_constants,
    node_in_cycle,
    repair_names,
)
from onnxsmith.storage.shadows import rename_shadows
from onnxsmith.storage.sparse import densify, has_sparse, remember_sparse
from onnxsmith.storage.structure import check_structure
from onnxsmith.storage.tensors import EmbeddedTensor, FileTensor, file_identity, tensor_bytes
from onnxsmith.storage.wire import VARINT, Field, WireError, fields, length_prefix, read_varint

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_DATA_TYPE = 2
_TENSOR_FLOAT_DATA = 4
_TENSOR_RAW_DATA = 9

# Two bytes make an empty node, which takes a hundred times that in memory. The largest models that
# exporters write have a fifth of it.
_MAX_RECORDS = 500_000

# Below this size an initializer is parsed into memory: a mapping of its own would cost more.
_INDEX_THRESHOLD = 64 * 1024


@collected_rarely()
def load_model(path: Path, repairs: list[str] | None = None) -> ir.Model:
    """Read ``path``; embedded and external weights stay on disk.

    Args:
        path: The file.
        repairs: Where given, names and imports are mended first, and what was done is added here.

    Raises:
        SmithError: The file is missing, no ONNX model, truncated, or its external data is
            missing, too short or outside the model's folder.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SmithError(f"{path} is not a regular file", "give an ONNX file")
            if status.st_size == 0:
                raise SmithError(f"{path} is empty", "give an ONNX file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                proto, weights = _parse(memoryview(mapped), path)
    except OSError as error:
        raise SmithError(
            f"cannot read {path}: {error.strerror}", "check the path and its permissions"
        ) from error
    keep_last_constants(proto)
    if repairs is not None:
        repairs += repair_names(proto, weights)
    check_structure(proto)
    placed: dict[str, FileTensor] = {
        **weights,
        **place_external_data(proto, path.parent, _INDEX_THRESHOLD),
    }
    model = _build(proto, str(path))
    for name, tensor in placed.items():
        model.graph.initializers[name].const_value = tensor
    return model


def wrap_model(proto: onnx.ModelProto) -> ir.Model:
    """Build the graph of a model that is in memory with all of its weights.

    Raises:
        SmithError: It is not valid, or some of its weights are in files.
    """
    check_structure(proto)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise SmithError(
            "the model's weights lie in files that it only names", "load it from its own file"
        )
    values = (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
    if has_sparse(proto) or any(holds_map(value.type) for value in values):
        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        proto = copy
    return _build(proto, "the model")


def _build(proto: onnx.ModelProto, name: str) -> ir.Model:
    maps = take_map_types(proto)
    sparse = densify(proto)
    try:
        model = ir.from_proto(proto)
        # The runtime also takes nodes in another order; what follows here (clones first) does not.
        model.graph.sort()
        for function in model.functions.values():
            function.sort()
    except Exception as error:
        reason = _innermost(error)
        node = node_in_cycle(proto.graph)
        if node is not None:
            reason += f" It goes through {describe(node)}."
        raise SmithError(
            f"{name} holds an invalid graph: {reason}", "export the model again"
        ) from error
    keep_map_types(model, maps)
    if sparse:
        remember_sparse(model)
    _forget_numbers(model)
    rename_shadows(model)
    scopes: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for scope in scopes:
        version = scope.opset_imports.pop("ai.onnx", None)
        if version is not None:  # another name of "", the one that everything here asks for
            scope.opset_imports.setdefault("", version)
    return model


def _forget_numbers(model: ir.Model) -> None:
    """Make dimensions unknown that are negative, or whose names are numbers.

    Older exporters write every free dimension as -1 or "-1". Dimensions of one name are of one
    size, which these are not.
    """
    for graph in model.graphs():
        for value in (*graph.inputs, *(out for node in graph for out in node.outputs)):
            shape = value.shape
            if shape is not None and any(_is_number(dim) for dim in shape):
                value.shape = ir.Shape([None if _is_number(dim) else dim for dim in shape])


def _is_number(dim: int | ir.SymbolicDim) -> bool:
    """Tell whether a dimension is a number that is no size."""
    if isinstance(dim, int):
        return dim < 0
    return dim.value is not None and dim.value.strip().lstrip("-").isdecimal()


def into_memory(model: ir.Model) -> ir.Model:
    """Read all weights that lie in files, so that those may go away; return the same model."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = ir.Tensor(
                    tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name
                )
                tensor.release()
    return model


def release_mappings(model: ir.Model) -> None:
    """Unmap weights that someone looked at; they are mapped again when they are needed.

    Mapped pages count as memory in use, and the runtime maps the same weights for itself.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                # A view that is still in use keeps its mapping.
                with contextlib.suppress(BufferError):
                    value.const_value.release()


def _parse(data: memoryview, path: Path) -> tuple[onnx.ModelProto, dict[str, EmbeddedTensor]]:
    try:
        skeleton, found = _strip(data)
        proto = onnx.ModelProto.FromString(skeleton)
    except (WireError, DecodeError) as error:
        raise SmithError(
            f"{path} is not an ONNX model, or it is truncated: {error}",
            "export or copy the file again",
        ) from error
    finally:
        data.release()
    if not proto.HasField("graph") or not proto.opset_import:
        raise SmithError(
            f"{path} is not an ONNX model: it has no graph or no opset import",
            "give a model that an ONNX exporter wrote",
        )
    weights = {}
    identity = file_identity(path)
    for index, (start, end) in found.items():
        tensor = proto.graph.initializer[index]
        weights[tensor.name] = _embedded(tensor, path, identity, start, end)
    return proto, weights


def _strip(data: memoryview) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """Return the model without large weights, and where those lie, by initializer index."""
    found: dict[int, tuple[int, int]] = {}
    parts: list[bytes] = []
    index = 0
    for field in fields(data, 0, len(data)):
        if field.number != _MODEL_GRAPH or field.wire != 2:
            parts.append(bytes(data[field.start : field.end]))
            continue
        graph: list[bytes] = []
        for piece, is_weight, weight in _graph_pieces(data, field):
            graph.append(piece)
            if weight is not None:
                found[index] = weight
            index += is_weight
        body = b"".join(graph)
        parts += [length_prefix(_MODEL_GRAPH, len(body)), body]
    return b"".join(parts), found


def _graph_pieces(
    data: memoryview, graph: Field
) -> Iterator[tuple[bytes, bool, tuple[int, int] | None]]:
    """Yield the graph's bytes piece by piece: (bytes, is an initializer, its weight's range)."""
    kept = graph.payload  # records from here on are copied as one slice
    for count, field in enumerate(fields(data, graph.payload, graph.end)):
        if count == _MAX_RECORDS:
            raise WireError(f"its graph lists more than {_MAX_RECORDS} nodes and values")
        if field.number != _GRAPH_INITIALIZER or field.wire != 2:
            continue
        yield bytes(data[kept : field.start]), False, None
        kept = field.end
        weight = None
        if field.end - field.payload >= _INDEX_THRESHOLD:
            weight = _weight_range(data, field)
        if weight is None:
            yield bytes(data[field.start : field.end]), True, None
        else:
            header = bytes(data[field.payload : weight.start]) + bytes(data[weight.end : field.end])
            record = length_prefix(_GRAPH_INITIALIZER, len(header)) + header
            yield record, True, (weight.payload, weight.end)
    yield bytes(data[kept : graph.end]), False, None


def _weight_range(data: memoryview, tensor: Field) -> Field | None:
    """Return the field that holds the tensor's values as plain little-endian bytes, if any."""
    payload: Field | None = None
    data_type = 0
    for field in fields(data, tensor.payload, tensor.end):
        if field.number == _TENSOR_DATA_TYPE and field.wire == VARINT:
            data_type, _ = read_varint(data, field.payload, field.end)
        elif field.number in (_TENSOR_RAW_DATA, _TENSOR_FLOAT_DATA) and field.wire == 2:
            if payload is not None:
                return None  # values in several pieces: left to the parser
            payload = field
    if payload is None or payload.end - payload.payload < _INDEX_THRESHOLD:
        return None
    # Packed float_data of a float tensor is the same bytes as raw_data; of a complex one it is not.
    if payload.number == _TENSOR_FLOAT_DATA and data_type != onnx.TensorProto.FLOAT:
        return None
    return payload


def _embedded(
    tensor: onnx.TensorProto, path: Path, identity: tuple[int, ...], start: int, end: int
) -> EmbeddedTensor:
    needed = tensor_bytes(tensor)
    if needed != end - start:
        raise SmithError(
            f"{path}: the initializer {tensor.name!r} has {end - start} bytes, "
            f"but its type and shape need {needed}",
            "export the model again",
        )
    return EmbeddedTensor(path, identity, start, end, tensor)


def _innermost(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300]
