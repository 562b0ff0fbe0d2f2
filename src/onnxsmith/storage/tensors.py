"""Weights that stay in the file they were found in."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from onnxsmith.errors import SmithError


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
