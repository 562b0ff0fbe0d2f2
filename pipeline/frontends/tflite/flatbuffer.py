"""Read FlatBuffers without trusting them: each offset is checked against the file's size.

Source of the layout: the FlatBuffers documentation, "FlatBuffer Internals". TensorFlow Lite's
interpreter and tf2onnx both follow offsets unchecked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


class FlatbufferError(Exception):
    """An offset or length leads out of the file, or a vector is of no use."""


@dataclass(frozen=True)
class Table:
    """A table at a place of a buffer; its fields are asked for by number."""

    data: memoryview
    at: int

    def number(self, field: int, form: str, default: int = 0) -> int:
        """Return a scalar field; ``form`` is struct's letter for it."""
        place = self._field(field)
        return default if place is None else int(_read(self.data, place, form))

    def table(self, field: int) -> Table | None:
        """Return a table that a field leads to; None where it is not there."""
        place = self._target(field)
        return None if place is None else Table(self.data, place)

    def text(self, field: int) -> str:
        """Return a string field; empty where it is not there."""
        return bytes(self.bytes(field)).decode("utf-8", "replace")

    def bytes(self, field: int) -> memoryview:
        """Return a vector of bytes; empty where it is not there."""
        start, count = self._vector(field, 1)
        return self.data[start : start + count]

    def numbers(self, field: int, dtype: str) -> np.ndarray[Any, Any] | None:
        """Return a vector of scalars, of numpy's little-endian ``dtype``; None where absent."""
        if self._target(field) is None:
            return None
        size = np.dtype(dtype).itemsize
        start, count = self._vector(field, size)
        return np.frombuffer(self.data[start : start + count * size], dtype)

    def tables(self, field: int) -> Iterator[Table]:
        """Yield the tables of a vector of tables."""
        start, count = self._vector(field, 4)
        for place in range(start, start + 4 * count, 4):
            yield Table(self.data, place + _read(self.data, place, "I"))

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        place = self._target(field)
        if place is None:
            return 0, 0
        count = _read(self.data, place, "I")
        if place + 4 + count * size > len(self.data):
            raise FlatbufferError(f"a vector of {count} elements reaches beyond the file")
        return place + 4, count

    def _target(self, field: int) -> int | None:
        place = self._field(field)
        return None if place is None else place + _read(self.data, place, "I")

    def _field(self, field: int) -> int | None:
        """Return the place of a field, by way of the table's list of offsets."""
        offsets = self.at - _read(self.data, self.at, "i")
        size = _read(self.data, offsets, "H")
        if 4 + 2 * field + 2 > size:
            return None
        offset = _read(self.data, offsets + 4 + 2 * field, "H")
        return self.at + offset if offset else None


def root(data: memoryview) -> Table:
    """Return the table that a buffer begins with.

    Raises:
        FlatbufferError: The buffer is too short.
    """
    return Table(data, _read(data, 0, "I"))


def _read(data: memoryview, place: int, form: str) -> int:
    size = struct.calcsize(f"<{form}")
    if not 0 <= place <= len(data) - size:
        raise FlatbufferError(f"an offset leads to byte {place}, beyond the file")
    value: int = struct.unpack_from(f"<{form}", data, place)[0]
    return value
