"""Read FlatBuffers without trusting them: each offset is checked against the file's size.

Source of the layout: the FlatBuffers documentation, "FlatBuffer Internals". TensorFlow Lite's
interpreter and tf2onnx both follow offsets unchecked.

Offsets may all lead to the same place, so that a small file reads as a large one. What is read is
counted against a budget: no sound file has its bytes read several times.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


class FlatbufferError(Exception):
    """An offset or length leads out of the file, or a vector is of no use."""


# Models of billions of weights have some thousands of tensors and operators.
_MAX_TABLES = 100_000
# Strings and vectors may be shared among tables; a file is read once for each table or so.
_READINGS, _SMALL = 8, 1 << 20


class Budget:
    """How much of a file may still be read.

    Args:
        size: The file's size in bytes.
    """

    def __init__(self, size: int) -> None:
        self._tables = _MAX_TABLES
        self._bytes = _READINGS * size + _SMALL

    def table(self) -> None:
        """Count a table.

        Raises:
            FlatbufferError: There are too many.
        """
        self._tables -= 1
        if self._tables < 0:
            raise FlatbufferError(f"it has more than {_MAX_TABLES} tensors and operators")

    def vector(self, size: int) -> None:
        """Count the bytes of a vector or string.

        Raises:
            FlatbufferError: They are more than the file holds.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise FlatbufferError("its parts lie over each other")


@dataclass(frozen=True)
class Table:
    """A table at a place of a buffer; its fields are asked for by number."""

    data: memoryview
    at: int
    budget: Budget

    def number(self, field: int, form: str, default: int = 0) -> int:
        """Return a scalar field; ``form`` is struct's letter for it."""
        place = self._field(field)
        return default if place is None else int(_read(self.data, place, form))

    def table(self, field: int) -> Table | None:
        """Return a table that a field leads to; None where it is not there."""
        place = self._target(field)
        return None if place is None else Table(self.data, place, self.budget)

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
            self.budget.table()
            yield Table(self.data, place + _read(self.data, place, "I"), self.budget)

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        place = self._target(field)
        if place is None:
            return 0, 0
        count = _read(self.data, place, "I")
        if place + 4 + count * size > len(self.data):
            raise FlatbufferError(f"a vector of {count} elements reaches beyond the file")
        self.budget.vector(count * size)
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
    return Table(data, _read(data, 0, "I"), Budget(len(data)))


def _read(data: memoryview, place: int, form: str) -> int:
    size = struct.calcsize(f"<{form}")
    if not 0 <= place <= len(data) - size:
        raise FlatbufferError(f"an offset leads to byte {place}, beyond the file")
    value: int = struct.unpack_from(f"<{form}", data, place)[0]
    return value
