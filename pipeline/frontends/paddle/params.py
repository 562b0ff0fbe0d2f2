"""Check a ``.pdiparams`` file before Paddle reads it: Paddle takes a truncated one for whole.

The layout, little endian, one record after the other up to the end of the file (from Paddle's
``SerializeToStream`` and ``TensorToStream``, fluid/framework)::

    u32 version (0), u64 levels, levels x (u64 size, bytes), u32 version (0),
    i32 size, TensorDesc (protobuf: 1 data_type, 2 dims), data
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import BinaryIO

from onnxsmith.errors import SmithError

# Bytes of an element, by VarType.Type of Paddle's framework.proto.
_ITEM_BYTES = {
    0: 1,  # bool
    1: 2,  # int16
    2: 4,  # int32
    3: 8,  # int64
    4: 2,  # float16
    5: 4,  # float32
    6: 8,  # float64
    19: 8,  # size_t
    20: 1,  # uint8
    21: 1,  # int8
    22: 2,  # bfloat16
    23: 8,  # complex64
    24: 16,  # complex128
    32: 1,  # float8 e4m3fn
    33: 1,  # float8 e5m2
    36: 2,  # uint16
    37: 4,  # uint32
    38: 8,  # uint64
}
_DATA_TYPE, _DIMS, _PACKED_DIMS = 0x08, 0x10, 0x12
# A description holds a type and some dimensions.
_MAX_DESCRIPTION = 1024


def check_weights(path: Path) -> int:
    """Check that a file holds whole tensors and nothing else; return how many.

    Only the tensors' descriptions are read.

    Raises:
        SmithError: It is damaged, or of another kind.
    """
    try:
        with path.open("rb") as file:
            return count_tensors(file, os.fstat(file.fileno()).st_size, str(path))
    except OSError as error:
        raise SmithError(f"cannot read {path}: {error.strerror}", "check the path") from error


def count_tensors(file: BinaryIO, size: int, name: str) -> int:
    """Return how many tensors a file of ``size`` bytes holds, its data left unread.

    Raises:
        SmithError: It is damaged, or of another kind; ``name`` is named.
    """
    try:
        return _count(file, size)
    except _DamagedError as error:
        raise SmithError(
            f"the weights {name} are damaged: {error}",
            "fetch or save the file again; it is what paddle.jit.save writes beside the program",
        ) from error


class _DamagedError(Exception):
    """Why a file cannot be what it should be, as a clause."""


def _count(file: BinaryIO, size: int) -> int:
    count = 0
    while file.tell() < size:
        _expect_version(file)
        (levels,) = struct.unpack("<Q", _read(file, 8))
        for _ in range(levels):  # each takes bytes of the file, so a lying number ends it soon
            (length,) = struct.unpack("<Q", _read(file, 8))
            _skip(file, length, size)
        _expect_version(file)
        (length,) = struct.unpack("<i", _read(file, 4))
        if not 0 < length <= _MAX_DESCRIPTION:
            raise _DamagedError(f"tensor {count} has a description of {length} bytes")
        kind, dims = _description(_read(file, length))
        if kind not in _ITEM_BYTES or any(dim < 0 for dim in dims):
            raise _DamagedError(f"tensor {count} has the type {kind} and the shape {dims[:8]}")
        _skip(file, math.prod(dims) * _ITEM_BYTES[kind], size)
        count += 1
    return count


def _expect_version(file: BinaryIO) -> None:
    (version,) = struct.unpack("<I", _read(file, 4))
    if version != 0:
        raise _DamagedError(f"version {version} stands where 0 does")


def _read(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise _DamagedError("it ends within a tensor")
    return data


def _skip(file: BinaryIO, length: int, size: int) -> None:
    if length > size - file.tell():
        raise _DamagedError("it ends within a tensor")
    file.seek(length, os.SEEK_CUR)


def _description(data: bytes) -> tuple[int | None, list[int]]:
    """Read a TensorDesc: its element type and its dimensions."""
    kind: int | None = None
    dims: list[int] = []
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        value, place = _varint(data, place)
        if tag == _DATA_TYPE:
            kind = value
        elif tag == _DIMS:
            dims.append(_signed(value))
        elif tag == _PACKED_DIMS:
            end = place + value
            while place < end:
                value, place = _varint(data, place)
                dims.append(_signed(value))
        else:
            raise _DamagedError(f"a tensor's description has the unknown field {tag >> 3}")
    return kind, dims


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _DamagedError("a tensor's description ends within a number")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
