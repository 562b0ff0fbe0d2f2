"""The wire scanner agrees with protobuf on what is a message, and never reads past its end."""

from __future__ import annotations

import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from onnxsmith.storage.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    WireError,
    fields,
    length_prefix,
    read_varint,
    write_varint,
)

tensors = st.builds(
    onnx.TensorProto,
    dims=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
    data_type=st.integers(0, 2**31 - 1),
    name=st.text(max_size=20),
    raw_data=st.binary(max_size=300),
    float_data=st.lists(st.floats(width=32, allow_nan=False), max_size=5),
    double_data=st.lists(st.floats(allow_nan=False), max_size=5),
)


def scan(data: bytes) -> list[tuple[int, int, bytes]]:
    view = memoryview(data)
    return [(f.number, f.wire, data[f.payload : f.end]) for f in fields(view, 0, len(data))]


@given(st.integers(0, 2**64 - 1))
def test_varint_round_trip(value: int) -> None:
    data = write_varint(value)
    assert read_varint(memoryview(data), 0, len(data)) == (value, len(data))


@given(tensors)
def test_records_tile_a_message(tensor: onnx.TensorProto) -> None:
    data = tensor.SerializeToString()
    found = list(fields(memoryview(data), 0, len(data)))
    assert b"".join(data[f.start : f.end] for f in found) == data
    by_number = {f.number: data[f.payload : f.end] for f in found}
    assert by_number.get(9, b"") == tensor.raw_data
    assert by_number.get(8, b"").decode() == tensor.name


@given(tensors, st.integers(0, 400))
def test_whatever_protobuf_refuses_when_cut_is_refused(tensor: onnx.TensorProto, cut: int) -> None:
    data = tensor.SerializeToString()[:cut]
    try:
        onnx.TensorProto.FromString(data)
    except DecodeError:
        with pytest.raises(WireError):
            scan(data)


@given(st.binary(max_size=60))
def test_any_bytes_end_in_fields_or_a_wire_error(data: bytes) -> None:
    try:
        found = scan(data)
    except WireError:
        return
    assert all(number > 0 and wire in (0, 1, 2, 5) for number, wire, _ in found)


def test_each_wire_type_has_its_length() -> None:
    data = (
        write_varint(1 << 3 | VARINT) + write_varint(300)
        + write_varint(2 << 3 | FIXED64) + b"12345678"
        + length_prefix(3, 2) + b"ab"
        + write_varint(4 << 3 | FIXED32) + b"1234"
    )  # fmt: skip
    assert scan(data) == [
        (1, VARINT, b"\xac\x02"),
        (2, FIXED64, b"12345678"),
        (3, LENGTH, b"ab"),
        (4, FIXED32, b"1234"),
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (length_prefix(1, 10) + b"short", "claims 10 bytes, but 5 are left"),
        (length_prefix(1, 2**63), "are left"),
        (write_varint(1 << 3 | FIXED64) + b"1234567", "claims 8 bytes"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x02\x00", "field number 0"),
        (b"\x08" + b"\xff" * 11, "longer than 64 bits"),
        (b"\x08\x80", "ends inside a number"),
    ],
)
def test_lying_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        scan(data)
