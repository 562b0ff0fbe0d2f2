"""What a ``.tflite`` file holds: tensors, operators and their quantization, checked as it is read.

Source: tensorflow/lite/schema/schema.fbs; the numbers are those of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.tflite.flatbuffer import FlatbufferError, Table, root

IDENTIFIER = b"TFL3"
_MAX_BYTES = 2**31 - 1
_MAX_DIMS = 32
_DTYPES: Mapping[int, str] = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool",
    7: "int16", 8: "complex64", 9: "int8", 10: "float64", 11: "complex128", 12: "uint64",
    13: "resource", 14: "variant", 15: "uint32", 16: "uint16", 17: "int4", 18: "bfloat16",
}  # fmt: skip
_PLACEHOLDER_CODE = 127  # the number is in another field: it did not fit into a byte
_CUSTOM = 32


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a graph.

    Attributes:
        name: Its name.
        dtype: Its element type's name.
        shape: Its shape; -1 for what is open.
        constant: Whether the file holds its values.
        scale: The quantization's steps, one or one for each channel; empty where there is none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    constant: bool
    scale: tuple[float, ...]


@dataclass(frozen=True)
class OperatorInfo:
    """An operator of a graph.

    Attributes:
        code: The number of the built-in operator.
        custom: The custom operator's name; empty for built-in ones.
        inputs: The tensors it takes, -1 for one that is left out.
        outputs: The tensors it makes.
    """

    code: int
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class GraphInfo:
    """A graph of a file.

    Attributes:
        tensors: Its tensors.
        operators: Its operators, in the order they run.
        inputs: Numbers of its inputs' tensors.
        outputs: Numbers of its outputs' tensors.
    """

    tensors: tuple[TensorInfo, ...]
    operators: tuple[OperatorInfo, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def quantized(self) -> bool:
        """Whether values are computed in integers of their own scale."""
        return any(t.scale and not t.constant and t.dtype != "float32" for t in self.tensors)


def read_file(path: Path) -> tuple[GraphInfo, ...]:
    """Read and check a file's graphs; the first is the model itself.

    Raises:
        SmithError: The file is no ``.tflite`` file, truncated, or contradicts itself.
    """
    if not path.is_file():
        raise SmithError(f"there is no file {path}", "check the path")
    size = path.stat().st_size
    if not 16 <= size <= _MAX_BYTES:
        raise SmithError(f"{path} is not a .tflite file: it has {size} bytes", "check the file")
    try:
        return read_graphs(memoryview(path.read_bytes()))
    except FlatbufferError as error:
        raise SmithError(
            f"{path} is not a sound .tflite file: {error}", "get the file again"
        ) from None


def read_graphs(data: memoryview) -> tuple[GraphInfo, ...]:
    """Read and check the graphs of a file's bytes.

    Raises:
        FlatbufferError: They contradict themselves.
    """
    if bytes(data[4:8]) != IDENTIFIER:
        raise FlatbufferError("it does not begin with TFL3")
    model = root(data)
    codes = [_code(table) for table in model.tables(1)]
    sizes = [_buffer_size(table, len(data)) for table in model.tables(4)]
    graphs = tuple(_graph(table, codes, sizes) for table in model.tables(2))
    if not graphs:
        raise FlatbufferError("it holds no graph")
    return graphs


def _code(table: Table) -> tuple[int, str]:
    code = table.number(0, "b")
    if code == _PLACEHOLDER_CODE:
        code = table.number(3, "i")
    code = max(code, table.number(3, "i"))
    return code, table.text(1) if code == _CUSTOM else ""


def _buffer_size(table: Table, total: int) -> int:
    offset, size = table.number(1, "Q"), table.number(2, "Q")
    if offset > 1 or size > 1:  # the bytes lie behind the table, for files beyond 2 GB
        if offset + size > total:
            raise FlatbufferError("a buffer reaches beyond the file")
        return size
    return len(table.bytes(0))


def _graph(table: Table, codes: list[tuple[int, str]], sizes: list[int]) -> GraphInfo:
    tensors = tuple(_tensor(entry, sizes) for entry in table.tables(0))
    count = len(tensors)
    names = [tensor.name for tensor in tensors]
    operators = []
    for entry in table.tables(3):
        index = entry.number(0, "I")
        if index >= len(codes):
            raise FlatbufferError(f"an operator has the number {index} of {len(codes)}")
        inputs, outputs = (_indices(entry, field, count, -1) for field in (1, 2))
        operators.append(OperatorInfo(*codes[index], inputs, outputs))
    inputs, outputs = (_indices(table, field, count, 0) for field in (1, 2))
    ends = [names[index] for index in (*dict.fromkeys(inputs), *dict.fromkeys(outputs))]
    if not all(ends):
        raise FlatbufferError("an input or output has no name")
    return GraphInfo(tensors, tuple(operators), inputs, outputs)


def _indices(table: Table, field: int, count: int, low: int) -> tuple[int, ...]:
    found = table.numbers(field, "<i4")
    if found is None or not found.size:
        return ()
    if found.min() < low or found.max() >= count:
        raise FlatbufferError(f"a tensor has the number {int(found.max())} of {count}")
    return tuple(found.tolist())


def _tensor(table: Table, sizes: list[int]) -> TensorInfo:
    name = table.text(3)
    number = table.number(1, "b")
    if number not in _DTYPES:
        raise FlatbufferError(f"the tensor {name!r} has the unknown type {number}")
    shape, signature = table.numbers(0, "<i4"), table.numbers(7, "<i4")
    if shape is not None and shape.size > _MAX_DIMS:
        raise FlatbufferError(f"the tensor {name!r} has {shape.size} dimensions")
    fixed = () if shape is None else tuple(shape.tolist())
    if any(dim < -1 for dim in fixed):
        raise FlatbufferError(f"the tensor {name!r} has an impossible shape")
    buffer = table.number(2, "I")
    if buffer >= max(len(sizes), 1):
        raise FlatbufferError(f"the tensor {name!r} has the buffer {buffer} of {len(sizes)}")
    held = sizes[buffer] if buffer else 0
    dtype = _DTYPES[number]
    if held:
        _check_size(name, dtype, fixed, held, sparse=table.table(6) is not None)
    if signature is not None and len(signature) == len(fixed) and not held:
        fixed = tuple(signature.tolist())
    return TensorInfo(name, dtype, fixed, held > 0, _scale(table.table(4), name, fixed))


def _check_size(name: str, dtype: str, shape: tuple[int, ...], held: int, *, sparse: bool) -> None:
    if dtype == "string":
        return  # its elements have sizes of their own; the reader of strings checks them
    if sparse or dtype not in _plain_dtypes():
        kind = "sparse" if sparse else dtype
        raise FlatbufferError(f"the weight {name!r} is {kind}, which cannot be converted")
    wanted = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if wanted != held:
        raise FlatbufferError(f"the weight {name!r} has {held} bytes where its shape asks {wanted}")


def _plain_dtypes() -> frozenset[str]:
    return frozenset(_DTYPES.values()) - {"string", "resource", "variant", "int4", "bfloat16"}


def _scale(table: Table | None, name: str, shape: tuple[int, ...]) -> tuple[float, ...]:
    scales: np.ndarray[Any, Any] | None = None if table is None else table.numbers(2, "<f4")
    if table is None or scales is None or not scales.size:
        return ()
    zeros = table.numbers(3, "<i8")
    if zeros is not None and zeros.size not in (0, scales.size):
        raise FlatbufferError(f"the tensor {name!r} has {zeros.size} zero points")
    if not np.isfinite(scales).all():
        raise FlatbufferError(f"the tensor {name!r} has a step that is no number")
    axis = table.number(6, "i")
    if scales.size > 1 and not (0 <= axis < len(shape) and shape[axis] == scales.size):
        raise FlatbufferError(f"the tensor {name!r} has {scales.size} steps for another shape")
    return tuple(scales.tolist())
