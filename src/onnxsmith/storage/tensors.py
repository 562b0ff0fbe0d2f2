"""Weights that stay in the file they were found in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnxsmith.errors import SmithError

# So many rows of a matrix of common width fit into a processor's cache.
_ROWS = 32


class FileTensor(ir.ExternalTensor):
    """A weight that stays in a file, which must not change while the tensor is used.

    Args:
        path: The file, in the state that ``identity`` describes.
        identity: What :func:`file_identity` returned when the offsets were read.
        start: First byte of the values.
        end: Position behind the last.
        proto: The initializer; its values are not looked at.
    """

    def __init__(
        self, path: Path, identity: tuple[int, ...], start: int, end: int, proto: onnx.TensorProto
    ) -> None:
        # An absolute location and no base_dir: the file was checked and opened by us, so
        # onnx_ir's rules for external files do not apply (they refuse hard links).
        super().__init__(
            location=path.resolve(),
            offset=start,
            length=end - start,
            dtype=ir.DataType(proto.data_type),
            shape=ir.Shape(list(proto.dims)),
            name=proto.name,
        )
        self.identity = identity

    @property
    def path(self) -> str:
        """The file.

        Raises:
            SmithError: It was replaced since it was loaded: the offset would name other bytes.
        """
        path = str(self.location)
        if file_identity(Path(path)) != self.identity:
            raise SmithError(
                f"{path} was replaced after the model was loaded from it", "load the model again"
            )
        return path


class EmbeddedTensor(FileTensor):
    """A weight inside the model file."""


class ExternalWeight(FileTensor):
    """A weight in a data file beside the model."""


class TransposedTensor(ir.LazyTensor):
    """A weight with its axes in another order, put into it when the values are read.

    Args:
        source: The weight; its elements take whole bytes.
        order: For each axis, which of the source's it is.
        name: The name of the result.
    """

    def __init__(self, source: ir.TensorProtocol, order: Sequence[int], name: str) -> None:
        if isinstance(source, TransposedTensor):
            order = [source.order[axis] for axis in order]
            source = source.source
        self.source: ir.TensorProtocol = source
        self.order: tuple[int, ...] = tuple(order)
        sizes = source.shape.numpy()
        shape = ir.Shape([sizes[axis] for axis in self.order])
        super().__init__(self._compute, source.dtype, shape, name=name)

    def _compute(self) -> ir.Tensor[np.ndarray[Any, Any]]:
        """Transpose some rows at a time: they stay in the cache meanwhile, and none are kept."""
        result = np.empty(self.shape.numpy(), self.dtype.numpy())
        rows = np.moveaxis(result, self.order.index(0), 0)
        inner = [axis for axis in self.order if axis]
        start = 0
        for piece in _pieces(self.source):
            rows[start : start + len(piece)] = piece.transpose(0, *inner)
            start += len(piece)
        return ir.Tensor(result, self.dtype)


def _pieces(tensor: ir.TensorProtocol) -> Iterator[np.ndarray[Any, Any]]:
    """Yield a tensor's values some rows at a time."""
    shape = tensor.shape.numpy()
    if not isinstance(tensor, ir.ExternalTensor):
        array = tensor.numpy()
        yield from (array[start : start + _ROWS] for start in range(0, shape[0], _ROWS))
        return
    size = tensor.nbytes // shape[0]
    with open(tensor.path, "rb") as file:
        file.seek(tensor.offset or 0)
        for start in range(0, shape[0], _ROWS):
            rows = min(_ROWS, shape[0] - start)
            values = np.fromfile(file, np.uint8, rows * size)
            if values.size != rows * size:
                raise _changed(tensor)
            yield values.view(tensor.dtype.numpy()).reshape(rows, *shape[1:])


def read_array(tensor: ir.TensorProtocol) -> np.ndarray[Any, Any]:
    """Return the values; those in a file are read into memory, which is freed with the array.

    A mapping would stay, and its pages count as memory in use.

    Raises:
        SmithError: The file has changed.
    """
    if not isinstance(tensor, ir.ExternalTensor) or tensor.dtype.bitwidth < 8:
        return tensor.numpy()
    with open(tensor.path, "rb") as file:
        values = np.fromfile(file, np.uint8, tensor.nbytes, offset=tensor.offset or 0)
    if values.size != tensor.nbytes:
        raise _changed(tensor)
    return values.view(tensor.dtype.numpy()).reshape(tensor.shape.numpy())


def _changed(tensor: ir.ExternalTensor) -> SmithError:
    return SmithError(f"the weights of {tensor.name!r} have changed on disk", "start again")


def file_identity(path: Path) -> tuple[int, ...]:
    """Return what tells one state of a file from another: device, inode, size, change time."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes that the tensor's type and shape ask for.

    Raises:
        SmithError: The type is unknown or has no fixed size, or a dimension is negative.
    """
    try:
        dtype = ir.DataType(tensor.data_type)
        bits = dtype.bitwidth
    except (ValueError, TypeError) as error:
        raise SmithError(
            f"the tensor {tensor.name!r} has the element type {tensor.data_type}, "
            "whose values cannot lie in a file",
            "export the model again",
        ) from error
    if any(dim < 0 for dim in tensor.dims):
        raise SmithError(
            f"the tensor {tensor.name!r} has the shape {list(tensor.dims)}",
            "export the model again",
        )
    size = 1
    for dim in tensor.dims:
        size *= dim
    return (size * bits + 7) // 8
