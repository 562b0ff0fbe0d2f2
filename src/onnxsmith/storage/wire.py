"""Walk the protobuf wire format without copying payloads.

Source: https://protobuf.dev/programming-guides/encoding/. Every length is checked against the
bytes that are there, so a file that lies about its sizes costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field: its number, wire type, where its record starts, and where its payload lies."""

    number: int
    wire: int
    start: int
    payload: int
    end: int


class WireError(ValueError):
    """The bytes are not a protobuf message."""


def read_varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return the varint at ``at`` and the position behind it.

    Raises:
        WireError: It runs past ``end`` or is longer than 64 bits.
    """
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError(f"a number at byte {at} is longer than 64 bits")
    raise WireError(f"the file ends inside a number at byte {at}")


def write_varint(value: int) -> bytes:
    """Encode a non-negative integer."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_prefix(number: int, length: int) -> bytes:
    """Return tag and length of a length-delimited field of ``length`` bytes."""
    return write_varint(number << 3 | LENGTH) + write_varint(length)


def fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message that lies in ``data[start:end]``.

    Raises:
        WireError: The bytes are not a message, or a length points past ``end``.
    """
    at = start
    while at < end:
        begin = at
        tag, at = read_varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if wire == LENGTH:
            length, at = read_varint(data, at, end)
        elif wire == VARINT:
            payload = at
            _, at = read_varint(data, at, end)
            at, length = payload, at - payload
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"unknown wire type {wire} at byte {begin}")
        if number == 0:
            raise WireError(f"field number 0 at byte {begin}")
        if length > end - at:
            raise WireError(
                f"the field at byte {begin} claims {length} bytes, but {end - at} are left"
            )
        yield Field(number, wire, begin, at, at + length)
        at += length
