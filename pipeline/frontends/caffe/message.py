"""A message as it was read: fields by name, asked for by type, with a record of what was asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Union

from onnxsmith.errors import SmithError


class Identifier(str):
    """A bare word: an enumeration's constant, true or false."""

    __slots__ = ()


Value = Union[int, float, str, Identifier, "Message"]

# Sizes and counts beyond this are lies: Caffe keeps them in 32 bits.
_MAX_INTEGER = 2**31 - 1


class Message:
    """Fields by name, each with all the values it was given.

    Args:
        name: What it is called in errors: the field that holds it, or a layer.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fields: dict[str, list[Value]] = {}
        self._asked: set[str] = set()

    def add(self, field: str, value: Value) -> None:
        """Append a value to a field."""
        self._fields.setdefault(field, []).append(value)

    def set(self, field: str, value: Value) -> None:
        """Replace what a field holds."""
        self._fields[field] = [value]

    def __contains__(self, field: str) -> bool:
        return field in self._fields

    def fields(self) -> Iterator[str]:
        """Yield the names of the fields."""
        return iter(self._fields)

    def was_asked(self, field: str) -> bool:
        """Return whether somebody asked for the field."""
        return field in self._asked

    def never_asked(self) -> Iterator[str]:
        """Yield the fields that nobody asked for."""
        return (field for field in self._fields if field not in self._asked)

    def values(self, field: str) -> list[Value]:
        """Return all values of a field; empty where it is absent."""
        self._asked.add(field)
        return self._fields.get(field, [])

    def integers(self, field: str) -> list[int]:
        """Return a repeated field of whole numbers.

        Raises:
            SmithError: A value is no whole number, or does not fit into 32 bits.
        """
        found = []
        for value in self.values(field):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise self._wrong(field, "a whole number", value)
            if value != value or abs(value) > _MAX_INTEGER or value != int(value):
                raise self._wrong(field, "a whole number of 32 bits", value)
            found.append(int(value))
        return found

    def integer(self, field: str, default: int) -> int:
        """Return a whole number, the last one given; see :meth:`integers`."""
        return (self.integers(field) or [default])[-1]

    def sizes(self, field: str) -> list[int]:
        """Return a repeated field of numbers from 0 on; see :meth:`integers`."""
        found = self.integers(field)
        if any(value < 0 for value in found):
            raise self._wrong(field, "0 or more", min(found))
        return found

    def size(self, field: str, default: int) -> int:
        """Return a number from 0 on; see :meth:`integers`."""
        return (self.sizes(field) or [default])[-1]

    def floats(self, field: str) -> list[float]:
        """Return a repeated field of finite numbers.

        Raises:
            SmithError: A value is no finite number.
        """
        found = []
        for value in self.values(field):
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise self._wrong(field, "a finite number", value)
            if abs(value) > 3.5e38:
                raise self._wrong(field, "a number of 32 bits", value)
            found.append(float(value))
        return found

    def number(self, field: str, default: float) -> float:
        """Return a finite number; see :meth:`floats`."""
        return float((self.floats(field) or [default])[-1])

    def texts(self, field: str) -> list[str]:
        """Return a repeated field of text.

        Raises:
            SmithError: A value is none.
        """
        found = []
        for value in self.values(field):
            if not isinstance(value, str):
                raise self._wrong(field, "text in quotes", value)
            found.append(str(value))
        return found

    def text(self, field: str, default: str = "") -> str:
        """Return text; see :meth:`texts`."""
        return (self.texts(field) or [default])[-1]

    def flag(self, field: str, default: bool) -> bool:
        """Return true or false.

        Raises:
            SmithError: The value is neither.
        """
        words = {"true": True, "t": True, "false": False, "f": False}
        for value in self.values(field)[-1:]:
            if isinstance(value, str) and value.lower() in words:
                return words[value.lower()]
            if isinstance(value, (int, float)) and value in (0, 1):
                return bool(value)
            raise self._wrong(field, "true or false", value)
        return default

    def choice(self, field: str, constants: Mapping[str, int], default: str) -> str:
        """Return the name of an enumeration's constant, given by name or by number.

        Raises:
            SmithError: There is no such constant.
        """
        for value in self.values(field)[-1:]:
            if isinstance(value, str) and value in constants:
                return str(value)
            for name, number in constants.items():
                if isinstance(value, (int, float)) and value == number:
                    return name
            raise self._wrong(field, f"one of {', '.join(constants)}", value)
        return default

    def messages(self, field: str) -> list[Message]:
        """Return a repeated field of messages.

        Raises:
            SmithError: A value is none.
        """
        found = []
        for value in self.values(field):
            if not isinstance(value, Message):
                raise self._wrong(field, "a message in braces", value)
            found.append(value)
        return found

    def message(self, field: str) -> Message:
        """Return a message, empty where it is absent; several are merged, as protobuf does."""
        found = self.messages(field)
        if len(found) == 1:
            return found[0]
        merged = Message(field)
        for one in found:
            for name, values in one._fields.items():
                merged._fields.setdefault(name, []).extend(values)
        self._fields[field] = [merged]
        return merged

    def _wrong(self, field: str, wanted: str, value: Value) -> SmithError:
        shown = "a message" if isinstance(value, Message) else repr(value)[:60]
        return SmithError(
            f"{self.name}: {field} should be {wanted}, and is {shown}", "mend the .prototxt"
        )
