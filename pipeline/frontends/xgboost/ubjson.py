"""Check that a UBJSON file is whole before XGBoost reads it.

XGBoost's own reader takes minutes over a file that was cut short, or crashes. Source of the format:
Universal Binary JSON, draft 12.
"""

from __future__ import annotations

import struct

_SIZES = {b"i": 1, b"U": 1, b"C": 1, b"I": 2, b"l": 4, b"d": 4, b"L": 8, b"D": 8}
_EMPTY = (b"Z", b"N", b"T", b"F")
_INTEGERS = {b"i": "b", b"U": "B", b"I": ">h", b"l": ">i", b"L": ">q"}
_MAX_DEPTH = 100
# Values that stand alone; arrays of one type are counted as one.
_MAX_VALUES = 5_000_000


class UbjsonError(Exception):
    """The bytes are no whole UBJSON value."""


def check_ubjson(data: memoryview) -> None:
    """Walk over one value, reading lengths only; arrays of one type are skipped at once.

    Raises:
        UbjsonError: A length leads out of the data, a marker is unknown, containers are nested too
            deeply or not closed, or something follows.
    """
    walk = _Walk(data)
    walk.value(walk.marker())
    while walk.open:
        walk.step()
    if walk.at != len(data):
        raise UbjsonError(f"{len(data) - walk.at} bytes follow its end")


class _Walk:
    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0
        # For each open container: whether it is an object, its type, and how many values are left
        # (None: it ends with its closing marker).
        self.open: list[tuple[bool, bytes, int | None]] = []
        self._values = 0

    def step(self) -> None:
        """Read the next value of the innermost container, or its end."""
        is_object, kind, left = self.open.pop()
        if left == 0:
            return
        if left is None and self._peek() == (b"}" if is_object else b"]"):
            self.at += 1
            return
        self.open.append((is_object, kind, None if left is None else left - 1))
        if is_object:
            self._skip(self._integer(self.marker()))  # a key is a string without its marker
        self.value(kind or self.marker())

    def value(self, marker: bytes) -> None:
        """Skip a value, or enter it where it is a container."""
        self._values += 1
        if self._values > _MAX_VALUES:
            raise UbjsonError(f"it holds more than {_MAX_VALUES} values")
        if marker in _SIZES:
            self._skip(_SIZES[marker])
        elif marker in (b"S", b"H"):
            self._skip(self._integer(self.marker()))
        elif marker in (b"[", b"{"):
            self._enter(marker == b"{")
        elif marker not in _EMPTY:
            raise UbjsonError(f"byte {self.at - 1} is no marker")

    def marker(self) -> bytes:
        """Read one marker."""
        found = self._peek()
        self.at += 1
        return found

    def _enter(self, is_object: bool) -> None:
        if len(self.open) >= _MAX_DEPTH:
            raise UbjsonError("it is nested too deeply")
        kind, left = b"", None
        if self._peek() == b"$":
            self.at += 1
            kind = self.marker()
        if self._peek() == b"#":
            self.at += 1
            left = self._integer(self.marker())
        elif kind:
            raise UbjsonError("a container of one type has no count")
        if left is not None and not is_object and (kind in _SIZES or kind in _EMPTY):
            self._skip(left * _SIZES.get(kind, 0))
            return
        self.open.append((is_object, kind, left))

    def _integer(self, marker: bytes) -> int:
        if marker not in _INTEGERS:
            raise UbjsonError(f"byte {self.at - 1} is no length")
        size = _SIZES[marker]
        start = self.at
        self._skip(size)
        (number,) = struct.unpack_from(_INTEGERS[marker], self.data, start)
        if number < 0:
            raise UbjsonError(f"a length is {number}")
        return int(number)

    def _peek(self) -> bytes:
        if self.at >= len(self.data):
            raise UbjsonError("it ends too early")
        return bytes(self.data[self.at : self.at + 1])

    def _skip(self, count: int) -> None:
        if count > len(self.data) - self.at:
            raise UbjsonError("it ends too early")
        self.at += count
