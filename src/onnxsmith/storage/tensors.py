"""Weights that stay in the file they were found in."""

from __future__ import annotations

from collections.abc import Sequence
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
        return ir.Tensor(_transposed(read_array(self.source), self.order), self.dtype)


def _transposed(array: np.ndarray[Any, Any], order: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return a transposed copy, some rows at a time: they stay in the cache meanwhile."""
    result = np.empty([array.shape[axis] for axis in order], array.dtype)
    rows = np.moveaxis(result, order.index(0), 0)
    inner = [axis for axis in order if axis]
    for start in range(0, array.shape[0], _ROWS):
        piece = slice(start, start + _ROWS)
        rows[piece] = array[piece].transpose(0, *inner)
    return result


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
        raise SmithError(f"the weights of {tensor.name!r} have changed on disk", "start again")
    return values.view(tensor.dtype.numpy()).reshape(tensor.shape.numpy())


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
