"""A file of weights is whole, or it is refused: Paddle itself takes a truncated one."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest

from onnxsmith.errors import SmithError
from onnxsmith.pipeline.frontends.paddle.params import check_weights, count_tensors


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def tensor(
    dims: tuple[int, ...], kind: int, data: bytes, *, levels: bytes = b"", packed: bool = False
) -> bytes:
    """One tensor, as Paddle writes it; ``levels`` is one level of its LoD."""
    description = b"\x08" + varint(kind)
    if packed:
        body = b"".join(varint(dim) for dim in dims)
        description += b"\x12" + varint(len(body)) + body
    else:
        description += b"".join(b"\x10" + varint(dim) for dim in dims)
    lod = struct.pack("<QQ", 1, len(levels)) + levels if levels else struct.pack("<Q", 0)
    head = struct.pack("<I", 0) + lod + struct.pack("<Ii", 0, len(description))
    return head + description + data


WHOLE = (
    tensor((2, 3), 5, bytes(24))
    + tensor((300,), 22, bytes(600), packed=True)
    + tensor((), 3, bytes(8), levels=bytes(16))
    + tensor((0, 7), 6, b"")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pdiparams"


def test_whole_tensors_are_counted(path: Path) -> None:
    path.write_bytes(WHOLE)
    assert check_weights(path) == 4
    path.write_bytes(b"")
    assert check_weights(path) == 0


def test_every_truncation_but_those_between_tensors_is_refused(path: Path) -> None:
    ends = {0, len(tensor((2, 3), 5, bytes(24)))}
    ends |= {max(ends) + len(tensor((300,), 22, bytes(600), packed=True))}
    ends |= {max(ends) + len(tensor((), 3, bytes(8), levels=bytes(16)))}
    for length in set(range(len(WHOLE))) - ends:
        path.write_bytes(WHOLE[:length])
        with pytest.raises(SmithError, match="are damaged"):
            check_weights(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (WHOLE + b"\0", "it ends within a tensor"),
        (b"\x01" + WHOLE, "version 1 stands where 0 does"),
        (tensor((2,), 5, bytes(12)), "it ends within a tensor|version"),
        (tensor((1 << 40, 1 << 40), 5, bytes(12)), "it ends within a tensor"),
        (tensor((-1, 4), 5, bytes(12)), r"tensor 0 has the type 5 and the shape \[-1, 4\]"),
        (tensor((2,), 7, bytes(8)), "has the type 7"),
        (struct.pack("<IQ", 0, 1 << 60), "it ends within a tensor"),
        (struct.pack("<IQIi", 0, 0, 0, -5), "a description of -5 bytes"),
        (struct.pack("<IQIi", 0, 0, 0, 1 << 30), "a description of 1073741824 bytes"),
        (struct.pack("<IQIi", 0, 0, 0, 2) + b"\x1a\x00", "the unknown field 3"),
        (struct.pack("<IQIi", 0, 0, 0, 3) + b"\x08\xff\xff", "ends within a number"),
        (struct.pack("<IQIi", 0, 0, 0, 12) + b"\x08" + b"\xff" * 11, "ends within a number"),
    ],
)
def test_lies_are_refused(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(SmithError, match=message) as caught:
        check_weights(path)
    assert caught.value.hint


def test_a_file_that_is_missing_is_said(path: Path) -> None:
    with pytest.raises(SmithError, match="cannot read"):
        check_weights(path)


def test_changed_bytes_are_refused_or_harmless() -> None:
    """10,000 mutations: an error of ours, or a count."""
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(10_000):
        data = bytearray(WHOLE)
        for place in generator.integers(0, len(data), generator.integers(1, 4)):
            data[place] = generator.integers(0, 256)
        try:
            count_tensors(io.BytesIO(data), len(data), "w")
        except SmithError:
            refused += 1
    assert refused > 1000
