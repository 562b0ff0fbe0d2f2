"""``.params`` files of all MXNet versions: indexed by offset, their values stay in the file.

Little endian, without padding::

    u64 0x112 | u64 reserved | u64 n | n arrays | u64 m (0 or n) | m names (u64 length, bytes)

An array starts with its magic number (V1 to V3), or, before 0.9, with its rank::

    V2, V3: i32 storage (0 dense, 1 row_sparse, 2 csr) | [sparse: storage shape] | shape
            | i32 device, i32 number | i32 type | per auxiliary array: i32 type, shape | values
    V1:     shape | device, number | type | values
    V0:     u32 rank, u32 dimensions | device, number | type | values

Source: MXNet ``src/ndarray/ndarray.cc`` (``NDArray::Save``, ``Load``, ``LegacyLoad``).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.mxnet.attributes import DTYPE_NUMBERS
from onnxsmith.pipeline.frontends.mxnet.files import is_params
from onnxsmith.storage.tensors import ExternalWeight, file_identity

_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_ROW_SPARSE, _CSR = 1, 2

# Beyond what any model holds; they bound the memory that a hostile file can ask for.
_MAX_ARRAYS = 100_000
_MAX_NAME = 1024
_MAX_RANK = 32
# What the dense form of sparse arrays may take, beside a multiple of the file's own size.
_DENSE_ALLOWANCE, _DENSE_FACTOR = 16 * 1024**2, 8
# Values below this size are read at once: a mapping of their own would cost more.
_INDEX_THRESHOLD = 64 * 1024


@dataclass(frozen=True)
class Region:
    """Values of one type and shape that lie in a file.

    Attributes:
        path: The file.
        identity: The file's state when it was indexed.
        start: First byte.
        dtype: The element type.
        shape: The dimensions.
    """

    path: Path
    identity: tuple[int, ...]
    start: int
    dtype: ir.DataType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.bitwidth // 8

    def numpy(self) -> np.ndarray:
        """Read the values.

        Raises:
            SmithError: The file was replaced, or cannot be read.
        """
        if file_identity(self.path) != self.identity:
            raise SmithError(f"{self.path} has changed while it was read", "start again")
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                data = file.read(self.nbytes)
        except OSError as error:
            raise SmithError(
                f"cannot read {self.path}: {error.strerror}", "check its permissions"
            ) from error
        return np.frombuffer(data, self.dtype.numpy()).reshape(self.shape)


@dataclass(frozen=True)
class StoredArray:
    """One array of a ``.params`` file.

    Attributes:
        shape: The dimensions of the array as MXNet shows it.
        values: Where its values lie: all of them, or those that a sparse array stores.
        indices: Of a row_sparse array the row numbers; of a csr one the row starts and columns.
    """

    shape: tuple[int, ...]
    values: Region
    indices: tuple[Region, ...] = ()

    @property
    def dtype(self) -> ir.DataType:
        """The element type."""
        return self.values.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def numpy(self) -> np.ndarray:
        """Read the values, sparse arrays in their dense form.

        Raises:
            SmithError: The file was replaced, or a sparse array's indices lie outside its shape.
        """
        if not self.indices:
            return self.values.numpy()
        dense = np.zeros(self.shape, self.dtype.numpy())
        stored = self.values.numpy()
        if len(self.indices) == 1:
            rows = self.indices[0].numpy()
            if rows.size and (rows.min() < 0 or rows.max() >= self.shape[0]):
                raise _damaged(self.values.path, "a sparse array has rows outside its shape")
            dense[rows] = stored
            return dense
        starts, columns = (region.numpy() for region in self.indices)
        counts = np.diff(starts)
        if (
            len(starts) != self.shape[0] + 1
            or starts[0] != 0
            or starts[-1] != len(columns)
            or (counts < 0).any()
            or (columns.size and (columns.min() < 0 or columns.max() >= self.shape[1]))
        ):
            raise _damaged(self.values.path, "a sparse array has columns outside its shape")
        dense[np.repeat(np.arange(self.shape[0]), counts), columns] = stored
        return dense

    def tensor(self, name: str, shape: tuple[int, ...] | None = None) -> ir.TensorProtocol:
        """Return the array as a tensor, in another shape of the same size if asked.

        Large dense values stay in the file.
        """
        dims = self.shape if shape is None else shape
        if self.indices or self.values.nbytes < _INDEX_THRESHOLD:
            return ir.Tensor(self.numpy().reshape(dims), dtype=self.dtype, name=name)
        proto = onnx.TensorProto(name=name, data_type=self.dtype.value, dims=dims)
        values = self.values
        end = values.start + values.nbytes
        return ExternalWeight(values.path, values.identity, values.start, end, proto)


@dataclass(frozen=True)
class Params:
    """The arrays of a file, in order.

    Attributes:
        names: As in the file; empty where a list was saved.
        arrays: None for those that were never filled.
    """

    names: tuple[str, ...]
    arrays: tuple[StoredArray | None, ...]

    def by_name(self) -> dict[str, StoredArray]:
        """Return the filled arrays by name, ``arg:`` and ``aux:`` taken off.

        Raises:
            SmithError: The file holds a list without names, or one name twice.
        """
        if self.arrays and not self.names:
            raise SmithError(
                "the file of weights holds a list without names",
                "save them with save_checkpoint, export or save_parameters",
            )
        found: dict[str, StoredArray] = {}
        for full, array in zip(self.names, self.arrays, strict=True):
            name = full.removeprefix("arg:") if full.startswith("arg:") else full
            name = name.removeprefix("aux:") if full.startswith("aux:") else name
            if name in found:
                raise SmithError(
                    f"the file of weights holds {name[:80]!r} twice", "save the model again"
                )
            if array is not None:
                found[name] = array
        return found


def read_params(path: Path) -> Params:
    """Index a ``.params`` file.

    Raises:
        SmithError: The file is missing, of another kind, truncated or hostile.
    """
    try:
        with _mapped(path) as data:
            return _Reader(path, file_identity(path), data).read()
    except OSError as error:
        raise SmithError(
            f"cannot read {path}: {error.strerror}", "check the path and its permissions"
        ) from error


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with path.open("rb") as file:
        if not path.is_file():
            raise SmithError(f"{path} is not a regular file", "give a .params file")
        if file.seek(0, 2) == 0:
            raise SmithError(f"{path} is empty", "copy the complete file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                yield view
            finally:
                view.release()


class _Reader:
    """Reads forward through the file; every length is checked against what is left."""

    def __init__(self, path: Path, identity: tuple[int, ...], data: memoryview) -> None:
        self.path = path
        self.identity = identity
        self.data = data
        self.at = 0
        self.dense_left = _DENSE_ALLOWANCE + _DENSE_FACTOR * len(data)

    def read(self) -> Params:
        if not is_params(bytes(self.data[:8])):
            raise SmithError(
                f"{self.path} is not a .params file of MXNet",
                "give the file that was saved with the -symbol.json file",
            )
        self.at = 16
        arrays = [self._array() for _ in range(self._count("arrays"))]
        count = self._count("names")
        if count not in (0, len(arrays)):
            raise self._error(f"it has {len(arrays)} arrays, but {count} names")
        return Params(tuple(self._name() for _ in range(count)), tuple(arrays))

    def _array(self) -> StoredArray | None:
        magic = self._take("<I")
        if magic in (_V2, _V3):
            return self._current(magic)
        # Before 0.9 the rank stands in the place of the magic number.
        shape = self._dims("<i", "q") if magic == _V1 else self._dims_of(magic, "I")
        return None if not shape else self._rest(shape)

    def _current(self, magic: int) -> StoredArray | None:
        storage = self._take("<i")
        if storage not in (0, _ROW_SPARSE, _CSR):
            raise self._error(f"an array has the storage type {storage}")
        stored = self._dims("<i", "q") if storage else None
        shape = self._optional_dims(unknown=-1 if magic == _V3 else 0)
        if shape is None:
            return None
        if not storage:
            return self._rest(shape)
        return self._sparse(storage, shape, stored or ())

    def _rest(self, shape: tuple[int, ...]) -> StoredArray:
        self._skip_device()
        return StoredArray(shape, self._region(self._dtype(), shape))

    def _sparse(self, storage: int, shape: tuple[int, ...], stored: tuple[int, ...]) -> StoredArray:
        self._skip_device()
        dtype = self._dtype()
        indices = [(self._dtype(), self._dims("<i", "q")) for _ in range(storage)]
        size = math.prod(shape) * dtype.bitwidth // 8
        self.dense_left -= size
        if self.dense_left < 0:
            raise self._error(f"a sparse array claims {size} bytes in its dense form")
        values = self._region(dtype, stored)
        regions = tuple(self._region(kind, dims) for kind, dims in indices)
        whole = all(kind in (ir.DataType.INT64, ir.DataType.INT32) for kind, _ in indices)
        flat = all(len(dims) == 1 for _, dims in indices)
        if storage == _ROW_SPARSE:
            fits = flat and stored == (*indices[0][1], *shape[1:]) and len(shape) >= 1
        else:
            fits = flat and len(shape) == 2 and stored == indices[1][1] and indices[0][1] != (0,)
        if not whole or not fits:
            raise self._error("the parts of a sparse array do not fit together")
        return StoredArray(shape, values, regions)

    def _region(self, dtype: ir.DataType, shape: tuple[int, ...]) -> Region:
        region = Region(self.path, self.identity, self.at, dtype, shape)
        self._need(region.nbytes)
        self.at += region.nbytes
        return region

    def _dtype(self) -> ir.DataType:
        number = self._take("<i")
        if number not in DTYPE_NUMBERS:
            raise self._error(f"an array has the element type {number}")
        return DTYPE_NUMBERS[number]

    def _dims(self, rank: str, code: str) -> tuple[int, ...]:
        return self._dims_of(self._take(rank), code)

    def _optional_dims(self, unknown: int) -> tuple[int, ...] | None:
        """Read a shape whose rank may say that there is none."""
        rank = self._take("<i")
        return None if rank == unknown else self._dims_of(rank, "q")

    def _dims_of(self, rank: int, code: str) -> tuple[int, ...]:
        if not 0 <= rank <= _MAX_RANK:
            raise self._error(f"an array has {rank} dimensions")
        form = f"<{rank}{code}"
        self._need(struct.calcsize(form))
        dims = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        if min(dims, default=0) < 0 or math.prod(max(dim, 1) for dim in dims) >= 2**48:
            raise self._error(f"an array has the shape {list(dims)}")
        return dims

    def _skip_device(self) -> None:
        self._need(8)
        self.at += 8

    def _count(self, what: str) -> int:
        count = self._take("<Q")
        if count > _MAX_ARRAYS:
            raise self._error(f"it claims {count} {what}")
        return count

    def _name(self) -> str:
        length = self._take("<Q")
        if length > _MAX_NAME:
            raise self._error(f"a name claims {length} bytes")
        self._need(length)
        raw = bytes(self.data[self.at : self.at + length])
        self.at += length
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self._error("a name is not UTF-8") from error

    def _take(self, form: str) -> int:
        size = struct.calcsize(form)
        self._need(size)
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += size
        return int(value)

    def _need(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise self._error(f"it ends at byte {len(self.data)}, inside an array or a name")

    def _error(self, what: str) -> SmithError:
        return _damaged(self.path, what)


def _damaged(path: Path, what: str) -> SmithError:
    return SmithError(
        f"{path} is damaged: {what}", "copy the file again, or save it from MXNet again"
    )
