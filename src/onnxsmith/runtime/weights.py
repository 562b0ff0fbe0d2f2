"""How a session gets at a model's weights: mapped from files, shared with memory, or spilled."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from onnxsmith.storage.save import large_initializers, skeleton, tensor_chunks

# Weights in memory beyond this are written to a file: many are computed when they are read, and
# the system can take pages of a file back.
_SHARED_LIMIT = 1 << 30


def serialize(
    model: ir.Model,
    max_ir_version: int,
    options: ort.SessionOptions,
    resources: contextlib.ExitStack,
    *,
    share: bool,
) -> bytes:
    """Return the graph; its large weights are named by file and offset, for the runtime to map.

    Weights in memory would be held three times if they were embedded. One folder setting serves
    all files, so locations are given relative to the root.

    Args:
        model: The model; it is not changed.
        max_ir_version: The newest file format that the runtime reads.
        options: Is told where the weights are.
        resources: What the session needs while it lives.
        share: Whether the runtime reads weights in memory from where they are, which its graph
            optimizations and providers other than the CPU's cannot. Otherwise, and beyond 1 GiB
            of them, they are written to a temporary file.

    Raises:
        OSError: A temporary file cannot be written.
    """
    placed: dict[str, ir.ExternalTensor] = {}
    room = _SHARED_LIMIT if share else 0
    shared: list[ir.Value] = []
    spilled: list[ir.Value] = []
    for value in large_initializers(model):
        tensor = value.const_value
        assert tensor is not None  # large_initializers() chose it by its tensor
        if isinstance(tensor, ir.ExternalTensor):
            placed[value.name or ""] = _located(value, Path(tensor.path), tensor.offset or 0)
        elif tensor.nbytes <= room and tensor.dtype.bitwidth >= 8:  # numpy has none that are packed
            shared.append(value)
            room -= tensor.nbytes
        else:
            spilled.append(value)
    if shared:
        placed |= _share(shared, options, resources)
    if spilled:
        placed |= _spill(spilled, resources)
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(Path("/"))
    )
    proto = skeleton(model, placed)
    # The IR version is that of the file format: newest onnx writes one that no runtime reads yet.
    proto.ir_version = min(proto.ir_version, max_ir_version)
    return proto.SerializeToString()


def _share(
    values: list[ir.Value], options: ort.SessionOptions, resources: contextlib.ExitStack
) -> dict[str, ir.ExternalTensor]:
    """Hand the weights over as they are.

    The runtime wants each to be an initializer of the graph as well, but reads none of their bytes
    there: an empty file stands for them.
    """
    empty = _temporary(resources)
    kept: list[ort.OrtValue] = []
    resources.callback(kept.clear)
    placed = {}
    for value in values:
        name, tensor = value.name or "", value.const_value
        assert tensor is not None  # large_initializers() chose it by its tensor
        array = np.ascontiguousarray(tensor.numpy())
        shared = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, tensor.dtype.value)
        options.add_initializer(name, shared)
        kept.append(shared)
        placed[name] = _located(value, empty, 0)
    return placed


def _spill(values: list[ir.Value], resources: contextlib.ExitStack) -> dict[str, ir.ExternalTensor]:
    """Write the weights to a temporary file."""
    path = _temporary(resources)
    placed = {}
    with path.open("wb") as file:
        for value in values:
            assert value.const_value is not None  # large_initializers() chose it by its tensor
            placed[value.name or ""] = _located(value, path, file.tell())
            for chunk in tensor_chunks(value.const_value):
                file.write(chunk)
    return placed


def _temporary(resources: contextlib.ExitStack) -> Path:
    file = resources.enter_context(
        tempfile.NamedTemporaryFile(suffix=".data")  # noqa: SIM115 - the stack closes it
    )
    return Path(file.name)


def _located(value: ir.Value, path: Path, offset: int) -> ir.ExternalTensor:
    tensor = value.const_value
    assert tensor is not None
    path = path.resolve()
    return ir.ExternalTensor(
        path.relative_to(path.anchor),
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=value.name or "",
    )
