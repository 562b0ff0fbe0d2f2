"""Read a ``.caffemodel``: where each layer's weights lie, without reading them.

Of protobuf's NetParameter only the layers' names and blobs matter; the network itself is taken
from the ``.prototxt``. Source of the field numbers: BVLC Caffe, src/caffe/proto/caffe.proto.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnxsmith.errors import SmithError
from onnxsmith.storage.save import STREAM_THRESHOLD
from onnxsmith.storage.tensors import EmbeddedTensor, file_identity
from onnxsmith.storage.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Field,
    WireError,
    fields,
    read_varint,
)

# A network of a thousand layers has 30,000 records; each costs a microsecond or two.
_MAX_RECORDS = 100_000

# (field of the layer in its parent, field of its name, field of its blobs)
_CURRENT, _V1, _V0 = (100, 1, 7), (2, 4, 6), (1, 1, 50)
_BLOB_LEGACY_DIMS = (1, 2, 3, 4)  # num, channels, height, width
_BLOB_DATA, _BLOB_SHAPE, _BLOB_DOUBLE = 5, 7, 8


@dataclass(frozen=True)
class Piece:
    """Some of a blob's values: bytes ``start`` to ``end`` of the file.

    ``step`` is the distance from one value to the next: more than ``size`` where each value is a
    record of its own.
    """

    start: int
    end: int
    size: int
    step: int

    @property
    def values(self) -> int:
        """How many values there are."""
        return (self.end - self.start) // self.step


@dataclass(frozen=True)
class Blob:
    """One array of a layer, in the file.

    Attributes:
        shape: As stored; older files have four sizes whatever the rank.
        pieces: Where the values lie.
    """

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def values(self) -> int:
        """How many values the file holds."""
        return sum(piece.values for piece in self.pieces)


class Caffemodel:
    """The weights of a network, by the layers' names; they stay in the file.

    Args:
        path: The file.

    Raises:
        SmithError: It is missing, another kind of file, or truncated.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = file_identity(path)
        try:
            self.blobs = _index(path)
        except OSError as error:
            raise SmithError(
                f"cannot read {path}: {error.strerror}", "check the path and its permissions"
            ) from error

    def tensor(self, blob: Blob, shape: tuple[int, ...], name: str) -> EmbeddedTensor | None:
        """Return the values as a tensor that stays in the file.

        None where they are small, of another type, or in pieces: those go through memory.
        """
        if blob.values * 4 < STREAM_THRESHOLD or len(blob.pieces) != 1:
            return None
        if blob.pieces[0].size != 4 or blob.pieces[0].step != 4:
            return None
        piece = blob.pieces[0]
        proto = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=shape)
        return EmbeddedTensor(self.path, self._identity, piece.start, piece.end, proto)

    def array(self, blob: Blob) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the values, read into memory, as one row of float32."""
        parts = []
        with self.path.open("rb") as file:
            for piece in blob.pieces:
                file.seek(piece.start)
                raw = np.frombuffer(file.read(piece.end - piece.start), np.uint8)
                rows = raw.reshape(-1, piece.step)[:, piece.step - piece.size :]
                dtype = "<f4" if piece.size == 4 else "<f8"
                parts.append(np.ascontiguousarray(rows).view(dtype).reshape(-1))
        whole = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        with np.errstate(over="ignore"):
            return whole.astype(np.float32)


def _index(path: Path) -> dict[str, tuple[Blob, ...]]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise SmithError(f"{path} is not a regular file", "give a .caffemodel")
        if status.st_size == 0:
            raise SmithError(f"{path} is empty", "give a .caffemodel")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            data = memoryview(mapped)
            try:
                _refuse_other_formats(bytes(data[:64]), path)
                return _Index(data).layers()
            except (WireError, struct.error) as error:
                raise SmithError(
                    f"{path} is not a caffemodel, or it is truncated: {error}",
                    "copy or download the file again",
                ) from error
            finally:
                data.release()


def _refuse_other_formats(head: bytes, path: Path) -> None:
    if head.startswith(b"\x89HDF"):
        raise SmithError(
            f"{path} is HDF5, which is not supported", "let Caffe save it as a binary .caffemodel"
        )
    if head.startswith((b"version https://git-lfs", b"<!DOCTYPE", b"<html")):
        raise SmithError(
            f"{path} is no caffemodel but a page of text that stands for it", "download it again"
        )


class _Index:
    """A walk over the file that counts its steps."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = _MAX_RECORDS

    def layers(self) -> dict[str, tuple[Blob, ...]]:
        """Return the blobs of each layer that has any."""
        found: dict[str, tuple[Blob, ...]] = {}
        layers = 0
        for field in self._fields(0, len(self._data)):
            if field.wire != LENGTH:
                continue
            if field.number == _CURRENT[0]:
                name, blobs = self._layer(field, _CURRENT)
            elif field.number == _V1[0]:
                name, blobs = self._layer(field, _V1)
            else:
                continue
            layers += 1
            if blobs:
                found[name] = blobs
        if not layers:
            raise WireError("it has no layers")
        return found

    def _layer(self, layer: Field, kind: tuple[int, int, int]) -> tuple[str, tuple[Blob, ...]]:
        _, name_field, blobs_field = kind
        name, blobs = "", []
        for field in self._fields(layer.payload, layer.end):
            if field.wire != LENGTH:
                continue
            if kind == _V1 and field.number == _V0[0]:
                return self._layer(field, _V0)
            if field.number == name_field:
                name = bytes(self._data[field.payload : field.end][:4096]).decode(errors="replace")
            elif field.number == blobs_field:
                blobs.append(self._blob(field))
        return name, tuple(blobs)

    def _blob(self, blob: Field) -> Blob:
        legacy: dict[int, int] = {}
        shape: list[int] | None = None
        data: list[Piece] = []
        double: list[Piece] = []
        at = blob.payload
        while at < blob.end:
            for field in self._fields(at, blob.end):
                at = field.end
                if field.number in (_BLOB_DATA, _BLOB_DOUBLE):
                    piece = self._piece(field, blob.end)
                    (data if field.number == _BLOB_DATA else double).append(piece)
                    if piece.end != field.end:
                        at = piece.end
                        break  # a run of single values was taken at once: go on behind it
                elif field.number == _BLOB_SHAPE and field.wire == LENGTH:
                    shape = (shape or []) + self._shape(field)
                elif field.number in _BLOB_LEGACY_DIMS and field.wire == VARINT:
                    legacy[field.number] = self._dim(field.payload, field.end)[0]
        if shape is None and legacy:
            shape = [legacy.get(number, 0) for number in _BLOB_LEGACY_DIMS]
        pieces = tuple(double or data)
        values = sum(piece.values for piece in pieces)
        if shape is None:
            shape = [values] if values else []
        return Blob(tuple(shape), pieces)

    def _piece(self, field: Field, end: int) -> Piece:
        size = 4 if field.number == _BLOB_DATA else 8
        if field.wire == LENGTH:
            if (field.end - field.payload) % size:
                raise WireError(f"the values at byte {field.start} end within a number")
            return Piece(field.payload, field.end, size, size)
        if field.wire != (FIXED32 if size == 4 else FIXED64):
            raise WireError(f"the values at byte {field.start} are of another type")
        return self._run(field, end, size)

    def _run(self, field: Field, end: int, size: int) -> Piece:
        """Take single values as long as they follow each other: each is its tag and the bytes."""
        step = field.end - field.start
        tag = np.frombuffer(self._data, np.uint8, field.payload - field.start, field.start)
        at, window = field.end, 64
        while True:
            # Windows that grow: a short run must not cost a look at the whole file.
            rows = min((end - at) // step, window)
            records = np.frombuffer(self._data, np.uint8, rows * step, at).reshape(rows, step)
            other = np.flatnonzero((records[:, : len(tag)] != tag).any(axis=1))
            at += (int(other[0]) if len(other) else rows) * step
            if len(other) or rows < window:
                del tag, records  # they hold the mapping open
                return Piece(field.start, at, size, step)
            window = min(window * 4, 2**20)

    def _shape(self, field: Field) -> list[int]:
        dims: list[int] = []
        for dim in self._fields(field.payload, field.end):
            if dim.number != 1:
                continue
            at, end = dim.payload, dim.end
            while at < end:
                value, at = self._dim(at, end)
                dims.append(value)
                if len(dims) > 32:
                    raise WireError("a blob has more than 32 dimensions")
        return dims

    def _dim(self, at: int, end: int) -> tuple[int, int]:
        value, at = read_varint(self._data, at, end)
        if value > 2**31:
            raise WireError(f"a blob claims the size {value}")
        return value, at

    def _fields(self, start: int, end: int) -> Iterator[Field]:
        for field in fields(self._data, start, end):
            self._left -= 1
            if self._left < 0:
                raise WireError(f"it has more than {_MAX_RECORDS:,} records")
            yield field
