"""Stream one array of an ``.npz`` file, row by row, without loading it.

Source of the format: numpy.lib.format (NPY versions 1.0 and 2.0). Pickled objects are refused:
reading them would run code of the file.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.lib import format as npy_format

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.data.base import Array
from onnxsmith.pipeline.data.files import read_exactly

_HEADERS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Member:
    """One array of an archive.

    Attributes:
        name: Its name, without ``.npy``.
        file: The member's name in the archive.
        shape: The dimensions.
        dtype: The element type.
        fortran: Whether it is stored column by column.
        offset: Where the values begin in the member.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool
    offset: int

    def rows(self, archive: zipfile.ZipFile, count: int) -> Iterator[Array]:
        """Yield ``[count, ...]`` at a time (the last smaller), in order.

        Raises:
            SmithError: The member is truncated.
        """
        with archive.open(self.file) as stream:
            read_exactly(stream, self.offset, self.file)
            if self.fortran and len(self.shape) > 1:
                # The first row's values lie all over the member: it has to be held as a whole.
                whole = self._take(stream, self.shape[::-1]).T
                for start in range(0, self.shape[0], count):
                    yield whole[start : start + count]
                return
            for start in range(0, self.shape[0], count):
                size = min(count, self.shape[0] - start)
                yield self._take(stream, (size, *self.shape[1:]))

    def whole(self, archive: zipfile.ZipFile) -> Array:
        """Return the array, loaded."""
        with archive.open(self.file) as stream:
            read_exactly(stream, self.offset, self.file)
            if self.fortran:
                return self._take(stream, self.shape[::-1]).T
            return self._take(stream, self.shape)

    def _take(self, stream: IO[bytes], shape: tuple[int, ...]) -> Array:
        count = math.prod(shape)
        data = read_exactly(stream, count * self.dtype.itemsize, self.file)
        return np.frombuffer(data, self.dtype, count).reshape(shape)


def read_members(archive: zipfile.ZipFile, source: str) -> dict[str, Member]:
    """Read the headers of all arrays.

    Args:
        archive: The open ``.npz``.
        source: What to call the file in messages.

    Raises:
        SmithError: A member is no array, holds objects, or its size is not what it promises.
    """
    members = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            raise SmithError(
                f"{source!r} holds {info.filename!r}, which is no array",
                "write it with numpy.savez",
            )
        member = _read_member(archive, info, source)
        members[member.name] = member
    return members


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str) -> Member:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as stream:
        try:
            version = npy_format.read_magic(stream)
            if version not in _HEADERS:
                raise ValueError(f"format version {version} is not supported")
            shape, fortran, dtype = _HEADERS[version](stream)
        except (ValueError, OverflowError, MemoryError) as error:
            text = " ".join(str(error).split())[:200]
            raise SmithError(
                f"the array {name!r} of {source!r} cannot be read: {text}",
                "write it with numpy.savez",
            ) from error
        offset = stream.tell()
    if dtype.hasobject:
        raise SmithError(
            f"the array {name!r} of {source!r} holds Python objects, which are refused",
            "save numbers or fixed-width text (astype(str)): unpickling would run the file's code",
        )
    if dtype.kind not in "biufUS":
        raise SmithError(
            f"the array {name!r} of {source!r} has the element type {dtype}, which no model takes",
            "save plain numbers or text",
        )
    promised = math.prod(shape) * dtype.itemsize
    if any(size < 0 for size in shape) or promised != info.file_size - offset:
        raise SmithError(
            f"the array {name!r} of {source!r} promises {promised} bytes, "
            f"but has {info.file_size - offset}",
            "get the file again: it is damaged",
        )
    return Member(name, info.filename, shape, dtype, bool(fortran), offset)
