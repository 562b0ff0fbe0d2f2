"""Write a model without holding its weights.

The graph is serialised with its large tensors taken out; their bytes are then copied from where
they lie straight into the new file, embedded or as external data.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.garbage import collected_rarely
from onnxsmith.storage.atomic import replacing
from onnxsmith.storage.maps import map_types, restore_map_types
from onnxsmith.storage.sparse import restore_sparse
from onnxsmith.storage.tensors import EmbeddedTensor
from onnxsmith.storage.wire import length_prefix

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9

# Smaller tensors stay in the serialised graph: also the runtime wants shapes and axes there.
STREAM_THRESHOLD = 64 * 1024
# protobuf refuses messages of 2 GiB and more; the rest is room for the graph.
EMBED_LIMIT = 1900 * 1024**2
_CHUNK = 4 * 1024**2
# Start of each tensor in a data file; lets a runtime map it on any common page size.
_ALIGNMENT = 4096


@collected_rarely()
def save_model(
    model: ir.Model, path: Path, external: bool | None = None, shard_bytes: int | None = None
) -> None:
    """Write ``model`` to ``path``; the file appears complete or not at all.

    Args:
        model: The model; it is not changed.
        path: The ``.onnx`` file. External weights go to ``STEM.DIGEST.data`` beside it, which is
            complete before the model file is renamed into place.
        external: Whether weights go to a data file. None keeps the form they were loaded in, and
            chooses external beyond 1.9 GB.
        shard_bytes: About how large a data file may be; the weights are spread over several. A
            larger weight has a file of its own. Chooses external. None writes one file.

    Raises:
        SmithError: The file cannot be written, or the weights are too large to embed.
    """
    if shard_bytes is not None:
        external = True
    large = large_initializers(model)
    total = sum(_tensor(value).nbytes for value in large)
    if external is None:
        external = total > EMBED_LIMIT or any(_is_external(_tensor(value)) for value in large)
    if not external and total > EMBED_LIMIT:
        raise SmithError(
            f"{total / 1e9:.1f} GB of weights do not fit into one ONNX file",
            "write them as external data",
        )
    if external and large:
        _save_external(model, large, path, shard_bytes)
    else:
        _save_embedded(model, large, path)


def large_initializers(model: ir.Model) -> list[ir.Value]:
    """Return the main graph's initializers whose bytes are worth streaming."""
    return [
        value
        for value in model.graph.initializers.values()
        if value.const_value is not None
        and value.const_value.dtype != ir.DataType.STRING
        and value.const_value.nbytes >= STREAM_THRESHOLD
    ]


def skeleton(model: ir.Model, placed: dict[str, ir.ExternalTensor]) -> onnx.ModelProto:
    """Serialise ``model`` with the named initializers replaced by ``placed``, for the moment."""
    with _replaced(model, placed):
        try:
            proto = ir.to_proto(model)
        except Exception as error:
            while error.__cause__ is not None and isinstance(error.__cause__, Exception):
                error = error.__cause__
            raise SmithError(
                f"the model cannot be written as ONNX: {' '.join(str(error).split())[:300]}",
                "export the model again",
            ) from error
    restore_map_types(proto, map_types(model))
    restore_sparse(proto, model)
    _drop_initializer_infos(proto.graph)
    return proto


def _drop_initializer_infos(graph: onnx.GraphProto) -> None:
    """Drop value_info of initializers: the tensor says it all.

    Tools that replace a weight (onnxruntime's quantizers do) leave the stale shape beside it, and
    then fail on the contradiction.
    """
    names = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in names]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)


def tensor_chunks(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview]:
    """Yield the tensor's bytes, little endian; those of a file are read, never mapped."""
    if not isinstance(tensor, ir.ExternalTensor):
        yield _memory_bytes(tensor)
        return
    left = tensor.nbytes
    with open(tensor.path, "rb") as file:
        file.seek(tensor.offset or 0)
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise SmithError(
                    f"the weights of {tensor.name!r} have changed on disk", "start again"
                )
            left -= len(chunk)
            yield chunk


def _memory_bytes(tensor: ir.TensorProtocol) -> memoryview:
    """Return the tensor's bytes, without a copy where they lie in order."""
    if tensor.dtype.bitwidth >= 8 and sys.byteorder == "little":
        array = tensor.numpy()
        if array.flags.c_contiguous and array.nbytes == tensor.nbytes:
            return array.reshape(-1).view(np.uint8).data
    return memoryview(tensor.tobytes())


def _save_embedded(model: ir.Model, large: list[ir.Value], path: Path) -> None:
    placed = {_name(v): _placeholder(v, "embedded", 0) for v in large}
    proto = skeleton(model, placed)
    tensors = {t.name: t for t in proto.graph.initializer if t.name in placed}
    headers = []
    for value in large:
        tensor = tensors[_name(value)]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        nbytes = _tensor(value).nbytes
        header = tensor.SerializeToString() + length_prefix(_TENSOR_RAW_DATA, nbytes)
        headers.append(length_prefix(_GRAPH_INITIALIZER, len(header) + nbytes) + header)
    for index in reversed(range(len(proto.graph.initializer))):
        if proto.graph.initializer[index].name in placed:
            del proto.graph.initializer[index]
    graph = proto.graph.SerializeToString(deterministic=True)
    proto.ClearField("graph")
    size = len(graph) + sum(len(h) + _tensor(v).nbytes for h, v in zip(headers, large, strict=True))
    with replacing(path) as file:
        file.write(proto.SerializeToString(deterministic=True))
        file.write(length_prefix(_MODEL_GRAPH, size) + graph)
        for header, value in zip(headers, large, strict=True):
            file.write(header)
            for chunk in tensor_chunks(_tensor(value)):
                file.write(chunk)


def _save_external(
    model: ir.Model, large: list[ir.Value], path: Path, shard_bytes: int | None
) -> None:
    old, new = _data_files(path), set[Path]()
    placed: dict[str, ir.ExternalTensor] = {}
    try:
        for shard in _shards(large, shard_bytes):
            offsets = _offsets(shard)
            data = _save_data(path, shard, offsets)
            new.add(data)
            placed |= {_name(v): _placeholder(v, data.name, offsets[_name(v)]) for v in shard}
        with replacing(path) as file:
            file.write(skeleton(model, placed).SerializeToString(deterministic=True))
    except BaseException:
        for data in new - old:
            data.unlink(missing_ok=True)
        raise
    for leftover in old - new:
        leftover.unlink(missing_ok=True)


def _shards(large: list[ir.Value], limit: int | None) -> Iterator[list[ir.Value]]:
    """Divide the weights, in their order, into files of at most ``limit`` bytes."""
    shard: list[ir.Value] = []
    size = 0
    for value in large:
        padded = -(-_tensor(value).nbytes // _ALIGNMENT) * _ALIGNMENT
        if shard and limit is not None and size + padded > limit:
            yield shard
            shard, size = [], 0
        shard.append(value)
        size += padded
    yield shard


def _save_data(path: Path, shard: list[ir.Value], offsets: dict[str, int]) -> Path:
    """Write a data file beside ``path``, named by what is in it."""
    with replacing(path, lambda: data) as file:
        digest = _write_data(file, shard, offsets)
        data = path.with_name(f"{path.stem}.{digest[:16]}.data")
    return data


def _write_data(file: BinaryIO, large: list[ir.Value], offsets: dict[str, int]) -> str:
    digest = hashlib.sha256()
    for value in large:
        padding = b"\0" * (offsets[_name(value)] - file.tell())
        for chunk in chain((padding,), tensor_chunks(_tensor(value))):
            file.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


def _offsets(large: list[ir.Value]) -> dict[str, int]:
    offsets = {}
    at = 0
    for value in large:
        at = -(-at // _ALIGNMENT) * _ALIGNMENT
        offsets[_name(value)] = at
        at += _tensor(value).nbytes
    return offsets


def _data_files(path: Path) -> set[Path]:
    """Return the data files of our naming that the model now at ``path`` is the reason for."""
    pattern = f"{glob.escape(path.stem)}.{'[0-9a-f]' * 16}.data"
    return set(path.parent.glob(pattern)) if path.exists() else set()


def _placeholder(value: ir.Value, location: str, offset: int) -> ir.ExternalTensor:
    tensor = _tensor(value)
    shape = tensor.shape
    return ir.ExternalTensor(
        location,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(shape.numpy()),
        name=_name(value),
    )


@contextlib.contextmanager
def _replaced(model: ir.Model, placed: dict[str, ir.ExternalTensor]) -> Iterator[None]:
    values = {name: model.graph.initializers[name] for name in placed}
    kept = {name: value.const_value for name, value in values.items()}
    try:
        for name, value in values.items():
            value.const_value = placed[name]
        yield
    finally:
        for name, value in values.items():
            value.const_value = kept[name]


def _is_external(tensor: ir.TensorProtocol) -> bool:
    return isinstance(tensor, ir.ExternalTensor) and not isinstance(tensor, EmbeddedTensor)


def _tensor(value: ir.Value) -> ir.TensorProtocol:
    assert value.const_value is not None  # large_initializers() chose it by its tensor
    return value.const_value


def _name(value: ir.Value) -> str:
    assert value.name is not None  # an initializer is keyed by its name
    return value.name
