"""Attributes of MXNet operators: everything is text, written by Python and parsed by C++.

Source: dmlc-core ``parameter.h`` and nnvm ``tuple.h``, which read ``(3, 3)``, ``[3,3]``, ``3``,
``(2L, 2L)`` (Python 2), ``True``, ``1``, ``None``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from onnxsmith.errors import SmithError

_MAX_ITEMS = 4096
_INTEGER = re.compile(r"^[+-]?\d{1,18}L?$")
_NONE = ("None", "none", "")

DTYPES: Mapping[str, ir.DataType] = {
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
    "float16": ir.DataType.FLOAT16,
    "uint8": ir.DataType.UINT8,
    "int32": ir.DataType.INT32,
    "int8": ir.DataType.INT8,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
    "int16": ir.DataType.INT16,
    "uint16": ir.DataType.UINT16,
    "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64,
    "bfloat16": ir.DataType.BFLOAT16,
}
"""Element types by the name in attributes; in the order of mshadow's numbers but for a gap."""

DTYPE_NUMBERS: Mapping[int, ir.DataType] = dict(
    zip((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), DTYPES.values(), strict=True)
)
"""Element types by mshadow's type flag, as ``.params`` files and ``__dtype__`` hold it."""


@dataclass(frozen=True)
class Attributes:
    """The attributes of one node, read by type.

    Attributes:
        values: As in the file.
        owner: The node, for messages: "the node 'conv1' (Convolution)".
    """

    values: Mapping[str, str]
    owner: str

    def has(self, name: str) -> bool:
        """Return whether the attribute is there and not None."""
        return self.values.get(name, "None").strip() not in _NONE

    def text(self, name: str, default: str, choices: tuple[str, ...] = ()) -> str:
        """Return the attribute as text.

        Raises:
            SmithError: It is none of ``choices``.
        """
        value = self.values[name].strip() if self.has(name) else default
        if choices and value not in choices:
            raise self.error(f"{name}={value[:40]!r} is none of {', '.join(choices)}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return the attribute as a bool.

        Raises:
            SmithError: It is none.
        """
        if not self.has(name):
            return default
        value = self.values[name].strip().lower()
        if value in ("true", "1", "1.0"):
            return True
        if value in ("false", "0", "0.0"):
            return False
        raise self.error(f"{name}={value[:40]!r} is neither True nor False")

    def number(self, name: str, default: float) -> float:
        """Return the attribute as a float.

        Raises:
            SmithError: It is none.
        """
        if not self.has(name):
            return default
        text = self.values[name].strip()
        try:
            return float(text) if len(text) <= 64 else float(f"{text[:64]}?")
        except ValueError as error:
            raise self.error(f"{name}={text[:40]!r} is not a number") from error

    def integer(self, name: str, default: int) -> int:
        """Return the attribute as an int.

        Raises:
            SmithError: It is none.
        """
        if not self.has(name):
            return default
        return self._integer(name, self.values[name])

    def optional_integer(self, name: str) -> int | None:
        """Return the attribute as an int, or None where it is left out.

        Raises:
            SmithError: It is neither.
        """
        return self.integer(name, 0) if self.has(name) else None

    def bounded(self, name: str, default: int, low: int, high: int) -> int:
        """Return the attribute as an int within ``low`` to ``high``.

        Raises:
            SmithError: It is none.
        """
        value = self.integer(name, default)
        if not low <= value <= high:
            raise self.error(f"{name}={value} is not within {low} to {high}")
        return value

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return the attribute as a tuple of ints; a single number is a tuple of one.

        Raises:
            SmithError: It is none.
        """
        if not self.has(name):
            return default
        return tuple(self._integer(name, item) for item in self._items(name))

    def optional_integers(self, name: str) -> tuple[int | None, ...]:
        """Return the attribute as a tuple whose items may be None; empty where it is left out.

        Raises:
            SmithError: It is none.
        """
        if not self.has(name):
            return ()
        return tuple(
            None if item in _NONE else self._integer(name, item) for item in self._items(name)
        )

    def numbers(self, name: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        """Return the attribute as a tuple of floats.

        Raises:
            SmithError: It is none.
        """
        if not self.has(name):
            return default
        try:
            return tuple(float(item[:64]) for item in self._items(name))
        except ValueError as error:
            raise self.error(f"{name}={self.values[name][:40]!r} are not numbers") from error

    def dtype(self, name: str, default: ir.DataType) -> ir.DataType:
        """Return the attribute as an element type.

        Raises:
            SmithError: MXNet has no such type.
        """
        if not self.has(name):
            return default
        text = self.values[name].strip()
        if text.isdigit() and len(text) <= 2 and int(text) in DTYPE_NUMBERS:
            return DTYPE_NUMBERS[int(text)]
        if text not in DTYPES:
            raise self.error(f"{name}={text[:40]!r} is not an element type")
        return DTYPES[text]

    def error(self, message: str, hint: str = "") -> SmithError:
        """Return an error that names the node."""
        return SmithError(f"{self.owner}: {message}", hint or "export the model from MXNet again")

    def _items(self, name: str) -> list[str]:
        text = self.values[name].strip()
        if text[:1] in "([" and text[-1:] in ")]":
            text = text[1:-1]
        items = [item.strip() for item in text.split(",", _MAX_ITEMS)]
        if len(items) > _MAX_ITEMS:
            raise self.error(f"{name} has more than {_MAX_ITEMS} items")
        return items[:-1] if items[-1] == "" else items

    def _integer(self, name: str, text: str) -> int:
        text = text.strip()
        if _INTEGER.match(text):
            return int(text.rstrip("L"))
        try:  # numpy scalars find their way in as "2.0"
            value = float(text[:64])
        except ValueError:
            value = 0.5
        if value != int(value if abs(value) < 2**53 else 0):
            raise self.error(f"{name}={text[:40]!r} is not a whole number")
        return int(value)
